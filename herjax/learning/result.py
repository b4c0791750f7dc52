"""What an adaptation found."""

import dataclasses
from typing import Any

import jax
import numpy as np

from herjax.decoder.weights import Pretrained
from herjax.dsl.ops import END, OP
from herjax.learning.config import AdaptConfig
from herjax.learning.epoch import AdaptState, EpochMetrics
from herjax.tasks.task import Task


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Result:
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
    task: Task
    config: AdaptConfig

    def __repr__(self) -> str:  # without every program and all weights
        draws, epochs = len(self.program), len(self.history)
        return f"Result(solved={self.solved}, {draws} draws, {epochs} epochs, {self.adapted})"

    @property
    def programs_sampled(self) -> int:
        """How many programs were sampled, until one drew the picture or in all."""
        return len(self.history) * self.config.sampled

    @property
    def params(self) -> dict[str, Any]:
        """The adapted weights alone."""
        return self.adapted.params


def epoch_metrics(history: EpochMetrics, epoch: int, shape: tuple[int, ...]) -> EpochMetrics:
    """One row of a history of NumPy arrays, for a picture of ``shape`` (R, C)."""
    return without_padding(jax.tree.map(lambda rows: rows[epoch], history), shape)


def without_padding(metrics: EpochMetrics, shape: tuple[int, ...]) -> EpochMetrics:
    """The metrics of an epoch for a picture of ``shape`` (R, C)."""
    rows, cols = shape
    return dataclasses.replace(metrics, best_picture=metrics.best_picture[:rows, :cols])


def make_result(
    state: AdaptState, config: AdaptConfig, pretrained: Pretrained, task: Task
) -> Result:
    """The result of an adaptation that has ended, to a task without padding.

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
    before = pretrained.info
    info = {"adapted_from": before.get("sha256") or before.get("adapted_from")}
    return Result(
        solved=bool(history.solved[epochs - 1]),
        program=program[: np.sum(program[:, OP] != END)],
        history=[epoch_metrics(history, epoch, task.target.shape) for epoch in range(epochs)],
        adapted=Pretrained(pretrained.model, state.train.params, info),
        task=task,
        config=config,
    )
