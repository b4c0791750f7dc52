"""Pretraining on meshes of CPU devices."""

import dataclasses

import jax
import numpy as np
import pytest

from herjax.learning import pretraining
from herjax.learning.presets import PRESETS
from herjax.learning.pretraining import (
    bucket_of_step,
    init_state,
    places_of,
    pretrain_step,
)
from herjax.runtime import program_cache
from herjax.runtime.compiled import collectives
from herjax.runtime.sharding import check_mesh, make_mesh, parse_mesh

MODEL = dataclasses.replace(PRESETS["tiny"].model, layers=1)
TINY = dataclasses.replace(PRESETS["tiny"], steps=16, size_limits=(36,), model=MODEL, batch_size=32)


def train(sizes):
    """-> final state, losses and gradient norms, and which held-out programs are right."""
    mesh = sizes and make_mesh(sizes)
    state, metrics = init_state(TINY, mesh), []
    for step in range(TINY.steps):
        state, values = pretrain_step(state, TINY, bucket_of_step(TINY, step), mesh)
        metrics.append([float(values["loss"]), float(values["grad_norm"])])
    solved = pretraining._solved(state.params, TINY, 0, 0, 64, 1.0, mesh)
    return state, np.array(metrics), np.asarray(solved)


def compiled(mesh):
    """The text of the compiled step."""
    return next(
        program.as_text()
        for (function, _, _, static, *_), program in program_cache._calls.items()
        if function is pretraining.compiled_step
        and (dict(static)["mesh"], dict(static)["config"]) == (mesh, TINY)
    )


@pytest.fixture(scope="module")
def expected():
    return train(None)


@pytest.mark.parametrize(
    "sizes",
    [
        pytest.param({"data": 1, "model": 1}, marks=pytest.mark.slow),
        {"data": 2, "model": 1},
        pytest.param({"data": 4, "model": 1}, marks=pytest.mark.slow),
        pytest.param({"data": 8, "model": 1}, marks=pytest.mark.slow),
        pytest.param({"data": 4, "model": 2}, marks=pytest.mark.slow),
        {"data": 2, "model": 2},
    ],
)
def test_every_mesh_gives_the_same_losses_and_samples(expected, sizes):
    state, metrics, solved = train(sizes)
    assert np.allclose(metrics, expected[1], rtol=1e-5, atol=1e-5)
    assert np.array_equal(solved, expected[2])
    assert 0 < solved.sum() < solved.size
    mesh, devices = make_mesh(sizes), sizes["data"] * sizes["model"]
    text, choices = compiled(mesh), places_of(TINY, mesh, 0)
    assert {*collectives(text)} == ({"all-reduce"} if devices > 1 else set())
    assert len(choices) == {1: 3, 2: 2}.get(devices, 1)
    assert (" conditional(" in text) == (len(choices) > 1)
    for leaf in jax.tree.leaves(state):
        assert len(leaf.sharding.device_set) == devices


def test_matrices_and_their_momenta_are_split_over_model():
    state = init_state(TINY, make_mesh({"data": 2, "model": 2}))
    split = {
        path[-2].key: [*leaf.sharding.spec].index("model")
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
        if "model" in leaf.sharding.spec
    }
    columns = dict.fromkeys(["query", "key", "value", "up"], 1)
    assert split == {**columns, "out": 0, "down": 0}
    count = sum("model" in leaf.sharding.spec for leaf in jax.tree.leaves(state))
    assert count == 2 * 6 * TINY.model.layers  # parameters and momenta


def test_a_mesh_that_does_not_divide_the_matrices_is_refused():
    with pytest.raises(ValueError, match="mesh model:3 does not divide the 128 rows or columns of"):
        init_state(TINY, make_mesh({"data": 1, "model": 3}))


@pytest.mark.parametrize(
    ("text", "sizes"),
    [("data:8", (8, 1)), ("data:4,model:2", (4, 2)), ("model:3", (1, 3))],
)
def test_parse_mesh(text, sizes):
    assert parse_mesh(text) == {"data": sizes[0], "model": sizes[1]}


@pytest.mark.parametrize(
    "text", ["", "8", "data", "data:", "data:0", "data:-1", "x:2", "data:2,data:2"]
)
def test_bad_meshes_are_refused(text):
    with pytest.raises(ValueError, match="expected data:N"):
        parse_mesh(text)


def test_too_large_a_mesh_is_refused():
    with pytest.raises(ValueError, match="a mesh of 64 x 1 needs 64 devices, here are 8"):
        make_mesh({"data": 64, "model": 1})


@pytest.mark.parametrize(
    ("names", "devices"),
    [
        (("data",), [[0], [1], [2], [3]]),
        (("data", "model"), [[0, 1], [2, 3]]),
        (("model", "data"), [[0, 2], [1, 3]]),
    ],
)
def test_a_mesh_of_ones_own_is_taken(names, devices):
    shape = (4,) if len(names) == 1 else (2, 2)
    mesh = check_mesh(jax.make_mesh(shape, names))  # JAX makes its axes explicit
    assert [[device.id for device in row] for row in mesh.devices] == devices
    assert mesh == make_mesh(dict(mesh.shape), mesh.devices.reshape(-1))


@pytest.mark.parametrize("names", [("x",), ("model",), ("data", "x")])
def test_a_mesh_of_other_axes_is_refused(names):
    with pytest.raises(ValueError, match='mesh must have the axes "data"'):
        check_mesh(jax.make_mesh((1,) * len(names), names))
