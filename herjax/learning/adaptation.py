"""Adapt a pretrained decoder to one picture: arrays in, result out."""

import contextlib
import dataclasses
import os
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jax import Array
from numpy.typing import ArrayLike

from herjax.decoder.weights import (
    Pretrained,
    check_params,
    load_pretrained,
    parameter_shapes,
    shipped_base,
)
from herjax.dsl.ops import END, OP
from herjax.learning.config import AdaptConfig
from herjax.learning.epoch import AdaptState, EpochMetrics, compiled_epochs, init_adaptation
from herjax.learning.hindsight import hindsight
from herjax.learning.learner import Learner
from herjax.learning.room import check_room
from herjax.runtime.config import check_function, check_integer, told
from herjax.runtime.jax_settings import on_its_own
from herjax.runtime.program_cache import call_kept
from herjax.tasks.task import Task, canvas_side, check_size, make_task, pad_task

MAX_SEED = 2**32 - 1  # beyond, keys repeat


class Result(NamedTuple):
    """What an adaptation found.

    Attributes:
      solved: whether the program draws the target.
      program: int32 records [N, 6], the best found, painted in order.
      history: one an epoch, as NumPy arrays.
      adapted: the decoder as it is now, which ``adapt`` takes again.
      task: what it was adapted to, without padding.
      config: the settings.
    """

    solved: bool
    program: np.ndarray
    history: list[EpochMetrics]
    adapted: Pretrained
    task: Task | None = None
    config: AdaptConfig | None = None

    def __repr__(self) -> str:  # that of a tuple tells every program and all weights
        draws, epochs = len(self.program), len(self.history)
        return f"Result(solved={self.solved}, {draws} draws, {epochs} epochs, {self.adapted})"

    @property
    def programs_sampled(self) -> int:
        """How many programs were sampled, until one drew the picture or in all."""
        if self.config is None:
            raise ValueError("result has no config: take it as adapt returns it")
        return len(self.history) * self.config.sampled

    @property
    def params(self) -> dict[str, Any]:
        """The adapted weights alone."""
        return self.adapted.params


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
    target: ArrayLike,
    input: ArrayLike | None = None,
    *,
    params: Pretrained | dict | str | os.PathLike | None = None,
    seed: int = 0,
    config: AdaptConfig | None = None,
    learner: Learner = hindsight,
    on_epoch: Callable[[AdaptState, EpochMetrics], object] | None = None,
) -> Result:
    """Teach a decoder to draw one picture that it cannot draw.

    The whole adaptation is one compiled program, which pictures share by size: canvases are padded
    to the least of ``herjax.tasks.task.CANVAS_SIDES`` that holds them. With ``on_epoch`` the host
    runs that same program an epoch at a time, with identical results. Without it Ctrl-C is an
    exception at once, too, but the program goes on until it ends, and other ones wait for it.

    Args:
      target: integer array [R, C], colours 0 .. 9.
      input: canvas to draw on, likewise; blank of colour 0 if None.
      params: a decoder, as from ``load_pretrained`` or ``Result.adapted``, or what
        ``load_pretrained`` takes, or parameters of the shape of ``base``; None: ``base``.
      seed: of everything random, 0 .. 2**32 - 1.
      config: default settings if None.
      learner: what changes the weights in an epoch, see ``herjax.learning.learner``.
      on_epoch: called after each epoch with a copy of the state and the epoch's metrics. It stops
        the adaptation by raising ``StopIteration``: ``adapt`` then returns the result so far. (So
        does ``scipy.optimize.minimize``.) Any other exception, Ctrl-C too, comes out of ``adapt``
        with the result so far as its attribute ``result``. What it returns does not matter.

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
    task = make_task(target, input)
    shape = task.target.shape
    pretrained = load_decoder(params)
    check_size(shape, pretrained.model.config.max_side)
    check_room([shape], pretrained, config)
    with on_its_own():
        padded = pad_task(task, canvas_side(shape, pretrained.model.config.max_side))
        key, canvas = jax.random.key(seed), padded.target.shape
    state = call_kept(_start, pretrained.params, key, config=config, shape=canvas)
    epochs = config.max_epochs if on_epoch is None else 1
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
    return make_result(state, config, pretrained, shape)._replace(task=task)


def _hand_over(
    error: BaseException,
    state: AdaptState,
    config: AdaptConfig,
    pretrained: Pretrained,
    task: Task,
) -> None:
    """Give an exception of a callback the result so far, as its attribute ``result``."""
    with contextlib.suppress(FloatingPointError):  # of an epoch that has no result
        result = make_result(state, config, pretrained, task.target.shape)._replace(task=task)
        error.result = result  # type: ignore[attr-defined]
        error.add_note("The result so far of herjax.adapt is the attribute `result` of this.")


def check_config(config: AdaptConfig | None) -> AdaptConfig:
    """The settings that were given, or the default ones.

    Raises:
      ValueError: if they are something else.
    """
    if config is not None and not isinstance(config, AdaptConfig):
        raise ValueError(f"config must be an AdaptConfig, got {told(config)}")
    return config or AdaptConfig()


def epoch_metrics(history: EpochMetrics, epoch: int, shape: tuple[int, ...]) -> EpochMetrics:
    """One row of a history of NumPy arrays, for a picture of ``shape`` (R, C)."""
    return without_padding(jax.tree.map(lambda rows: rows[epoch], history), shape)


def without_padding(metrics: EpochMetrics, shape: tuple[int, ...]) -> EpochMetrics:
    """The metrics of an epoch for a picture of ``shape`` (R, C)."""
    rows, cols = shape
    return dataclasses.replace(metrics, best_picture=metrics.best_picture[:rows, :cols])


def make_result(
    state: AdaptState, config: AdaptConfig, pretrained: Pretrained, shape: tuple[int, ...]
) -> Result:
    """The result of an adaptation that has ended, to a picture of ``shape`` (R, C).

    Raises:
      FloatingPointError: if it ended because the loss was not finite.
    """
    epochs = int(state.epoch)
    history = jax.tree.map(lambda rows: rows[:epochs].copy(), jax.device_get(state.history))
    if not np.isfinite(history.loss[epochs - 1]):
        raise FloatingPointError(
            f"loss {history.loss[epochs - 1]} in epoch {epochs - 1} at learning_rate"
            f" {config.learning_rate}: choose a lower one"
        )
    program = np.asarray(state.best_program)
    info = {"adapted_from": pretrained.info.get("sha256")}
    return Result(
        solved=bool(history.solved[epochs - 1]),
        program=program[: np.sum(program[:, OP] != END)],
        history=[epoch_metrics(history, epoch, shape) for epoch in range(epochs)],
        adapted=Pretrained(pretrained.model, state.train.params, info),
        config=config,
    )


def load_decoder(params: Pretrained | dict | str | os.PathLike | None) -> Pretrained:
    """The decoder that ``adapt`` was given; the shipped base for None.

    Raises:
      ValueError: if ``params`` is no decoder, or parameters of another one than ``base``.
      CheckpointError: if it names no model, or a damaged one.
    """
    if params is None:
        return shipped_base()
    if isinstance(params, dict):
        base = shipped_base()
        given = params.get("params")
        flat = traverse_util.flatten_dict(given, sep="/") if isinstance(given, dict) else {}
        try:
            check_params(flat, parameter_shapes(base.model.config))
        except ValueError as error:
            raise ValueError(
                f"params must be those of base; of another decoder, pass a Pretrained: {error}"
            ) from None
        return Pretrained(base.model, params, {})
    if isinstance(params, str | os.PathLike):
        return load_pretrained(params)
    if not isinstance(params, Pretrained):
        raise ValueError(
            "params must be a Pretrained, a name or folder for load_pretrained, parameters, or"
            f" None, got {type(params).__name__}"
        )
    return params
