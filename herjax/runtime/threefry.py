"""Threefry without a loop: JAX's own numbers, sooner on CPUs.

There JAX spells the twenty rounds as a loop of five turns, which is soon compiled; each turn starts
two small kernels and copies what it carries. Where numbers are drawn in every turn of another loop,
that costs more than the numbers do.
"""

import math

import jax
import jax.numpy as jnp
from jax import Array
from jax.extend import random as jex
from jax.typing import ArrayLike

_ROTATIONS = (13, 15, 26, 6), (17, 29, 16, 24)
_PARITY = 0x1BD11BDA


def _hash(key: Array, high: Array, low: Array) -> tuple[Array, Array]:
    """Threefry-2x32 with 20 rounds (Salmon et al., 2011) of the counters, all uint32."""
    schedule = key[0], key[1], key[0] ^ key[1] ^ jnp.uint32(_PARITY)
    high, low = high + schedule[0], low + schedule[1]
    for group in range(5):
        for bits in _ROTATIONS[group % 2]:
            high += low
            low = high ^ (low << bits | low >> (32 - bits))
        high += schedule[(group + 1) % 3]
        low += schedule[(group + 2) % 3] + jnp.uint32(group + 1)
    return high, low


def _random_bits(key: Array, width: int, shape: tuple[int, ...]) -> Array:
    """Each number is the hash of its place: JAX's way if ``jax_threefry_partitionable`` is set."""
    partitionable = jax.config.jax_threefry_partitionable  # type: ignore[attr-defined]
    if width != 32 or not partitionable:
        return jex.threefry_prng_impl.random_bits(key, width, shape)
    counter = jnp.arange(math.prod(shape), dtype=jnp.uint32).reshape(shape)
    high, low = _hash(key, jnp.zeros_like(counter), counter)
    return high ^ low


def _fold_in(key: Array, data: ArrayLike) -> Array:
    return jnp.stack(_hash(key, jnp.uint32(0), jnp.asarray(data, jnp.uint32)))


_UNROLLED = jex.define_prng_impl(
    key_shape=jex.threefry_prng_impl.key_shape,
    seed=jex.threefry_prng_impl.seed,
    split=jex.threefry_prng_impl.split,
    random_bits=_random_bits,
    fold_in=_fold_in,
    name="threefry2x32_unrolled",
)


def unrolled(key: Array) -> Array:
    """A key that gives the numbers of ``key``; ``key`` itself if it is not of Threefry."""
    if str(jax.random.key_impl(key)) != "threefry2x32":
        return key
    return jax.random.wrap_key_data(jax.random.key_data(key), impl=_UNROLLED)
