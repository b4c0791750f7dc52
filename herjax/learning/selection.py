"""Which new pictures of an epoch to train on, and in which order: functions for ``AdaptConfig``.

A selection takes the accuracies (float32 [A]) of an epoch's programs, which of them are candidates
(bool [A]) and how many to choose at most, and returns the chosen ones (bool [A]). An order takes a
PRNG key and the accuracies, and returns what to sort by, ascending (float32 [A]). Functions of your
own need only these arguments.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

Selection = Callable[[Array, Array, int], Array]
Order = Callable[[Array, Array], Array]


def select_all(accuracy: Array, candidate: Array, count: int) -> Array:
    """Every candidate, however many there are."""
    return candidate


def select_best(accuracy: Array, candidate: Array, count: int) -> Array:
    """The ``count`` candidates nearest to the target (CodeIt, SOAR "greedy")."""
    rank = jnp.argsort(jnp.argsort(jnp.where(candidate, -accuracy, jnp.inf), stable=True))
    return candidate & (rank < count)


def select_diverse(accuracy: Array, candidate: Array, count: int) -> Array:
    """Half ``count`` best and half worst candidates (SOAR "greedy-diverse", 2025)."""
    best = select_best(accuracy, candidate, (count + 1) // 2)
    return best | select_best(-accuracy, candidate & ~best, count // 2)


def order_sorted(key: Array, accuracy: Array) -> Array:
    """Ascending accuracy, the best last."""
    return accuracy


def order_shuffled(key: Array, accuracy: Array) -> Array:
    """A random order, free of the reward."""
    return jax.random.uniform(key, accuracy.shape)


def order_reversed(key: Array, accuracy: Array) -> Array:
    """Descending accuracy, the best first."""
    return -accuracy
