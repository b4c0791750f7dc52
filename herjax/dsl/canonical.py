"""One way to write a picture's draws, so that a model need not learn to guess among equals.

Neither step changes a cell of the picture.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from herjax.dsl.executor import OUTSIDE, draw_masks, prune, top_draw
from herjax.dsl.ops import COLOUR, COLUMN, END, LINE, OP, PIXEL, ROW, has_corners, has_segment, uses

# Records [N, 6], a canvas [R, C], height and width of its picture -> records of the same picture.
Rewrite = Callable[[Array, Array, Array, Array], Array]


def simplify_draws(program: Array, height: Array, width: Array) -> Array:
    """Write each draw of records [N, 6] with the op of fewest fields that paints the same cells.

    A rectangle one cell wide becomes a line, as does every straight draw whose op has ``segment``;
    such a line becomes a pixel, a row or a column if it is one. Corners go from top left to bottom
    right where the op has ``corners``; a line runs from its upper (then left) end wherever both
    directions paint the same cells. ``height`` and ``width`` of the canvas are int [].
    """
    op, colour, r1, c1, r2, c2 = jnp.moveaxis(program, -1, 0)
    r2, c2 = jnp.where(op == PIXEL, r1, r2), jnp.where(op == PIXEL, c1, c2)
    corners = has_corners(op)
    top, bottom = jnp.minimum(r1, r2), jnp.maximum(r1, r2)
    left, right = jnp.minimum(c1, c2), jnp.maximum(c1, c2)
    straight = has_segment(op) & ((r1 == r2) | (c1 == c2)) | (op == PIXEL)

    # Ties in Bresenham's rounding make a line differ from its reverse: an offset of exactly one
    # half is met when the long axis, divided by gcd(long, short), is even.
    long = jnp.maximum(bottom - top, right - left)
    short = jnp.minimum(bottom - top, right - left)
    reversible = (long // jnp.maximum(jnp.gcd(long, short), 1)) % 2 == 1
    backwards = (r1 > r2) | ((r1 == r2) & (c1 > c2))
    op = jnp.where(straight, LINE, op)
    swap = (op == LINE) & backwards & reversible
    r1, c1, r2, c2 = (
        jnp.where(corners, top, jnp.where(swap, r2, r1)),
        jnp.where(corners, left, jnp.where(swap, c2, c1)),
        jnp.where(corners, bottom, jnp.where(swap, r1, r2)),
        jnp.where(corners, right, jnp.where(swap, c1, c2)),
    )
    whole_column = straight & (top == 0) & (bottom == height - 1) & (left == right)
    whole_row = straight & (left == 0) & (right == width - 1) & (top == bottom)
    op = jnp.where(straight & (top == bottom) & (left == right), PIXEL, op)
    op = jnp.where(whole_column, COLUMN, op)
    op = jnp.where(whole_row, ROW, op)
    return jnp.where(uses(op), jnp.stack([op, colour, r1, c1, r2, c2], axis=-1), 0)


def order_draws(program: Array, canvas: Array) -> Array:
    """Reorder pruned records [N, 6] over a canvas [R, C] into reading order, same picture.

    The next draw is always the one whose first visible cell comes first in reading order, among
    those with no unpainted draw of another colour left beneath them.
    """
    masks = draw_masks(program, *canvas.shape) & (canvas != OUTSIDE)
    flat = masks.reshape(masks.shape[0], -1).astype(jnp.float32)
    n = program.shape[0]
    index = jnp.arange(n)
    beneath = (flat @ flat.T > 0) & (index[None, :] < index[:, None])  # [above, beneath]
    beneath &= program[:, None, COLOUR] != program[None, :, COLOUR]
    top = top_draw(masks).reshape(-1)
    first_seen = jnp.min(jnp.where(top == index[:, None], jnp.arange(top.size), top.size), axis=1)
    present = program[:, OP] != END

    def place(left: Array, _: None) -> tuple[Array, Array]:
        free = left & ~jnp.any(beneath & left[None, :], axis=1)
        chosen = jnp.argmin(jnp.where(free, first_seen, top.size + 1))
        return left & (index != chosen), chosen

    _, order = jax.lax.scan(place, present, None, length=n)
    return jnp.where((index < present.sum())[:, None], program[order], END)


def canonical_program(program: Array, canvas: Array, height: Array, width: Array) -> Array:
    """Pruned, simplified and ordered records [N, 6] that paint the same picture over a canvas.

    Applied to its own result, it keeps the draws, but may order those of one colour that overlap
    in another way: which of them is seen first depends on which came last.
    """
    return order_draws(simplify_draws(prune(program, canvas), height, width), canvas)


def pruned_program(program: Array, canvas: Array, height: Array, width: Array) -> Array:
    """The records without the draws that the picture does not need, else as they are."""
    return prune(program, canvas)


def program_as_said(program: Array, canvas: Array, height: Array, width: Array) -> Array:
    """The records as they are."""
    return program
