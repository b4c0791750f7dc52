import dataclasses
import functools
import os
import pickle
import time
import types
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import herjax
from herjax.runtime import program_cache
from herjax.runtime.sharding import make_mesh

traces = []
typeof = jax.typeof


@partial(jax.jit, static_argnames="scale", donate_argnames="state")
def add(state, more, scale):
    traces.append(scale)
    return {"sum": state["sum"] + scale * more, "key": jax.random.split(state["key"])[0]}


@jax.jit
def spread(x):
    """Returns another tree than it takes."""
    traces.append("spread")
    return (x.max(), {"sorted": jnp.sort(x)}), None


def state():
    return {"sum": jnp.ones(2), "key": jax.random.key(0)}


def call(scale=2, more=(1.0, 2.0)):
    """Call as a new process would: nothing compiled before is in memory."""
    program_cache.clear()
    del traces[:]
    return program_cache.call_kept(add, state(), np.float32(more), scale=scale)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(program_cache, "_folder", None)  # as it was, afterwards
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    program_cache.keep_in(tmp_path / "cache")
    yield tmp_path / "cache"
    jax.config.update("jax_compilation_cache_dir", before)


def files(folder):
    return sorted(folder.iterdir())


def timed(function):
    """-> what it returns, and the events that took JAX time meanwhile."""
    events = []

    def listen(event, *_, **__):
        events.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        return function(), [event.split("/")[-1] for event in events]
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def test_the_second_run_neither_traces_nor_compiles_and_returns_the_same(folder):
    first = call()
    assert traces == [2]
    program_cache.clear()
    del traces[:]
    arguments = state(), np.float32([1, 2])
    second, events = timed(lambda: program_cache.call_kept(add, *arguments, scale=2))
    assert traces == []
    assert events == ["herjax_load"]  # which the stopwatch of the commands counts as compiling
    assert np.array_equal(first["sum"], [3, 5])
    assert np.array_equal(second["sum"], [3, 5])
    expected = jax.random.key_data(jax.random.split(jax.random.key(0))[0])
    assert np.array_equal(jax.random.key_data(second["key"]), expected)
    assert len(files(folder)) == 1


def test_arguments_are_donated_if_the_function_says_so(folder):
    for _ in range(2):  # compiled, then loaded
        program_cache.clear()
        given, more = state(), jnp.ones(2)
        program_cache.call_kept(add, given, more, scale=2)
        assert given["sum"].is_deleted()
        assert not more.is_deleted()


class UnequalType:
    """Of an array, as JAX 0.11 has them: not equal to another of the same kind."""

    def __init__(self, leaf):
        kind = typeof(leaf)
        self.shape, self.dtype, self.weak_type = kind.shape, kind.dtype, kind.weak_type


def test_a_loaded_program_is_loaded_once_however_often_it_runs(folder, monkeypatch):
    monkeypatch.setattr(jax, "typeof", UnequalType)
    call()
    program_cache.clear()
    given = state()
    for _ in range(3):
        given = program_cache.call_kept(add, given, np.float32([1, 2]), scale=2)
    assert len(program_cache._calls) == 1


def test_programs_are_compiled_side_by_side_and_each_once(folder, monkeypatch):
    program_cache.clear()
    del traces[:]
    compile, compiled = program_cache._compile_anew, []
    monkeypatch.setattr(
        program_cache, "_compile_anew", lambda given: compiled.append(given) or compile(given)
    )
    cached = jax.config.jax_enable_compilation_cache

    def compile_scaled(scale):
        program_cache.compile_kept(add, state(), np.float32([1, 2]), scale=scale)

    with ThreadPoolExecutor(12) as pool:  # three threads want each program
        list(pool.map(compile_scaled, sorted(3 * [*range(4)])))
    assert sorted(traces) == [0, 1, 2, 3]
    assert len(compiled) == 4
    assert jax.config.jax_enable_compilation_cache == cached
    for scale in range(4):
        result = program_cache.call_kept(add, state(), np.float32([1, 2]), scale=scale)
        assert result["sum"].tolist() == [1 + scale, 1 + 2 * scale]
    assert len(traces) == 4


def test_the_result_may_be_another_tree(folder):
    for _ in range(2):
        program_cache.clear()
        del traces[:]
        (high, rest), nothing = program_cache.call_kept(spread, jnp.float32([3, 1, 2]))
        assert high == 3
        assert rest["sorted"].tolist() == [1, 2, 3]
        assert nothing is None
    assert traces == []


