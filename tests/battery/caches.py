"""A folder of compiled programs that someone, or a kill, has been at."""

import contextlib
import hashlib
import os
import pickle
import stat
import time
import zlib
from unittest import mock

import jax
import numpy as np
import pytest

from herjax.runtime import program_cache
from tests.battery import Case, folder
from tests.battery.checkpoints import warnings


@jax.jit
def double(x):
    """What is kept."""
    return 2 * x


@contextlib.contextmanager
def cache():
    """A cache with one program, as a new process finds it: its folder and the program's file."""
    before = jax.config.jax_compilation_cache_dir
    with folder() as path, mock.patch.object(program_cache, "_folder", None):
        jax.config.update("jax_compilation_cache_dir", None)
        try:
            program_cache.keep_in(path / "cache")
            call()
            forget()
            (file,) = (path / "cache").iterdir()
            yield path / "cache", file
        finally:
            jax.config.update("jax_compilation_cache_dir", before)
            forget()


def forget():
    for key in [key for key in program_cache._calls if key[0] is double]:
        del program_cache._calls[key]


def call():
    x = np.float32([1, 2, 3])
    assert np.array_equal(program_cache.call_kept(double, x), 2 * x)


def rebuilt(damage, warns=True):
    """After damage to the file: the right result, one warning of a line, and a sound file."""

    def check():
        with cache() as (path, file), warnings() as told:
            damage(file)
            begin = time.monotonic()
            call()
            assert time.monotonic() - begin < 4
            assert len(told) == warns, told
            assert all("\n" not in line for line in told)
            forget()
            call()
            assert len(told) == warns, "the file is still damaged"

    return check


def kept_out(damage):
    """What cannot be replaced is done without: the right result every time, and warnings."""

    def check():
        with cache() as (path, file), warnings() as told:
            damage(file)
            call()
            assert told
            assert all("\n" not in line for line in told)

    return check


def content(make):
    """New content, made from the old."""
    return lambda file: file.write_bytes(make(file.read_bytes()))


def sealed(data):
    """With a checksum that fits."""
    return hashlib.sha256(data).digest() + data


def repacked(change):
    """The pickled tuple with a change, compressed and sealed again."""

    def make(old):
        values = pickle.loads(zlib.decompress(old[32:]))
        return sealed(zlib.compress(pickle.dumps(change(*values))))

    return content(make)


def instead(make):
    def damage(file):
        file.unlink()
        make(file)

    return damage


def sparse(file):
    with file.open("wb") as stream:
        stream.truncate(2**40)


def flipped(place):
    def make(old):
        data = bytearray(old)
        data[int(place * (len(data) - 1))] ^= 1
        return bytes(data)

    return content(make)


class Bomb:
    """Raises when it is unpickled."""

    def __reduce__(self):
        return (exec, ("raise RuntimeError('boom')",))


