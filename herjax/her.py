"""Hindsight Experience Replay for drawing programs: one compiled epoch, stage by stage.

An epoch samples programs for the target, recombines them (see ``recombination``; not in plain HER),
runs parents and children, rewrites each in canonical form, keeps the shortest for each distinct
picture, drops pictures trained on before, selects and orders what is left, and trains on (input,
*the program's own picture*) -> program, as if that picture had been the goal (Andrychowicz et al.,
2017; for programs: source iteration 5). It repeats until a program draws the target.

Letters: G programs sampled an epoch, E kept from earlier ones, A = 2 (G + E) programs of an epoch
(plain HER: A = G), N draws, R rows, C columns, K pairs trained on an epoch at most, M pictures
remembered.
"""

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax import Array
from jax.flatten_util import ravel_pytree

from herjax.augmentation import (
    Augmentation,
    augment_canvas,
    augment_program,
    inverse,
    random_augmentation,
)
from herjax.executor import draw_count, execute
from herjax.metrics import pixel_accuracy
from herjax.model import Decoder
from herjax.ops import RECORD_SIZE
from herjax.program_cache import call_kept
from herjax.recombination import recombine
from herjax.sampler import sample
from herjax.sharding import left_to_compiler, whole
from herjax.tasks import Task, TaskConfig, canonical_program, random_task
from herjax.train import TrainState, apply_gradients, bucketed_gradients


@dataclasses.dataclass(frozen=True)
class AdaptConfig:
    """One adaptation. The defaults are the ones found best over seeds (BUILD_NOTES.md)."""

    programs: tuple[int, ...] = (12,)  # sampled an epoch at each temperature
    temperatures: tuple[float, ...] = (0.9,)
    min_distinct: float = 0.9  # share of different pictures under which the temperatures rise
    greedy: bool = False  # one program more an epoch, of the best token everywhere
    partners: int = 15  # whose draws each program is offered, at most all others; 0: plain HER
    keep: int = 4  # best programs so far that are recombined in every epoch
    select: str = "best"  # which new pictures to train on: a key of SELECT
    fraction: float = 0.25  # of the A programs of an epoch, the most that are trained on
    order: str = "sorted"  # by accuracy, the best last; a key of ORDER
    novelty: bool = True  # leave out pictures trained on in an earlier epoch
    minibatch: int = 4  # pairs an optimiser step
    fresh: int = 0  # random pretraining tasks added to each minibatch
    learning_rate: float = 1e-3  # of Adam, constant; 0: search without learning
    clip: float = 1.0  # global norm of the gradient
    symmetries: bool = False  # turn and mirror, at random, the target of each epoch and every pair
    colour_permutations: bool = True  # likewise replace their colours
    max_epochs: int = 500
    max_draws: int = 0  # of a program; 0: two for every five cells of the picture

    def __post_init__(self):
        for name in ("minibatch", "max_epochs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("fresh", "max_draws", "partners", "keep"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be 0 or more, got {getattr(self, name)}")
        if not self.programs or any(count < 1 for count in self.programs):
            raise ValueError(f"programs must be at least 1, got {self.programs}")
        if len(self.programs) != len(self.temperatures):
            raise ValueError(
                f"programs {self.programs} and temperatures {self.temperatures} must pair up"
            )
        if any(not 0 < t < float("inf") for t in self.temperatures):
            raise ValueError(
                f"temperatures must be above 0, got {self.temperatures}; for greedy use --greedy"
            )
        if not 0 <= self.learning_rate < float("inf"):
            raise ValueError(
                f"learning_rate must be positive, or 0 for none, got {self.learning_rate}"
            )
        if not 0 < self.clip < float("inf"):
            raise ValueError(f"clip must be positive, got {self.clip}")
        if not 0 <= self.min_distinct <= 1:
            raise ValueError(f"min_distinct must be 0 .. 1, got {self.min_distinct}")
        if not 0 < self.fraction <= 1:
            raise ValueError(f"fraction must be above 0 and at most 1, got {self.fraction}")
        others = self.sampled + self.keep - 1
        if self.partners > others:
            raise ValueError(
                f"partners must be at most {others}, the other programs of an epoch and the kept"
                f" ones, or 0 for none; got {self.partners}"
            )
        for name, choices in (("select", SELECT), ("order", ORDER)):
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}"
                )

    @property
    def epoch_temperatures(self) -> tuple[float, ...]:
        """The temperature of each of the G programs of an epoch; 0 is greedy."""
        each = zip(self.programs, self.temperatures)
        return (0.0,) * self.greedy + sum(((t,) * count for count, t in each), ())

    @classmethod
    def plain(cls, **changes) -> "AdaptConfig":
        """Plain HER: without recombination, with the settings that were best without it."""
        settings = {"partners": 0, "programs": (32,), "learning_rate": 6e-4, "max_epochs": 200}
        return cls(**{**settings, **changes})

    @property
    def sampled(self) -> int:
        """G, programs sampled an epoch."""
        return len(self.epoch_temperatures)

    @property
    def kept(self) -> int:
        """E, programs kept from epoch to epoch."""
        return self.keep if self.partners else 0

    @property
    def programs_an_epoch(self) -> int:
        """A: G sampled, then E kept, then a child of each; plain HER has the first alone."""
        return 2 * (self.sampled + self.kept) if self.partners else self.sampled

    @property
    def augments(self) -> bool:
        """Is there any augmentation?"""
        return self.symmetries or self.colour_permutations

    def random_augmentation(self, key: Array, shape: tuple[int, int]) -> Augmentation:
        """One of those asked for, for canvases of ``shape`` (R, C)."""
        return random_augmentation(key, shape, self.symmetries, self.colour_permutations)

    @property
    def pairs(self) -> int:
        """K, the most pairs trained on in an epoch."""
        share = 1.0 if self.select == "all" else self.fraction
        return max(round(share * self.programs_an_epoch), 1)


