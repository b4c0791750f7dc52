from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from herjax import trace_cache

traces = []


@partial(jax.jit, static_argnames="scale", donate_argnums=0)
def add(state, more, scale):
    traces.append(scale)
    return {"sum": state["sum"] + scale * more, "key": jax.random.split(state["key"])[0]}


def call(scale=2, more=(1.0, 2.0)):
    """Call as a new process would: nothing traced before is in memory."""
    trace_cache.clear()
    del traces[:]
    state = {"sum": jnp.ones(2), "key": jax.random.key(0)}
    return trace_cache.call_traced(add, state, np.float32(more), scale=scale)


@pytest.fixture
def folder(tmp_path):
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    yield tmp_path
    jax.config.update("jax_compilation_cache_dir", before)


def files(folder):
    return sorted(folder.glob("herjax-*.export"))


def test_the_second_run_traces_nothing_and_returns_the_same(folder):
    first = call()
    assert traces == [2]
    second = call()
    assert traces == []
    assert np.array_equal(first["sum"], [3, 5])
    assert np.array_equal(second["sum"], [3, 5])
    expected = jax.random.key_data(jax.random.split(jax.random.key(0))[0])
    assert np.array_equal(jax.random.key_data(second["key"]), expected)
    assert len(files(folder)) == 1


def test_what_shapes_the_program_gets_its_own_file(folder, monkeypatch):
    call()
    assert np.array_equal(call(scale=3)["sum"], [4, 7])
    assert np.array_equal(call(more=[[1.0, 1.0]])["sum"], [[3, 3]])
    assert len(files(folder)) == 3
    monkeypatch.setattr(trace_cache, "_version", lambda: "another herjax")
    call()
    assert traces == [2]
    assert len(files(folder)) == 4


@pytest.mark.parametrize("damage", [lambda data: data[:99], lambda data: data[:-1] + b"x"])
def test_a_damaged_file_is_traced_again_with_a_warning(folder, caplog, damage):
    call()
    path = files(folder)[0]
    path.write_bytes(damage(path.read_bytes()))
    assert np.array_equal(call()["sum"], [3, 5])
    assert traces == [2]
    assert f"damaged {path}" in caplog.text
    call()
    assert traces == []


def test_a_folder_that_cannot_be_written_is_done_without(folder, caplog):
    jax.config.update("jax_compilation_cache_dir", str(folder / "file" / "below"))
    (folder / "file").write_text("mine")
    assert np.array_equal(call()["sum"], [3, 5])
    assert "not kept" in caplog.text


def test_without_a_folder_nothing_is_kept(folder):
    jax.config.update("jax_compilation_cache_dir", None)
    call()
    call()
    assert traces == [2]
    assert not files(folder)
