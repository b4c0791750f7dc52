"""How right a picture is."""

import jax.numpy as jnp
from jax import Array

from herjax.executor import OUTSIDE


def pixel_accuracy(picture: Array, target: Array) -> Array:
    """Fraction of the target's cells that have the right colour.

    Args:
      picture: [..., R, C].
      target: [R, C], padded with OUTSIDE; the padding does not count.

    Returns:
      float32 [...]; exactly 1.0 if and only if the picture is right.
    """
    inside = target != OUTSIDE
    right = jnp.sum((picture == target) & inside, axis=(-2, -1))
    return right / jnp.sum(inside)
