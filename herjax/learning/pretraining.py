"""Pretraining on random tasks: as a function, the compiled step, held-out evaluation."""

import dataclasses
import math
import os
from collections.abc import Callable
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
from herjax.decoder.weights import Pretrained, load_pretrained
from herjax.dsl.executor import execute
from herjax.dsl.grammar import encode
from herjax.learning.muon import muon
from herjax.learning.presets import HELD_OUT_SEED, PretrainConfig
from herjax.learning.room import check_pretraining
from herjax.learning.train import TrainState, apply_gradients, program_gradients
from herjax.runtime.config import check_function, told
from herjax.runtime.jax_settings import as_written, on_its_own
from herjax.runtime.program_cache import call_kept, compile_kept
from herjax.runtime.sharding import (
    check_mesh,
    make_mesh,
    over_data,
    over_data_alone,
    platform_of,
    replicated,
    state_shardings,
)
from herjax.runtime.xla_flags import HOURS
from herjax.stats import pass_at_k
from herjax.tasks.random import TaskConfig, check_program, random_task, size_buckets
from herjax.tasks.task import Task

EVAL_CHUNK = 16  # tasks evaluated at once
SAMPLES = 8  # programs for each of them


def pretrain(
    config: PretrainConfig,
    *,
    on_log: Callable[[int, dict[str, Any], dict[str, float]], object] | None = None,
    mesh: Mesh | None = None,
) -> Pretrained:
    """Pretrain a decoder on random tasks, as the command does, but without files.

    Args:
      config: the settings. ``checkpoint_every``, ``snapshots`` and those of evaluations are the
        command's; see ``evaluate``.
      on_log: called every ``config.log_every`` steps, and after the last, with the steps done, a
        copy of the parameters, and the metrics. It ends the training by raising ``StopIteration``.
      mesh: its axis "data" splits a step, "model" the decoder; None: all devices on "data", on CPUs
        as many as divide a step.

    Returns:
      The decoder, for ``adapt`` and ``save_weights``; its ``info`` is empty.

    Raises:
      ValueError: if an argument is of the wrong kind, the devices cannot share a step, or it would
        take more memory than there is.
      CheckpointError: if ``config.init`` names no weights.
      FloatingPointError: if the loss, or a parameter, is not finite.
    """
    if not isinstance(config, PretrainConfig):
        raise ValueError(f"config must be a PretrainConfig, got {told(config)}")
    if on_log is not None:
        check_function("on_log", on_log)
    if mesh is None and jax.default_backend() == "cpu":
        mesh = make_mesh({"data": cpu_devices_of(config, len(jax.devices())), "model": 1})
    mesh = check_mesh(mesh)
    check_pretrain(config, mesh)
    state = init_state(config, mesh)
    for step in range(1, config.steps + 1):
        bucket = bucket_of_step(config, step - 1)
        state, metrics = pretrain_step(state, config, bucket, mesh)
        if step % config.log_every and step < config.steps:
            continue
        values = {name: float(value) for name, value in metrics.items()}
        if not all(map(math.isfinite, values.values())):
            raise FloatingPointError(f"loss {values['loss']} at step {step}: lower the rates")
        if on_log is not None:
            try:
                on_log(step, _on_the_host(state.params), values)
            except StopIteration:
                break
    params = jax.device_put(_on_the_host(state.params))
    return Pretrained(Decoder(config.model), params, {})


def _on_the_host(params: dict[str, Any]) -> dict[str, Any]:
    """NumPy arrays: those of a step are taken over by the next one."""
    return jax.tree.map(np.array, params)


def check_pretrain(config: PretrainConfig, mesh: Mesh) -> None:
    """Refuse what would not run.

    Raises:
      ValueError: if the devices cannot share a step, it does not fit into memory, or
        ``config.tasks.program`` is wrong.
    """
    at_once, draws = microbatch_of(config, mesh, config.size_limits[-1]), config.tasks.max_draws
    share, devices = config.batch_size // mesh.shape["data"], mesh.local_mesh.shape["data"]
    check_pretraining(config.model, share, at_once, draws, devices)
    with on_its_own():
        check_program(config.tasks)


