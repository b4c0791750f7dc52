"""The 8 symmetries of the grid and permutations of the colours, applied to canvases and programs.

A program is moved as text, then executed: a line that breaks Bresenham's ties another way after a
flip has another picture, and the pair of the moved program and *its* picture is exact all the same.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array

from herjax.ops import COLOURS, OPS, uses

_NAMES = [op.name for op in OPS]
_TRANSPOSED = np.array([0] + [1 + _NAMES.index(op.transposed or op.name) for op in OPS])


@struct.dataclass
class Augmentation:
    """Swap rows and columns or not, then turn them upside down or not; and replace the colours."""

    transpose: Array  # bool []
    flip_rows: Array  # bool []
    flip_cols: Array  # bool []
    colours: Array  # int32 [10], the new colour of each


def random_augmentation(
    key: Array, shape: tuple[int, int], symmetries: bool, colours: bool
) -> Augmentation:
    """Uniform among the symmetries that keep a canvas of ``shape``, and all permutations.

    Args:
      key: PRNG key.
      shape: (R, C); only if they are equal, rows and columns are swapped.
      symmetries: False for the identity.
      colours: likewise.
    """
    grid_key, colour_key = jax.random.split(key)
    transpose = flip_rows = flip_cols = jnp.bool_(False)
    if symmetries:
        transpose, flip_rows, flip_cols = jax.random.bernoulli(grid_key, shape=(3,))
    order = jnp.arange(COLOURS)
    if colours:
        order = jax.random.permutation(colour_key, order)
    return Augmentation(transpose & (shape[0] == shape[1]), flip_rows, flip_cols, order)


def inverse(augmentation: Augmentation) -> Augmentation:
    """The one that undoes it."""
    a = augmentation
    return Augmentation(
        transpose=a.transpose,
        flip_rows=jnp.where(a.transpose, a.flip_cols, a.flip_rows),
        flip_cols=jnp.where(a.transpose, a.flip_rows, a.flip_cols),
        colours=jnp.argsort(a.colours),
    )


def augment_canvas(augmentation: Augmentation, canvas: Array) -> Array:
    """A canvas [R, C] without padding, R = C if rows and columns may be swapped."""
    if canvas.shape[0] == canvas.shape[1]:
        canvas = jnp.where(augmentation.transpose, canvas.T, canvas)
    canvas = jnp.where(augmentation.flip_rows, canvas[::-1], canvas)
    canvas = jnp.where(augmentation.flip_cols, canvas[:, ::-1], canvas)
    return augmentation.colours.astype(canvas.dtype)[canvas]


def augment_program(augmentation: Augmentation, program: Array, shape: tuple[int, int]) -> Array:
    """Records [N, 6] for a canvas of ``shape`` (R, C); draws stay draws, in their order."""
    op, colour, r1, c1, r2, c2 = jnp.moveaxis(program, -1, 0)
    op = jnp.where(augmentation.transpose, jnp.asarray(_TRANSPOSED)[op], op)
    points = []
    for row, col in ((r1, c1), (r2, c2)):
        row, col = (
            jnp.where(augmentation.transpose, col, row),
            jnp.where(augmentation.transpose, row, col),
        )
        points.append(jnp.where(augmentation.flip_rows, shape[0] - 1 - row, row))
        points.append(jnp.where(augmentation.flip_cols, shape[1] - 1 - col, col))
    fields = [op, augmentation.colours[colour], *points]
    return jnp.where(uses(op), jnp.stack(fields, axis=-1), 0)
