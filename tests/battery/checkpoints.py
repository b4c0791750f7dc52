"""Damage to the checkpoints of a run, and disks that do not take them.

A checkpoint that is read is the one that was written, to the bit; else the older one is, with a
warning; and if none is whole, one line says so and nothing is touched.
"""

import atexit
import contextlib
import errno
import functools
import json
import logging
import os
import pathlib
import random
import resource
import shutil
import signal
import subprocess
import tempfile
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from herjax.runtime.checkpoint import CheckpointError, Checkpoints
from tests.battery import Case, folder

OLD, NEW = STEPS = 3, 7
INFO = {"members": [0, 1, -1], "epochs": [2, 5, 0], "seconds": [[1.5, 0.25], [2.0, 0.0], [0.0, 0]]}


def state(step):
    return {
        "kernel": jnp.arange(24.0).reshape(4, 6) + step,
        "count": jnp.int32(step),
        "flags": jnp.array([True, step > 5]),
        "key": jax.random.key(step),
    }


def bits(tree):
    return {**tree, "key": jax.random.key_data(tree["key"])}


@functools.cache
def _original():
    path = pathlib.Path(tempfile.mkdtemp(prefix="herjax-battery-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    checkpoints = Checkpoints(path / "checkpoints")
    for step in (OLD, NEW):
        checkpoints.save(step, state(step), {**INFO, "step": step})
    return path / "checkpoints"


@contextlib.contextmanager
def saved():
    """A folder with two checkpoints."""
    with folder() as path:
        yield pathlib.Path(shutil.copytree(_original(), path / "checkpoints", symlinks=True))


@contextlib.contextmanager
def warnings():
    """What is logged meanwhile, a line each."""
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = logging.getLogger("herjax")
    logger.addHandler(handler)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)


def restored(path):
    return Checkpoints(path).restore_latest(lambda info: state(0))


def is_step(found, step):
    number, tree, info = found
    assert number == step
    assert info == {**INFO, "step": step}
    for name, leaf in bits(state(step)).items():
        assert np.array_equal(np.asarray(bits(tree)[name]), np.asarray(leaf)), name


def snapshot(path):
    return {
        file.relative_to(path): file.read_bytes() if file.is_file() else b""
        for file in path.rglob("*")
    }


def after(damage, *allowed):
    """After damage to the newest, one of the ``allowed`` steps comes back whole."""

    def check():
        with saved() as path, warnings() as lines:
            damage(path)
            found = restored(path)
            assert found is not None
            assert found[0] in allowed, found[0]
            is_step(found, found[0])
            if found[0] == OLD:
                assert any("going on from 3" in line for line in lines), lines
                checkpoints = Checkpoints(path)  # and the run goes on: it can be written again
                assert checkpoints.try_save(NEW, state(NEW), {**INFO, "step": NEW})
                is_step(restored(path), NEW)

    return check


def none_whole(damage):
    """After damage to both, one line says so, and all is as it was."""

    def check():
        with saved() as path:
            for step in (OLD, NEW):
                damage(path, step)
            before = snapshot(path)
            with pytest.raises(CheckpointError, match=f"step {NEW} in {path}") as caught:
                restored(path)
            assert len(str(caught.value).splitlines()) == 1
            assert snapshot(path) == before

    return check


# ---- The JSON beside the arrays -----------------------------------------------------------------


def info_file(path, step=NEW):
    (file,) = [f for f in (path / str(step) / "info").iterdir() if f.name == "metadata"]
    return file


def edited(change):
    """The JSON with a change, written as Orbax does."""

    def damage(path, step=NEW):
        file = info_file(path, step)
        values = json.loads(file.read_text())
        new = change(values)
        file.write_text(json.dumps(values if new is None else new))

    return damage


def content(data):
    def damage(path, step=NEW):
        info_file(path, step).write_bytes(data)

    return damage


JSON = {
    "a member": lambda v: v["members"].__setitem__(0, 2),
    "a member out of range": lambda v: v["members"].__setitem__(0, 10**9),
    "a member less": lambda v: v["members"].pop() and None,
    "no members": lambda v: v.pop("members") and None,
    "members that are a number": lambda v: v.update(members=3),
    "members that are text": lambda v: v.update(members="012"),
    "fractions of members": lambda v: v.update(members=[0.5, 1.5, -1]),
    "an epoch": lambda v: v["epochs"].__setitem__(1, 6),
    "negative epochs": lambda v: v["epochs"].__setitem__(1, -5),
    "an epoch more": lambda v: v["epochs"].append(1),
    "negative seconds": lambda v: v["seconds"][0].__setitem__(0, -1.5),
    "huge seconds": lambda v: v["seconds"][0].__setitem__(0, 1e308),
    "seconds that are NaN": lambda v: v["seconds"][0].__setitem__(0, float("nan")),
    "flat seconds": lambda v: v.update(seconds=[1.5, 0.25]),
    "swapped fields": lambda v: v.update(members=v["epochs"], epochs=v["members"]),
    "another step": lambda v: v.update(step=OLD),
    "a field more": lambda v: v.update(more=1),
    "a null": lambda v: v.update(epochs=None),
    "a checksum of an array": lambda v: v["checksums"].__setitem__(0, 1),
    "no checksums of arrays": lambda v: v.pop("checksums") and None,
    "no own checksum": lambda v: v.pop("sha256") and None,
    "another own checksum": lambda v: v.update(sha256="0" * 64),
    "an own checksum of another type": lambda v: v.update(sha256=0),
    "a list around": lambda v: [v],
    "a number": lambda v: 7,
    "an empty object": lambda v: {},
    "a whole number as a fraction": lambda v: v["epochs"].__setitem__(0, 2.0),
    "a number as text": lambda v: v["epochs"].__setitem__(0, "2"),
    "true for one": lambda v: v["members"].__setitem__(1, True),
    "a cyrillic letter in a name": lambda v: v.update({"m\u0435mbers": v.pop("members")}),
}
TEXT = {
    "empty": b"",
    "an open brace": b"{",
    "zeros": bytes(300),
    "no UTF-8": b"\xff\xfe\xfd",
    "depth": b"[" * 10**5,
    "a digit of 10^5": b'{"members": ' + b"9" * 10**5 + b"}",
}

# ---- Files --------------------------------------------------------------------------------------


def files(kind, path, step=NEW):
    """The files of a step, by their place."""
    chosen = {
        "array data": lambda f: f.parent.name == "d",
        "manifest": lambda f: f.name == "manifest.ocdbt" and "process" in str(f),
        "merged manifest": lambda f: f.name == "manifest.ocdbt" and "process" not in str(f),
        "tree metadata": lambda f: f.name == "_METADATA",
        "step metadata": lambda f: f.name == "_CHECKPOINT_METADATA",
        "json": lambda f: f.name == "metadata" and f.parent.name == "info",
    }[kind]
    found = [f for f in (path / str(step)).rglob("*") if f.is_file() and chosen(f)]
    assert found, kind
    return found


def damage_all(kind, damage):
    def check(path, step=NEW):
        for file in files(kind, path, step):
            damage(file)

    return check


KINDS = ("array data", "manifest", "merged manifest", "tree metadata", "step metadata", "json")


def emptied(file):
    file.write_bytes(b"")


def cut(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def without_its_end(file):
    file.write_bytes(file.read_bytes()[:-1])


def longer(file):
    with file.open("ab") as stream:
        stream.write(b"\0more")


def zeros(file):
    file.write_bytes(bytes(file.stat().st_size))


def noise(file):
    file.write_bytes(random.Random(0).randbytes(file.stat().st_size))


def removed(file):
    file.unlink()


def a_folder(file):
    file.unlink()
    file.mkdir()


def a_link_to_nowhere(file):
    file.unlink()
    file.symlink_to("nowhere")


DAMAGES = (emptied, cut, without_its_end, longer, zeros, noise, removed, a_folder)
DAMAGES += (a_link_to_nowhere,)


def flip(seed):
    """A bit of any file of the newest step, drawn at random."""

    def damage(path):
        drawn = random.Random(seed)
        files = sorted(f for f in (path / str(NEW)).rglob("*") if f.is_file() and f.stat().st_size)
        file = drawn.choice(files)
        data = bytearray(file.read_bytes())
        data[drawn.randrange(len(data))] ^= 1 << drawn.randrange(8)
        file.write_bytes(data)

    return damage


def of_the_other_step(kind):
    """A file that is whole, and of the older step."""

    def damage(path):
        largest = [max(files(kind, path, step), key=lambda f: f.stat().st_size) for step in STEPS]
        shutil.copyfile(*largest)

    return damage


# ---- Folders ------------------------------------------------------------------------------------


def renamed(path):
    (path / str(NEW)).rename(path / "9")


def swapped(path):
    (path / str(NEW)).rename(path / "x")
    (path / str(OLD)).rename(path / str(NEW))
    (path / "x").rename(path / str(OLD))


def check_swapped():
    with saved() as path:
        swapped(path)
        with pytest.raises(CheckpointError, match="no older one is whole"):
            restored(path)


def state_of_the_older(path):
    shutil.rmtree(path / str(NEW) / "state")
    shutil.copytree(path / str(OLD) / "state", path / str(NEW) / "state")


def info_of_the_older(path):
    shutil.rmtree(path / str(NEW) / "info")
    shutil.copytree(path / str(OLD) / "info", path / str(NEW) / "info")


def emptied_step(path):
    shutil.rmtree(path / str(NEW))
    (path / str(NEW)).mkdir()


def without(name):
    def damage(path):
        shutil.rmtree(path / str(NEW) / name)

    return damage


def set_aside_before(path):
    """A damaged one was set aside already, twice, and is not empty."""
    for name in (f"damaged-{NEW}", f"damaged-{NEW}-2"):
        shutil.copytree(path / str(NEW), path / name)
    damage_all("array data", emptied)(path)


def beside(make):
    """Something else in the folder is no harm."""

    def damage(path):
        make(path)

    return damage


def unfinished(path):
    (path / "9.orbax-checkpoint-tmp-1" / "state").mkdir(parents=True)
    (path / "9.orbax-checkpoint-tmp-1" / "state" / "x").write_bytes(b"x")


def check_unfinished():
    with saved() as path:
        unfinished(path)
        is_step(restored(path), NEW)
        assert not list(path.glob("*tmp*"))


def empty_one(path):
    (path / "9").mkdir()


def file_as_one(path):
    (path / "9").write_text("x")


BESIDE = {
    "notes": lambda path: (path / "notes.txt").write_text("mine"),
    "a folder of another name": lambda path: (path / "mine" / "deep").mkdir(parents=True),
    "a link to nowhere": lambda path: (path / "link").symlink_to("nowhere"),
    "a damaged one of before": lambda path: (path / "damaged-5").mkdir(),
    "a number with a sign": lambda path: (path / "-9").mkdir(),
}

# ---- Disks that do not take it ------------------------------------------------------------------


def refusing(error):
    """A save that fails is a warning, nothing is left of it, and the next one is written."""

    def check():
        with saved() as path, warnings() as lines:
            checkpoints = Checkpoints(path)
            with mock.patch.object(ocp.CheckpointManager, "save", side_effect=error):
                assert not checkpoints.try_save(9, state(9), {**INFO, "step": 9})
            assert len(lines) == 1
            assert lines[0].startswith("checkpoint 9 is not written to")
            assert "\n" not in lines[0]
            assert sorted(file.name for file in path.iterdir()) == [str(OLD), str(NEW)]
            assert checkpoints.try_save(9, state(9), {**INFO, "step": 9})
            is_step(restored(path), 9)

    return check


def number(code):
    return OSError(code, os.strerror(code), "somewhere")


def large(seed):
    """A state whose bytes do not compress."""
    drawn = np.random.default_rng(seed).random(150_000, np.float32)
    return {"kernel": jnp.array(drawn), "other": jnp.array(drawn[::-1])}


def no_larger_files():
    """A limit on the size of files, for a while."""
    with folder() as path, warnings() as lines:
        checkpoints = Checkpoints(path)
        assert checkpoints.try_save(1, state(1))
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
            for _ in range(2):
                assert not checkpoints.try_save(2, large(2))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, handler)
        assert lines == [f"checkpoint 2 is not written to {path} (File too large)"] * 2
        assert [file.name for file in path.iterdir()] == ["1"]
        assert checkpoints.try_save(2, large(2))
        number, found, _ = Checkpoints(path).restore_latest(lambda info: large(0))
        assert number == 2
        assert np.array_equal(found["kernel"], large(2)["kernel"])


def full_disk():
    """A small file system that is full for a while; where it cannot be mounted, nothing."""
    with folder() as path, warnings() as lines:
        command = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(path)]
        if subprocess.run(command, capture_output=True).returncode:
            return
        try:
            checkpoints = Checkpoints(path / "checkpoints")
            assert checkpoints.try_save(1, state(1))
            for _ in range(2):
                assert not checkpoints.try_save(2, large(2))
            assert len(lines) == 2
            assert lines[0].endswith("(No space left on device)")
            assert [file.name for file in (path / "checkpoints").iterdir()] == ["1"]
            subprocess.run(["mount", "-o", "remount,size=20m", str(path)], check=True)
            assert checkpoints.try_save(2, large(2))
            restored_step, *_ = Checkpoints(path / "checkpoints").restore_latest(
                lambda info: large(0)
            )
            assert restored_step == 2
        finally:
            subprocess.run(["umount", "-l", str(path)], check=True)