@pytest.mark.parametrize("offset", [0, 4])
def test_arrays_on_several_devices_stay_there(folder, offset):
    mesh = make_mesh({"data": 8, "model": 1})
    devices = mesh.devices.reshape(8)[offset : offset + 2]
    mesh = jax.sharding.Mesh(devices[::-1].reshape(2, 1), ("data", "model"))
    kept = []
    for _ in range(2):
        program_cache.clear()
        del traces[:]
        x = jax.device_put(jnp.arange(6.0).reshape(2, 3), NamedSharding(mesh, P("data")))
        given = {"sum": x, "key": jax.random.key(0)}
        kept.append(program_cache.call_kept(add, given, x + 0, scale=2)["sum"])
    assert traces == []
    for result in kept:
        assert np.array_equal(result, 3 * np.arange(6).reshape(2, 3))
        assert result.sharding.is_equivalent_to(x.sharding, 2)
    assert len(files(folder)) == 1


def test_equal_shardings_share_a_program(folder):
    mesh = make_mesh({"data": 1, "model": 1})
    for spec in (P(), P("data")):
        x = jax.device_put(jnp.ones(3), NamedSharding(mesh, spec))
        program_cache.call_kept(spread, x)
    assert len(files(folder)) == 1


def test_what_shapes_the_program_gets_its_own_file(folder, monkeypatch):
    call()
    assert np.array_equal(call(scale=3)["sum"], [4, 7])
    assert np.array_equal(call(more=[[1.0, 1.0]])["sum"], [[3, 3]])
    assert len(files(folder)) == 3
    program_cache.call_kept(add, state(), 1.0, scale=2)  # of a weak type
    program_cache.call_kept(add, state(), jnp.float32(1.0), scale=2)
    assert len(files(folder)) == 5
    changes = [
        (program_cache, "_version", lambda: "another herjax"),
        (program_cache, "_machine", lambda: ("another processor",)),
        (program_cache, "given_flags", lambda: "--xla_other"),
        (program_cache, "compiler_options", lambda *_: {"xla_backend_optimization_level": 0}),
    ]
    for number, change in enumerate(changes, start=6):
        with monkeypatch.context() as changed:
            changed.setattr(*change)
            call()
            assert traces == [2]
            assert len(files(folder)) == number
    with jax.default_matmul_precision("default"):
        call()
    assert len(files(folder)) == 10


def test_a_setting_of_jax_makes_another_program_in_this_process_too(folder):
    call()
    for precision in ("highest", None, "highest"):
        with jax.default_matmul_precision(precision):
            program_cache.call_kept(add, state(), np.float32([1, 2]), scale=2)
    assert traces == [2, 2]


def test_without_compiling_a_function_sees_its_numbers(folder):
    with jax.disable_jit():
        found = program_cache.call_kept(lambda x: x + 1 if x > 1 else x, np.float32(2))
    assert found == 3
    assert not files(folder)


def checked(data):
    """With the checksum that a file starts with."""
    return program_cache.hashlib.sha256(data).digest() + data


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda data: data[:99], "damaged"),
        (lambda data: b"", "damaged"),
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "damaged"),
        (lambda data: data[:40] + bytes([data[40] ^ 64]) + data[41:], "damaged"),
        (lambda data: checked(b"text"), "decompress"),
        (lambda data: checked(program_cache.zlib.compress(b"text")), "MARK"),
        (lambda data: checked(program_cache.zlib.compress(pickle.dumps("words"))), "unpack"),
        (
            lambda data: checked(program_cache.zlib.compress(pickle.dumps((1, 2, 3, 4)))),
            "of another program",
        ),
    ],
)
def test_a_damaged_file_is_rebuilt_with_one_warning(folder, caplog, damage, reason):
    call()
    path = files(folder)[0]
    path.write_bytes(damage(path.read_bytes()))
    assert np.array_equal(call()["sum"], [3, 5])
    assert traces == [2]
    (record,) = caplog.records
    assert record.getMessage().startswith("kept program could not be loaded (")
    assert record.getMessage().endswith("): compiling again")
    assert reason in record.getMessage()
    assert len(record.getMessage().splitlines()) == 1
    caplog.clear()
    call()
    assert traces == []
    assert not caplog.records


