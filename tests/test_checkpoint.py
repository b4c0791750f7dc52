import gc
import logging
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from herjax.runtime.checkpoint import CheckpointError, Checkpoints, checksums
from herjax.runtime.sharding import make_mesh, state_shardings


def make_state(value):
    return {
        "kernel": jnp.arange(24.0).reshape(4, 6) + value,
        "count": jnp.int32(value),
        "flags": jnp.array([True, False]),
        "key": jax.random.key(value),
    }


def arrays(state):
    return {**state, "key": jax.random.key_data(state["key"])}


@pytest.fixture
def saved(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for step in (3, 7):
        checkpoints.save(step, make_state(step), {"members": [step, -1]})
    return tmp_path


def files(folder, step):
    """The files of a step that hold array bytes, the largest first."""
    found = [path for path in (folder / str(step)).rglob("d/*") if path.is_file()]
    return sorted(found, key=lambda path: -path.stat().st_size)


def test_the_newest_comes_back(saved):
    step, state, info = Checkpoints(saved).restore_latest(lambda info: make_state(0))
    assert (step, info) == (7, {"members": [7, -1]})
    chex.assert_trees_all_equal(arrays(state), arrays(make_state(7)))


def test_the_newest_two_are_kept(saved):
    Checkpoints(saved).save(11, make_state(11))
    assert sorted(path.name for path in saved.iterdir()) == ["11", "7"]


def test_no_checkpoint_is_none(tmp_path):
    assert Checkpoints(tmp_path).restore_latest(lambda info: make_state(0)) is None


def flip_a_byte(folder):
    for file in files(folder, 7):
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 0x10
        file.write_bytes(data)


def truncate(folder):
    file = files(folder, 7)[0]
    file.write_bytes(file.read_bytes()[:10])


def remove_a_file(folder):
    files(folder, 7)[0].unlink()


def remove_checksums(folder):
    for file in (folder / "7" / "info").rglob("*"):
        file.unlink()


@pytest.mark.parametrize("damage", [flip_a_byte, truncate, remove_a_file, remove_checksums])
def test_a_damaged_newest_falls_back_with_a_warning_and_is_written_again(saved, caplog, damage):
    damage(saved)
    checkpoints = Checkpoints(saved)
    with caplog.at_level(logging.WARNING, "herjax"):
        step, state, _ = checkpoints.restore_latest(lambda info: make_state(0))
    assert step == 3
    chex.assert_trees_all_equal(arrays(state), arrays(make_state(3)))
    assert f"checkpoint 7 in {saved} is damaged" in caplog.text
    assert "going on from 3" in caplog.text
    checkpoints.save(7, make_state(8))
    step, state, _ = Checkpoints(saved).restore_latest(lambda info: make_state(0))
    assert (step, int(state["count"])) == (7, 8)


def test_nothing_is_said_later_of_a_damaged_checkpoint(tmp_path, monkeypatch):
    """Orbax leaves coroutines behind, which say so when they are collected."""
    checkpoints, state = Checkpoints(tmp_path), {f"array{i}": jnp.arange(5000) for i in range(20)}
    for step in (3, 7):
        checkpoints.save(step, state)
    for file in files(tmp_path, 7):
        file.write_bytes(file.read_bytes()[:100])
    step, _, _ = Checkpoints(tmp_path).restore_latest(lambda info: state)
    said = []
    monkeypatch.setattr(sys, "unraisablehook", said.append)
    gc.collect()
    assert (step, said) == (3, [])


def test_all_damaged_is_an_error_and_nothing_is_touched(saved):
    for step in (3, 7):
        for file in files(saved, step):
            file.write_bytes(b"")
    with pytest.raises(CheckpointError, match="step 7 in .*, and no older one is whole"):
        Checkpoints(saved).restore_latest(lambda info: make_state(0))
    assert sorted(p.name for p in saved.iterdir()) == ["3", "7"]


@pytest.mark.parametrize("index", [0, 1, 11, 23])
def test_checksum_sees_every_changed_bit(index):
    leaf = np.arange(24, dtype=np.float32)
    before = checksums(leaf)
    for bit in (0, 7, 22, 31):
        changed = leaf.copy()
        changed.view(np.uint32)[index] ^= np.uint32(1 << bit)
        assert checksums(changed) != before
    swapped = leaf.copy()
    swapped[[index, index - 1]] = swapped[[index - 1, index]]
    assert checksums(swapped) != before


def test_restores_onto_other_meshes(tmp_path):
    state = {"query": {"kernel": jnp.arange(64.0).reshape(8, 8)}}
    expected = checksums(state)
    for step, sizes in enumerate([(1, 1), (2, 4), (8, 1), (1, 2)]):
        mesh = make_mesh({"data": sizes[0], "model": sizes[1]})
        placed = jax.device_put(state, state_shardings(mesh, state))
        checkpoints = Checkpoints(tmp_path)
        if step:
            _, restored, _ = checkpoints.restore_latest(lambda info, placed=placed: placed)
            chex.assert_trees_all_equal(restored, state)
            kernel = restored["query"]["kernel"]
            assert kernel.sharding.shard_shape((8, 8)) == (8, 8 // sizes[1])
            assert checksums(restored) == expected
        checkpoints.save(step, placed)
