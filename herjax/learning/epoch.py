"""One epoch of an adaptation, and many of them as one compiled program.

An epoch samples programs for the target, recombines them (see ``recombination``; not in plain HER),
runs parents and children, rewrites each in canonical form, tells which pictures are new, and hands
all of it to a learner (see ``learner``), which changes the weights. It repeats until a program
draws the target.

Letters: G programs sampled an epoch, E kept from earlier ones, A = 2 (G + E) programs of an epoch
(plain HER: A = G), N draws, R rows, C columns, M pictures remembered.
"""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array
from jax.flatten_util import ravel_pytree

from herjax.decoder.model import Decoder
from herjax.dsl.executor import draw_count
from herjax.dsl.ops import RECORD_SIZE
from herjax.learning.attempts import (
    Attempts,
    in_hindsight,
    is_remembered,
    picture_hash,
    remember,
    sample_programs,
)
from herjax.learning.config import AdaptConfig
from herjax.learning.hindsight import hindsight
from herjax.learning.learner import Learner, Update, make_optimizer
from herjax.learning.recombination import recombine
from herjax.learning.selection import keep_shortest
from herjax.learning.train import TrainState
from herjax.runtime.config import check_array, check_function, told
from herjax.runtime.jax_settings import as_written
from herjax.runtime.program_cache import call_kept
from herjax.runtime.sharding import whole
from herjax.runtime.xla_flags import MINUTES, SECONDS
from herjax.tasks.augmentation import augment_task
from herjax.tasks.task import Task


@struct.dataclass
class EpochMetrics:
    """What an epoch did. Accuracies are fractions of pixels right.

    JAX arrays while an adaptation runs, NumPy arrays in all that is handed out.

    Attributes:
      program: int8 records [A, N, 6] of every program, rewritten, by default canonical; empty for
        kept ones that are not there yet.
      accuracy: float32 [A], of each.
      best_picture: int8 [R, C], what the best program of this epoch draws.
      run: int32 [], programs whose reward was asked for, offers of recombination included.
      distinct: int32 [], different pictures.
      new: int32 [], of these not trained on before.
      trained: int32 [], programs trained on.
      draws: float32 [], mean of the sampled programs after pruning.
      loss: float32 [], of the learner: for hindsight the mean over the minibatches, nats per
        token; 0 if none, NaN if the weights are not finite any more.
      solved: bool [], whether any program draws the target.
    """

    program: Array
    accuracy: Array
    best_picture: Array
    run: Array
    distinct: Array
    new: Array
    trained: Array
    draws: Array
    loss: Array
    solved: Array


@struct.dataclass
class AdaptState:
    """Everything an adaptation needs to go on, and what it did so far.

    Attributes:
      train: weights and optimiser.
      epoch: int32 [], epochs done.
      running: bool [], False once solved, at the limit, or when the loss is not finite.
      memory: uint32 [M, 2], hashes of the pictures trained on; 0 where empty.
      remembered: int32 [], pictures ever remembered; the oldest are overwritten.
      best_program: int32 [N, 6], canonical.
      best_accuracy: float32 [], of best_program; -1 before the first epoch.
      kept: int32 [max(E, 1), N, 6], the best programs, of different pictures if there are so many.
      heat: float32 [], 1 or more: what the temperatures are multiplied by.
      key: PRNG key of the adaptation.
      history: a row an epoch, max_epochs in front of every shape; 0 beyond `epoch`.
    """

    train: TrainState
    epoch: Array
    running: Array
    memory: Array
    remembered: Array
    best_program: Array
    best_accuracy: Array
    kept: Array
    heat: Array
    key: Array
    history: EpochMetrics


@as_written()
def init_adaptation(
    params: dict[str, Any], config: AdaptConfig, key: Array, shape: tuple[int, ...]
) -> AdaptState:
    """The state before the first epoch, for a canvas of ``shape`` (R, C).

    Args:
      params: of the decoder to start from; they are copied.
      config: static.
      key: PRNG key, of everything random.
      shape: static.
    """
    return _init_adaptation(params, key, config, tuple(shape))


