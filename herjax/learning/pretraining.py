"""Pretraining on random tasks: configuration, the compiled step, held-out evaluation."""

import dataclasses
import os
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from herjax.decoder.embedding import ModelConfig
from herjax.decoder.model import Decoder, Logits
from herjax.decoder.sampler import sample
from herjax.decoder.weights import load_pretrained
from herjax.dsl.executor import execute
from herjax.dsl.grammar import encode
from herjax.learning.muon import muon
from herjax.learning.train import TrainState, apply_gradients, program_gradients
from herjax.runtime.config import check_types, told
from herjax.runtime.program_cache import call_kept, compile_kept
from herjax.runtime.sharding import over_data, platform_of, replicated, state_shardings
from herjax.runtime.xla_flags import HOURS
from herjax.stats import pass_at_k
from herjax.tasks.random import TaskConfig, random_task, size_buckets
from herjax.tasks.task import Task

EVAL_CHUNK = 16  # tasks evaluated at once
SAMPLES = 8  # programs for each of them
HELD_OUT_SEED = 2**31 - 1  # root of the held-out tasks' keys; not allowed as a training seed


@dataclasses.dataclass(frozen=True)
class PretrainConfig:
    """A pretraining run. The defaults are the first stage of the shipped ``base``.

    Every step draws one batch of new tasks whose canvases fall into one bucket of areas, so that
    small canvases do not pay for large ones; buckets are drawn with their share of all sizes.

    Attributes:
      init: weights to start from: a shipped name or a folder; empty: random ones. They may be of a
        smaller max_side: the new rows and columns start at random.
      model: shape of the decoder.
      tasks: distribution of the random tasks.
      size_limits: largest area of a bucket, cells.
      size_shares: of the steps, a bucket each; empty: as many as it has of all sizes.
      batch_size: programs a step.
      microbatch: programs at a time, of a step; 0: for each device on "data" at most 8 on a CPU,
        else 128.
      steps: of training.
      warmup_steps: in which the rates rise from 0.
      muon_lr: peak, for the matrices of the blocks; decays linearly to 0.
      adam_lr: peak, for all other parameters.
      clip: global norm of the gradient.
      seed: of everything random.
      log_every: steps between two lines of metrics.
      checkpoint_every: steps between two checkpoints.
      eval_every: steps between two evaluations.
      eval_tasks: held-out tasks on the way, a multiple of 64 for exact shares.
      final_eval_tasks: held-out tasks at the end.
      snapshots: steps whose weights are kept.
    """

    init: str = ""
    model: ModelConfig = ModelConfig()
    tasks: TaskConfig = TaskConfig()
    size_limits: tuple[int, ...] = (18, 30, 42, 56, 72, 100)
    size_shares: tuple[float, ...] = ()
    batch_size: int = 128
    microbatch: int = 0
    steps: int = 6_000
    warmup_steps: int = 100
    muon_lr: float = 0.02
    adam_lr: float = 2e-3
    clip: float = 1.0
    seed: int = 0
    log_every: int = 20
    checkpoint_every: int = 250
    eval_every: int = 1_000
    eval_tasks: int = 256
    final_eval_tasks: int = 1024
    snapshots: tuple[int, ...] = (200, 600, 2_000)

    def __post_init__(self) -> None:
        check_types(self)
        counts = ("batch_size", "steps", "warmup_steps", "log_every", "checkpoint_every")
        for name in (*counts, "eval_every", "eval_tasks", "final_eval_tasks"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("muon_lr", "adam_lr", "clip"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.microbatch < 0 or (self.microbatch and self.batch_size % self.microbatch):
            raise ValueError(
                f"microbatch must divide batch_size {self.batch_size}, got {self.microbatch}"
            )
        if not 0 <= self.seed < HELD_OUT_SEED:
            raise ValueError(f"seed must be 0 .. {HELD_OUT_SEED - 1}, got {self.seed}")
        self._check_tasks()

    def _check_tasks(self) -> None:
        if not 1 <= self.tasks.min_side <= self.tasks.max_side <= self.model.max_side:
            raise ValueError(
                f"tasks.min_side {self.tasks.min_side} and tasks.max_side {self.tasks.max_side}"
                f" must be 1 .. model.max_side ({self.model.max_side})"
            )
        if not 1 <= self.tasks.ops <= self.model.ops:
            raise ValueError(
                f"tasks.ops {self.tasks.ops} must be 1 .. model.ops ({self.model.ops})"
            )
        if self.tasks.max_draws < 1:
            raise ValueError(f"tasks.max_draws must be at least 1, got {self.tasks.max_draws}")
        size_buckets(self.tasks, self.size_limits)
        shares = self.size_shares or (1.0,) * len(self.size_limits)
        if len(shares) != len(self.size_limits) or min(shares) < 0 or not 0 < sum(shares) < 1e9:
            raise ValueError(
                f"size_shares must be {len(self.size_limits)} numbers from 0, not all 0, one for"
                f" each of size_limits, got {told(self.size_shares)}"
            )


PRESETS = {
    # For tests: learns next to nothing in the seconds it takes.
    "tiny": PretrainConfig(
        model=ModelConfig(width=32, layers=2, program_layers=1, heads=2, max_side=6),
        tasks=TaskConfig(max_side=6, max_draws=3),
        size_limits=(16, 36),
        batch_size=16,
        steps=20,
        warmup_steps=5,
        log_every=5,
        checkpoint_every=10,
        eval_every=10,
        eval_tasks=32,
        final_eval_tasks=32,
        snapshots=(10,),
    ),
    # The first of the stages of the shipped weights; see the model card in herjax/pretrained.
    "base-10": PretrainConfig(),
    # A later stage, for pictures of up to 30x30, from weights for 20x20: most programs on small
    # canvases, which cost little and from which the large ones learn too.
    "base-30": PretrainConfig(
        init="base-20",
        model=ModelConfig(max_side=30),
        tasks=TaskConfig(max_side=30, drawn_inputs=0.25),
        size_limits=(30, 56, 100, 225, 400, 625, 900),
        size_shares=(0.15, 0.18, 0.22, 0.22, 0.14, 0.05, 0.04),
        batch_size=64,
        steps=5_000,
        muon_lr=0.01,
        adam_lr=1e-3,
        seed=3,
        checkpoint_every=100,
        eval_every=2_500,
        snapshots=(),
    ),
    # For a GPU. Not yet trained.
    "large": PretrainConfig(
        model=ModelConfig(width=256, layers=8, program_layers=3, heads=8),
        batch_size=1024,
        steps=50_000,
        warmup_steps=500,
        muon_lr=0.01,
        adam_lr=1e-3,
        snapshots=(),
    ),
}


def learning_rates(config: PretrainConfig) -> dict[str, optax.Schedule]:
    """The schedules of Muon and of Adam: each rises linearly from 0, then falls linearly to 0."""

    def schedule(peak: float) -> optax.Schedule:
        warmup = optax.linear_schedule(0.0, peak, config.warmup_steps)
        decay = optax.linear_schedule(peak, 0.0, max(config.steps - config.warmup_steps, 1))
        return optax.join_schedules([warmup, decay], [config.warmup_steps])

    return {"muon": schedule(config.muon_lr), "adam": schedule(config.adam_lr)}


def make_optimizer(config: PretrainConfig) -> optax.GradientTransformation:
    """Muon (Jordan, 2024) for the matrices of the blocks, Adam for everything else."""

    def kinds(params: Any) -> Any:
        def kind(path: tuple[Any, ...], leaf: Any) -> str:
            in_block = any("blocks" in str(key) for key in path)
            return "muon" if in_block and leaf.ndim == 2 else "adam"

        return jax.tree_util.tree_map_with_path(kind, params)

    rates = learning_rates(config)
    each = {
        "muon": muon(rates["muon"]),
        "adam": optax.adamw(rates["adam"], b2=0.98, weight_decay=0.0, nesterov=True),
    }
    return optax.chain(optax.clip_by_global_norm(config.clip), optax.partition(each, kinds))


def init_params(config: ModelConfig, key: Array) -> dict[str, Any]:
    """Fresh parameters of a decoder."""
    task, program = random_batch(key, np.array([[1, 1]]), TaskConfig(1, 1, 1), 1)

    def run(model: Decoder, task: Task, tokens: Array) -> Logits:
        return model(model.encode(task, 1), tokens, task.width)

    return dict(Decoder(config).init(key, task, encode(program, task.width), method=run))


def init_state(config: PretrainConfig, mesh: Mesh | None = None) -> TrainState:
    """The state before the first step, spread over the mesh.

    Raises:
      CheckpointError: if ``config.init`` names no weights.
      ValueError: if it names weights of another shape.
    """
    params = None
    if config.init:
        model, params, _ = load_pretrained(config.init)
        wanted = config.model
        like = dataclasses.replace(model.config, max_side=wanted.max_side, dtype=wanted.dtype)
        if model.config.max_side > wanted.max_side or like != wanted:
            raise ValueError(f"init: {config.init} is another model, {model.config}")

    start = partial(initial_state, config, params)
    shardings = None if mesh is None else state_shardings(mesh, jax.eval_shape(start))
    return jax.jit(start, out_shardings=shardings)()


def initial_state(config: PretrainConfig, start: dict[str, Any] | None = None) -> TrainState:
    """The state before the first step, from the parameters of a decoder that may be smaller."""
    params = init_params(
        config.model, jax.random.fold_in(jax.random.key(config.seed), config.steps)
    )
    params = params if start is None else jax.tree.map(_overwrite, params, start)
    return TrainState(jnp.int32(0), params, make_optimizer(config).init(params))


def _overwrite(array: Array, start: Array) -> Array:
    """``array`` with its first rows replaced by those of ``start``."""
    return array.at[: len(start)].set(start)


def random_batch(
    key: Array, sizes: np.ndarray, config: TaskConfig, count: int, mesh: Mesh | None = None
) -> tuple[Task, Array]:
    """``count`` tasks and their programs, spread over "data"; see ``tasks.random_task``."""

    def make(key: Array, index: Array) -> tuple[Task, Array]:
        keys = jax.vmap(partial(jax.random.fold_in, key))(index)
        return jax.vmap(lambda key: random_task(key, jnp.asarray(sizes), config))(keys)

    if mesh is not None:  # left to the compiler, loops would ask all devices at every turn
        make = jax.shard_map(
            make, mesh=mesh, in_specs=(P(), P("data")), out_specs=P("data"), check_vma=False
        )
    return make(key, jnp.arange(count))


def bucket_of_step(config: PretrainConfig, step: int) -> int:
    """Which size bucket a step trains on: a function of seed and step alone."""
    sizes = [len(bucket) for bucket in size_buckets(config.tasks, config.size_limits)]
    parts = config.size_shares or sizes
    shares = np.array(parts) / sum(parts)
    return int(np.random.default_rng((config.seed, step)).choice(len(sizes), p=shares))


def pretrain_step(
    state: TrainState, config: PretrainConfig, bucket: int, mesh: Mesh | None = None
) -> tuple[TrainState, dict[str, Array]]:
    """One step on new random tasks of one size bucket; metrics are scalars, in nats.

    The state is donated.
    """
    return call_kept(compiled_step, state, config=config, bucket=bucket, mesh=mesh, runs_for=HOURS)


def compile_ahead(state: TrainState, config: PretrainConfig, mesh: Mesh | None = None) -> None:
    """Compile all steps and evaluations side by side, on the many processors beside a card."""
    common: dict[str, Any] = {"config": config, "mesh": mesh, "runs_for": HOURS}
    ahead, chunk = partial(compile_kept, **common), (state.params, np.int32(0), np.float32(0))
    made: list[Future] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for bucket in range(len(config.size_limits)):
            made.append(pool.submit(ahead, compiled_step, state, bucket=bucket))
            made.append(pool.submit(ahead, solve_chunk, *chunk, bucket=bucket, samples=SAMPLES))
    for program in made:
        program.result()  # or raises what went wrong


def microbatch_of(config: PretrainConfig, mesh: Mesh | None) -> int:
    """Programs at a time, of a step on all devices: those asked for, else what suits them."""
    most = 8 if platform_of(mesh) == "cpu" else 128  # what its cache holds
    devices = 1 if mesh is None else mesh.shape["data"]
    share = config.batch_size // devices
    return config.microbatch or devices * max(n for n in range(1, most + 1) if share % n == 0)


@partial(jax.jit, static_argnames=("config", "bucket", "mesh"), donate_argnames="state")
def compiled_step(
    state: TrainState, config: PretrainConfig, bucket: int, mesh: Mesh | None
) -> tuple[TrainState, dict[str, Array]]:
    """The program of ``pretrain_step``."""
    key = jax.random.fold_in(jax.random.key(config.seed), state.step)
    sizes = size_buckets(config.tasks, config.size_limits)[bucket]
    task, program = random_batch(key, sizes, config.tasks, config.batch_size, mesh)
    model, limit = Decoder(config.model, platform_of(mesh)), config.size_limits[bucket]
    grads, metrics = program_gradients(
        model,
        state.params,
        task,
        program,
        limit,
        microbatch_of(config, mesh),
        together=2 if model.on_cpu else 1,
    )
    metrics["grad_norm"] = optax.tree.norm(grads)
    state = apply_gradients(state, grads, make_optimizer(config))
    metrics["param_norm"] = optax.tree.norm(state.params)
    if mesh is not None:
        state = jax.lax.with_sharding_constraint(state, state_shardings(mesh, state))
        metrics = jax.lax.with_sharding_constraint(metrics, replicated(mesh))
    return state, metrics


def evaluate(
    params: dict[str, Any],
    config: PretrainConfig,
    tasks: int,
    samples: int = SAMPLES,
    temperature: float = 0.5,
    mesh: Mesh | None = None,
) -> dict[str, float]:
    """pass@1 and pass@k (k = ``samples``) on held-out random tasks, by the unbiased estimator.

    The sizes are stratified: each bucket has its share of the tasks (exactly, if ``tasks`` is a
    multiple of the number of sizes).
    """
    buckets = size_buckets(config.tasks, config.size_limits)
    sizes = sum(len(bucket) for bucket in buckets)
    rates: dict[int, list[np.ndarray]] = {1: [], samples: []}
    for index, bucket in enumerate(buckets):
        count = max(round(tasks * len(bucket) / sizes), 1)
        chunks = [
            _solved(params, config, index, start, samples, temperature, mesh)
            for start in range(0, count, EVAL_CHUNK)
        ]
        solved = np.concatenate([np.asarray(chunk) for chunk in chunks])[:count]
        for k in rates:
            rates[k].append(pass_at_k(samples, solved.sum(axis=1), k))
    means = {f"pass@{k}": float(np.concatenate(rate).mean()) for k, rate in rates.items()}
    return {**means, "tasks": sum(len(rate) for rate in rates[1])}


def _solved(
    params: dict[str, Any],
    config: PretrainConfig,
    bucket: int,
    start: int,
    samples: int,
    temperature: float,
    mesh: Mesh | None,
) -> Array:
    """bool [EVAL_CHUNK, samples]: which sampled programs draw the held-out tasks from ``start``."""
    arrays = params, np.int32(start), np.float32(temperature)
    static = {"config": config, "bucket": bucket, "samples": samples, "mesh": mesh}
    return call_kept(solve_chunk, *arrays, runs_for=HOURS, **static)


@partial(jax.jit, static_argnames=("config", "bucket", "samples", "mesh"))
def solve_chunk(
    params: dict[str, Any],
    start: Array,
    temperature: Array,
    config: PretrainConfig,
    bucket: int,
    samples: int,
    mesh: Mesh | None,
) -> Array:
    """The program of an evaluation: bool [EVAL_CHUNK, samples], see ``_solved``."""
    model, limit = Decoder(config.model, platform_of(mesh)), config.size_limits[bucket]
    sizes = size_buckets(config.tasks, config.size_limits)[bucket]
    key = jax.random.fold_in(jax.random.key(HELD_OUT_SEED), bucket)
    temperatures = jnp.full(samples, temperature)

    def solve(index: Array) -> Array:
        task_key, sample_key = jax.random.split(jax.random.fold_in(key, index))
        task, _ = random_task(task_key, jnp.asarray(sizes), config.tasks)
        draws = config.tasks.max_draws + 2  # room to solve it in a roundabout way
        found = sample(model, params, task, sample_key, temperatures, draws, limit)
        pictures = jax.vmap(execute, (0, None))(found.program, task.input)
        return jnp.all(pictures == task.target, axis=(1, 2))

    solved = jax.vmap(solve)(over_data(start + jnp.arange(EVAL_CHUNK), mesh))
    return solved if mesh is None else jax.lax.with_sharding_constraint(solved, replicated(mesh))