DAMAGES = {
    "empty": content(lambda old: b""),
    "a byte": content(lambda old: b"x"),
    "less than a checksum": content(lambda old: old[:31]),
    "a checksum alone": content(lambda old: old[:32]),
    "a checksum of nothing": content(lambda old: sealed(b"")),
    "half": content(lambda old: old[: len(old) // 2]),
    "all but a byte": content(lambda old: old[:-1]),
    "a byte more": content(lambda old: old + b"\0"),
    "zeros": content(lambda old: bytes(len(old))),
    "sealed garbage": content(lambda old: sealed(b"garbage")),
    "sealed, no pickle": content(lambda old: sealed(zlib.compress(b"garbage"))),
    "sealed, an empty pickle": content(lambda old: sealed(zlib.compress(b""))),
    "sealed, cut off": content(lambda old: sealed(old[32:-9])),
    "a number": repacked(lambda *values: 3),
    "a tuple less": repacked(lambda *values: values[:3]),
    "a tuple more": repacked(lambda *values: (*values, 1)),
    "another digest": repacked(lambda digest, *rest: ("0" * 64, *rest)),
    "no digest": repacked(lambda digest, *rest: (None, *rest)),
    "no devices": repacked(lambda d, ids, *rest: (d, [10**6], *rest)),
    "devices that are text": repacked(lambda d, ids, *rest: (d, "ab", *rest)),
    "no executable": repacked(lambda d, ids, executable, out: (d, ids, b"", out)),
    "half an executable": repacked(
        lambda d, ids, executable, out: (d, ids, executable[: len(executable) // 2], out)
    ),
    "an executable that is a number": repacked(lambda d, ids, executable, out: (d, ids, 3, out)),
    "a pickle that raises": content(lambda old: sealed(zlib.compress(pickle.dumps(Bomb())))),
    "a pickle of 10^7 zeros": content(lambda old: sealed(zlib.compress(bytes(10**7)))),
    "no such module": content(lambda old: sealed(zlib.compress(b"cno_such_module\nnothing\n(tR."))),
    "written by others": lambda file: file.chmod(0o666),
    "written by a group": lambda file: file.chmod(0o660),
    "a link to nowhere": instead(lambda file: file.symlink_to("nowhere")),
    "a link to a device": instead(lambda file: file.symlink_to("/dev/zero")),
    "a pipe": instead(os.mkfifo),
    "a terabyte": instead(sparse),
    **{f"a flipped bit at {place}": flipped(place) for place in np.linspace(0, 1, 12).round(2)},
}


def of_another_user():
    if os.getuid() != 0:
        return
    rebuilt(lambda file: os.chown(file, 12345, 12345))()


def refused(make, error, match):
    """A folder that will not do is refused, and nothing is written."""

    def check():
        with folder() as path, mock.patch.object(program_cache, "_folder", None):
            make(path)
            before = sorted(path.rglob("*"))
            with pytest.raises(error, match=match) as caught:
                program_cache.keep_in(path / "cache")
            assert len(str(caught.value).splitlines()) == 1
            assert sorted(path.rglob("*")) == before

    return check


def with_mode(mode):
    def make(path):
        (path / "cache").mkdir()
        (path / "cache").chmod(mode)

    return make


def owned_by_another(path):
    (path / "cache").mkdir()
    os.chown(path / "cache", 12345, 12345)


FOLDERS = {
    "writable by all": (with_mode(0o777), ValueError, "give a folder of your own"),
    "writable by the group": (with_mode(0o770), ValueError, "give a folder of your own"),
    "sticky": (with_mode(0o1777), ValueError, "give a folder of your own"),
    "a file": (lambda path: (path / "cache").write_text("x"), OSError, "cache"),
    "a pipe": (lambda path: os.mkfifo(path / "cache"), OSError, "cache"),
    "a link to a file": (
        lambda path: [(path / "f").write_text("x"), (path / "cache").symlink_to("f")],
        OSError,
        "cache",
    ),
    "a link to itself": (lambda path: (path / "cache").symlink_to("cache"), OSError, "cache"),
}


def made_private():
    with folder() as path, mock.patch.object(program_cache, "_folder", None):
        program_cache.keep_in(path / "a" / "b")
        for made in (path / "a", path / "a" / "b"):
            assert stat.S_IMODE(made.stat().st_mode) & 0o077 == 0


def others_files_stay():
    with cache() as (path, file):
        mine = path / "mine.program"
        mine.write_text("mine")
        os.utime(mine, (0, 0))
        os.utime(file, (0, 0))
        program_cache._remove_old(path)
        assert mine.exists()
        assert not file.exists()


def full(error):
    """A disk that takes no program."""

    def check():
        with cache() as (path, file), warnings() as told:
            file.unlink()
            with mock.patch.object(program_cache, "write_in_a_crowd", side_effect=error):
                call()
            assert len(told) == 1, told
            assert told[0].startswith("compiled program not kept")
            assert not list(path.iterdir())

    return check


def removed_meanwhile():
    with cache() as (path, file):
        file.unlink()
        path.rmdir()
        with warnings() as told:
            call()
        assert len(told) == 1


def cases():
    """Name and check."""
    for name, damage in DAMAGES.items():
        # An absent file is no damage: it is compiled without a word.
        yield f"file: {name}", rebuilt(damage, warns=name != "a link to nowhere")
    yield "file: of another user", of_another_user
    yield "file: a folder", kept_out(instead(lambda file: file.mkdir()))
    for name, about in FOLDERS.items():
        yield f"folder: {name}", refused(*about)
    if os.getuid() == 0:
        other = refused(owned_by_another, ValueError, "belongs to another user")
        yield "folder: of another user", other
    yield "folder: made for this user alone", made_private
    yield "folder: files of others", others_files_stay
    yield "folder: removed meanwhile", removed_meanwhile
    yield "full: no space left", full(OSError(28, "No space left on device"))
    yield "full: read-only", full(OSError(30, "Read-only file system"))
    yield "full: no message", full(OSError())
    yield "full: memory", full(MemoryError())


CASES = [
    Case(name, "caches", check, slow="flipped" in name and "0.0" not in name)
    for name, check in cases()
]
