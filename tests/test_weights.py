import dataclasses
import json
import pathlib

import jax
import numpy as np
import pytest

import herjax
from herjax.decoder.weights import parameter_shapes
from herjax.learning.pretraining import init_params
from herjax.runtime.checkpoint import CheckpointError


@pytest.fixture
def folder(tiny, tmp_path):
    herjax.save_weights(tmp_path / "model", dataclasses.replace(tiny, info={"note": "kept"}))
    return tmp_path / "model"


def test_weights_come_back_exactly(tiny, folder):
    loaded = herjax.load_pretrained(folder)
    assert loaded.model == tiny.model
    assert loaded.info["note"] == "kept"
    assert jax.tree.structure(loaded.params) == jax.tree.structure(tiny.params)
    for a, b in zip(jax.tree.leaves(loaded.params), jax.tree.leaves(tiny.params)):
        assert np.array_equal(a, b)


def test_what_could_not_be_loaded_again_is_not_written(tiny, deep, tmp_path):
    folder = tmp_path / "model"
    with pytest.raises(ValueError, match="'blocks_2/.*' is no parameter of this model"):
        herjax.save_weights(folder, dataclasses.replace(tiny, params=deep.params))
    with pytest.raises(ValueError, match="blocks_2/.* is missing"):
        herjax.save_weights(folder, dataclasses.replace(deep, params=tiny.params))
    with pytest.raises(ValueError, match="info must be JSON: Object of type float32"):
        herjax.save_weights(folder, dataclasses.replace(tiny, info={"loss": np.float32(1)}))
    with pytest.raises(ValueError, match="info is too long: 1,.* bytes of JSON, at most 1,000,000"):
        herjax.save_weights(folder, dataclasses.replace(tiny, info={"notes": "x" * 10**6}))
    with pytest.raises(ValueError, match='params must be {"params": ...}, got {'):
        herjax.save_weights(folder, dataclasses.replace(tiny, params=tiny.params["params"]))
    broken = jax.tree.map(lambda leaf: leaf * np.nan, tiny.params)
    with pytest.raises(ValueError, match="holds numbers that are not finite"):
        herjax.save_weights(folder, dataclasses.replace(tiny, params=broken))
    with pytest.raises(ValueError, match="pretrained must be a Pretrained, got ModelConfig"):
        herjax.save_weights(folder, tiny.model.config)
    assert not folder.exists()


def test_weights_may_lie_in_memory_as_they_like(tiny, tmp_path):
    turned = jax.tree.map(lambda leaf: np.asfortranarray(leaf), tiny.params)
    herjax.save_weights(tmp_path, dataclasses.replace(tiny, params=turned))
    loaded = herjax.load_pretrained(tmp_path)
    for a, b in zip(jax.tree.leaves(loaded.params), jax.tree.leaves(tiny.params)):
        assert np.array_equal(a, b)


def damage(folder, kind):
    weights, config = folder / "model.safetensors", folder / "config.json"
    data = bytearray(weights.read_bytes())
    if kind == "flipped byte":
        data[-5] ^= 1
        weights.write_bytes(data)
    elif kind == "truncated":
        weights.write_bytes(data[: len(data) // 2])
    elif kind == "no weights":
        weights.unlink()
    elif kind == "no json":
        config.write_text("{")
    elif kind in ("unknown field", "other heads"):
        info = json.loads(config.read_text())
        info["model"]["depth" if kind == "unknown field" else "heads"] = 4
        config.write_text(json.dumps(info))
    elif kind == "json list":
        config.write_text("[]")


def test_only_a_string_is_a_shipped_name(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    herjax.save_weights("base", tiny)
    assert herjax.load_pretrained(pathlib.Path("base")).model == tiny.model
    assert herjax.load_pretrained("./base").model == tiny.model
    assert herjax.load_pretrained("base").model != tiny.model


def test_weights_made_from_others_may_have_their_info(tiny, folder, tmp_path):
    loaded = herjax.load_pretrained(folder).computing_in("bfloat16")
    changed = jax.tree.map(lambda leaf: leaf + 1, loaded.params)
    herjax.save_weights(tmp_path / "changed", dataclasses.replace(loaded, params=changed))
    found = herjax.load_pretrained(tmp_path / "changed")
    assert found.model.config == loaded.model.config
    assert found.info["note"] == "kept"
    assert found.info["sha256"] != loaded.info["sha256"]


@pytest.mark.parametrize(
    "kind",
    [
        "flipped byte",
        "truncated",
        "no weights",
        "no json",
        "unknown field",
        "other heads",
        "json list",
    ],
)
def test_damaged_weights_are_refused(folder, kind):
    damage(folder, kind)
    with pytest.raises(CheckpointError) as caught:
        herjax.load_pretrained(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("layers", [1, 3])
def test_the_parameters_that_are_asked_for_are_those_of_the_model(layers):
    config = herjax.ModelConfig(width=12, layers=layers, heads=3, program_layers=1, max_side=7)
    made = jax.eval_shape(lambda key: init_params(config, key), jax.random.key(0))["params"]
    flat = {
        "/".join(key.key for key in path): leaf for path, leaf in jax.tree.leaves_with_path(made)
    }
    assert parameter_shapes(config) == flat


def test_unknown_name_lists_the_shipped_ones():
    with pytest.raises(
        CheckpointError, match=r"no model 'bse' \(did you mean 'base'\?\): give one of .*base"
    ):
        herjax.load_pretrained("bse")


@pytest.mark.parametrize(
    "name",
    ["base", "base-10", "base-20", "base-30", "base-weak-1", "base-weak-2", "base-weak-3"],
)
def test_shipped_models_load_and_draw(name):
    """Greedily, a picture of two draws; every shipped model but the weakest can."""
    shipped = herjax.load_pretrained(name)
    target = np.full((5, 6), 3)
    target[1:4, 1:3] = 7
    target[:, 5] = 1
    task = herjax.make_task(target, input=np.full((5, 6), 3))
    found = herjax.sample(
        shipped.model, shipped.params, task, jax.random.key(0), np.zeros(1, np.float32), 6, 30
    )
    accuracy = herjax.pixel_accuracy(herjax.execute(found.program[0], task.input), task.target)
    assert accuracy == 1.0 or name == "base-weak-1"
    assert shipped.info["held_out"]["tasks"] >= 1000


def test_without_params_a_picture_of_any_size_starts_from_the_base():
    """Twelve rows, one draw: the first epoch solves it."""
    with pytest.raises(ValueError, match="is larger than the model's canvas, 30x30"):
        herjax.adapt(np.zeros((31, 2), int))
    target = np.zeros((12, 4), int)
    target[3:9, 1:3] = 5
    result = herjax.adapt(target, config=herjax.AdaptConfig(max_epochs=1, learning_rate=0.0))
    assert result.solved
    assert result.params["params"]["row_embed"]["embedding"].shape == (30, 128)
