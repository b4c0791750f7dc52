"""Muon (Jordan, 2024) for matrices that may be split over "model", each product where it lives."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from herjax.runtime.sharding import SPLIT_INPUT, over_data_alone, platform_of

# Of the quintic iteration in https://kellerjordan.github.io/posts/muon/.
ITERATIONS, COEFFICIENTS = 5, (3.4445, -4.7750, 2.0315)


def newton_schulz(x: Array) -> Array:
    """Matrices [..., a, b], of norm 1 or less, with singular values of about 1."""
    linear, cubic, quintic = COEFFICIENTS
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = linear * x + (cubic * gram + quintic * gram @ gram) @ x
    return x


def in_shares(mesh: Mesh, x: Array) -> Array:
    """``newton_schulz`` of [n, a, b], of which every device on "data" takes its share."""
    devices = mesh.shape["data"]
    each = -(-len(x) // devices)

    def own(x: Array) -> Array:
        first = jax.lax.axis_index("data") * each
        done = newton_schulz(jax.lax.dynamic_slice_in_dim(x, first, each))
        whole = jax.lax.dynamic_update_slice_in_dim(jnp.zeros_like(x), done, first, 0)
        return jax.lax.psum(whole, "data")

    filled = jnp.pad(x, ((0, each * devices - len(x)), (0, 0), (0, 0)))
    run = jax.shard_map(own, mesh=mesh, in_specs=P(), out_specs=P(), check_vma=False)
    return run(filled)[: len(x)]


def muon(learning_rate: optax.Schedule, mesh: Mesh | None = None) -> optax.GradientTransformation:
    """As ``optax.contrib.muon``, for a tree of dense layers' kernels [in, out].

    optax multiplies a square matrix with itself over its second axis. Where the first one is split
    over "model", every device would need all of it.
    """
    # On cards, and between processes, exchanging what comes of the products takes longer.
    near = platform_of(mesh) == "cpu" and jax.process_count() == 1
    orthogonalise: Callable[[Array], Array] = newton_schulz
    if near and mesh is not None and over_data_alone(mesh):
        orthogonalise = partial(in_shares, mesh)

    def dimensions(updates: Any) -> Any:
        return jax.tree.map(lambda _: optax.contrib.MuonDimensionNumbers(), updates)

    def scaled(updates: Any, _: Any) -> Any:
        return jax.tree.map(lambda x: x * max(1, x.shape[1] / x.shape[0]) ** 0.5, updates)

    return optax.chain(
        # The momentum, each matrix divided by its norm.
        optax.contrib.scale_by_muon(ns_steps=0, weight_dimension_numbers=dimensions),
        optax.stateless(lambda updates, _: orthogonal(updates, orthogonalise)),
        optax.stateless(scaled),
        optax.scale_by_learning_rate(learning_rate),
    )


def orthogonal(updates: Any, orthogonalise: Callable[[Array], Array] = newton_schulz) -> Any:
    """A tree of matrices, each nearly orthogonal; those of one shape are one batch.

    They have norm 1 or less. The products are over the axis that is split over "model", so that
    devices exchange their sums alone.
    """
    found, tree = jax.tree_util.tree_flatten_with_path(updates)
    turned = [path[-2].key in SPLIT_INPUT for path, _ in found]
    matrices = [x.T if turn else x for turn, (_, x) in zip(turned, found)]
    for shape in {x.shape: None for x in matrices}:
        places = [i for i, x in enumerate(matrices) if x.shape == shape]
        done = orthogonalise(jnp.stack([matrices[i] for i in places]))
        for place, x in zip(places, done):
            matrices[place] = x
    return jax.tree.unflatten(tree, [x.T if t else x for t, x in zip(turned, matrices)])
