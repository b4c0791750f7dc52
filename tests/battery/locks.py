"""Two processes, one folder: what a lock file may hold, and who may go on."""

import contextlib
import errno
import fcntl
import importlib.util
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time
from unittest import mock

import pytest

from herjax.commands import cli
from herjax.runtime import lock as locks
from herjax.runtime.checkpoint import CheckpointError
from herjax.runtime.lock import NAME, Lock, LockedError
from tests.battery import Case, folder, make_socket

MODULE = pathlib.Path(importlib.util.find_spec("herjax.runtime.lock").origin)
ELSEWHERE = {
    "host": "elsewhere",
    "pid": 7,
    "since": "2026-01-01 00:00:00",
    "command": "her_adapt --task=chick",
    "token": "0" * 16,
}
HOLD = f"""
import runpy, sys, time
lock = runpy.run_path({str(MODULE)!r})["Lock"](sys.argv[1])
lock.acquire()
print("held", flush=True)
sys.stdin.readline()
lock.release()
"""


@contextlib.contextmanager
def settings(**values):
    """Constants of the module, for as long; fast ones unless said otherwise."""
    with mock.patch.multiple(locks, **{"PATIENCE": 0.1, "BEAT": 0.02, "SETTLE": 0.02, **values}):
        yield


@contextlib.contextmanager
def another(path):
    """Another process that holds the lock."""
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", HOLD, path], **streams)
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def refused(path, *parts):
    """The folder is another's, which one line says."""
    with pytest.raises(LockedError) as caught:
        Lock(path).acquire()
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    for part in (str(path), *parts):
        assert part in message, message


def taken(path):
    """The lock can be had, and leaves nothing behind."""
    with Lock(path) as lock:
        lock.acquire()
        lock.check()
        assert json.loads((path / NAME).read_text())["pid"] == os.getpid()
    assert not (path / NAME).exists()


def free():
    with folder() as path:
        taken(path)


def held_here():
    with folder() as path, Lock(path) as lock:
        lock.acquire()
        refused(path, f"process {os.getpid()} on {socket.gethostname()}", "since 20")


def held_by_another_process():
    with folder() as path, another(path) as process:
        refused(path, f"process {process.pid} on {socket.gethostname()}")


def after(number):
    """After a signal that ends its holder it can be had at once."""

    def check():
        with folder() as path, another(path) as process:
            process.send_signal(number)
            process.wait()
            assert (path / NAME).exists()
            begin = time.monotonic()
            taken(path)
            assert time.monotonic() - begin < 1

    return check


def after_its_end():
    with folder() as path, another(path) as process:
        process.communicate("\n")
        assert not (path / NAME).exists()
        taken(path)


def suspended():
    with folder() as path, another(path) as process:
        process.send_signal(signal.SIGSTOP)
        refused(path, f"process {process.pid}")
        process.send_signal(signal.SIGCONT)


def one_of_many_processes():
    with folder() as path:
        streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        streams["stderr"] = subprocess.DEVNULL
        command = [sys.executable, "-c", HOLD, path]
        processes = [subprocess.Popen(command, **streams) for _ in range(6)]
        try:
            said = [process.stdout.readline() for process in processes]
            assert sorted(said) == [""] * 5 + ["held\n"], said
        finally:
            for process in processes:
                process.kill()
                process.communicate()


def left(content):
    """What a killed process, or anyone, may have left in the file does not keep others out."""

    def check():
        with folder() as path, settings():
            (path / NAME).write_bytes(content)
            taken(path)

    return check


def of_another_host(lives, refuses, no_flock=False):
    """A file of another host: given up if it shows no sign of life."""

    def check():
        with folder() as path, settings(PATIENCE=0.5 if lives else 0.1):
            (path / NAME).write_text(json.dumps(ELSEWHERE))
            stop = threading.Event()

            def live():
                while lives and not stop.wait(0.02):
                    with contextlib.suppress(FileNotFoundError):
                        os.utime(path / NAME)

            thread = threading.Thread(target=live)
            thread.start()
            try:
                with flock_raises(errno.ENOLCK) if no_flock else contextlib.nullcontext():
                    if refuses:
                        refused(path, "process 7 on elsewhere", "her_adapt --task=chick")
                        assert json.loads((path / NAME).read_text()) == ELSEWHERE
                    else:
                        taken(path)
            finally:
                stop.set()
                thread.join()

    return check


