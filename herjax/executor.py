"""Run programs on canvases, and tell which draws matter. Pure, exact, unbatched: ``vmap`` them.

Shapes: N draws, R rows, C columns. A canvas smaller than [R, C] is padded with ``OUTSIDE``;
no draw paints there.
"""

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from herjax.ops import C1, C2, COLOUR, END, OP, OPS, R1, R2, RECORD_SIZE

OUTSIDE = 10  # value of the cells of a padded canvas that lie beyond its height and width


def _cells(rows: int, cols: int) -> tuple[Array, Array]:
    """Row and column of every cell in reading order: one flat axis, which vectorises best."""
    # int16 holds what ``line_covers`` computes, and twice as many fit into a register.
    dtype = np.int16 if max(rows, cols) <= 100 else np.int32
    row, col = np.divmod(np.arange(rows * cols, dtype=dtype), dtype(cols))
    return jnp.asarray(row), jnp.asarray(col)


def _draw_mask(record: Array, row: Array, col: Array, ops: int = len(OPS)) -> Array:
    """Which cells one draw paints: bool, shape of ``row``; only by the first ``ops`` ops."""
    record = record.astype(row.dtype)
    fields = [record[column] for column in (R1, C1, R2, C2)]
    painted = jnp.zeros(row.shape, bool)
    for op_id, row_of_table in enumerate(OPS[:ops], start=1):
        painted |= (record[OP] == op_id) & row_of_table.covers(*fields, row, col)
    return painted


def draw_masks(program: Array, rows: int, cols: int) -> Array:
    """Cells that each draw paints on a [rows, cols] grid: bool [N, R, C]. END paints none."""
    masks = jax.vmap(_draw_mask, (0, None, None))(program, *_cells(rows, cols))
    return masks.reshape(-1, rows, cols)


def top_draw(masks: Array) -> Array:
    """Which draw is seen at each cell: masks [N, R, C] -> int32 [R, C], -1 where none is."""
    order = jnp.arange(masks.shape[0])[:, None, None]
    return jnp.max(jnp.where(masks, order, -1), axis=0, initial=-1)


def execute(program: Array, input: Array, ops: int = len(OPS)) -> Array:
    """Picture that a program paints over an input canvas.

    Args:
      program: integer records [N, 6], painted in order, END-padded.
      input: integer canvas [R, C], any size; ``OUTSIDE`` cells stay as they are.
      ops: the program uses only the first so many ops; fewer are faster. Static.

    Returns:
      The painted canvas [R, C], dtype of ``input``.
    """
    program, input = jnp.asarray(program), jnp.asarray(input)
    chex.assert_shape(program, (None, RECORD_SIZE))
    chex.assert_rank(input, 2)
    row, col = _cells(*input.shape)

    def paint(canvas, record):
        mask = _draw_mask(record, row, col, ops)
        return jnp.where(mask, record[COLOUR].astype(canvas.dtype), canvas), None

    painted, _ = jax.lax.scan(paint, input.reshape(-1), program)
    return jnp.where(input != OUTSIDE, painted.reshape(input.shape), input)


def prune(program: Array, input: Array) -> Array:
    """Remove every draw that the picture does not need; the kept ones move to the front.

    One pass from the bottom up: a draw is needed if, where it is seen, its colour differs from
    what the kept draws below it show. Draws above are then judged against the kept ones alone,
    so two equal draws never remove each other and nothing removable is left.

    Args:
      program: records [N, 6].
      input: canvas [R, C].

    Returns:
      Records [N, 6] that paint the same picture, none of whose draws can be removed.
    """
    masks = draw_masks(program, *input.shape) & (input != OUTSIDE)
    top = top_draw(masks)

    def judge(canvas, draw):
        index, colour, mask = draw
        needed = jnp.any((top == index) & (canvas != colour))
        return jnp.where(mask & needed, colour, canvas), needed

    colours = program[:, COLOUR].astype(input.dtype)
    _, needed = jax.lax.scan(judge, input, (jnp.arange(program.shape[0]), colours, masks))
    return keep_draws(program, needed)


def keep_draws(program: Array, kept: Array) -> Array:
    """Records [N, 6] with only the ``kept`` (bool [N]) draws, in order, END-padded."""
    order = jnp.argsort(~kept, stable=True)
    return jnp.where(kept[order, None], program[order], END)


def draw_count(program: Array) -> Array:
    """Number of draws of records [..., N, 6]: int32 [...]."""
    return jnp.sum(program[..., OP] != END, axis=-1)
