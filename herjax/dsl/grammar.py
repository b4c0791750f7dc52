"""Programs as tokens: which tokens exist, and which are legal next.

A draw takes ``SLOTS`` = 4 places (op, colour, point1, point2); an op with one point leaves the
last place empty. A point token *points at a cell of the canvas*, so ids depend on its width:

    0                       END
    1 .. len(OPS)           the ops of ``herjax.dsl.ops.OPS``
    FIRST_COLOUR + k        the colour k, 0 .. 9
    FIRST_CELL + r * w + c  the cell (r, c) of a canvas of width w
"""

from collections.abc import Iterable

import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike

from herjax.dsl.ops import (
    C1,
    C2,
    COLOUR,
    COLOURS,
    END,
    OP,
    OPS,
    R1,
    R2,
    RECORD_SIZE,
    check_shape,
    uses,
)

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


def held_tokens(tokens: Array) -> Array:
    """Which places of programs hold a token: [B, N, 4] -> bool [B, N + 1, 4].

    END is said once, right after the last draw; the last row is for that after N draws.
    """
    says_op = jnp.pad(tokens[:, :, OP_SLOT] != END, ((0, 0), (1, 0)), constant_values=True)
    fields = jnp.pad(tokens[..., 1:] >= 0, ((0, 0), (0, 1), (0, 0)))
    return jnp.concatenate([says_op[..., None], fields], axis=-1)


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


def legal_tokens(tokens: Array, height: Array, width: Array, ops: int) -> Array:
    """Which tokens [..., N, 4] may stand where they do: bool [..., N, 4].

    Args:
      tokens: of programs.
      height, width: of the canvas, int [].
      ops: of the decoder.
    """
    op = tokens[..., OP_SLOT]
    known = jnp.where((op >= 0) & (op <= ops), op, END)
    colour = tokens[..., COLOUR_SLOT] - FIRST_COLOUR
    cell = tokens[..., POINT1_SLOT:] - FIRST_CELL
    inside = (cell >= 0) & (cell < height * width)
    point1 = legal_points(known, cell[..., 0] // width, cell[..., 0] % width, inside[..., 0])
    fits = [op == known, (colour >= 0) & (colour < COLOURS), point1, inside[..., 1]]
    return jnp.where(slots_used(known), jnp.stack(fits, axis=-1), tokens == NO_TOKEN)


# ---- Programs of someone's own -------------------------------------------------------------------


def check_records(program: ArrayLike, height: int, width: int) -> np.ndarray:
    """The draws of a program, int32 [N, 6], without empty ones.

    Raises:
      ValueError: unless they are records of draws inside the canvas.
    """
    check_shape(program)
    records = np.asarray(program)
    limits = np.array([len(OPS) + 1, COLOURS, height, width, height, width])
    wrong = np.flatnonzero(((records < 0) | (records >= limits)).any(axis=1))
    if len(wrong):
        raise ValueError(
            f"program: draw {wrong[0] + 1} is {records[wrong[0]].tolist()}, allowed are numbers"
            f" from 0 below {limits.tolist()}"
        )
    records = np.where(uses(records[:, OP]), records, 0)  # without what their ops do not use
    return records[records[:, OP] != END].astype(np.int32)


def encode_programs(programs: Iterable[ArrayLike], height: int, width: int) -> np.ndarray:
    """Programs for one picture as tokens, such as ``program_log_probs`` takes. Not to be traced.

    Args:
      programs: integer records [n, 6] each, of any number of draws, as from ``parse_program``.
      height: of the picture without padding, cells: ``task.height``.
      width: likewise.

    Returns:
      int32 [G, N, 4]. N is one more than the most draws, so that each program has its END.

    Raises:
      ValueError: if one is no program for such a canvas.
    """
    checked = [check_records(program, height, width) for program in programs]
    records = np.full((len(checked), 1 + max(map(len, checked), default=0), RECORD_SIZE), END)
    for row, program in zip(records, checked):
        row[: len(program)] = program
    return np.asarray(encode(jnp.asarray(records), jnp.full(len(checked), width)))
