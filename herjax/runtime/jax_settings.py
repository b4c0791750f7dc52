"""JAX's settings that herjax depends on."""

import contextlib
from collections.abc import Iterator

import jax


@contextlib.contextmanager
def as_written() -> Iterator[None]:
    """With the settings that herjax is written for, whatever the program around it has set.

    Thus numbers have 32 bits, and a seed means the same everywhere. Also a decorator.
    """
    with (
        jax.enable_x64(False),
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
        jax.default_prng_impl("threefry2x32"),
        jax.threefry_partitionable(True),
    ):
        yield


@contextlib.contextmanager
def on_its_own() -> Iterator[None]:
    """``as_written``, and outside of a mesh that the program around it has set; not in a trace."""
    with as_written(), jax.set_mesh(None):
        yield
