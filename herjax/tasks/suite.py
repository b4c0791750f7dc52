"""The named pictures of the source experiment and two larger ones, each with a program; emoji."""

import dataclasses
import pathlib
import re

import numpy as np

from herjax.dsl.ops import COLUMN, LINE, PIXEL, RECTANGLE
from herjax.runtime.config import did_you_mean, told

CHICK = """
8888448888 8844444488 8440440448 8424474248 8444774448
8844444488 4444444444 4444444444 8444444448 8847447488
"""

EMOJI_SIDES = (16, 20, 30)  # cells; of 20 without a number

# Blocks down and across of the n-squares pictures (2x2 cells each).
SQUARES = {
    12: (3, 4),
    16: (4, 4),
    20: (5, 4),
    25: (5, 5),
    36: (6, 6),
    49: (7, 7),
    64: (8, 8),
    81: (9, 9),
    100: (10, 10),
    196: (14, 14),
    225: (15, 15),
}


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Picture:
    """A named task.

    Attributes:
      input: int8 [R, C], the canvas to draw on.
      target: int8 [R, C], the picture to draw.
      program: int32 records [N, 6] that paint target over input.
    """

    input: np.ndarray
    target: np.ndarray
    program: np.ndarray

    def __repr__(self) -> str:  # without every cell
        rows, cols = self.target.shape
        return f"Picture({rows}x{cols}, {len(self.program)} draws)"


def pictures() -> dict[str, Picture]:
    """Every named picture: 9-vertical-lines, 9-squares, overlapping-squares, n-squares, chick."""
    suite = {
        "9-vertical-lines": _paint((9, 9), [(COLUMN, c + 1, 0, c, 0, 0) for c in range(9)]),
        "9-squares": squares(3, 3, side=3),
        "overlapping-squares": _paint(
            (10, 10), [(RECTANGLE, i + 1, i, i, 9 - i, 9 - i) for i in range(5)]
        ),
    }
    for n, (down, across) in SQUARES.items():
        columns = across % 7 == 0  # that is what seven colours would make of 196-squares
        suite[f"{n}-squares"] = squares(down, across, colours=7 if n >= 81 and not columns else 9)
    suite["chick"] = from_runs(np.array([list(row) for row in CHICK.split()], np.int8))
    return suite


def tuning_pictures() -> dict[str, Picture]:
    """Random pictures to choose settings on: none of them is in the suite."""
    found = {}
    for i in range(6):
        found[f"tuning-{i}"] = _cutting((20261123, i), side=10, pieces=20)
    for i in range(3):
        found[f"tuning-grid-{i}"] = _uneven_grid((20261124, i), side=10, parts=5)
    for i in range(3):
        found[f"tuning-even-{i}"] = _even_grid((20261125, i), parts=4)
    found["tuning-large-even"] = _even_grid((20261126, 0), parts=10)
    found["tuning-large-cutting"] = _cutting((20261127, 0), side=20, pieces=80)
    found["tuning-14-even"] = _even_grid((20261126, 1), parts=7)
    found["tuning-16-grid"] = _uneven_grid((20261126, 2), side=16, parts=8)
    return found


def emoji_file(side: int) -> pathlib.Path:
    """The grids of all emoji of ``side`` cells; experiments/make_emoji.py makes it."""
    return pathlib.Path(__file__).parent / f"emoji{side}.txt"


def emoji_grids(side: int = 20) -> dict[str, np.ndarray]:
    """A hundred emoji of Noto Color Emoji over colour 0, int8 [side, side] (emoji-LICENSE.txt)."""
    grids = {}
    for block in emoji_file(side).read_text("utf-8").split("\n\n"):
        name, *rows = block.split()
        grids[name] = np.array([list(row) for row in rows], np.int8)
    return grids


def emoji_task(name: str, side: int) -> str:
    """What the task of an emoji is called: rocket in 20x20 cells, rocket-16x16, rocket-30x30."""
    return name if side == 20 else f"{name}-{side}x{side}"


def emoji_pictures(side: int = 20) -> dict[str, Picture]:
    """The pictures of ``emoji_grids``, by the names of their tasks."""
    return {emoji_task(name, side): from_runs(grid) for name, grid in emoji_grids(side).items()}


def is_emoji(name: str) -> bool:
    """Whether a name is for ``emoji_picture``: emoji:rocket, emoji16:rocket."""
    return re.match(r"emoji\d*:", name) is not None


