"""Which pictures of an epoch to train on, and in which order: functions for ``AdaptConfig``.

Of programs that draw the same picture, one is kept: from hashes of the pictures (uint32 [A, 2]),
lengths (int32 [A]) and which programs count at all (bool [A]) follows which are kept (bool [A]).
A selection takes the accuracies (float32 [A]) of an epoch's programs, which of them are candidates
(bool [A]) and how many to choose at most, and returns the chosen ones (bool [A]). An order takes a
PRNG key and the accuracies, and returns what to sort by, ascending (float32 [A]). Functions of your
own need only these arguments.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

Distinct = Callable[[Array, Array, Array], Array]
Selection = Callable[[Array, Array, int], Array]
Order = Callable[[Array, Array], Array]


def keep_shortest(hashes: Array, draws: Array, valid: Array) -> Array:
    """Exactly one program for each distinct picture: the one of fewest draws, then the first."""
    shorter = draws[None, :] < draws[:, None]
    equal = draws[None, :] == draws[:, None]
    return valid & ~jnp.any(_same(hashes, valid) & (shorter | (equal & _earlier(draws))), axis=1)


def keep_first(hashes: Array, draws: Array, valid: Array) -> Array:
    """Exactly one program for each distinct picture: the first, however long."""
    return valid & ~jnp.any(_same(hashes, valid) & _earlier(draws), axis=1)


def keep_all(hashes: Array, draws: Array, valid: Array) -> Array:
    """Every program, pictures drawn several times included."""
    return valid


def _same(hashes: Array, valid: Array) -> Array:
    """bool [A, A]: the second is valid, and of the first one's picture."""
    return jnp.all(hashes[:, None] == hashes[None, :], axis=-1) & valid[None, :]


def _earlier(draws: Array) -> Array:
    """bool [A, A]: the second comes before the first."""
    index = jnp.arange(len(draws))
    return index[None, :] < index[:, None]


def select_all(accuracy: Array, candidate: Array, count: int) -> Array:
    """Every candidate (bool [A]), however many there are: bool [A]."""
    return candidate


def select_best(accuracy: Array, candidate: Array, count: int) -> Array:
    """The ``count`` candidates (bool [A]) of highest accuracy (float32 [A]): bool [A].

    CodeIt's choice, and SOAR's "greedy" (2025).
    """
    rank = jnp.argsort(jnp.argsort(jnp.where(candidate, -accuracy, jnp.inf), stable=True))
    return candidate & (rank < count)


def select_diverse(accuracy: Array, candidate: Array, count: int) -> Array:
    """Half ``count`` best and half worst candidates (SOAR "greedy-diverse", 2025): bool [A]."""
    best = select_best(accuracy, candidate, (count + 1) // 2)
    return best | select_best(-accuracy, candidate & ~best, count // 2)


def order_sorted(key: Array, accuracy: Array) -> Array:
    """Ranks float32 [A] by accuracy [A], the best last."""
    return accuracy


def order_shuffled(key: Array, accuracy: Array) -> Array:
    """Random ranks float32 [A], free of the accuracy [A]."""
    return jax.random.uniform(key, accuracy.shape)


def order_reversed(key: Array, accuracy: Array) -> Array:
    """Ranks float32 [A] by accuracy [A], the best first."""
    return -accuracy