def flock_raises(number):
    return mock.patch.object(fcntl, "flock", side_effect=OSError(number, os.strerror(number)))


def without_flock(number):
    """Without a lock of the system the signs of life do."""

    def check():
        gone = mock.patch.object(locks, "fcntl", None) if number is None else flock_raises(number)
        with folder() as path, settings(PATIENCE=0.3), gone:
            with Lock(path) as lock:
                lock.acquire()
                refused(path, f"process {os.getpid()}")
                lock.check()
            taken(path)

    return check


def without_flock_one_of_two():
    with folder() as path, settings(SETTLE=0.2, PATIENCE=0.3), flock_raises(errno.ENOLCK):
        held = []

        def take():
            lock = Lock(path)
            with contextlib.suppress(LockedError):
                lock.acquire()
                held.append(lock)

        threads = [threading.Thread(target=take) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(held) == 1
        held[0].release()


def flock_fails():
    with folder() as path, flock_raises(errno.EIO):
        with pytest.raises(OSError) as caught:
            Lock(path).acquire()
        assert caught.value.errno == errno.EIO


def no_file(make):
    """What is no file is neither opened for ever nor written to."""

    def check():
        with folder() as path, settings():
            make(path)
            with pytest.raises(OSError, match=NAME) as caught:
                Lock(path).acquire()
            assert not isinstance(caught.value, LockedError)

    return check


def symlink(path):
    (path / "victim").write_text("mine")
    (path / NAME).symlink_to(path / "victim")


def symlink_leaves_its_target():
    with folder() as path:
        no_file_here = no_file(symlink)
        no_file_here()
        symlink(path)
        with contextlib.suppress(OSError):
            Lock(path).acquire()
        assert (path / "victim").read_text() == "mine"


def soon(condition):
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end, "never"
        time.sleep(0.01)


def replaced_while_held():
    with folder() as path, settings(), Lock(path) as lock:
        lock.acquire()
        (path / NAME).unlink()
        (path / NAME).write_text(json.dumps(ELSEWHERE))
        soon(lambda: lock._lost is not None)
        with pytest.raises(LockedError, match="elsewhere"):
            lock.check()
        lock.release()
        assert json.loads((path / NAME).read_text()) == ELSEWHERE  # it is not ours


def removed_while_held():
    with folder() as path, settings(), Lock(path) as lock:
        lock.acquire()
        (path / NAME).unlink()
        soon((path / NAME).exists)
        soon(lambda: lock._read()[0].get("token") == lock.token)
        lock.check()
        refused(path)


def folder_removed_while_held():
    with folder() as path, settings():
        run = path / "run"
        run.mkdir()
        with Lock(run) as lock:
            lock.acquire()
            (run / NAME).unlink()
            run.rmdir()
            time.sleep(0.1)
        assert not run.exists()


def signs_of_life():
    with folder() as path, settings(), Lock(path) as lock:
        lock.acquire()
        before = (path / NAME).stat().st_mtime_ns
        soon(lambda: (path / NAME).stat().st_mtime_ns > before)


def released_twice():
    with folder() as path:
        lock = Lock(path)
        lock.release()
        lock.acquire()
        lock.release()
        lock.release()
        taken(path)


def released_during_a_sign_of_life():
    """What the thread has begun ends before the file is removed: it must not make it again."""
    with folder() as path, settings():
        lock, read, looks, goes_on = Lock(path), Lock._read, threading.Event(), threading.Event()

        def slow(self):
            if threading.current_thread().name == "lock" and not goes_on.is_set():
                looks.set()
                goes_on.wait()
            return read(self)

        with mock.patch.object(Lock, "_read", slow):
            lock.acquire()
            looks.wait()
            release = threading.Thread(target=lock.release)
            release.start()
            time.sleep(0.1)
            goes_on.set()
            release.join()
            time.sleep(0.1)
        assert not (path / NAME).exists()
        taken(path)


def full_disk_without_flock():
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with folder() as path, settings(), mock.patch.object(locks, "fcntl", None):
        refusing = mock.patch.object(pathlib.Path, "replace", side_effect=full)
        with refusing, pytest.raises(OSError, match="No space left"):
            Lock(path).acquire()
        assert [file.name for file in path.iterdir()] == [NAME]


def missing_folder():
    with folder() as path, pytest.raises(FileNotFoundError):
        Lock(path / "none").acquire()


RUN = {"task": "chick", "config": {"programs": [12], "clip": 1.0}, "seeds": [0, 0]}


def claimed():
    with folder() as path:
        for _ in range(2):
            with cli.claim(path / "run", RUN):
                refused(path / "run")
        assert [file.name for file in (path / "run").iterdir()] == ["run.json"]


def claimed_by_two():
    with folder() as path, cli.claim(path / "run", RUN):
        before = sorted(file.name for file in (path / "run").iterdir())
        with pytest.raises(LockedError, match="is in use by process"):
            cli.claim(path / "run", RUN)
        assert sorted(file.name for file in (path / "run").iterdir()) == before


def claim_after(*names):
    """A run that was killed as it began leaves a folder that it may claim again."""

    def check():
        with folder() as path:
            for name in names:
                (path / name).write_text("{")
            with settings(), cli.claim(path, RUN):
                assert json.loads((path / "run.json").read_text()) == RUN

    return check


def claim_refused(content, *parts):
    """A folder that is not this run's is left as it is."""

    def check():
        with folder() as path:
            run = path / "run.json"
            content(path) if callable(content) else run.write_bytes(content)
            before = {file: file.lstat().st_mtime_ns for file in path.rglob("*")}
            with pytest.raises((CheckpointError, OSError)) as caught:
                cli.claim(path, RUN)
            message = str(caught.value)
            assert len(message.splitlines()) == 1
            for part in parts:
                assert part in message, message
            assert {file: file.lstat().st_mtime_ns for file in path.rglob("*")} == before

    return check


def claim_in_latin_1():
    """Checkpoints would go to another folder."""
    with folder() as path, pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.getfilesystemencoding", lambda: "iso8859-1")
        with pytest.raises(CheckpointError, match="named in UTF-8, and names are iso8859-1"):
            cli.claim(path / "käse", RUN)
        assert not list(path.iterdir())
        with settings(), cli.claim(path / "cheese", RUN):
            pass


def changed(name, value):
    return json.dumps({**RUN, name: value}).encode()


def sparse(path):
    with (path / "run.json").open("wb") as file:
        file.truncate(2**40)


LEFT = {
    "nothing": b"",
    "an open brace": b"{",
    "a list": b"[]",
    "a number": b"3",
    "null": b"null",
    "a string": b'"host"',
    "an empty object": b"{}",
    "zeros": bytes(4096),
    "no UTF-8": b"\xff\xfe\x00",
    "a line end": b"\n",
    "depth": b"[" * 4000,
    "a megabyte": b"x" * 2**20,
    "infinite numbers": b'{"pid": 1e999, "host": NaN}',
    "another token of this host": json.dumps({**ELSEWHERE, "host": socket.gethostname()}).encode(),
    "a process id of ours": json.dumps(
        {**ELSEWHERE, "host": socket.gethostname(), "pid": os.getpid()}
    ).encode(),
    "only a host": b'{"host": "elsewhere"}',
    "a host that is a list": b'{"host": ["a"], "token": {}}',
    "duplicate keys": b'{"host": "a", "host": "b"}',
}
REFUSED = {
    "a cut-off run.json": (b"{", "run.json: not JSON"),
    "an empty run.json": (b"", "run.json: not JSON"),
    "a list in run.json": (b"[]", "run.json: no JSON object"),
    "null in run.json": (b"null", "run.json: no JSON object"),
    "a number in run.json": (b"3", "run.json: no JSON object"),
    "depth in run.json": (b"[" * 10**5, "run.json: not JSON"),
    "deep objects in run.json": (b'{"a":' * 10**5, "run.json: not JSON"),
    "no UTF-8 in run.json": (b"\xff\xfe", "run.json: not text"),
    "a terabyte of run.json": (sparse, "run.json: 1,099,511,627,776 bytes"),
    "a folder run.json": (lambda path: (path / "run.json").mkdir(), "run.json: not a file"),
    "a pipe run.json": (lambda path: os.mkfifo(path / "run.json"), "run.json: not a file"),
    "a device run.json": (
        lambda path: (path / "run.json").symlink_to("/dev/zero"),
        "run.json: not a file",
    ),
    "another task": (changed("task", "9-squares"), "another run (different task)"),
    "another setting": (
        changed("config", {"programs": [12], "clip": 2.0}),
        "another run (different config.clip)",
    ),
    "a setting more": (
        changed("config", {**RUN["config"], "new": 1}),
        "another run (different config.new)",
    ),
    "a setting less": (changed("config", {"clip": 1.0}), "(different config.programs)"),
    "settings that are a list": (changed("config", []), "another run (different config"),
    "an empty object": (b"{}", "another run (different task"),
    "NaN in run.json": (b'{"task": NaN}', "another run (different task"),
    "someone's notes": (
        lambda path: (path / "notes.txt").write_text("mine"),
        "is not empty and holds no run",
    ),
    "a hidden file": (
        lambda path: (path / ".notes").write_text("mine"),
        "is not empty and holds no run",
    ),
    "checkpoints without run.json": (
        lambda path: (path / "checkpoints").mkdir(),
        "is not empty and holds no run",
    ),
}
NO_FILE = {
    "a folder": lambda path: (path / NAME).mkdir(),
    "a pipe": lambda path: os.mkfifo(path / NAME),
    "a symbolic link": symlink,
    "a link to nowhere": lambda path: (path / NAME).symlink_to(path / "nowhere" / "x"),
    "a link to itself": lambda path: (path / NAME).symlink_to(path / NAME),
    "a device": lambda path: (path / NAME).symlink_to("/dev/null"),
    "a socket": lambda path: make_socket(path / NAME),
}
CHECKS = {
    "nobody has it": free,
    "held in this process": held_here,
    "held by another process": held_by_another_process,
    "killed": after(signal.SIGKILL),
    "terminated": after(signal.SIGTERM),
    "aborted": after(signal.SIGABRT),
    "given back": after_its_end,
    "suspended": suspended,
    "six processes at once": one_of_many_processes,
    "another host, silent": of_another_host(lives=False, refuses=False),
    "another host, alive": of_another_host(lives=True, refuses=True),
    "another host, silent, no locks": of_another_host(False, False, no_flock=True),
    "another host, alive, no locks": of_another_host(True, True, no_flock=True),
    "no locks: ENOLCK": without_flock(errno.ENOLCK),
    "no locks: EOPNOTSUPP": without_flock(errno.EOPNOTSUPP),
    "no locks: ENOSYS": without_flock(errno.ENOSYS),
    "no locks: EINVAL": without_flock(errno.EINVAL),
    "no locks: no fcntl": without_flock(None),
    "no locks: two at once": without_flock_one_of_two,
    "an error of the disk": flock_fails,
    "a symbolic link's target": symlink_leaves_its_target,
    "replaced while held": replaced_while_held,
    "removed while held": removed_while_held,
    "folder removed while held": folder_removed_while_held,
    "signs of life": signs_of_life,
    "released twice": released_twice,
    "released during a sign of life": released_during_a_sign_of_life,
    "a full disk without a lock of the system": full_disk_without_flock,
    "no folder": missing_folder,
    "claimed, and again": claimed,
    "claimed by two": claimed_by_two,
    "claimed after a kill before run.json": claim_after(NAME),
    "claimed after a kill within run.json": claim_after(NAME, "run.json.part"),
    "claimed after a kill within the lock": claim_after(NAME, f"{NAME}-0123abcd"),
    "claimed after a file manager looked in": claim_after(".DS_Store", "._a", "Thumbs.db"),
    "a folder in Latin-1": claim_in_latin_1,
    **{f"left: {name}": left(content) for name, content in LEFT.items()},
    **{f"no file: {name}": no_file(make) for name, make in NO_FILE.items()},
    **{f"claim: {name}": claim_refused(*about) for name, about in REFUSED.items()},
}
CASES = [Case(name, "locks", check) for name, check in CHECKS.items()]
