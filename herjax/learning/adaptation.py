"""Adapt a pretrained decoder to one picture, or to many: arrays in, results out."""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh
from numpy.typing import ArrayLike

from herjax.decoder.weights import Pretrained, load_decoder
from herjax.learning.config import AdaptConfig, check_config
from herjax.learning.epoch import AdaptState, EpochMetrics, compiled_epochs, init_adaptation
from herjax.learning.hindsight import hindsight
from herjax.learning.learner import Learner
from herjax.learning.population import CHUNK, Population, by_canvas
from herjax.learning.result import Result, make_result, without_padding
from herjax.learning.room import check_room
from herjax.runtime.config import check_function, check_integer, told
from herjax.runtime.jax_settings import on_its_own
from herjax.runtime.program_cache import call_kept
from herjax.runtime.sharding import check_mesh
from herjax.tasks.suite import Picture
from herjax.tasks.task import Task, canvas_side, check_size, make_task, pad_task

MAX_SEED = 2**32 - 1  # beyond, keys repeat


@partial(jax.jit, static_argnames=("config", "shape"))
def _start(
    params: dict[str, Any], key: Array, config: AdaptConfig, shape: tuple[int, ...]
) -> AdaptState:
    return init_adaptation(params, config, key, shape)


@jax.jit
def _copy_and_last(state: AdaptState) -> tuple[AdaptState, EpochMetrics]:
    """A copy, which is not donated to the next epoch, and the metrics of the last one."""
    last = jax.tree.map(lambda rows: rows[state.epoch - 1], state.history)
    return jax.tree.map(jnp.copy, state), last


def adapt(
    target: ArrayLike | Picture,
    *,
    input: ArrayLike | None = None,
    params: Pretrained | str | os.PathLike | None = None,
    seed: int = 0,
    config: AdaptConfig | None = None,
    learner: Learner = hindsight,
    on_epoch: Callable[[AdaptState, EpochMetrics], object] | None = None,
) -> Result:
    """Teach a decoder to draw one picture that it cannot draw.

    Any number of epochs is one compiled program, which pictures share by size: canvases are padded
    to the least of ``herjax.tasks.task.CANVAS_SIDES`` that holds them. The host runs 8 epochs at a
    time, with ``on_epoch`` one, with identical results. Ctrl-C waits for those that have begun, and
    comes out, as any exception does once an epoch has ended, with the result so far as its
    attribute ``result``.

    Args:
      target: integer array [R, C], colours 0 .. 9; or a ``Picture`` or ``Task``, with its input.
      input: canvas to draw on, likewise; blank of colour 0 if None.
      params: a decoder, as from ``load_pretrained`` or ``Result.adapted``, or what
        ``load_pretrained`` takes; None: ``base``.
      seed: of everything random, 0 .. 2**32 - 1.
      config: default settings if None.
      learner: what changes the weights in an epoch, see ``herjax.learning.learner``. Make it once:
        each new function, ``functools.partial`` too, is compiled anew.
      on_epoch: called after each epoch with a copy of the state and the epoch's metrics. It stops
        the adaptation by raising ``StopIteration``: ``adapt`` then returns the result so far. (So
        does ``scipy.optimize.minimize``.) What it returns does not matter.

    Raises:
      ValueError: if a picture is malformed or larger than the model's canvas, another argument is
        of the wrong kind or out of range, or the adaptation would take more memory than there is.
      CheckpointError: if ``params`` names no model, or a damaged one.
      FloatingPointError: if the loss is not finite.
    """
    config, seed = check_config(config), check_integer("seed", seed, 0, MAX_SEED)
    check_function("learner", learner)
    if on_epoch is not None:
        check_function("on_epoch", on_epoch)
    task = make_task(target, input=input)
    shape = task.target.shape
    pretrained = load_decoder(params)
    check_size(shape, pretrained.model.config.max_side)
    check_room([shape], pretrained, config)
    with on_its_own():
        padded = pad_task(task, canvas_side(shape, pretrained.model.config.max_side))
        key, canvas = jax.random.key(seed), padded.target.shape
    state = call_kept(_start, pretrained.params, key, config=config, shape=canvas)
    epochs = CHUNK if on_epoch is None else 1
    try:
        while state.running:
            state = compiled_epochs(pretrained.model, state, padded, config, epochs, learner)
            if on_epoch is not None:
                copy, last = call_kept(_copy_and_last, state)
                try:
                    on_epoch(copy, without_padding(jax.device_get(last), shape))
                except StopIteration:
                    break
    except BaseException as error:
        _hand_over(error, state, config, pretrained, task)
        raise
    return make_result(state, config, pretrained, task)


def _hand_over(
    error: BaseException,
    state: AdaptState,
    config: AdaptConfig,
    pretrained: Pretrained,
    task: Task,
) -> None:
    """Give an exception the result so far, if there is one, as its attribute ``result``."""
    # Of no epoch or one that has no result; of a state given to epochs that did not end.
    with contextlib.suppress(IndexError, FloatingPointError, RuntimeError):
        result = make_result(state, config, pretrained, task)
        error.result = result  # type: ignore[attr-defined]
        error.add_note("The result so far of herjax.adapt is the attribute `result` of this.")


