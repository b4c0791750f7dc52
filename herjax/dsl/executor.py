"""Run programs on canvases, and tell which draws matter.

Every function is pure, exact and unbatched: ``vmap`` it for a batch.

Shapes: N draws, R rows, C columns. A canvas smaller than [R, C] is padded with ``OUTSIDE``;
no draw paints there.
"""

import operator
from collections.abc import Iterable
from functools import partial, reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from herjax.dsl.ops import C1, C2, COLOUR, END, OP, OPS, R1, R2, Band, Op, check_shape

OUTSIDE = 10  # value of the cells of a padded canvas that lie beyond its height and width


class _Areas(NamedTuple):
    """What the N draws of a program paint: all that is computed once a draw, not once a cell."""

    op: Array
    points: list[Array]  # r1, c1, r2, c2 of the draws whose op has ``covers``
    bands: tuple[Band, Band]  # of the draws whose op has ``bands``; empty ones for the others


def _areas(program: Array, rows: int, cols: int) -> _Areas:
    """What records [N, 6] paint on a [rows, cols] grid."""
    # int16 holds what ``line_bands`` computes, and twice as many fit into a register.
    dtype = np.int16 if max(rows, cols) <= 100 else np.int32
    table = dict(enumerate(OPS, start=1))
    op, _, *points = program.T.astype(dtype)
    bands = (Band(0, 0, 1, 0, 0),) * 2  # no cell
    for make_bands in dict.fromkeys(entry.bands for entry in table.values() if entry.bands):
        mine = {op_id: entry for op_id, entry in table.items() if entry.bands is make_bands}
        new = make_bands(*_completed(op, points, mine, rows, cols))
        bands = jax.tree.map(partial(jnp.where, _any_of(op, mine)), new, bands)
    others = {op_id: entry for op_id, entry in table.items() if entry.covers}
    points = _completed(op, points, others, rows, cols)
    return _Areas(op, points, jax.tree.map(lambda x: x.astype(dtype), bands))


def _completed(
    op: Array, points: list[Array], table: dict[int, Op], rows: int, cols: int
) -> list[Array]:
    """r1, c1, r2, c2 of draws by the ops in ``table``, with values for those that an op lacks."""

    def complete(column: int, value: Array | int) -> Array:
        lacking = [op_id for op_id, entry in table.items() if column not in entry.columns]
        point = points[column - R1]
        return jnp.where(_any_of(op, lacking), value, point) if lacking else point

    r2 = complete(R2, complete(R1, rows - 1))
    c2 = complete(C2, complete(C1, cols - 1))
    return [complete(R1, 0), complete(C1, 0), r2, c2]


def _any_of(op: Array, ids: Iterable[int]) -> Array:
    return reduce(operator.or_, [op == op_id for op_id in ids])


def _covered(area: _Areas, rows: int, cols: int) -> Array:
    """Which cells one draw (scalars in ``area``) paints: bool [rows * cols], in reading order."""
    # One flat axis vectorises best.
    row, col = map(jnp.asarray, np.divmod(np.arange(rows * cols, dtype=area.op.dtype), cols))
    places = [band.row_step * row + band.col_step * col + band.start for band in area.bands]
    within = [_below(place, band.last + 1) for place, band in zip(places, area.bands)]
    hollow = [_below(place - 1, band.hollow) for place, band in zip(places, area.bands)]
    covered = within[0] & within[1] & ~(hollow[0] & hollow[1])
    for op_id, entry in enumerate(OPS, start=1):
        if entry.covers:
            covered |= (area.op == op_id) & entry.covers(*area.points, row, col)
    return covered


def _below(place: Array, end: Array | int) -> Array:
    """0 <= place < end."""
    unsigned = f"u{place.dtype}"  # negative places become large ones: one comparison, not two
    return place.astype(unsigned) < jnp.asarray(end).astype(unsigned)


def draw_masks(program: Array, rows: int, cols: int) -> Array:
    """Cells that each draw paints on a [rows, cols] grid: bool [N, R, C]. END paints none."""
    areas = _areas(program, rows, cols)
    masks = jax.vmap(lambda area: _covered(area, rows, cols))(areas)
    return masks.reshape(-1, rows, cols)


def top_draw(masks: Array) -> Array:
    """Which draw is seen at each cell: masks [N, R, C] -> int32 [R, C], -1 where none is."""
    order = jnp.arange(masks.shape[0])[:, None, None]
    return jnp.max(jnp.where(masks, order, -1), axis=0, initial=-1)


def execute(program: Array | np.ndarray, input: Array | np.ndarray) -> Array:
    """Picture that a program paints over an input canvas.

    Args:
      program: integer records [N, 6], painted in order, END-padded; points inside the canvas.
      input: integer canvas [R, C], any size; ``OUTSIDE`` cells stay as they are.

    Returns:
      The painted canvas [R, C], dtype of ``input``.

    Raises:
      ValueError: for other shapes or types.
    """
    check_shape(program)
    input = jnp.asarray(input)
    if input.ndim != 2:
        raise ValueError(f"input must be a canvas [R, C], got shape {[*input.shape]}")
    if not isinstance(program, Array):  # lengths share a compiled program
        program = np.pad(program, ((0, -len(program) % 16), (0, 0)))
    return _execute(jnp.asarray(program), input)


@partial(jax.jit, inline=True)
def _execute(program: Array, input: Array) -> Array:
    rows, cols = input.shape
    areas = _areas(program, rows, cols)
    colours = program[:, COLOUR].astype(areas.op.dtype)  # the canvas too: one width in the loop

    def paint(canvas: Array, draw: tuple[_Areas, Array]) -> tuple[Array, None]:
        area, colour = draw
        return jnp.where(_covered(area, rows, cols), colour, canvas), None

    canvas = input.reshape(-1).astype(colours.dtype)
    painted, _ = jax.lax.scan(paint, canvas, (areas, colours))
    return jnp.where(canvas != OUTSIDE, painted, canvas).astype(input.dtype).reshape(input.shape)


def prune(
    program: Array | np.ndarray,
    input: Array | np.ndarray,
    *,
    target: Array | np.ndarray | None = None,
) -> Array:
    """Remove every draw that the picture does not need; the kept ones move to the front.

    One pass from the bottom up: a draw is needed if, where it is seen, its colour differs from
    what the kept draws below it show. Draws above are then judged against the kept ones alone,
    so two equal draws never remove each other and, without target, nothing removable is left.

    Args:
      program: records [N, 6].
      input: canvas [R, C].
      target: canvas [R, C]; with it, a draw is needed only if more cells are right where it is
        seen than without it.

    Returns:
      Records [N, 6]. Without target, of the same picture, none of whose draws can be removed; with
      it, of a picture that has at least as many cells right.
    """
    check_shape(program)
    return _prune(jnp.asarray(program), jnp.asarray(input), target)


@partial(jax.jit, inline=True)
def _prune(program: Array, input: Array, target: Array | None) -> Array:
    masks = draw_masks(program, *input.shape) & (input != OUTSIDE)[None]
    top = top_draw(masks)

    def judge(canvas: Array, draw: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        index, colour, mask = draw
        if target is None:
            gained = jnp.any((top == index) & (canvas != colour))
        else:
            gain = (target == colour).astype(jnp.int32) - (target == canvas).astype(jnp.int32)
            gained = jnp.sum(jnp.where(top == index, gain, 0)) > 0
        return jnp.where(mask & gained, colour, canvas), gained

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