@struct.dataclass
class EpochMetrics:
    """What an epoch did. Accuracies are fractions of pixels right."""

    # int8 records [A, N, 6] of every program, canonical; of kept ones that are not there yet, none
    program: Array
    accuracy: Array  # float32 [A], of each
    best_picture: Array  # int8 [R, C], of this epoch
    run: Array  # int32 [], programs whose reward was asked for, offers of recombination included
    distinct: Array  # int32 [], different pictures
    new: Array  # int32 [], of these not trained on before
    trained: Array  # int32 [], pairs trained on
    draws: Array  # float32 [], mean of the sampled programs after pruning
    # float32 [], mean over the minibatches, nats per token; 0 if none, NaN if the weights are not
    # finite any more
    loss: Array
    solved: Array  # bool []


@struct.dataclass
class AdaptState:
    """Everything an adaptation needs to go on, and what it did so far."""

    train: TrainState
    epoch: Array  # int32 [], epochs done
    running: Array  # bool [], False once solved, at the limit, or when the loss is not finite
    memory: Array  # uint32 [M, 2], hashes of the pictures trained on; 0 where empty
    remembered: Array  # int32 [], pictures ever remembered; the oldest are overwritten
    best_program: Array  # int32 [N, 6], canonical
    best_accuracy: Array  # float32 [], of best_program; -1 before the first epoch
    # int32 [max(E, 1), N, 6], the best programs, of different pictures if there are so many
    kept: Array
    heat: Array  # float32 [], 1 or more: what the temperatures are multiplied by
    key: Array
    history: EpochMetrics  # a row an epoch, max_epochs in front of every shape; 0 beyond `epoch`


# ---- Stages ------------------------------------------------------------------------------------


def picture_hash(picture: Array) -> Array:
    """64 bits of a canvas [R, C] as uint32 [2]: two sums of odd random multiples, mixed.

    Two different pictures collide with a chance of about 2^-62.
    """
    cells = picture.reshape(-1).astype(jnp.uint32) + 1
    weights = np.random.default_rng(0).integers(2**32, size=(2, cells.size), dtype=np.uint32) | 1
    sums = jnp.sum(weights * (cells * (cells + jnp.uint32(0x9E3779B9))), axis=1, dtype=jnp.uint32)
    sums ^= sums >> 15
    sums *= jnp.uint32(0x85EBCA6B)
    return sums ^ (sums >> 13)