@partial(jax.jit, static_argnames=("config", "shape"), inline=True)
def _init_adaptation(
    params: dict[str, Any], key: Array, config: AdaptConfig, shape: tuple[int, ...]
) -> AdaptState:
    epochs, programs = config.max_epochs, config.programs_an_epoch
    draws = config.draws(math.prod(shape))
    history = EpochMetrics(
        program=jnp.zeros((epochs, programs, draws, RECORD_SIZE), jnp.int8),
        accuracy=jnp.zeros((epochs, programs)),
        best_picture=jnp.zeros((epochs, *shape), jnp.int8),
        **{name: jnp.zeros(epochs, jnp.int32) for name in ("run", "distinct", "new", "trained")},
        **{name: jnp.zeros(epochs) for name in ("draws", "loss")},
        solved=jnp.zeros(epochs, bool),
    )
    return AdaptState(
        # Copied, as the key is, because the compiled epochs donate their state.
        train=TrainState(
            jnp.int32(0), jax.tree.map(jnp.copy, params), make_optimizer(config).init(params)
        ),
        epoch=jnp.int32(0),
        running=jnp.bool_(True),
        memory=jnp.zeros((programs * epochs, 2), jnp.uint32),  # whatever a learner trains on
        remembered=jnp.int32(0),
        best_program=jnp.zeros((draws, RECORD_SIZE), jnp.int32),
        best_accuracy=jnp.float32(-1.0),
        # Without any kept one is there all the same: a checkpoint cannot hold an empty array.
        kept=jnp.zeros((max(config.kept, 1), draws, RECORD_SIZE), jnp.int32),
        heat=jnp.float32(1.0),
        key=jnp.copy(key),
        history=history,
    )


def attempt_all(
    model: Decoder, state: AdaptState, task: Task, config: AdaptConfig, key: Array
) -> tuple[Attempts, Array, Array]:
    """The attempts of an epoch, the hashes of their pictures uint32 [A, 2], and how many were run.

    The last is int32 [], with the offers of recombination.
    """
    sample_key, order_key = jax.random.split(key)
    temperature = jnp.array(config.epoch_temperatures) * state.heat
    programs, samples, augmentation = sample_programs(
        model, state.train.params, task, config, sample_key, temperature
    )
    run = jnp.int32(len(programs))
    if config.partners:
        parents = jnp.concatenate([programs, state.kept[: config.kept]])
        limit = config.draw_limit(task)
        children, offered = recombine(parents, task, config.others, order_key, limit)
        programs = jnp.concatenate([parents, children])
        run += offered + len(children)
    pairs = in_hindsight(programs, task, config)
    hashes, draws = jax.vmap(picture_hash)(pairs.picture), draw_count(pairs.program)
    distinct = config.distinct(hashes, draws, draws > 0)
    check_array("distinct's result", distinct, draws.shape, "bool")
    new = distinct & ~is_remembered(hashes, state.memory) if config.novelty else distinct
    attempts = Attempts(
        pairs=pairs,
        distinct=distinct,
        new=new,
        seen=augment_task(augmentation, task) if config.augments else task,
        augmentation=augmentation,
        temperature=temperature,
        tokens=samples.tokens,
        said=samples.said,
        log_probs=samples.log_probs,
    )
    return attempts, hashes, run


@as_written()
def adapt_epoch(
    model: Decoder,
    state: AdaptState,
    task: Task,
    config: AdaptConfig,
    learner: Learner = hindsight,
) -> AdaptState:
    """One epoch: attempts, then what the learner makes of them.

    Args:
      model: the decoder.
      state: as from ``init_adaptation``.
      task: unbatched, canvases [R, C].
      config: static.
      learner: what changes the weights.

    Raises:
      ValueError: if the state is of another canvas, or the learner cannot be hashed or returns no
        ``Update``.
    """
    canvas = state.history.best_picture.shape[1:]
    if task.target.shape != canvas:
        raise ValueError(f"task has a canvas {[*task.target.shape]}, the state {[*canvas]}")
    check_function("learner", learner)
    return _adapt_epoch(state, task, model, config, learner)


@partial(jax.jit, static_argnames=("model", "config", "learner"), inline=True)
def _adapt_epoch(
    state: AdaptState, task: Task, model: Decoder, config: AdaptConfig, learner: Learner
) -> AdaptState:
    key = jax.random.fold_in(state.key, state.epoch)
    attempt_key, _, learner_key = jax.random.split(key, 3)  # three: seeds keep their meaning
    attempts, hashes, run = attempt_all(model, state, task, config, attempt_key)
    update = Update(state.train, jnp.float32(0.0), jnp.zeros_like(attempts.new))
    if config.learning_rate > 0:  # without, a control, nothing is trained on
        update = learner(model, state.train, task, attempts, config, learner_key)
        _check_update(update, state.train, attempts)
    # Weights that are not finite sample garbage, and train on nothing: tell from here.
    weights, _ = ravel_pytree(whole(update.train.params))  # one array, so one kernel to compile
    update = update._replace(loss=jnp.where(jnp.all(jnp.isfinite(weights)), update.loss, jnp.nan))
    return _next_state(state, config, attempts, hashes, update, run)


def _check_update(update: Any, train: TrainState, attempts: Attempts) -> None:
    """ValueError unless it is what a learner may return, for these weights and attempts."""
    if not isinstance(update, Update):
        raise ValueError(f"the learner must return an Update, got {told(update)}")
    if _types(update.train) != _types(train):
        raise ValueError("the learner's Update.train must be a TrainState like the one that it got")
    check_array("the learner's Update.loss", update.loss, (), "float32")
    check_array("the learner's Update.trained", update.trained, attempts.new.shape, "bool")