def test_a_program_that_xla_rejects_is_compiled_again_with_one_warning(folder, caplog, monkeypatch):
    call()

    def reject(*_, **__):
        raise RuntimeError("INTERNAL: no such machine\n*** stack ***")

    monkeypatch.setattr(program_cache.serialize_executable, "deserialize_and_load", reject)
    assert np.array_equal(call()["sum"], [3, 5])
    expected = "kept program could not be loaded (INTERNAL: no such machine): compiling again"
    assert [record.getMessage() for record in caplog.records] == [expected]


def test_a_program_that_cannot_be_written_is_done_without(folder, caplog, monkeypatch):
    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(program_cache.os, "replace", full)
    assert np.array_equal(call()["sum"], [3, 5])
    assert [r.getMessage() for r in caplog.records] == [
        "compiled program not kept: No space left on device"
    ]
    assert not files(folder)


def test_without_a_folder_nothing_is_kept(folder):
    program_cache.keep_in(None)
    call()
    call()
    assert traces == [2]
    program_cache.call_kept(add, state(), np.float32([1, 2]), scale=2)
    assert traces == [2]  # in this process it is
    assert not files(folder)


def test_several_processes_keep_nothing(folder, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    call()
    assert traces == [2]
    assert not files(folder)


@pytest.mark.parametrize("kept", [True, False])
def test_the_compiler_gets_its_options(folder, monkeypatch, kept):
    program_cache.keep_in(folder if kept else None)
    monkeypatch.setattr(program_cache, "compiler_options", lambda *_: {"xla_no_such": 1})
    with pytest.raises(Exception, match="xla_no_such"):
        call()


def test_without_a_folder_it_is_that_of_jax(folder, tmp_path, caplog):
    program_cache.keep_in(None)
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "jax"))
    call()
    call()
    assert traces == []
    (tmp_path / "jax").chmod(0o777)
    program_cache.clear()
    program_cache._folder_of_jax.cache_clear()
    call()
    assert traces == [2]
    assert "others may write programs" in caplog.text


@pytest.mark.parametrize("in_memory", [True, False])
def test_what_jax_has_loaded_is_not_written_again(folder, tmp_path, monkeypatch, in_memory):
    """XLA:CPU would leave functions out."""
    monkeypatch.setattr(program_cache, "compiler_options", lambda *_: {})  # as jit has
    before = jax.config.jax_persistent_cache_min_compile_time_secs
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_enable_compilation_cache", True)
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "jax"))
    compilation_cache.reset_cache()
    x = jnp.float32([3, 1, 2])
    try:
        for _ in range(2):
            jax.clear_caches()
            spread(x)
        assert list((tmp_path / "jax").glob("jit_spread-*-cache"))
        for _ in range(3):
            (high, rest), _ = program_cache.call_kept(spread, x)
            assert (high, rest["sorted"].tolist()) == (3, [1, 2, 3])
            program_cache._calls.clear()
            if not in_memory:
                jax.clear_caches()
    finally:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", before)
        jax.config.update("jax_enable_compilation_cache", False)
        jax.config.update("jax_compilation_cache_dir", None)
        compilation_cache.reset_cache()


def test_what_is_traced_inside_another_program_is_called_as_it_is(folder):
    summed = jax.jit(lambda x: program_cache.call_kept(spread, x)[0][0])(jnp.float32([3, 1]))
    assert summed == 3
    assert not files(folder)


def test_a_function_that_its_name_does_not_tell_is_refused(folder):
    with pytest.raises(ValueError, match="another function"):
        program_cache.call_kept(jax.jit(lambda x: x), jnp.ones(2))
    with pytest.raises(ValueError, match="spread is another function"):
        program_cache.call_kept(jax.jit(jax.vmap(spread.__wrapped__)), jnp.ones((2, 2)))


@partial(jax.jit, static_argnames="what")
def given(x, what):
    del traces[:]
    traces.append(what)
    return what(x) if what.__class__ in (types.FunctionType, partial) else x


@dataclasses.dataclass(frozen=True)
class Mine:
    rate: float = 1.0


class OfMine(herjax.Decoder):
    pass


OfMine.__name__ = "Decoder"  # as someone may call it
CONFIG = herjax.ModelConfig()


def told_by_its_name(what, folder):
    """Run it twice, as if by two processes: is it not traced the second time?"""
    for _ in range(2):
        program_cache.clear()
        del traces[:]
        program_cache.call_kept(given, jnp.ones(2), what=what)
        assert len(files(folder)) == 1
    return not traces