def keep_shortest(hashes: Array, draws: Array, valid: Array) -> Array:
    """Exactly one program for each distinct picture: the one of fewest draws, then the first.

    Args:
      hashes: uint32 [A, 2], of the programs' pictures.
      draws: int32 [A], their lengths.
      valid: bool [A], the others are never kept.

    Returns:
      bool [A].
    """
    index = jnp.arange(len(draws))
    same = jnp.all(hashes[:, None] == hashes[None, :], axis=-1) & valid[None, :]
    shorter = draws[None, :] < draws[:, None]
    earlier = (draws[None, :] == draws[:, None]) & (index[None, :] < index[:, None])
    return valid & ~jnp.any(same & (shorter | earlier), axis=1)


def is_remembered(hashes: Array, memory: Array) -> Array:
    """bool [A]: which hashes [A, 2] are in memory [M, 2]."""
    return jnp.any(jnp.all(hashes[:, None] == memory[None, :], axis=-1), axis=1)


def remember(memory: Array, remembered: Array, hashes: Array, chosen: Array) -> tuple[Array, Array]:
    """Write the chosen (bool [K]) hashes [K, 2] into the ring buffer."""
    index = jnp.arange(len(chosen))
    before = jnp.sum(chosen & (index < index[:, None]), axis=1)
    place = (remembered + before) % len(memory)
    place = jnp.where(chosen, place, len(memory))  # out of bounds: dropped
    return memory.at[place].set(hashes, mode="drop"), remembered + jnp.sum(chosen)


def select_all(accuracy: Array, candidate: Array, count: int) -> Array:
    """Every candidate. bool [A], as all selections."""
    return candidate


def select_best(accuracy: Array, candidate: Array, count: int) -> Array:
    """The ``count`` candidates nearest to the target (CodeIt, SOAR "greedy")."""
    rank = jnp.argsort(jnp.argsort(jnp.where(candidate, -accuracy, jnp.inf), stable=True))
    return candidate & (rank < count)


