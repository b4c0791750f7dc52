"""Adapt a pretrained decoder to one picture: arrays in, result out."""

import dataclasses
import os
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike

from herjax.decoder.weights import Pretrained, load_pretrained, pretrained_for
from herjax.dsl.ops import END, OP
from herjax.learning.config import AdaptConfig
from herjax.learning.epoch import AdaptState, EpochMetrics, compiled_epochs, init_adaptation
from herjax.learning.hindsight import hindsight
from herjax.learning.learner import Learner
from herjax.runtime.program_cache import call_kept
from herjax.tasks.task import Task, canvas_side, check_size, make_task, pad_task


class Result(NamedTuple):
    """What an adaptation found."""

    solved: bool
    program: np.ndarray  # int32 records [N, 6], the best found, painted in order
    history: list[EpochMetrics]  # one an epoch, as NumPy arrays
    adapted: Pretrained  # the decoder as it is now, which ``adapt`` takes again
    task: Task | None = None  # what it was adapted to, without padding
    config: AdaptConfig | None = None  # the settings

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
    on_epoch: Callable[[AdaptState, EpochMetrics], None] | None = None,
) -> Result:
    """Teach a decoder to draw one picture that it cannot draw.

    The whole adaptation is one compiled program, which pictures share by size: canvases are padded
    to the least of ``herjax.tasks.task.CANVAS_SIDES`` that holds them. With ``on_epoch`` the host
    runs that same program an epoch at a time, with identical results.

    Args:
      target: integer array [R, C], colours 0 .. 9.
      input: canvas to draw on, likewise; blank of colour 0 if None.
      params: a decoder, as from ``load_pretrained`` or ``Result.adapted``, or what
        ``load_pretrained`` takes, or parameters of the shape of ``base``; None: the shipped base
        for this size.
      seed: of everything random.
      config: default settings if None.
      learner: what changes the weights in an epoch, see ``herjax.learning.learner``.
      on_epoch: called after each epoch with a copy of the state and the epoch's metrics; may raise
        to stop.

    Raises:
      ValueError: if a picture is malformed or larger than the model's canvas.
      FloatingPointError: if the loss is not finite.
    """
    config = check_config(config)
    task = make_task(target, input)
    shape = task.target.shape
    pretrained = decoder_for(shape, load_decoder(params))
    padded = pad_task(task, canvas_side(shape, pretrained.model.config.max_side))
    key, canvas = jax.random.key(seed), padded.target.shape
    state = call_kept(_start, pretrained.params, key, config=config, shape=canvas)
    epochs = config.max_epochs if on_epoch is None else 1
    while state.running:
        state = compiled_epochs(pretrained.model, state, padded, config, epochs, learner)
        if on_epoch is not None:
            copy, last = call_kept(_copy_and_last, state)
            on_epoch(copy, without_padding(jax.device_get(last), shape))
    return make_result(state, config, pretrained, shape)._replace(task=task)


def check_config(config: AdaptConfig | None) -> AdaptConfig:
    """The settings that were given, or the default ones.

    Raises:
      ValueError: if they are something else.
    """
    if config is not None and not isinstance(config, AdaptConfig):
        raise ValueError(f"config must be an AdaptConfig, got {config!r}")
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
    history = jax.device_get(state.history)
    epochs = int(state.epoch)
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


def load_decoder(params: Pretrained | dict | str | os.PathLike | None) -> Pretrained | None:
    """The decoder that ``adapt`` was given; None for the shipped ones.

    Raises:
      ValueError: if ``params`` is no decoder.
    """
    if isinstance(params, dict):
        return Pretrained(load_pretrained().model, params, {})
    if isinstance(params, str | os.PathLike):
        return load_pretrained(params)
    if params is not None and not isinstance(params, Pretrained):
        raise ValueError(
            "params must be a Pretrained, a name or folder for load_pretrained, parameters, or"
            f" None, got {type(params).__name__}"
        )
    return params


def decoder_for(shape: tuple[int, ...], given: Pretrained | None) -> Pretrained:
    """The decoder for a picture of ``shape`` (R, C): the one given, or the shipped one for it.

    Raises:
      ValueError: if the picture is too large for it.
    """
    chosen = given or pretrained_for(shape)
    check_size(shape, chosen.model.config.max_side)
    return chosen
