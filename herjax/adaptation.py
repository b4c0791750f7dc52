"""Adapt a pretrained decoder to one picture: arrays in, result out."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from herjax.executor import OUTSIDE
from herjax.her import AdaptConfig, AdaptState, EpochMetrics, compiled_epochs, init_adaptation
from herjax.model import Decoder
from herjax.ops import END, OP
from herjax.program_cache import call_kept
from herjax.tasks import Task
from herjax.weights import Pretrained, check_size, load_pretrained, pretrained_for


class Result(NamedTuple):
    """What an adaptation found."""

    solved: bool
    program: np.ndarray  # int32 records [N, 6], the best found, painted in order
    history: list[EpochMetrics]  # one an epoch, as NumPy arrays
    params: dict  # adapted weights


def make_task(target, input=None, max_side: int | None = None) -> Task:
    """A task from arrays [R, C] of colours 0 .. 9; without input, over a blank canvas of colour 0.

    Raises:
      ValueError: for a wrong shape, a colour out of range, or a side above ``max_side``.
    """
    target = np.asarray(target)
    if target.ndim != 2 or target.size == 0:
        raise ValueError(f"a picture must be [rows, columns], got shape {target.shape}")
    input = np.zeros_like(target) if input is None else np.asarray(input)
    if input.shape != target.shape:
        raise ValueError(f"input is {input.shape}, target {target.shape}: they must be equal")
    for name, canvas in (("target", target), ("input", input)):
        if not np.issubdtype(canvas.dtype, np.integer):
            raise ValueError(f"{name} must hold integers, got {canvas.dtype}")
        low, high = int(canvas.min()), int(canvas.max())
        if low < 0 or high >= OUTSIDE:
            raise ValueError(f"{name} has colours {low} .. {high}, allowed are 0 .. {OUTSIDE - 1}")
    if max_side is not None:
        check_size(target.shape, max_side)
    rows, cols = target.shape
    canvases = [jnp.asarray(canvas, jnp.int8) for canvas in (input, target)]
    return Task(*canvases, jnp.int32(rows), jnp.int32(cols))


@partial(jax.jit, static_argnames=("config", "shape"))
def _start(params, key, config, shape):
    return init_adaptation(params, config, key, shape)


def adapt(
    target,
    input=None,
    *,
    params: Pretrained | dict | None = None,
    seed: int = 0,
    config: AdaptConfig | None = None,
    on_epoch: Callable[[AdaptState, EpochMetrics], None] | None = None,
) -> Result:
    """Teach a decoder, by HER, to draw one picture that it cannot draw.

    The whole adaptation is one compiled program. With ``on_epoch`` the host runs that same program
    an epoch at a time, with identical results.

    Args:
      target: integer array [R, C], colours 0 .. 9.
      input: canvas to draw on, likewise; blank of colour 0 if None.
      params: from ``load_pretrained``, or parameters of the shape of ``base``; None: the shipped
        base for this size.
      seed: of everything random.
      config: default settings if None.
      on_epoch: called after each epoch; may raise to stop.

    Raises:
      ValueError: if a picture is malformed or larger than the model's canvas.
      FloatingPointError: if the loss is not finite.
    """
    task = make_task(target, input)
    model, weights = load_decoder(params, task.target.shape)
    config = config or AdaptConfig()
    shape = task.target.shape
    state = call_kept(_start, weights, jax.random.key(seed), config=config, shape=shape)
    epochs = config.max_epochs if on_epoch is None else 1
    while state.running:
        state = compiled_epochs(model, state, task, config, epochs)
        if on_epoch is not None:
            on_epoch(state, epoch_metrics(state.history, int(state.epoch) - 1))
    return make_result(state, config)


def epoch_metrics(history: EpochMetrics, epoch: int) -> EpochMetrics:
    """One row of a history, as NumPy arrays."""
    return jax.tree.map(lambda rows: np.asarray(rows[epoch]), history)


def make_result(state: AdaptState, config: AdaptConfig) -> Result:
    """The result of an adaptation that has ended.

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
    return Result(
        solved=bool(history.solved[epochs - 1]),
        program=program[: np.sum(program[:, OP] != END)],
        history=[epoch_metrics(history, epoch) for epoch in range(epochs)],
        params=state.train.params,
    )


def load_decoder(params: Pretrained | dict | None, shape: tuple[int, int]) -> tuple[Decoder, dict]:
    """The decoder and the parameters that ``adapt`` was given, for pictures of ``shape`` (R, C).

    Raises:
      ValueError: if they are too large for it.
    """
    if params is None:
        params = pretrained_for(shape)
    elif isinstance(params, dict):
        params = Pretrained(load_pretrained().model, params, {})
    check_size(shape, params.model.config.max_side)
    return params.model, params.params
