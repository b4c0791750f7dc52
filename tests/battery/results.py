"""Damage to what a run has written: results, their checksums, lines of numbers.

A member counts as done if every file of it is whole; what is not is named, and set aside.
"""

import errno
import functools
import json
import os
import pathlib
import resource
import signal
import subprocess
import threading
from unittest import mock

import pytest

from herjax.commands import member as members
from herjax.commands import results
from herjax.commands.results import FILES, RESULT, SUMS, WEIGHTS, damage, read_result, set_aside
from herjax.runtime import records
from herjax.runtime.checkpoint import CheckpointError
from tests.battery import Case, folder
from tests.battery.checkpoints import warnings

GOOD = {
    "task": "chick",
    "seed": 3,
    "solved": True,
    "epochs": 2,
    "programs_sampled": 24,
    "programs_run": 900,
    "best_accuracy": [0.5, 1.0],
    "best_attempt": [0.5, 0.75],
    "mean_attempt": [0.25, 0.5],
    "draws": 5,
    "least_draws": 4,
    "colours": 3,
    "seconds_run": 1.25,
    "seconds_compile": 0.0,
    "weights_sha256": "ab",
    "config": {"clip": 1.0},
    "versions": {"jax": "0.10.2"},
    "device": "cpu",
}


def write(path, values=GOOD, weights=False):
    """The files of a member that has ended."""
    names = [*FILES, *(WEIGHTS if weights else ())]
    for name in names:
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_bytes(f"content of {name}\n".encode())
    data = json.dumps(values, indent=2).encode() + b"\n"
    results.write_sums(path, names, data)
    (path / RESULT).write_bytes(data)


def found(path, weights=False):
    return damage(path, GOOD["task"], GOOD["seed"], weights)


def whole(**options):
    def check():
        with folder() as path:
            write(path, **options)
            assert found(path, options.get("weights", False)) == {}

    return check


def sha256sum_reads_it():
    with folder() as path:
        write(path, weights=True)
        command = ["sha256sum", "--check", "--strict", "--quiet", SUMS]
        assert subprocess.run(command, cwd=path).returncode == 0


def field(name, *values):
    """A field with each of these values is damage, and the message names file and field."""

    def check():
        for value in values:
            with folder() as path:
                write(path, {k: v for k, v in {**GOOD, name: value}.items() if v is not GONE})
                told = found(path)
                assert list(told) == [RESULT], (value, told)
                assert name in told[RESULT] or str(value) in told[RESULT], told
                if name not in ("task", "seed"):
                    with pytest.raises(CheckpointError, match="(?s).*result.json.*"):
                        read_result(path)

    return check


GONE = object()
NO_COUNT = (GONE, None, -1, 1.5, "1", [1], {}, True, float("nan"), float("inf"))
NO_SHARES = (GONE, None, [], 1.0, "1", ["1"], [1.5, 1.0], [-0.1, 1.0], [float("nan"), 1.0], {})
NO_SHARES += ([0.5], [0.5, 0.75, 1.0], [None, 1.0], [True, 1.0])
NO_SECONDS = (GONE, None, -1.0, "1", float("nan"), float("inf"), [1.0], True)
FIELDS = {
    "task": (GONE, None, 3, [], "9-squares", ""),
    "seed": (*NO_COUNT, 4),
    "solved": (GONE, None, 1, "yes", False),
    "epochs": (*NO_COUNT, 0, 1, 3, 10**30),
    "programs_sampled": (*NO_COUNT, 0),
    "programs_run": NO_COUNT,
    "best_accuracy": NO_SHARES,
    "best_attempt": NO_SHARES,
    "mean_attempt": NO_SHARES,
    "draws": NO_COUNT,
    "least_draws": NO_COUNT,
    "colours": (*NO_COUNT, 0),
    "seconds_run": NO_SECONDS,
    "seconds_compile": NO_SECONDS,
    "weights_sha256": (GONE, None, 3, []),
    "config": (GONE, None, [], "x", 3),
    "versions": (GONE, None, [], "x", 3),
    "device": (GONE, None, [], 3),
}


def one_value(name, value):
    return field(name, value)


def file(name, change, weights=False):
    """A file that is damaged is named, and no other; set aside, nothing of it is lost."""

    def check():
        with folder() as path:
            write(path, weights=weights)
            change(path / name)
            told = found(path, weights)
            assert list(told) == [name], told
            there = (path / name).exists()
            before = (path / name).read_bytes() if (path / name).is_file() else None
            set_aside(path, told)
            assert not (path / name).exists()
            aside = (path / name).with_name(f"damaged-{pathlib.Path(name).name}")
            assert aside.exists() == there
            if before is not None:
                assert aside.read_bytes() == before
            write(path, weights=weights)  # made again
            assert found(path, weights) == {}

    return check


