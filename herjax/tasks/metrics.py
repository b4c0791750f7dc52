"""How right a picture is, and how hard."""

import jax.numpy as jnp
import numpy as np
from jax import Array

from herjax.dsl.executor import OUTSIDE
from herjax.dsl.ops import SOURCE_OPS


def pixel_accuracy(picture: Array | np.ndarray, target: Array | np.ndarray) -> Array:
    """Fraction of the target's cells that have the right colour.

    Args:
      picture: [..., R, C].
      target: [R, C], padded with OUTSIDE; the padding does not count.

    Returns:
      float32 [...]; exactly 1.0 if and only if the picture is right.

    Raises:
      ValueError: if the shapes differ: nothing is broadcast but the axes in front.
    """
    if np.ndim(target) != 2 or np.shape(picture)[-2:] != np.shape(target):
        raise ValueError(
            f"picture {np.shape(picture)} and target {np.shape(target)} must be [..., R, C]"
            " and [R, C]"
        )
    picture, target = (
        array if hasattr(array, "dtype") else np.asarray(array) for array in (picture, target)
    )
    inside = target != OUTSIDE
    right, cells = jnp.sum((picture == target) & inside, axis=(-2, -1)), jnp.sum(inside)
    # XLA may multiply by the reciprocal: 121 * (1 / 121) is not 1 in float32.
    return jnp.where(right == cells, 1.0, right / cells).astype(jnp.float32)


def least_draws(target: np.ndarray, canvas: np.ndarray, ops: int = SOURCE_OPS) -> int:
    """A lower bound on the draws from a canvas [R, C] to a target [R, C].

    Each call has one colour. Those of the source, the first SOURCE_OPS, paint an unbroken run of
    cells of any row or column, which adds at most two changes of colour along it.
    """
    colours = len(np.unique(target[target != canvas]))
    if ops > SOURCE_OPS:
        return colours

    def added(frame: int, axis: int) -> int:  # what lies around the canvas changes nothing
        grids = (np.pad(grid, 1, constant_values=frame) for grid in (target, canvas))
        after, before = ((np.diff(grid, axis=axis) != 0).sum(axis=axis) for grid in grids)
        return int((after - before).max())

    changes = max(added(frame, axis) for frame in np.unique(canvas) for axis in (0, 1))
    return max(colours, -(-changes // 2))