def select_diverse(accuracy: Array, candidate: Array, count: int) -> Array:
    """Half ``count`` best and half worst candidates (SOAR "greedy-diverse", 2025)."""
    best = select_best(accuracy, candidate, (count + 1) // 2)
    return best | select_best(-accuracy, candidate & ~best, count // 2)


SELECT: dict[str, Callable] = {
    "all": select_all,
    "best": select_best,
    "diverse": select_diverse,
}


def order_sorted(key: Array, accuracy: Array) -> Array:
    """Ascending accuracy, the best last: a sort key float32 [A], as all orders."""
    return accuracy


def order_shuffled(key: Array, accuracy: Array) -> Array:
    """A random order, free of the reward."""
    return jax.random.uniform(key, accuracy.shape)


def order_reversed(key: Array, accuracy: Array) -> Array:
    """Descending accuracy, the best first."""
    return -accuracy


ORDER: dict[str, Callable] = {
    "sorted": order_sorted,
    "shuffled": order_shuffled,
    "reversed": order_reversed,
}


# ---- One epoch -----------------------------------------------------------------------------------


def max_draws(config: AdaptConfig, cells: int) -> int:
    """N for a picture of so many cells."""
    return config.max_draws or max(2 * cells // 5, 5)


def length_buckets(draws: int) -> tuple[int, ...]:
    """Lengths of programs to compile training for, of up to so many draws; few save little."""
    return (2 * draws // 5, draws) if draws > 64 else (draws,)


def make_optimizer(config: AdaptConfig) -> optax.GradientTransformation:
    """Adam with a constant rate and clipped gradients (source iteration 5).

    On one flat array of all parameters: three kernels to compile instead of three for each. It is
    whole on every device, since devices whose members end at different times must not exchange
    pieces of it.
    """
    gather = optax.stateless(lambda updates, _: whole(updates))
    adam = optax.adam(config.learning_rate)
    clip = optax.clip_by_global_norm(config.clip)
    return optax.chain(gather, optax.flatten(optax.chain(gather, clip, adam, gather)), gather)


def init_adaptation(
    params: dict, config: AdaptConfig, key: Array, shape: tuple[int, int]
) -> AdaptState:
    """The state before the first epoch, for a picture of ``shape`` (R, C)."""
    epochs, programs = config.max_epochs, config.programs_an_epoch
    draws = max_draws(config, math.prod(shape))
    history = EpochMetrics(
        program=jnp.zeros((epochs, programs, draws, RECORD_SIZE), jnp.int8),
        accuracy=jnp.zeros((epochs, programs)),
        best_picture=jnp.zeros((epochs, *shape), jnp.int8),
        **{name: jnp.zeros(epochs, jnp.int32) for name in ("run", "distinct", "new", "trained")},
        **{name: jnp.zeros(epochs) for name in ("draws", "loss")},
        solved=jnp.zeros(epochs, bool),
    )
    return AdaptState(
        # Copied, because the compiled epochs donate their state.
        train=TrainState(
            jnp.int32(0), jax.tree.map(jnp.copy, params), make_optimizer(config).init(params)
        ),
        epoch=jnp.int32(0),
        running=jnp.bool_(True),
        memory=jnp.zeros((config.pairs * epochs, 2), jnp.uint32),
        remembered=jnp.int32(0),
        best_program=jnp.zeros((draws, RECORD_SIZE), jnp.int32),
        best_accuracy=jnp.float32(-1.0),
        # Without any kept one is there all the same: a checkpoint cannot hold an empty array.
        kept=jnp.zeros((max(config.kept, 1), draws, RECORD_SIZE), jnp.int32),
        heat=jnp.float32(1.0),
        key=key,
        history=history,
    )


class Attempts(NamedTuple):
    """The programs of an epoch in hindsight: each with the picture it draws."""

    program: Array  # int32 [A, N, 6], canonical
    picture: Array  # int8 [A, R, C]
    accuracy: Array  # float32 [A], to the real target


def adjust_heat(heat: Array, distinct: Array, programs: int, min_distinct: float) -> Array:
    """A tenth hotter while too few pictures differ, then a tenth back, between 1 and 3.

    Against collapse: an adaptation that has stopped exploring repeats its best wrong pictures.
    """
    too_few = distinct < min_distinct * programs
    return jnp.clip(jnp.where(too_few, heat * 1.1, heat / 1.1), 1.0, 3.0)


def sample_programs(
    model: Decoder, params, task: Task, config: AdaptConfig, key: Array, heat: Array | float = 1.0
) -> Array:
    """Records int32 [G, N, 6], as sampled.

    With augmentation, the model sees the target augmented, and its programs are moved back.
    """
    temperature = jnp.array(config.epoch_temperatures) * heat
    shape, cells = task.target.shape, task.target.size
    seen = task
    if config.augments:
        key, augmentation_key = jax.random.split(key)
        augmentation = config.random_augmentation(augmentation_key, shape)
        seen = task.replace(
            input=augment_canvas(augmentation, task.input),
            target=augment_canvas(augmentation, task.target),
        )
    found = sample(model, params, seen, key, temperature, max_draws(config, cells), cells).program
    if config.augments:
        back = inverse(augmentation)
        found = jax.vmap(lambda program: augment_program(back, program, shape))(found)
    return found


def in_hindsight(programs: Array, task: Task) -> Attempts:
    """Rewrite records [A, N, 6] in canonical form, and run them."""
    program = jax.vmap(canonical_program, (0, None, None, None))(
        programs, task.input, task.height, task.width
    )
    picture = jax.vmap(execute, (0, None))(program, task.input)
    return Attempts(program, picture, pixel_accuracy(picture, task.target))


def attempt(
    model: Decoder, params, task: Task, config: AdaptConfig, key: Array, heat: Array | float = 1.0
) -> Attempts:
    """Sample G programs, rewrite them and run them."""
    return in_hindsight(sample_programs(model, params, task, config, key, heat), task)


def fresh_pairs(key: Array, task: Task, count: int, draws: int) -> tuple[Task, Array]:
    """``count`` random pretraining tasks whose canvases fit into the task's, and their programs."""
    rows, cols = task.target.shape
    config = TaskConfig(max_side=max(rows, cols), max_draws=min(draws, TaskConfig.max_draws))
    sizes = jnp.array(
        [(r, c) for r in range(min(3, rows), rows + 1) for c in range(min(3, cols), cols + 1)]
    )
    tasks, programs = jax.vmap(lambda key: random_task(key, sizes, config, (rows, cols)))(
        jax.random.split(key, count)
    )
    return tasks, jnp.pad(programs, ((0, 0), (0, draws - config.max_draws), (0, 0)))


def augment_pair(key: Array, task: Task, program: Array, config: AdaptConfig) -> tuple[Task, Array]:
    """A random augmentation of a task and the canonical records [N, 6] that solve it.

    Returns:
      The task that the augmented records solve exactly, and these in canonical form.
    """
    shape = task.input.shape
    augmentation = config.random_augmentation(key, shape)
    input, target = (augment_canvas(augmentation, x) for x in (task.input, task.target))
    program = augment_program(augmentation, program, shape)
    if config.symmetries:  # colours alone change neither what is painted nor the canonical form
        program = canonical_program(program, input, task.height, task.width)
        target = execute(program, input)
    return task.replace(input=input, target=target), program


def train_on(
    model: Decoder,
    state: TrainState,
    task: Task,
    pairs: Attempts,
    count: Array,
    config: AdaptConfig,
    key: Array,
) -> tuple[TrainState, Array]:
    """One pass over the first ``count`` of K pairs, in minibatches; -> state, mean loss."""
    optimizer = make_optimizer(config)
    size = config.minibatch
    limit = task.target.size
    draws = pairs.program.shape[1]
    # Devices that choose different branches must not communicate inside them.
    lengths = (draws,) if left_to_compiler() else length_buckets(draws)

    def minibatch(i, carry):
        state, total = carry
        index = i * size + jnp.arange(size)
        weight = (index < count).astype(jnp.float32)
        index = jnp.minimum(index, len(pairs.program) - 1)
        target, program = pairs.picture[index], pairs.program[index]
        batch = Task(
            input=jnp.broadcast_to(task.input, target.shape),
            target=target,
            height=jnp.full(size, task.height),
            width=jnp.full(size, task.width),
        )
        fresh_key, augment_key = jax.random.split(jax.random.fold_in(key, i))
        if config.augments:
            batch, program = jax.vmap(partial(augment_pair, config=config))(
                jax.random.split(augment_key, size), batch, program
            )
        if config.fresh:
            fresh = fresh_pairs(fresh_key, task, config.fresh, draws)
            batch, program = jax.tree.map(
                lambda a, b: jnp.concatenate([a, b.astype(a.dtype)]), (batch, program), fresh
            )
            weight = jnp.concatenate([weight, jnp.ones(config.fresh)])

        grads, metrics = bucketed_gradients(
            model, state.params, batch, program, weight, limit, lengths
        )
        return apply_gradients(state, grads, optimizer), total + metrics["loss"]

    batches = (count + size - 1) // size
    state, total = jax.lax.fori_loop(0, batches, minibatch, (state, jnp.float32(0.0)))
    return state, total / jnp.maximum(batches, 1)


def all_attempts(
    model: Decoder, state: AdaptState, task: Task, config: AdaptConfig, key: Array
) -> tuple[Attempts, Array]:
    """The A programs of an epoch, and how many were run for them, int32 []."""
    sample_key, order_key = jax.random.split(key)
    programs = sample_programs(model, state.train.params, task, config, sample_key, state.heat)
    run = jnp.int32(len(programs))
    if config.partners:
        parents = jnp.concatenate([programs, state.kept[: config.kept]])
        children, offered = recombine(parents, task, config.partners, order_key)
        programs = jnp.concatenate([parents, children])
        run += offered + len(children)
    return in_hindsight(programs, task), run


def adapt_epoch(model: Decoder, state: AdaptState, task: Task, config: AdaptConfig) -> AdaptState:
    """One epoch of HER. If a program solves the task, nothing is trained.

    Args:
      model: the decoder.
      state: as from ``init_adaptation``.
      task: unbatched, canvases [R, C].
      config: static.
    """
    key = jax.random.fold_in(state.key, state.epoch)
    attempt_key, order_key, train_key = jax.random.split(key, 3)
    attempts, run = all_attempts(model, state, task, config, attempt_key)
    accuracy, draws = attempts.accuracy, draw_count(attempts.program)
    solved = jnp.any(accuracy == 1.0)

    hashes = jax.vmap(picture_hash)(attempts.picture)
    distinct = keep_shortest(hashes, draws, draws > 0)
    candidate = distinct & ~is_remembered(hashes, state.memory) if config.novelty else distinct
    chosen = SELECT[config.select](accuracy, candidate, config.pairs) & ~solved
    chosen &= config.learning_rate > 0  # without, a control, nothing is trained on
    rank = jnp.where(chosen, ORDER[config.order](order_key, accuracy), jnp.inf)
    order = jnp.argsort(rank, stable=True)[: config.pairs]
    count = jnp.sum(chosen)

    pairs = jax.tree.map(lambda leaf: leaf[order], attempts)
    train, loss = state.train, jnp.float32(0.0)
    if config.learning_rate > 0:
        train, loss = train_on(model, train, task, pairs, count, config, train_key)
    # Weights that are not finite sample garbage, and train on nothing: tell from here.
    weights, _ = ravel_pytree(whole(train.params))  # one array, so one kernel to compile
    loss = jnp.where(jnp.all(jnp.isfinite(weights)), loss, jnp.nan)
    memory, remembered = remember(state.memory, state.remembered, hashes[order], chosen[order])

    worth = accuracy - 1e-6 * draws  # more pixels right, then fewer draws
    best = jnp.argmax(worth)
    _, kept = jax.lax.top_k(jnp.where(distinct, worth, -1.0), len(state.kept))
    better = accuracy[best] > state.best_accuracy
    sampled = config.sampled
    different = keep_shortest(hashes[:sampled], draws[:sampled], draws[:sampled] > 0)
    metrics = EpochMetrics(
        program=attempts.program.astype(jnp.int8),
        accuracy=accuracy,
        best_picture=attempts.picture[best],
        run=run,
        distinct=jnp.sum(distinct),
        new=jnp.sum(candidate),
        trained=count,
        draws=jnp.mean(draws[:sampled].astype(jnp.float32)),
        loss=loss,
        solved=solved,
    )
    return AdaptState(
        train=train,
        epoch=state.epoch + 1,
        running=~solved & jnp.isfinite(loss) & (state.epoch + 1 < config.max_epochs),
        memory=memory,
        remembered=remembered,
        best_program=jnp.where(better, attempts.program[best], state.best_program),
        best_accuracy=jnp.where(better, accuracy[best], state.best_accuracy),
        kept=attempts.program[kept],
        heat=adjust_heat(state.heat, jnp.sum(different), sampled, config.min_distinct),
        key=state.key,
        history=jax.tree.map(
            lambda rows, row: rows.at[state.epoch].set(row), state.history, metrics
        ),
    )


def adapt_epochs(
    model: Decoder, state: AdaptState, task: Task, config: AdaptConfig, epochs: Array | int
) -> AdaptState:
    """At most ``epochs`` further epochs of HER, fewer if the adaptation ends before."""
    until = state.epoch + epochs
    return jax.lax.while_loop(
        lambda state: state.running & (state.epoch < until),
        lambda state: adapt_epoch(model, state, task, config),
        state,
    )


@partial(jax.jit, static_argnames=("model", "config"), donate_argnames="state")
def _advance(state, task, epochs, model, config):
    return adapt_epochs(model, state, task, config, epochs)


def compiled_epochs(
    model: Decoder, state: AdaptState, task: Task, config: AdaptConfig, epochs: int
) -> AdaptState:
    """``adapt_epochs``, one program for one epoch or all of them, kept between runs.

    The state is donated: copy what is needed of the old one.
    """
    return call_kept(_advance, state, task, np.int32(epochs), model=model, config=config)