def a_folder(path):
    path.unlink()
    path.mkdir()


CHANGES = {
    "missing": lambda path: path.unlink(),
    "emptied": lambda path: path.write_bytes(b""),
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:-3]),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\n"),
    "edited": lambda path: path.write_bytes(path.read_bytes().replace(b"o", b"0", 1)),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "a folder": a_folder,
}


def result_text(data):
    def check():
        with folder() as path:
            write(path)
            data(path / RESULT) if callable(data) else (path / RESULT).write_bytes(data)
            told = found(path)
            assert list(told) == [RESULT], told
            assert "\n" not in told[RESULT]
            assert str(path / RESULT) in told[RESULT]

    return check


def replaced(make):
    def change(path):
        path.unlink()
        make(path)

    return change


def sparse(path):
    with path.open("wb") as stream:
        stream.truncate(2**40)


TEXTS = {
    "empty": b"",
    "an open brace": b"{",
    "a list": b"[]",
    "null": b"null",
    "a number": b"7",
    "an empty object": b"{}",
    "no UTF-8": b"\xff\xfe",
    "depth": b"[" * 10**5,
    "deep objects": b'{"a":' * 10**5,
    "a digit of 10^5": b'{"seed": ' + b"9" * 10**5 + b"}",
    "two objects": json.dumps(GOOD).encode() * 2,
    "half": json.dumps(GOOD).encode()[:200],
    "a terabyte": replaced(sparse),
    "a pipe": replaced(os.mkfifo),
    "a device": replaced(lambda path: path.symlink_to("/dev/zero")),
}


def sums_text(change, *names):
    def check():
        with folder() as path:
            write(path)
            text = (path / SUMS).read_text()
            change(path / SUMS) if callable(change) else (path / SUMS).write_bytes(change)
            told = found(path)
            assert set(told) == set(names), told
            assert text

    return check


def line_edit(old, new):
    return lambda path: path.write_text(path.read_text().replace(old, new))


SUMS_TEXTS = {
    "empty": (b"", RESULT, *FILES),
    "garbage": (b"garbage\n", SUMS),
    "no UTF-8": (b"\xff\n", SUMS),
    "zeros": (bytes(100), SUMS),
    "a file outside": (("0" * 64 + "  ../../etc/passwd\n").encode(), SUMS),
    "an absolute path": (("0" * 64 + "  /etc/passwd\n").encode(), SUMS),
    "a short digest": (("0" * 63 + "  result.json\n").encode(), SUMS),
    "another digest": (
        lambda path: path.write_text("0" * 64 + path.read_text()[64:]),
        FILES[0],
    ),
    "a line less": (
        lambda path: path.write_text(path.read_text().split("\n", 1)[1]),
        FILES[0],
    ),
    "a pipe": (replaced(os.mkfifo), SUMS),
    "a folder": (a_folder, SUMS),
    "a terabyte": (replaced(sparse), SUMS),
    "upper case": (lambda path: path.write_text(path.read_text().upper()), SUMS),
}
SUMS_TEXTS["a file not there"] = (
    lambda path: path.write_text(path.read_text() + "0" * 64 + "  more.txt\n"),
    "more.txt",
)


def without_sums():
    """A run of an earlier version has none: its files must be there, and its result be one."""
    with folder() as path:
        write(path)
        (path / SUMS).unlink()
        assert found(path) == {}
        (path / "solution.py").unlink()
        assert found(path) == {"solution.py": "missing"}
        (path / RESULT).write_text("{")
        assert list(found(path)) == [RESULT]


def weights_asked_for_later():
    with folder() as path:
        write(path)
        assert found(path, weights=True) == dict.fromkeys(WEIGHTS, "missing")


def set_aside_twice():
    with folder() as path:
        for content in ("a", "b", "c"):
            (path / "solution.py").write_text(content)
            set_aside(path, ["solution.py"])
        names = ["damaged-solution.py", "damaged-solution.py-2", "damaged-solution.py-3"]
        assert [(path / name).read_text() for name in names] == ["a", "b", "c"]


# ---- Lines --------------------------------------------------------------------------------------

LINES = [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.25}]
TEXT = "".join(json.dumps(line) + "\n" for line in LINES)