def learning_rates(config: PretrainConfig) -> dict[str, optax.Schedule]:
    """The schedules of Muon and of Adam: from 0 to the peak in ``warmup_steps``, then down to 0."""

    def schedule(peak: float) -> optax.Schedule:
        warmup = optax.linear_schedule(0.0, peak, config.warmup_steps)
        decay = optax.linear_schedule(peak, 0.0, max(config.steps - config.warmup_steps, 1))
        return optax.join_schedules([warmup, decay], [config.warmup_steps])

    return {"muon": schedule(config.muon_lr), "adam": schedule(config.adam_lr)}


def make_optimizer(
    config: PretrainConfig, mesh: Mesh | None = None
) -> optax.GradientTransformation:
    """Muon (Jordan, 2024) for the matrices of the blocks, Adam for everything else."""

    def kinds(params: Any) -> Any:
        def kind(path: tuple[Any, ...], leaf: Any) -> str:
            in_block = any("blocks" in str(key) for key in path)
            return "muon" if in_block and leaf.ndim == 2 else "adam"

        return jax.tree_util.tree_map_with_path(kind, params)

    rates = learning_rates(config)
    each = {
        "muon": muon(rates["muon"], mesh),
        "adam": optax.adamw(rates["adam"], b2=0.98, weight_decay=0.0, nesterov=True),
    }
    return optax.chain(optax.clip_by_global_norm(config.clip), optax.partition(each, kinds))


@as_written()
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
        start, wanted = load_pretrained(config.init), config.model
        model, params = start.model, start.params
        like = dataclasses.replace(model.config, max_side=wanted.max_side, dtype=wanted.dtype)
        if model.config.max_side > wanted.max_side or like != wanted:
            raise ValueError(f"init: {config.init} is another model, {model.config}")
    return call_kept(_start, params, config=config, mesh=mesh)


@partial(jax.jit, static_argnames=("config", "mesh"))
def _start(params: dict[str, Any] | None, config: PretrainConfig, mesh: Mesh | None) -> TrainState:
    state = initial_state(config, params)
    if mesh is not None:
        state = jax.lax.with_sharding_constraint(state, state_shardings(mesh, state))
    return state


@as_written()
def initial_state(config: PretrainConfig, start: dict[str, Any] | None = None) -> TrainState:
    """The state before the first step, from the parameters of a decoder that may be smaller."""
    params = init_params(
        config.model, jax.random.fold_in(jax.random.key(config.seed), config.steps)
    )
    if start is not None:  # its rows come first
        params = jax.tree.map(lambda new, old: new.at[: len(old)].set(old), params, start)
    return TrainState(jnp.int32(0), params, make_optimizer(config).init(params))


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


