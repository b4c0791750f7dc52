"""Programs as tokens: which tokens exist, and which are legal next.

A draw takes ``SLOTS`` = 4 places (op, colour, point1, point2); an op with one point leaves the
last place empty. A point token *points at a cell of the canvas*, so ids depend on its width:

    0                       END
    1 .. len(OPS)           the ops of ``herjax.dsl.ops.OPS``
    FIRST_COLOUR + k        the colour k, 0 .. 9
    FIRST_CELL + r * w + c  the cell (r, c) of a canvas of width w
"""

import jax.numpy as jnp
from jax import Array

from herjax.dsl.ops import C1, C2, COLOUR, COLOURS, OP, OPS, R1, R2, uses

OP_SLOT, COLOUR_SLOT, POINT1_SLOT, POINT2_SLOT = range(4)
SLOTS = 4
FIRST_COLOUR = 1 + len(OPS)
FIRST_CELL = FIRST_COLOUR + COLOURS
NO_TOKEN = -1  # in a place that the draw's op does not use


def slots_used(op: Array) -> Array:
    """Which slots of its draw each op (int32 [...]) uses: bool [..., 4]; END uses the first."""
    used = uses(op)
    columns = [used[..., COLOUR], used[..., R1] | used[..., C1], used[..., R2]]
    return jnp.stack([jnp.ones_like(columns[0]), *columns], axis=-1)


def encode(program: Array, width: Array | int) -> Array:
    """Records [..., N, 6] -> tokens [..., N, 4]; ``NO_TOKEN`` in unused places, END past the end.

    ``width`` is that of the canvas, one for each program: int [...].
    """
    program = jnp.asarray(program, jnp.int32)
    width = jnp.asarray(width)[..., None]
    point1 = program[..., R1] * width + program[..., C1]
    point2 = program[..., R2] * width + program[..., C2]
    tokens = jnp.stack(
        [
            program[..., OP],
            FIRST_COLOUR + program[..., COLOUR],
            FIRST_CELL + point1,
            FIRST_CELL + point2,
        ],
        axis=-1,
    )
    return jnp.where(slots_used(program[..., OP]), tokens, NO_TOKEN)


def decode(tokens: Array, width: Array | int) -> Array:
    """Tokens [..., N, 4] -> records [..., N, 6]; the inverse of ``encode``."""
    op = tokens[..., OP_SLOT]
    width = jnp.asarray(width)[..., None]
    cell1, cell2 = tokens[..., POINT1_SLOT] - FIRST_CELL, tokens[..., POINT2_SLOT] - FIRST_CELL
    fields = [
        op,
        tokens[..., COLOUR_SLOT] - FIRST_COLOUR,
        cell1 // width,
        cell1 % width,
        cell2 // width,
        cell2 % width,
    ]
    return jnp.where(uses(op), jnp.stack(fields, axis=-1), 0)


def legal_points(op: Array, row: Array, col: Array, valid: Array) -> Array:
    """Cells that may follow as point1: a whole row is named by its column 0, a column by its row 0.

    Args:
      op: op id, int [].
      row, col: coordinates of the P cells, int [P].
      valid: which of them lie inside the canvas, bool [P].

    Returns:
      bool [P]. As point2, every valid cell is legal.
    """
    return valid & (uses(op)[..., R1] | (row == 0)) & (uses(op)[..., C1] | (col == 0))
