"""Muon as it is written here, against optax's."""

from functools import partial

import chex
import jax
import optax
import pytest

from herjax.learning.muon import in_shares, newton_schulz
from herjax.learning.presets import PRESETS
from herjax.learning.pretraining import learning_rates, make_optimizer
from herjax.runtime.sharding import make_mesh


def of_optax(config):
    def matrices(params):
        def dimensions(path, leaf):
            in_block = any("blocks" in str(key) for key in path)
            return optax.contrib.MuonDimensionNumbers() if in_block and leaf.ndim == 2 else None

        return jax.tree_util.tree_map_with_path(dimensions, params)

    rates = learning_rates(config)
    muon = optax.contrib.muon(
        rates["muon"],
        adam_learning_rate=rates["adam"],
        adam_b2=0.98,
        muon_weight_dimension_numbers=matrices,
    )
    return optax.chain(optax.clip_by_global_norm(config.clip), muon)


@pytest.mark.slow
def test_steps_and_state_are_those_of_optax(tiny):
    """So an unfinished run goes on, whichever of the two began it."""
    config, params = PRESETS["tiny"], tiny.params
    ours, theirs = make_optimizer(config), of_optax(config)
    state, expected_state = ours.init(params), theirs.init(params)
    for seed in range(3):
        keys = jax.random.split(jax.random.key(seed), len(jax.tree.leaves(params)))
        keys = jax.tree.unflatten(jax.tree.structure(params), list(keys))
        grads = jax.tree.map(lambda key, leaf: jax.random.normal(key, leaf.shape), keys, params)
        updates, state = jax.jit(ours.update)(grads, state, params)
        expected, expected_state = jax.jit(theirs.update)(grads, expected_state, params)
    chex.assert_trees_all_close(updates, expected, atol=1e-5)
    chex.assert_trees_all_close(state, expected_state, atol=1e-6)


def test_devices_share_the_matrices():
    x = jax.random.normal(jax.random.key(0), (8, 4, 6)) / 5
    run = jax.jit(partial(in_shares, make_mesh({"data": 3, "model": 1})))
    chex.assert_trees_all_close(run(x), newton_schulz(x), atol=1e-6)
    products = [line for line in run.lower(x).as_text().splitlines() if "dot_general" in line]
    assert products
    assert all("tensor<3x4x" in line for line in products)


def test_pretraining_on_cpus_shares_them(tiny):
    mesh = make_mesh({"data": 2, "model": 1})
    for given, exchanges in ((mesh, True), (None, False)):
        optimizer = make_optimizer(PRESETS["tiny"], given)
        arrays = tiny.params, optimizer.init(tiny.params), tiny.params
        assert ("all_reduce" in jax.jit(optimizer.update).lower(*arrays).as_text()) == exchanges