REFUSALS = {
    "no space left": number(errno.ENOSPC),
    "over quota": number(errno.EDQUOT),
    "file too large": number(errno.EFBIG),
    "read-only": number(errno.EROFS),
    "not permitted": number(errno.EACCES),
    "an error of the disk": number(errno.EIO),
    "a stale handle": number(errno.ESTALE),
    "too many open files": number(errno.EMFILE),
    "of TensorStore": ValueError("RESOURCE_EXHAUSTED: x\n[os_error_code='28']\nmore lines"),
    "no message": RuntimeError(),
    "a message of a megabyte": RuntimeError("x" * 2**20),
    "memory": MemoryError(),
}


def cases():
    """Name, check, slow."""
    for name, change in JSON.items():
        yield (
            f"json: {name}",
            after(edited(change), OLD),
            name not in ("a member", "negative epochs"),
        )
    for name, data in TEXT.items():
        yield f"json text: {name}", after(content(data), OLD), name != "depth"
    for kind in KINDS:
        for damage in DAMAGES:
            name = f"{kind}: {damage.__name__.replace('_', ' ')}"
            needed = kind in ("array data", "json") and damage is not longer
            check = after(damage_all(kind, damage), OLD, *(() if needed else (NEW,)))
            yield name, check, (kind, damage) != ("array data", cut)
        if kind != "step metadata":
            yield f"{kind}: of the older", after(of_the_other_step(kind), OLD, NEW), True
    for seed in range(60):
        yield f"a flipped bit: {seed}", after(flip(seed), OLD, NEW), seed > 3
    for name, damage in {
        "empty": emptied_step,
        "without state": without("state"),
        "without info": without("info"),
        "state of the older": state_of_the_older,
        "info of the older": info_of_the_older,
        "set aside before": set_aside_before,
    }.items():
        yield (
            f"step: {name}",
            after(damage, OLD),
            name not in ("info of the older", "set aside before"),
        )
    for name, damage in {
        "renamed": renamed,
        "an empty one more": empty_one,
        "a file as one": file_as_one,
    }.items():
        yield f"step: {name}", after(damage, OLD, NEW), True
    yield "step: swapped", check_swapped, True
    yield "step: unfinished", check_unfinished, False
    for name, make in BESIDE.items():
        yield f"beside: {name}", after(make, NEW), name != "notes"
    for damage in (emptied, noise, removed):
        name = damage.__name__
        every = none_whole(damage_all("json", damage))
        yield f"none whole: json {name}", every, damage is not noise
        every = none_whole(damage_all("array data", damage))
        yield f"none whole: arrays {name}", every, True
    yield "none whole: members", none_whole(edited(JSON["a member"])), True
    for name, error in REFUSALS.items():
        yield f"refused: {name}", refusing(error), name not in ("no space left", "of TensorStore")
    yield "refused: a limit of size", no_larger_files, True
    yield "refused: a full disk", full_disk, True


CASES = [Case(name, "checkpoints", check, slow) for name, check, slow in cases()]
