"""Keep traced programs between runs, beside the compiled ones that JAX's persistent cache keeps.

JAX traces and lowers a program before it looks into its cache, which takes as long as all else
before the first epoch. ``jax.export`` writes down what comes out, portable StableHLO.
"""

import hashlib
import importlib.metadata
import logging
import pathlib
from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
from jax import export

from herjax.weights import write_atomically

log = logging.getLogger(__name__)
_calls: dict[str, Callable] = {}  # by digest, of this process


def call_traced(function: Callable, state: Any, *arrays: Any, **static: Any) -> Any:
    """``function(state, *arrays, **static)``, traced once for all runs.

    Only with a compilation cache folder (``jax_compilation_cache_dir``) and one process; else the
    function is called as it is.

    Args:
      function: jitted; returns a tree like ``state``, whose arrays are donated.
      state: tree of arrays.
      arrays: further trees.
      static: the function's static arguments; what they are must show in their ``repr``.
    """
    folder = jax.config.jax_compilation_cache_dir
    if not folder or "://" in folder or jax.process_count() > 1:
        return function(state, *arrays, **static)
    leaves, tree = jax.tree.flatten((state, arrays))
    leaves = [jnp.asarray(leaf) for leaf in leaves]
    shown = [(jax.typeof(x), x.sharding, sorted(map(str, x.devices()))) for x in leaves]
    settings = sorted(jax.config.values.items(), key=str)
    about = (function.__module__, function.__name__, str(tree), shown, static, settings)
    digest = hashlib.sha256(repr((_version(), about)).encode()).hexdigest()
    if digest not in _calls:

        def flat(*leaves):
            state, arrays = jax.tree.unflatten(tree, leaves)
            return jax.tree.leaves(function(state, *arrays, **static))

        traced = _traced(pathlib.Path(folder) / f"herjax-{digest[:32]}.export", flat, leaves)
        count = jax.tree.structure(state).num_leaves
        shardings = [leaf.sharding for leaf in leaves[:count]]
        _calls[digest] = jax.jit(traced.call, donate_argnums=range(count), out_shardings=shardings)
    return jax.tree.unflatten(jax.tree.structure(state), _calls[digest](*leaves))


def _traced(path: pathlib.Path, flat: Callable, leaves: list[jax.Array]) -> export.Exported:
    """What the file holds, after its checksum; written if it is missing or damaged."""
    if path.exists():
        content = path.read_bytes()
        if hashlib.sha256(content[32:]).digest() == content[:32]:
            return export.deserialize(bytearray(content[32:]))
        log.warning("damaged %s: tracing again", path)
    platforms = {device.platform for leaf in leaves for device in leaf.devices()}
    traced = export.export(jax.jit(flat), platforms=sorted(platforms))(*leaves)
    data = traced.serialize()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, hashlib.sha256(data).digest() + data)
    except OSError as error:
        log.warning("not kept: %s", error)
    return traced


@cache
def _version() -> str:
    """Of the code that is traced: the libraries, and every module of herjax."""
    modules = sorted(pathlib.Path(__file__).parent.glob("*.py"))
    digest = hashlib.sha256(b"".join(module.read_bytes() for module in modules)).hexdigest()
    libraries = ("jax", "jaxlib", "flax", "optax", "chex")
    return " ".join([*map(importlib.metadata.version, libraries), digest])


def clear() -> None:
    """Free the programs of this process, compiled ones included."""
    _calls.clear()
    jax.clear_caches()