def emoji_picture(name: str) -> tuple[str, Picture]:
    """The task of one emoji, and its picture.

    Raises:
      ValueError: if there is none of this name or size.
    """
    prefix, _, short = name.partition(":")
    sides = {"emoji": 20} | {f"emoji{side}": side for side in EMOJI_SIDES}
    if prefix not in sides:
        raise ValueError(f"unknown task {told(name)}: sizes are {', '.join(sides)}")
    grids = emoji_grids(sides[prefix])
    if short not in grids:
        near = did_you_mean(short, grids)
        raise ValueError(f"no emoji {told(short)}{near}: her_adapt --list_tasks names them")
    return emoji_task(short, sides[prefix]), from_runs(grids[short])


def _cutting(seed: tuple[int, int], side: int, pieces: int) -> Picture:
    """A canvas cut at random into rectangles of random colours, by guillotine cuts."""
    rng = np.random.default_rng(seed)
    parts = [(0, 0, side, side)]
    while len(parts) < pieces:
        areas = np.array([h * w if h * w > 1 else 0 for _, _, h, w in parts], float)
        r, c, h, w = parts.pop(rng.choice(len(parts), p=areas / areas.sum()))
        if rng.random() < h / (h + w) and h > 1 or w == 1:
            cut = int(rng.integers(1, h))
            parts += [(r, c, cut, w), (r + cut, c, h - cut, w)]
        else:
            cut = int(rng.integers(1, w))
            parts += [(r, c, h, cut), (r, c + cut, h, w - cut)]
    target = np.zeros((side, side), np.int8)
    for r, c, h, w in parts:
        target[r : r + h, c : c + w] = rng.integers(0, 10)
    return from_runs(target)


def _uneven_grid(seed: tuple[int, int], side: int, parts: int) -> Picture:
    """A canvas cut into ``parts`` x ``parts`` rectangles of uneven sides, random colours."""
    rng = np.random.default_rng(seed)
    inner = np.arange(1, side)
    cuts = [np.sort(rng.choice(inner, parts - 1, replace=False)) for _ in range(2)]
    block = np.stack([np.searchsorted(cut, np.arange(side), side="right") for cut in cuts])
    colours = rng.integers(0, 10, (parts, parts))
    return from_runs(colours[block[0][:, None], block[1][None, :]].astype(np.int8))


def _even_grid(seed: tuple[int, int], parts: int, side: int = 2) -> Picture:
    """``parts`` x ``parts`` square blocks of random colours."""
    colours = np.random.default_rng(seed).integers(0, 10, (parts, parts))
    return from_runs(colours.repeat(side, 0).repeat(side, 1).astype(np.int8))


def squares(down: int, across: int, side: int = 2, colours: int = 9) -> Picture:
    """A tiling by square blocks whose colours count 1, 2, .. ``colours``, 1, .. row by row."""
    draws = []
    for i in range(down * across):
        top, left = i // across * side, i % across * side
        draws.append((RECTANGLE, i % colours + 1, top, left, top + side - 1, left + side - 1))
    return _paint((down * side, across * side), draws)


def from_runs(target: np.ndarray, input: np.ndarray | int = 0) -> Picture:
    """Any picture over a canvas, a colour or [R, C]; its program draws each row run by run."""
    canvas = np.broadcast_to(np.asarray(input, target.dtype), target.shape).copy()
    draws = []
    for r, row in enumerate(target):
        starts = [0, *(np.flatnonzero(np.diff(row)) + 1), len(row)]
        for start, stop in zip(starts[:-1], starts[1:]):
            if (canvas[r, start:stop] == row[start]).all():
                continue
            if stop - start == 1:
                draws.append((PIXEL, row[start], r, start, 0, 0))
            else:
                draws.append((LINE, row[start], r, start, r, stop - 1))
    return Picture(canvas, target, np.array(draws, np.int32).reshape(-1, 6))


def _paint(shape: tuple[int, int], draws: list[tuple]) -> Picture:
    """The picture of rectangles and columns over a blank canvas of colour 0."""
    target = np.zeros(shape, np.int8)
    for op, colour, r1, c1, r2, c2 in draws:
        if op == COLUMN:
            target[:, c1] = colour
        else:
            target[r1 : r2 + 1, c1 : c2 + 1] = colour
    return Picture(np.zeros(shape, np.int8), target, np.array(draws, np.int32))