def adapt_population(
    tasks: Sequence[Task | Picture | ArrayLike],
    seeds: Sequence[int] | Array | np.ndarray,
    *,
    params: Pretrained | str | os.PathLike | None = None,
    config: AdaptConfig | None = None,
    learner: Learner = hindsight,
    mesh: Mesh | None = None,
    slots: int = 0,
    vectorize: bool | None = None,
    on_result: Callable[[int, Result], object] | None = None,
) -> list[Result]:
    """Adapt one member for each pair of a task and a seed.

    What has ended is not lost when the rest fails: once they run, any exception, Ctrl-C too, comes
    out with the results so far, by index, as its attribute ``results`` (dict). Those are the quick
    ones: no rate follows from them alone. A member whose loss is not finite stops no other one: the
    exception comes when all have ended.

    Args:
      tasks: M pictures as for ``make_task``; repeat one for several seeds.
      seeds: M integers as for ``herjax.adapt``, or PRNG keys [M].
      params, config, learner: of all members, as for ``herjax.adapt``.
      mesh: its axis "data" splits the members, "model" the decoder; None: all devices on "data".
      slots: how many members are there at a time; 0: what suits the devices.
      vectorize: whether a device runs its members as one batch; None: not on CPUs.
      on_result: called with a member's index and its result when it has ended, within 8 epochs.

    Returns:
      M results, in the order of the tasks.

    Raises:
      ValueError: if there is not one seed for each task, a picture is too large for the model,
        the mesh has other axes, or all would take more memory than there is.
      FloatingPointError: if the losses of members are not finite, naming the first one.
    """
    config = check_config(config)
    check_function("learner", learner)
    check_integer("slots", slots, 0)
    if on_result is not None:
        check_function("on_result", on_result)
    tasks, keys = list(tasks), keys_of(seeds)
    if len(tasks) != len(keys):
        raise ValueError(f"{len(tasks)} tasks and {len(keys)} seeds: they must pair up")
    decoder = load_decoder(params)
    made = [make_task(task) for task in tasks]
    shapes = [task.target.shape for task in made]
    for shape in shapes:
        check_size(shape, decoder.model.config.max_side)
    mesh = check_mesh(mesh)
    check_room(shapes, decoder, config, mesh=mesh, slots=slots)
    results: dict[int, Result] = {}
    settings = dict(learner=learner, mesh=mesh, slots=slots, vectorize=vectorize)
    try:
        for index, result in _results(decoder, made, keys, config, **settings):
            results[index] = result
            if on_result is not None:
                on_result(index, result)
    except BaseException as error:
        error.results = results  # type: ignore[attr-defined]
        error.add_note(f"Its attribute `results` has {len(results)} of {len(made)} results.")
        raise
    return [results[index] for index in range(len(made))]


def keys_of(seeds: Sequence[int] | Array | np.ndarray) -> Array:
    """PRNG keys [M] of seeds, which may be keys already.

    Raises:
      ValueError: if they are neither.
    """
    if isinstance(seeds, Array | np.ndarray):
        key = jnp.issubdtype(seeds.dtype, jax.dtypes.prng_key)
        if key and seeds.ndim == 1 or seeds.dtype == np.uint32 and seeds.shape[1:] == (2,):
            return jnp.asarray(seeds)
        listed = seeds.ndim == 1
    else:
        listed = isinstance(seeds, Sequence) and not isinstance(seeds, str)
    if not listed:
        raise ValueError(f"seeds must be integers [M] or PRNG keys [M], got {told(seeds)}")
    numbers = [check_integer("each of seeds", seed, 0, MAX_SEED) for seed in seeds]
    with on_its_own():
        return jax.vmap(jax.random.key)(np.array(numbers, np.uint32))


def _results(
    decoder: Pretrained, tasks: list[Task], keys: Array, config: AdaptConfig, **settings: Any
) -> Iterator[tuple[int, Result]]:
    """The index and the result of each member, when it has ended.

    Raises:
      FloatingPointError: in the end, if there were members whose loss was not finite.
    """
    shapes, failed = [task.target.shape for task in tasks], dict[int, str]()
    for members in by_canvas(shapes, decoder.model.config.max_side):
        mine = [tasks[index] for index in members]
        population = Population(decoder, mine, keys[np.array(members)], config, **settings)
        while not population.done:
            for advance in population.advance(CHUNK):
                if advance.ended is None:
                    continue
                index = members[advance.member]
                try:
                    result = population.result(advance)
                except FloatingPointError as error:
                    failed[index] = str(error)
                else:
                    yield index, result
    if failed:
        index, why = min(failed.items())
        more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
        raise FloatingPointError(f"member {index}{more} of {len(tasks)}: {why}")