@pytest.mark.parametrize(
    ("what", "by_name"),
    [
        (herjax.Decoder(CONFIG), True),
        (herjax.AdaptConfig(), True),
        (functools.wraps(herjax.hindsight)(lambda x: x), False),
        (partial(jnp.add, 1), False),
        (Mine(), False),
        (OfMine(CONFIG), False),
        (herjax.AdaptConfig(select=functools.wraps(herjax.select_best)(lambda *_: None)), False),
        ((1, (Mine(),)), False),
    ],
)
def test_what_is_not_of_herjax_is_not_told_by_its_name(folder, what, by_name):
    assert told_by_its_name(what, folder) == by_name


def test_a_function_of_ones_own_is_told_by_what_it_computes(folder):
    """Whatever it is called, and wherever its numbers come from."""
    table = jnp.arange(1000.0)
    other = table.at[777].set(0)
    learners = [lambda x: x + 1, lambda y: y + 1, lambda x: x + table[:2] * table.sum()]
    learners += [lambda x: x + 2, lambda x: x + table[:2] * other.sum()]
    found = []
    for _ in range(2):
        for learner in learners:
            program_cache.clear()
            found.append(program_cache.call_kept(given, jnp.ones(2), what=learner)[1])
    total = 999 * 500
    assert np.allclose(found, [2, 2, 1 + total, 3, 1 + total - 777] * 2)
    assert len(files(folder)) == 4


def test_what_calls_back_is_kept_for_this_process_alone(folder):
    def tell(x):
        jax.debug.callback(seen.append, x[0])
        return x

    for number in range(2):
        program_cache.clear()
        seen = []
        program_cache.call_kept(given, jnp.ones(2) + number, what=tell)
        jax.effects_barrier()
        assert seen == [1 + number]
    assert not files(folder)


def test_folders_are_made_for_this_user_alone(tmp_path):
    path = tmp_path / "a" / "b"
    program_cache._private(path)
    assert path.stat().st_mode & 0o777 == 0o700
    assert path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o1777])
def test_a_folder_that_others_may_write_into_is_refused(folder, tmp_path, mode):
    tmp_path.joinpath("open").mkdir()
    tmp_path.joinpath("open").chmod(mode)
    with pytest.raises(ValueError, match=f"others may write programs into {tmp_path}/open"):
        program_cache.keep_in(tmp_path / "open")
    assert program_cache._folder != tmp_path / "open"


def test_a_folder_of_another_user_is_refused_but_for_root(tmp_path, monkeypatch):
    tmp_path.chmod(0o755)
    owner = tmp_path.stat().st_uid
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    if owner == 0:
        program_cache._private(tmp_path)
        os.chown(tmp_path, 1234, 1234)
    with pytest.raises(ValueError, match="belongs to another user"):
        program_cache._private(tmp_path)


def test_a_folder_that_cannot_be_made_or_written_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OSError):
            program_cache._private(path)
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    with pytest.raises(OSError, match="no folder to write programs into"):
        program_cache._private(tmp_path)


def test_the_default_folder_is_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert program_cache.default_folder() == tmp_path / "xdg" / "herjax"
    for relative in ("", "here"):
        monkeypatch.setenv("XDG_CACHE_HOME", relative)
        assert program_cache.default_folder() == tmp_path / ".cache" / "herjax"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert program_cache.default_folder() == tmp_path / ".cache" / "herjax"
    monkeypatch.setattr(program_cache, "_folder", None)
    herjax.keep_programs()
    assert program_cache._folder == tmp_path / ".cache" / "herjax"
    herjax.keep_programs(tmp_path / "mine")
    assert program_cache._folder == tmp_path / "mine"


def test_what_was_not_used_goes_first(folder, monkeypatch):
    ages = {"old": 100, "middle": 50, "young": 1}
    for name, days in ages.items():
        path = folder / f"herjax-{name}.program"
        path.write_bytes(b"x" * 1000)
        os.utime(path, (time.time() - days * 86400,) * 2)
    other = folder / "mine.txt"
    other.write_bytes(b"x" * 5000)
    os.utime(other, (0, 0))
    call()
    names = {path.name for path in files(folder)}
    assert {"mine.txt", "herjax-middle.program", "herjax-young.program"} < names
    assert "herjax-old.program" not in names
    (kept,) = names - {"mine.txt", "herjax-middle.program", "herjax-young.program"}
    monkeypatch.setattr(program_cache, "MAX_BYTES", (folder / kept).stat().st_size + 1500)
    os.utime(folder / kept, (0, 0))
    call()  # used: now the youngest
    program_cache._remove_old(folder)
    assert {path.name for path in files(folder)} == {"mine.txt", kept, "herjax-young.program"}
