"""The 8 symmetries of the grid and permutations of the colours, applied to canvases and programs.

A program is moved as text, then executed: a line that breaks Bresenham's ties another way after a
flip has another picture, and the pair of the moved program and *its* picture is exact all the same.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array

from herjax.dsl.executor import OUTSIDE
from herjax.dsl.ops import COLOURS, OPS, uses
from herjax.tasks.task import Task

_NAMES = [op.name for op in OPS]
_TRANSPOSED = np.array([0] + [1 + _NAMES.index(op.transposed or op.name) for op in OPS])


@struct.dataclass
class Augmentation:
    """Swap rows and columns or not, then turn them upside down or not; and replace the colours.

    Attributes:
      transpose: bool [].
      flip_rows: bool [].
      flip_cols: bool [].
      colours: int32 [10], the new colour of each.
    """

    transpose: Array
    flip_rows: Array
    flip_cols: Array
    colours: Array


def random_augmentation(key: Array, task: Task, symmetries: bool, colours: bool) -> Augmentation:
    """Uniform among the symmetries that keep the shape of a picture, and all permutations.

    Args:
      key: PRNG key.
      task: unbatched; only if its height and width are equal, rows and columns are swapped.
      symmetries: False for the identity.
      colours: likewise.
    """
    if symmetries or colours:
        grid_key, colour_key = jax.random.split(key)
    transpose = flip_rows = flip_cols = jnp.bool_(False)
    if symmetries:
        transpose, flip_rows, flip_cols = jax.random.bernoulli(grid_key, shape=(3,))
        transpose &= (task.height == task.width) & _is_square(task.target)
    order = jnp.arange(COLOURS)
    if colours:
        order = jax.random.permutation(colour_key, order)
    return Augmentation(transpose, flip_rows, flip_cols, order)


def _is_square(canvas: Array) -> bool:
    return canvas.shape[0] == canvas.shape[1]


def inverse(augmentation: Augmentation) -> Augmentation:
    """The one that undoes it."""
    a = augmentation
    return Augmentation(
        transpose=a.transpose,
        flip_rows=jnp.where(a.transpose, a.flip_cols, a.flip_rows),
        flip_cols=jnp.where(a.transpose, a.flip_rows, a.flip_cols),
        colours=jnp.argsort(a.colours),
    )


def augment_task(augmentation: Augmentation, task: Task) -> Task:
    """A task with both its canvases [R, C] moved; the padding stays where it is."""
    rows, cols = task.target.shape
    colours = jnp.append(augmentation.colours, OUTSIDE)

    def move(canvas: Array) -> Array:
        if _is_square(canvas):
            canvas = jnp.where(augmentation.transpose, canvas.T, canvas)
        upside_down = jnp.roll(canvas[::-1], task.height - rows, axis=0)
        canvas = jnp.where(augmentation.flip_rows, upside_down, canvas)
        mirrored = jnp.roll(canvas[:, ::-1], task.width - cols, axis=1)
        canvas = jnp.where(augmentation.flip_cols, mirrored, canvas)
        return colours.astype(canvas.dtype)[canvas]

    return dataclasses.replace(task, input=move(task.input), target=move(task.target))


def augment_program(augmentation: Augmentation, program: Array, task: Task) -> Array:
    """Records [N, 6] for a task's picture; draws stay draws, in their order."""
    op, colour, r1, c1, r2, c2 = jnp.moveaxis(program, -1, 0)
    op = jnp.where(augmentation.transpose, jnp.asarray(_TRANSPOSED)[op], op)
    points = []
    for point in ((r1, c1), (r2, c2)):
        row = jnp.where(augmentation.transpose, point[1], point[0])
        col = jnp.where(augmentation.transpose, point[0], point[1])
        points.append(jnp.where(augmentation.flip_rows, task.height - 1 - row, row))
        points.append(jnp.where(augmentation.flip_cols, task.width - 1 - col, col))
    fields = [op, augmentation.colours[colour], *points]
    return jnp.where(uses(op), jnp.stack(fields, axis=-1), 0)
