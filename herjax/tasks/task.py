"""The struct of a drawing task, and tasks from arrays."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array
from numpy.typing import ArrayLike

from herjax.dsl.executor import OUTSIDE
from herjax.dsl.ops import COLOURS
from herjax.runtime.config import check_integer, told

# Pictures share a compiled program by the square canvas that they are padded to: the least of these
# sides that holds them (BUILD_NOTES.md says what was measured).
CANVAS_SIDES = (10, 16, 20, 24, 30)


@struct.dataclass
class Task:
    """A drawing task: paint ``target`` over ``input``. Canvases are padded with OUTSIDE.

    Attributes:
      input: int8 [R, C], the canvas to draw on.
      target: int8 [R, C], the picture to draw.
      height: int32 [], without padding.
      width: int32 [], likewise.
    """

    input: Array
    target: Array
    height: Array
    width: Array


def make_task(target: Any, *, input: ArrayLike | None = None, max_side: int | None = None) -> Task:
    """A task from arrays [R, C] of colours 0 .. 9; without input, over a blank canvas of colour 0.

    Args:
      target: the picture to draw; or a ``Picture`` or an unbatched ``Task``, with its input, whose
        padding is left out.
      input: the canvas to draw on, of the same shape.
      max_side: the largest side that is allowed, if any.

    Raises:
      ValueError: for a wrong shape or type, a colour out of range, or a side above ``max_side``.
    """
    if hasattr(target, "target") and hasattr(target, "input"):
        if input is not None:
            raise ValueError(f"input is given beside a {type(target).__name__}, which has its own")
        target, input = _without_padding(target)
    target = check_grid(target, "target")
    input = np.zeros_like(target) if input is None else check_grid(input, "input")
    if input.shape != target.shape:
        raise ValueError(f"input is {input.shape}, target {target.shape}: they must be equal")
    if max_side is not None:
        check_size(target.shape, check_integer("max_side", max_side, 1))
    rows, cols = target.shape
    before, after = (jnp.asarray(canvas, jnp.int8) for canvas in (input, target))
    return Task(before, after, jnp.int32(rows), jnp.int32(cols))


def _without_padding(drawn: Any) -> tuple[np.ndarray, np.ndarray]:
    """Target and input of a ``Picture``, or of a ``Task``, which may be padded."""
    target, input = np.asarray(drawn.target), np.asarray(drawn.input)
    if isinstance(drawn, Task) and target.ndim == 2:
        rows, cols = int(drawn.height), int(drawn.width)
        target, input = target[:rows, :cols], input[:rows, :cols]
    return target, input


def pad_task(task: Task, side: int) -> Task:
    """An unbatched task on a square canvas, padded with OUTSIDE: tasks of one side can be stacked.

    Raises:
      ValueError: if it does not fit.
    """
    rows, cols = task.target.shape
    check_size((rows, cols), check_integer("side", side, 1), "task", "the canvas")
    padding = ((0, side - rows), (0, side - cols))
    before, after = (
        jnp.asarray(np.pad(np.asarray(canvas), padding, constant_values=OUTSIDE))
        for canvas in (task.input, task.target)
    )
    height, width = (jnp.asarray(np.asarray(length)) for length in (task.height, task.width))
    return Task(before, after, height, width)


def check_grid(grid: object, name: str) -> np.ndarray:
    """A picture, an array or rows of integers, as int8 [R, C] of colours 0 .. 9.

    Raises:
      ValueError: if it is none, with ``name`` and what is wrong: of rows, in which row.
    """
    if not hasattr(grid, "dtype") and not hasattr(grid, "__array__"):
        _check_rows(grid, name)
    if np.ma.is_masked(grid):
        raise ValueError(f"{name} has masked cells: give each a colour")
    grid = np.asarray(grid)
    if grid.ndim != 2 or grid.size == 0:
        raise ValueError(f"{name}: a picture must be [rows, columns], got shape {grid.shape}")
    if grid.dtype.kind not in "iu":
        raise ValueError(f"{name} must hold integers, got {str(grid.dtype)[:40]}")
    low, high = int(grid.min()), int(grid.max())
    if low < 0 or high >= COLOURS:
        raise ValueError(f"{name} has colours {low} .. {high}, allowed are 0 .. {COLOURS - 1}")
    return grid.astype(np.int8)


def _check_rows(grid: Any, name: str) -> None:
    """ValueError unless rows that are not an array would make one [R, C] of integers."""
    if hasattr(grid, "target"):
        raise ValueError(f"{name} is a {type(grid).__name__}: give its target or its input")
    if hasattr(grid, "params"):
        raise ValueError(f"{name} is a {type(grid).__name__}: a decoder is given as params=")
    if not _is_sequence(grid) or not len(grid) or not all(map(_is_sequence, grid)):
        raise ValueError(f"{name} does not hold a grid: rows of colours 0 .. {COLOURS - 1}")
    for number, row in enumerate(grid, start=1):
        if len(row) != len(grid[0]):
            raise ValueError(f"{name}: row {number} has {len(row)} cells, row 1 has {len(grid[0])}")
        for cell in row:
            # JSON's true and false are integers to Python.
            integer = isinstance(cell, int | np.integer) and not isinstance(cell, bool)
            if not integer or not 0 <= cell < COLOURS:
                raise ValueError(
                    f"{name}, row {number}: colours are 0 .. {COLOURS - 1}, got {told(cell)}"
                )


def _is_sequence(value: object) -> bool:
    return isinstance(value, list | tuple) or getattr(value, "ndim", 0) == 1


def check_size(
    shape: tuple[int, ...], max_side: int, name: str = "picture", than: str = "the model's canvas"
) -> None:
    """ValueError for a picture of ``shape`` (R, C) with a side above ``max_side``."""
    if max(shape) > max_side:
        rows, cols = shape
        raise ValueError(f"{name} of {rows}x{cols} is larger than {than}, {max_side}x{max_side}")


def canvas_side(shape: tuple[int, ...], max_side: int | None = None) -> int:
    """The side of the canvas that a picture of ``shape`` (R, C) is padded to.

    It is one of CANVAS_SIDES, or ``max_side`` if that is less, or for lack of these that of the
    picture.
    """
    sides = [side for side in CANVAS_SIDES if side >= max(shape)] or [max(shape)]
    return min([*sides, max_side or sides[0]])