def _types(tree: Any) -> tuple[Any, list]:
    """Structure, shapes and types of a tree of arrays."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves]


def _next_state(
    state: AdaptState,
    config: AdaptConfig,
    attempts: Attempts,
    hashes: Array,
    update: Update,
    run: Array,
) -> AdaptState:
    """The state after an epoch: weights, memory, the best programs, and a row of the history."""
    program, accuracy = attempts.pairs.program, attempts.pairs.accuracy
    draws, solved = draw_count(program), attempts.solved
    memory, remembered = remember(state.memory, state.remembered, hashes, update.trained)
    worth = worth_of(accuracy, draws, program.shape[1], attempts.pairs.picture[0].size)
    best = jnp.argmax(worth)
    _, kept = jax.lax.top_k(jnp.where(attempts.distinct, worth, -1.0), len(state.kept))
    better = accuracy[best] > state.best_accuracy
    sampled = config.sampled
    different = keep_shortest(hashes[:sampled], draws[:sampled], draws[:sampled] > 0)
    metrics = EpochMetrics(
        program=program.astype(jnp.int8),
        accuracy=accuracy,
        best_picture=attempts.pairs.picture[best],
        run=run,
        distinct=jnp.sum(attempts.distinct),
        new=jnp.sum(attempts.new),
        trained=jnp.sum(update.trained),
        draws=jnp.mean(draws[:sampled].astype(jnp.float32)),
        loss=update.loss,
        solved=solved,
    )
    return AdaptState(
        train=update.train,
        epoch=state.epoch + 1,
        running=~solved & jnp.isfinite(update.loss) & (state.epoch + 1 < config.max_epochs),
        memory=memory,
        remembered=remembered,
        best_program=jnp.where(better, program[best], state.best_program),
        best_accuracy=jnp.where(better, accuracy[best], state.best_accuracy),
        kept=program[kept],
        heat=adjust_heat(state.heat, jnp.sum(different), sampled, config.min_distinct),
        key=state.key,
        history=jax.tree.map(
            lambda rows, row: rows.at[state.epoch].set(row), state.history, metrics
        ),
    )


def worth_of(accuracy: Array, draws: Array, most: int, cells: int) -> Array:
    """Ranks programs by pixels right, then by fewer draws, up to ``most``: float32 [A].

    All draws together count less than half of one of the canvas's cells.
    """
    return accuracy - draws / (2.0 * cells * (most + 1))


def adjust_heat(heat: Array, distinct: Array, programs: int, min_distinct: float) -> Array:
    """A tenth hotter while too few pictures differ, then a tenth back, between 1 and 3.

    Against collapse: an adaptation that has stopped exploring repeats its best wrong pictures.
    """
    too_few = distinct < min_distinct * programs
    return jnp.clip(jnp.where(too_few, heat * 1.1, heat / 1.1), 1.0, 3.0)


@as_written()
def adapt_epochs(
    model: Decoder,
    state: AdaptState,
    task: Task,
    config: AdaptConfig,
    epochs: Array | int,
    learner: Learner = hindsight,
) -> AdaptState:
    """At most ``epochs`` (int32 []) further ones, fewer if the adaptation ends before.

    The other arguments are those of ``adapt_epoch``.
    """
    check_function("learner", learner)
    return _adapt_epochs(state, task, epochs, model, config, learner)


@partial(jax.jit, static_argnames=("model", "config", "learner"), inline=True)
def _adapt_epochs(
    state: AdaptState,
    task: Task,
    epochs: Array | int,
    model: Decoder,
    config: AdaptConfig,
    learner: Learner,
) -> AdaptState:
    until = state.epoch + epochs
    return jax.lax.while_loop(
        lambda state: state.running & (state.epoch < until),
        lambda state: adapt_epoch(model, state, task, config, learner),
        state,
    )


@partial(jax.jit, static_argnames=("model", "config", "learner"), donate_argnames="state")
def _advance(
    state: AdaptState,
    task: Task,
    epochs: Array,
    model: Decoder,
    config: AdaptConfig,
    learner: Learner,
) -> AdaptState:
    return adapt_epochs(model, state, task, config, epochs, learner)


def compiled_epochs(
    model: Decoder,
    state: AdaptState,
    task: Task,
    config: AdaptConfig,
    epochs: int,
    learner: Learner = hindsight,
) -> AdaptState:
    """``adapt_epochs``, one program for one epoch or all of them, kept between runs.

    The state is donated: copy what is needed of the old one.
    """
    return call_kept(
        _advance,
        state,
        task,
        np.int32(epochs),
        model=model,
        config=config,
        learner=learner,
        runs_for=runs_for(task.target),
    )


def runs_for(canvas: Array | np.ndarray) -> str:
    """How long adaptations on a canvas [..., R, C] run: on CPUs they are compiled for that."""
    return SECONDS if max(canvas.shape[-2:]) <= 10 else MINUTES