def lines(text, expected):
    """What is read; None: one line that names the file and the line."""

    def check():
        with folder() as path:
            (path / "m.jsonl").write_bytes(text if isinstance(text, bytes) else text.encode())
            if expected is None:
                with pytest.raises(CheckpointError, match="m.jsonl") as caught:
                    records.read_lines(path / "m.jsonl")
                assert len(str(caught.value).splitlines()) == 1
                return
            assert records.read_lines(path / "m.jsonl") == expected
            records.append(path / "m.jsonl", {"step": 9})
            assert records.read_lines(path / "m.jsonl") == [*expected, {"step": 9}]

    return check


LINE_TEXTS = {
    "none": ("", []),
    "whole": (TEXT, LINES),
    "cut off within a line": (TEXT[:-5], LINES[:1]),
    "cut off before a line end": (TEXT[:-1], LINES[:1]),
    "cut off within the first": ('{"st', []),
    "cut off far back": (TEXT + "{" + "x" * 10_000, LINES),
    "garbage in the middle": ("x\n" + TEXT, None),
    "an empty line": ("\n" + TEXT, None),
    "a list": ("[]\n" + TEXT, None),
    "a number": (TEXT + "3\n", None),
    "null": (TEXT + "null\n", None),
    "depth": ("[" * 10**5 + "\n", None),
    "no UTF-8": (b"\xff\xfe\n", None),
    "zeros": (bytes(100) + b"\n", None),
    "zeros at the end": (TEXT.encode() + bytes(100), LINES),
    "another line separator": (
        TEXT.replace("0.5", '"\\u2028"'),
        [{"step": 1, "loss": "\u2028"}, LINES[1]],
    ),
    "carriage returns": (TEXT.replace("\n", "\r\n"), LINES),
}


def line_file(make):
    def check():
        with folder() as path:
            make(path / "m.jsonl")
            with pytest.raises(CheckpointError, match="m.jsonl"):
                records.read_lines(path / "m.jsonl")

    return check


LINE_FILES = {
    "a folder": lambda path: path.mkdir(),
    "a pipe": os.mkfifo,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a terabyte": sparse,
}


def limited(path, room, work):
    """Do it with a limit of ``room`` bytes more for the file."""
    size = path.stat().st_size if path.exists() else 0
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + room, before[1]))
        work()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def lines_wait(room):
    """A disk that takes ``room`` bytes of a line takes none of it, and later all."""

    def check():
        with folder() as path, warnings() as told:
            file = records.Appender(path / "m.jsonl")
            assert file.append(*LINES)

            def refused():
                assert not file.append({"step": 3, "loss": 0.125})
                assert not file.append({"step": 4})
                assert (path / "m.jsonl").read_text() == TEXT
                with pytest.raises(OSError, match="File too large"):
                    file.flush()

            limited(path / "m.jsonl", room, refused)
            assert len(told) == 1, told
            assert file.append({"step": 5})
            assert [line["step"] for line in records.read_lines(path / "m.jsonl")] == [
                1,
                2,
                3,
                4,
                5,
            ]

    return check


def logged(change, expected, aside):
    """The log of a pretraining, held against the checkpoint of step 2 that knew two lines."""

    def check():
        with folder() as path, warnings() as told:
            file = path / "metrics.jsonl"
            file.write_text(TEXT + '{"step": 3}\n')
            change(file)
            known = {"lines": 2, "sha256": results.digest(LINES)}
            assert results.logged(file, known, 2) == expected
            assert (path / "damaged-metrics.jsonl").exists() == aside
            assert len(told) == (expected != LINES or aside)

    return check


LOGS = {
    "whole": (lambda path: None, LINES, False),
    "later lines damaged": (lambda path: path.write_text(TEXT + "{"), LINES, False),
    "a digit changed": (line_edit("0.25", "0.75"), [LINES[0], {"step": 2, "loss": 0.75}], True),
    "a line less": (lambda path: path.write_text(json.dumps(LINES[1]) + "\n"), [LINES[1]], True),
    "emptied": (lambda path: path.write_text(""), [], True),
    "missing": (lambda path: path.unlink(), [], False),
    "garbage": (lambda path: path.write_text("x\n" + TEXT), [], True),
    "no steps": (lambda path: path.write_text('{"a": 1}\n{"step": "2"}\n'), [], True),
    "a step of the future": (line_edit('"step": 2', '"step": 20'), [LINES[0]], True),
    "swapped": (
        lambda path: path.write_text("".join(f"{json.dumps(v)}\n" for v in LINES[::-1])),
        LINES[::-1],
        True,
    ),
}

# ---- Writing ------------------------------------------------------------------------------------


