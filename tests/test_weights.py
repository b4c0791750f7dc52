import json

import jax
import numpy as np
import pytest

import herjax
from herjax.checkpoint import CheckpointError, Checkpoints


@pytest.fixture
def folder(tiny, tmp_path):
    herjax.save_weights(tmp_path / "model", tiny.model.config, tiny.params, {"note": "kept"})
    return tmp_path / "model"


def test_weights_come_back_exactly(tiny, folder):
    loaded = herjax.load_pretrained(folder)
    assert loaded.model == tiny.model
    assert loaded.info["note"] == "kept"
    assert jax.tree.structure(loaded.params) == jax.tree.structure(tiny.params)
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
    elif kind == "unknown field":
        info = json.loads(config.read_text())
        info["model"]["depth"] = 3
        config.write_text(json.dumps(info))
    elif kind == "json list":
        config.write_text("[]")


@pytest.mark.parametrize(
    "kind",
    ["flipped byte", "truncated", "no weights", "no json", "unknown field", "json list"],
)
def test_damaged_weights_are_refused(folder, kind):
    damage(folder, kind)
    with pytest.raises(CheckpointError) as caught:
        herjax.load_pretrained(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_name_lists_the_shipped_ones():
    with pytest.raises(CheckpointError, match="no model 'bse': give one of .*base"):
        herjax.load_pretrained("bse")


def test_checkpoints_restore_the_newest_and_refuse_another_run(tmp_path):
    checkpoints = Checkpoints(tmp_path / "c", {"lr": 1.0, "seed": 0})
    assert checkpoints.restore_latest({"x": np.zeros(3)}) is None
    for step in (1, 2, 3):
        checkpoints.save(step, {"x": np.arange(3.0) * step})
    step, state = Checkpoints(tmp_path / "c", {"lr": 1.0, "seed": 0}).restore_latest(
        {"x": np.zeros(3)}
    )
    assert step == 3
    assert np.array_equal(state["x"], [0, 3, 6])
    with pytest.raises(CheckpointError, match=r"another run: lr is 1\.0 there, 2\.0 here"):
        Checkpoints(tmp_path / "c", {"lr": 2.0, "seed": 0})


def test_damaged_checkpoint_is_named(tmp_path):
    checkpoints = Checkpoints(tmp_path / "c", {})
    checkpoints.save(7, {"x": np.arange(3000.0)})
    for path in (tmp_path / "c" / "7" / "state").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="damaged checkpoint: step 7"):
        Checkpoints(tmp_path / "c", {}).restore_latest({"x": np.zeros(3000)})
