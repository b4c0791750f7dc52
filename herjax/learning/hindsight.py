"""Hindsight Experience Replay as a learner: train on each program's own picture.

Of the programs whose pictures are new the best are chosen, ordered, and trained on in one pass as
(input, *the program's own picture*) -> program, as if that picture had been the goal
(Andrychowicz et al., 2017; for programs: source iteration 5).

Letters: A programs of an epoch, K pairs trained on at most, N draws, R rows, C columns.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from herjax.decoder.model import Decoder
from herjax.dsl.executor import execute
from herjax.learning.attempts import Attempts, Pairs
from herjax.learning.config import AdaptConfig
from herjax.learning.learner import Update, make_optimizer
from herjax.learning.selection import select_all, select_best, select_diverse
from herjax.learning.train import TrainState, apply_gradients, bucketed_gradients
from herjax.runtime.config import check_array
from herjax.runtime.sharding import left_to_compiler
from herjax.tasks.augmentation import augment_program, augment_task
from herjax.tasks.random import TaskConfig, random_task_within
from herjax.tasks.task import Task


def hindsight(
    model: Decoder,
    train: TrainState,
    task: Task,
    attempts: Attempts,
    config: AdaptConfig,
    key: Array,
) -> Update:
    """The learner of HER, see ``Learner``; once the task is solved, it trains on nothing."""
    pairs, chosen = choose_pairs(attempts, config, key)
    train, loss = train_on(model, train, task, pairs, jnp.sum(chosen), config, key)
    return Update(train, loss, chosen)


def choose_pairs(attempts: Attempts, config: AdaptConfig, key: Array) -> tuple[Pairs, Array]:
    """Which new pictures to train on, in order.

    Returns:
      K pairs, the chosen ones first, and which of the A programs they are, bool [A]; none once the
      task is solved.
    """
    order_key = jax.random.fold_in(key, config.steps)  # minibatches have smaller numbers
    accuracy = attempts.pairs.accuracy
    selected = config.select(accuracy, attempts.new, config.pairs)
    check_array("select's result", selected, accuracy.shape, "bool")
    place = config.order(order_key, accuracy)
    check_array("order's result", place, accuracy.shape, "float32", "int32")
    chosen = selected & attempts.new & ~attempts.solved
    if config.select not in (select_all, select_best, select_diverse):  # which keep to it
        chosen = select_best(accuracy, chosen, config.pairs)
    most = jnp.finfo(jnp.float32).max  # whatever their places are, the chosen ones come first
    place = jnp.nan_to_num(place.astype(jnp.float32), nan=most, posinf=most, neginf=-most)
    rank = jnp.where(chosen, place, jnp.inf)
    order = jnp.argsort(rank, stable=True)[: config.pairs]
    return jax.tree.map(lambda leaf: leaf[order], attempts.pairs), chosen


def train_on(
    model: Decoder,
    state: TrainState,
    task: Task,
    pairs: Pairs,
    count: Array,
    config: AdaptConfig,
    key: Array,
) -> tuple[TrainState, Array]:
    """Passes over the first ``count`` of K pairs, in minibatches; -> state, mean loss."""
    optimizer = make_optimizer(config)
    draws = pairs.program.shape[1]
    # Devices that choose different branches must not communicate inside them.
    lengths = (draws,) if left_to_compiler() else length_buckets(draws)

    batches = (count + config.minibatch - 1) // config.minibatch

    def step(i: Array, carry: tuple[TrainState, Array]) -> tuple[TrainState, Array]:
        state, total = carry
        which = i if config.passes == 1 else i % batches
        batch, program, weight = minibatch(
            model, task, pairs, count, config, which, jax.random.fold_in(key, i)
        )
        size = task.target.size
        grads, metrics = bucketed_gradients(
            model, state.params, batch, program, weight, size, lengths
        )
        return apply_gradients(state, grads, optimizer), total + metrics["loss"]

    state, total = jax.lax.fori_loop(0, config.passes * batches, step, (state, jnp.float32(0.0)))
    return state, total / jnp.maximum(config.passes * batches, 1)


def length_buckets(draws: int) -> tuple[int, ...]:
    """Lengths of programs to compile training for, of up to so many draws; few save little."""
    return (2 * draws // 5, draws) if draws > 64 else (draws,)


def minibatch(
    model: Decoder,
    task: Task,
    pairs: Pairs,
    count: Array,
    config: AdaptConfig,
    i: Array,
    key: Array,
) -> tuple[Task, Array, Array]:
    """The i-th minibatch of B of the first ``count`` pairs, each augmented at random.

    Returns:
      Tasks [B], their programs int32 [B, N, 6], and the weights float32 [B], 0 for filling.
    """
    size = config.minibatch
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
    fresh_key, augment_key = jax.random.split(key)
    if config.augments:
        batch, program = jax.vmap(partial(augment_pair, config=config))(
            jax.random.split(augment_key, size), batch, program
        )
    if config.fresh:
        ops, draws = model.config.ops, program.shape[1]
        fresh = fresh_pairs(fresh_key, task, config.fresh, draws, ops)
        batch, program = jax.tree.map(
            lambda a, b: jnp.concatenate([a, b.astype(a.dtype)]), (batch, program), fresh
        )
        weight = jnp.concatenate([weight, jnp.ones(config.fresh)])
    return batch, program, weight


def augment_pair(key: Array, task: Task, program: Array, config: AdaptConfig) -> tuple[Task, Array]:
    """A random augmentation of a task and of records [N, 6].

    Returns:
      The augmented task, and the records, rewritten once more. If they drew the target, they draw
      that of the augmented task, which a mirrored line may paint a little otherwise.
    """
    augmentation = config.random_augmentation(key, task)
    moved = augment_program(augmentation, program, task)
    seen = augment_task(augmentation, task)
    if config.symmetries:  # colours alone change nothing that a program is rewritten for
        own = jnp.all(execute(program, task.input) == task.target)
        moved = config.rewrite(moved, seen.input, seen.height, seen.width)
        drawn = execute(moved, seen.input)
        seen = dataclasses.replace(seen, target=jnp.where(own, drawn, seen.target))
    return seen, moved


def fresh_pairs(key: Array, task: Task, count: int, draws: int, ops: int) -> tuple[Task, Array]:
    """``count`` random pretraining tasks whose canvases fit into the task's, and their programs.

    The programs, records [count, draws, 6], use the first ``ops`` ops.
    """
    config = TaskConfig(max_draws=min(draws, TaskConfig.max_draws), ops=ops)
    rows, cols = task.target.shape
    tasks, programs = jax.vmap(
        lambda key: random_task_within(key, task.height, task.width, config, (rows, cols))
    )(jax.random.split(key, count))
    return tasks, jnp.pad(programs, ((0, 0), (0, draws - config.max_draws), (0, 0)))
