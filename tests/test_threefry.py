"""The numbers are those of JAX's own keys."""

import jax
import numpy as np
import pytest

from herjax.runtime.threefry import unrolled


def numbers(key):
    """Of all that herjax draws: bits of 32 and 8, folded, split and under vmap."""
    folded = jax.random.fold_in(key, 2**31 + 5)
    return (
        jax.random.gumbel(folded, (3, 5)),
        jax.random.uniform(jax.random.fold_in(folded, 0), ()),
        jax.random.randint(key, (4,), 0, 1000),
        jax.random.permutation(key, 9),
        jax.random.bits(key, (6,), np.uint8),
        jax.vmap(jax.random.normal)(jax.random.split(key, 3)),
    )


@pytest.mark.parametrize("partitionable", [True, False])
def test_numbers_are_those_of_jax(partitionable):
    with jax.threefry_partitionable(partitionable):
        for seed in (0, 7, 2**32 - 1):
            key = jax.random.key(seed)
            mine = unrolled(key)
            assert mine.dtype != key.dtype
            for found, expected in zip(numbers(mine), numbers(key), strict=True):
                assert np.array_equal(found, expected)


def test_in_a_batch_of_keys():
    keys = jax.random.split(jax.random.key(1), 3)
    found = jax.jit(jax.vmap(lambda key: jax.random.gumbel(unrolled(key), (7,))))(keys)
    assert np.array_equal(found, jax.vmap(lambda key: jax.random.gumbel(key, (7,)))(keys))


@pytest.mark.parametrize("kind", ["rbg", "unsafe_rbg"])
def test_other_keys_stay_as_they_are(kind):
    key = jax.random.key(3, impl=kind)
    assert unrolled(key) is key