def cpu_devices_of(config: PretrainConfig, processors: int) -> int:
    """The most, up to one a processor, that divide a step so that each has 8 programs or more."""
    batch, at_once = config.batch_size, config.microbatch or 1
    counts = range(1, min(processors, max(batch // 8, 1)) + 1)
    return max(n for n in counts if batch % (n * at_once) == 0)


def microbatch_of(config: PretrainConfig, mesh: Mesh | None, cells: int) -> int:
    """Programs of so many cells at a time on each device: as asked for, else what suits it.

    That is the largest divisor of its share that a CPU's cache holds; elsewhere, of up to 128.

    Raises:
      ValueError: if the devices on "data" cannot share the batch, or its shares be divided so.
    """
    # What the cache of a CPU's core holds.
    most = max(min(8, 450 // cells), 1) if platform_of(mesh) == "cpu" else 128
    devices = 1 if mesh is None else mesh.shape["data"]
    share, left = divmod(config.batch_size, devices)
    if left:
        raise ValueError(
            f"batch_size {config.batch_size} is not a multiple of {devices}, the devices on data"
        )
    if share % (config.microbatch or 1):
        raise ValueError(
            f"microbatch {config.microbatch} does not divide {share}, the programs of a device"
        )
    return config.microbatch or max(n for n in range(1, most + 1) if share % n == 0)


def places_of(config: PretrainConfig, mesh: Mesh | None, bucket: int) -> tuple[int, ...]:
    """Places for cells that microbatches of a bucket choose from: see ``program_gradients``.

    On CPUs they hold a third of its canvases, two thirds, all, or for fewer than three microbatches
    on a device as many parts. Elsewhere there is one choice, for which the host need not be asked;
    over "model", too, where the compiler spreads the programs.
    """
    limit = config.size_limits[bucket]
    devices = 1 if mesh is None else mesh.shape["data"]
    if platform_of(mesh) != "cpu" or (mesh is not None and mesh.size > devices):
        return (limit,)
    microbatches = config.batch_size // (devices * microbatch_of(config, mesh, limit))
    areas = np.sort(size_buckets(config.tasks, config.size_limits)[bucket].prod(axis=1))
    parts = np.array_split(areas, min(microbatches, 3))
    return tuple(sorted({int(part[-1]) for part in parts if len(part)}))


@partial(jax.jit, static_argnames=("config", "bucket", "mesh"), donate_argnames="state")
def compiled_step(
    state: TrainState, config: PretrainConfig, bucket: int, mesh: Mesh | None
) -> tuple[TrainState, dict[str, Array]]:
    """The program of ``pretrain_step``."""
    key = jax.random.fold_in(jax.random.key(config.seed), state.step)
    sizes = size_buckets(config.tasks, config.size_limits)[bucket]
    task, program = random_batch(key, sizes, config.tasks, config.batch_size, mesh)
    model = Decoder(config.model, platform_of(mesh))
    at_once = microbatch_of(config, mesh, config.size_limits[bucket])
    run = partial(program_gradients, model, sizes=places_of(config, mesh, bucket))
    if mesh is not None and over_data_alone(mesh):
        grads, metrics = jax.shard_map(
            partial(run, microbatch=at_once, axis="data"),
            mesh=mesh,
            in_specs=(P(), P("data"), P("data")),
            out_specs=P(),
            check_vma=False,
        )(state.params, task, program)
    else:  # the compiler splits over "model" with all-reduces alone if "data" is left to it, too
        at_once *= 1 if mesh is None else mesh.shape["data"]
        together = 2 if model.on_cpu else 1
        grads, metrics = run(state.params, task, program, microbatch=at_once, together=together)
    metrics["grad_norm"] = optax.tree.norm(grads)
    state = apply_gradients(state, grads, make_optimizer(config, mesh))
    metrics["param_norm"] = optax.tree.norm(state.params)
    if mesh is not None:
        state = jax.lax.with_sharding_constraint(state, state_shardings(mesh, state))
        metrics = jax.lax.with_sharding_constraint(metrics, replicated(mesh))
    return state, metrics


def evaluate(
    pretrained: Pretrained,
    config: PretrainConfig,
    tasks: int,
    samples: int = SAMPLES,
    temperature: float = 0.5,
    mesh: Mesh | None = None,
) -> dict[str, float]:
    """pass@1 and pass@k (k = ``samples``) on held-out random tasks, by the unbiased estimator.

    Args:
      pretrained: the decoder.
      config: what tasks, by ``tasks`` and ``size_limits``; its ``model`` does not count.
      tasks: how many, of each bucket its share (exactly, if a multiple of the number of sizes).
      samples: programs for each task, at ``temperature``.
      mesh: its devices share the tasks; one device if None.
    """
    config = dataclasses.replace(config, model=pretrained.model.config)
    buckets = size_buckets(config.tasks, config.size_limits)
    sizes = sum(len(bucket) for bucket in buckets)
    rates: dict[int, list[np.ndarray]] = {1: [], samples: []}
    for index, bucket in enumerate(buckets):
        count = max(round(tasks * len(bucket) / sizes), 1)
        chunks = [
            _solved(pretrained.params, config, index, start, samples, temperature, mesh)
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
