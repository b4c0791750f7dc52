"""The drawing calls of the DSL: one table row each.

To add a call, write its mask function and append a row to ``OPS`` here, and append it in plain
NumPy to ``drawing.py``, which exported programs carry with them and which is its referee in the
tests. Tokens, legality, Python source, canonical form, augmentation and execution follow from the
row; no test needs to be edited.

A call has these limits:

* It has one colour and at most two points, because a draw is a record of six columns. Its keywords
  are those of ``ARGUMENT_COLUMNS``.
* Its mask function gets integers of 16 bits on canvases of up to 100 cells a side: a product of
  four sides does not fit, so cast first (``.astype(jnp.int32)``).
* Which cells it paints follows from its points alone: it cannot look at the canvas, as a flood
  fill does.
* Mirroring its points mirrors its cells, and some row of the table (itself, or the one that it
  names as ``transposed``) paints its cells with rows and columns swapped. Lines alone may miss
  this by a cell, where rounding breaks a tie; augmented programs are drawn again for that reason.
"""

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

END = 0  # the op of an empty record, which paints nothing; those of herjax stand at the end
COLOURS = 10

# A record is (op, colour, r1, c1, r2, c2); these are its columns.
OP, COLOUR, R1, C1, R2, C2 = range(6)
RECORD_SIZE = 6

# Keyword of the Python call -> the record columns that hold its value.
ARGUMENT_COLUMNS = {
    "point1": (R1, C1),
    "point2": (R2, C2),
    "point": (R1, C1),
    "y": (R1,),
    "x": (C1,),
    "color": (COLOUR,),
}


class Band(NamedTuple):
    """The cells whose place, row_step * row + col_step * col + start, is in 0 .. last."""

    row_step: Array | int
    col_step: Array | int
    start: Array | int
    last: Array | int
    hollow: Array | int = 0  # what both bands of a draw have at the places 1 .. hollow is left out


class Op(NamedTuple):
    name: str  # of the Python function
    arguments: tuple[str, ...]  # keywords of the Python call, keys of ARGUMENT_COLUMNS
    # The mask function, one of two kinds. ``bands`` is the faster: (r1, c1, r2, c2) -> the two
    # bands whose common cells are painted, but what both are hollow at. ``covers`` can be any:
    # (r1, c1, r2, c2, row, col) -> bool, is this cell painted; broadcasts. Both get a missing
    # point2 as point1, and instead of a missing row or column the first and the last.
    bands: Callable[..., tuple[Band, Band]] | None = None
    covers: Callable[..., Array] | None = None
    transposed: str = ""  # the op of the same cells with rows and columns swapped; "": itself
    # What the canonical form may rewrite. Without either, a draw stays as it is.
    corners: bool = False  # any two opposite corners paint the same cells: point1 to the top left
    segment: bool = False  # points of one row or column: all cells between them, as a line paints

    @property
    def columns(self) -> tuple[int, ...]:
        """Record columns that this op uses besides OP, in the order of the Python call."""
        return tuple(column for name in self.arguments for column in ARGUMENT_COLUMNS[name])


def line_bands(r1: Array, c1: Array, r2: Array, c2: Array) -> tuple[Band, Band]:
    """Bresenham line, the cells of ``skimage.draw.line``.

    Step i along the longer axis is offset by floor((2 * short * i + long) / (2 * long)) along
    the shorter one; multiplied out here to a bound on the remainder.
    """
    height, width = jnp.abs(r2 - r1), jnp.abs(c2 - c1)
    steep = height > width
    down = jnp.where(r2 < r1, -1, 1).astype(r1.dtype)
    right = jnp.where(c2 < c1, -1, 1).astype(c1.dtype)
    long, short = jnp.maximum(height, width), jnp.minimum(height, width)
    scale = jnp.maximum(2 * long, 1)

    def band(along: Array | int, across: Array | int, start: Array | int, last: Array) -> Band:
        # along * steps + across * offset, from point1
        row_step = down * jnp.where(steep, along, across)
        col_step = right * jnp.where(steep, across, along)
        return Band(row_step, col_step, start - row_step * r1 - col_step * c1, last)

    return band(1, 0, 0, long), band(2 * short, -scale, long, scale - 1)


def rectangle_bands(r1: Array, c1: Array, r2: Array, c2: Array) -> tuple[Band, Band]:
    """Filled rectangle between any two opposite corners; also rows, columns and pixels."""
    rows = Band(1, 0, -jnp.minimum(r1, r2), jnp.abs(r2 - r1))
    cols = Band(0, 1, -jnp.minimum(c1, c2), jnp.abs(c2 - c1))
    return rows, cols


def outline_bands(r1: Array, c1: Array, r2: Array, c2: Array) -> tuple[Band, Band]:
    """The outermost cells of a rectangle between any two opposite corners."""
    rows, cols = rectangle_bands(r1, c1, r2, c2)
    inner_rows, inner_cols = (jnp.maximum(band.last - 1, 0) for band in (rows, cols))
    return rows._replace(hollow=inner_rows), cols._replace(hollow=inner_cols)


OPS = (
    Op("draw_line", ("point1", "point2", "color"), line_bands, segment=True),
    Op(
        "draw_rectangle",
        ("point1", "point2", "color"),
        rectangle_bands,
        corners=True,
        segment=True,
    ),
    Op("draw_horizontal_line", ("y", "color"), rectangle_bands, transposed="draw_vertical_line"),
    Op("draw_vertical_line", ("x", "color"), rectangle_bands, transposed="draw_horizontal_line"),
    Op("draw_pixel", ("point", "color"), rectangle_bands),
    Op(
        "draw_rectangle_outline",
        ("point1", "point2", "color"),
        outline_bands,
        corners=True,
        segment=True,
    ),
)  # op ids are the places in this table, counted from 1; END is 0

SOURCE_OPS = 5  # the first so many are those of the source, and of the shipped models

LINE, RECTANGLE, ROW, COLUMN, PIXEL = range(1, 6)

# A NumPy array, so that importing herjax does not start JAX's backends.
_USES = np.array(
    [[False] * RECORD_SIZE]
    + [[column == OP or column in op.columns for column in range(RECORD_SIZE)] for op in OPS]
)

_CORNERS = np.array([False] + [op.corners for op in OPS])
_SEGMENT = np.array([False] + [op.segment for op in OPS])


def check_shape(program: Any) -> None:
    """ValueError unless a program, which may be traced, is integer records [N, 6]."""
    if isinstance(program, list | tuple):
        with contextlib.suppress(ValueError):  # rows of unequal lengths
            program = np.asarray(program)
    shape = getattr(program, "shape", None)
    if shape is None or len(shape) != 2 or shape[1] != RECORD_SIZE:
        given = type(program).__name__ if shape is None else f"shape {[*shape]}"
        raise ValueError(f"program must be records [N, {RECORD_SIZE}], got {given}")
    if program.dtype.kind not in "iu":
        raise ValueError(f"program must be integer records, got {program.dtype}")


def has_corners(op: Array) -> Array:
    """Whether any two opposite corners will do as the points of ops (int32 [...]): bool [...]."""
    return jnp.asarray(_CORNERS)[op]


def has_segment(op: Array) -> Array:
    """Whether ops (int32 [...]) paint a line between points of one row or column: bool [...]."""
    return jnp.asarray(_SEGMENT)[op]


def uses(op: Array | np.ndarray) -> Array:
    """Which record columns ops (int32 [...]) use: bool [..., 6], OP always among them."""
    return jnp.asarray(_USES)[op]