def writer(failures, error, outcome):
    """A write that fails so many times; -> "written", or the error that ends the run."""

    def check():
        done = []

        def write():
            done.append(len(done) < failures)
            if done[-1]:
                raise error

        fast = mock.patch.multiple(members, RETRY=0.01, PATIENCE=0.2)
        with fast, warnings() as told, members.Writer() as writer:
            writer.submit(write)
            if outcome == "written":
                writer.check(wait=True)
                assert done == [True] * failures + [False]
                assert len(told) == failures
            else:
                with pytest.raises(outcome):
                    writer.check(wait=True)

    return check


def writer_given_up():
    """A signal ends the waiting for a disk."""
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "result.json")

    def write():
        raise full

    with warnings(), members.Writer() as writer:
        writer.submit(write)
        with pytest.raises(OSError, match="No space"):
            writer.check(wait=True, stopped=lambda: True)


def writer_beside_epochs():
    """Without waiting a failure is no error, and what others wrote stays written."""
    done = []

    def write():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with mock.patch.multiple(members, RETRY=100.0), warnings() as told, members.Writer() as writer:
        for work in (write, lambda: done.append(1), write):
            writer.submit(work)
        writer._pool.submit(lambda: None).result()
        for _ in range(3):
            writer.check()
        assert done == [1]
        assert len(told) == 1


def writer_of_a_full_disk():
    """Refused results are held for no more than so many members: then epochs wait for the disk."""
    done, room = [], threading.Event()

    def write(number):
        if not room.is_set():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        done.append(number)

    fast = mock.patch.multiple(members, MOST_WAITING=3, RETRY=0.01)
    with fast, warnings(), members.Writer() as writer:
        for number in range(4):
            writer.submit(functools.partial(write, number))
            writer._pool.submit(lambda: None).result()
            if number == 3:
                threading.Timer(0.2, room.set).start()
            writer.check()
            assert room.is_set() == (number == 3)
        assert sorted(done) == [0, 1, 2, 3]


def writer_behind():
    """Once too many members wait, epochs do, and what has not begun is written in their thread."""
    done, begun, go_on = [], threading.Event(), threading.Event()

    def write(number):
        if number == 0:
            begun.set()
            go_on.wait(60)
        done.append((number, threading.current_thread() is threading.main_thread()))

    with mock.patch.multiple(members, MOST_WAITING=3), members.Writer() as writer:
        for number in range(3):
            writer.submit(functools.partial(write, number))
        begun.wait(60)
        writer.check()
        assert done == []
        writer.submit(functools.partial(write, 3))
        threading.Timer(0.2, go_on.set).start()
        writer.check()
        assert done == [(0, False), (1, True), (2, True), (3, True)]


NO_SPACE = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "solution.py")


def cases():
    """Name and check."""
    yield "whole", whole()
    yield "whole, with weights", whole(weights=True)
    yield "sha256sum --check", sha256sum_reads_it
    for name, values in FIELDS.items():
        for number, value in enumerate(values):
            told = "missing" if value is GONE else repr(value)[:30]
            yield f"field {name}: {told} ({number})", one_value(name, value)
    for name in FILES:
        for change, work in CHANGES.items():
            yield f"{name}: {change}", file(name, work)
    for name in WEIGHTS:
        for change, work in CHANGES.items():
            yield f"{name}: {change}", file(name, work, weights=True)
    for name, data in TEXTS.items():
        yield f"{RESULT}: {name}", result_text(data)
    for name, (change, *names) in SUMS_TEXTS.items():
        yield f"{SUMS}: {name}", sums_text(change, *names)
    yield "of an earlier version", without_sums
    yield "weights asked for later", weights_asked_for_later
    yield "set aside twice", set_aside_twice
    for name, about in LINE_TEXTS.items():
        yield f"lines: {name}", lines(*about)
    for name, make in LINE_FILES.items():
        yield f"lines: {name}", line_file(make)
    for room in (0, 1, 5, 20, 26):
        yield f"lines wait: room for {room} bytes", lines_wait(room)
    for name, about in LOGS.items():
        yield f"log: {name}", logged(*about)
    yield "writer: at once", writer(0, NO_SPACE, "written")
    yield "writer: full once", writer(1, NO_SPACE, "written")
    yield "writer: full four times", writer(4, NO_SPACE, "written")
    yield "writer: full for ever", writer(10**6, NO_SPACE, OSError)
    yield "writer: read-only for ever", writer(10**6, OSError(errno.EROFS, "x"), OSError)
    yield "writer: a mistake", writer(1, ValueError("x"), ValueError)
    yield "writer: given up", writer_given_up
    yield "writer: beside epochs", writer_beside_epochs
    yield "writer: a full disk", writer_of_a_full_disk
    yield "writer: far behind", writer_behind


CASES = [Case(name, "results", check) for name, check in cases()]
