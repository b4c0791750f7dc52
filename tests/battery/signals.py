"""Signals, readers that leave, second processes and full disks, while a command runs."""

import atexit
import contextlib
import dataclasses
import functools
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import pytest

import herjax
from herjax.commands import cli
from herjax.commands.results import SUMS
from herjax.runtime.lock import NAME
from tests.battery import Case, folder
from tests.command_line import ENVIRONMENT, ROOT, run, start
from tests.conftest import untrained
from tests.disk import fill, small_disk

# ---- In this process ----------------------------------------------------------------------------


@contextlib.contextmanager
def handlers():
    """The handlers are afterwards as before, whatever happens; SIGHUP is not ignored here."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def caught(number):
    """A signal is kept until it is asked for, and the exit code says which."""

    def check():
        with handlers(), cli.StopSignals() as stop:
            assert not stop.came()
            os.kill(os.getpid(), number)
            assert stop.came()
            assert stop.came(), "it is still so"
            with pytest.raises(SystemExit) as left:
                stop.leave("saved")
            assert left.value.code == 128 + number

    return check


def restored(number):
    """After it the handlers are what they were."""

    def check():
        with handlers():
            signal.signal(number, mine := lambda *_: None)
            with cli.StopSignals():
                assert signal.getsignal(number) is not mine
            assert signal.getsignal(number) is mine

    return check


def hangup_ignored():
    """As nohup asks."""
    with handlers():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with cli.StopSignals() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.came()


def second_interrupt():
    """It stops at once, in one line."""

    def work():
        with cli.StopSignals():
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)

    with handlers(), pytest.raises(SystemExit) as left:
        work()
    assert left.value.code == 130


def both(first, second):
    """Of two signals the last counts, and nothing is cut off."""

    def check():
        with handlers(), cli.StopSignals() as stop:
            os.kill(os.getpid(), first)
            os.kill(os.getpid(), second)
            assert stop.received == second

    return check


def error_inside():
    """An error inside is not swallowed."""
    with handlers(), pytest.raises(ValueError, match="mine"), cli.StopSignals():
        raise ValueError("mine")


# ---- Commands -----------------------------------------------------------------------------------


@functools.cache
def weights():
    path = pathlib.Path(tempfile.mkdtemp(prefix="herjax-battery-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    tiny = untrained(layers=2, program_layers=1)
    herjax.save_weights(path / "tiny", dataclasses.replace(tiny, info={"held_out": None}))
    return path / "tiny"


def adapt(*more, task="12-squares", epochs=12):
    return [
        f"--task={task}",
        f"--checkpoint={weights()}",
        "--programs=12,4",
        "--temperatures=1.0,0.5",
        f"--max_epochs={epochs}",
        "--minibatch=2",
        "--max_draws=8",
        *more,
    ]


@functools.cache
def undisturbed(*arguments):
    """The folder of an undisturbed run."""
    path = weights().parent / f"whole-{len(list(weights().parent.iterdir()))}"
    code, _, err = run("her_adapt", *arguments, f"--workdir={path}")
    assert code == 0, err
    return path


def ends_as(workdir, arguments):
    """The same command continues, and ends as an undisturbed run does."""
    code, out, err = run("her_adapt", *arguments, f"--workdir={workdir}")
    assert code == 0, err
    whole = undisturbed(*(each for each in arguments if "save_every" not in each))
    results = sorted(path.relative_to(whole) for path in whole.rglob("solution.py"))
    assert results
    for path in results:
        assert (workdir / path).read_bytes() == (whole / path).read_bytes()
        numbers = [(root / path.parent / "metrics.jsonl").read_text() for root in (workdir, whole)]
        told = [[json.loads(line) for line in text.splitlines()] for text in numbers]
        for lines in told:
            for line in lines:
                del line["seconds"]
        assert told[0] == told[1]
        sums = ["sha256sum", "--check", "--strict", "--quiet", SUMS]
        assert subprocess.run(sums, cwd=(workdir / path).parent).returncode == 0
    assert not (workdir / NAME).exists()
    return out


def stopped(number):
    """A command that gets a signal saves, says so, leaves no lock, and can be continued."""

    def check():
        with folder() as path:
            arguments, workdir = adapt(epochs=40), path / "run"
            process = start("her_adapt", *arguments, f"--workdir={workdir}")
            for line in process.stdout:
                if re.match(r" +1 ", line):
                    process.send_signal(number)
                    break
            out, err = process.communicate(timeout=300)
            assert process.returncode == 128 + number, err
            assert "saved after" in out
            assert "Traceback" not in err
            assert not (workdir / NAME).exists()
            assert "resuming after" in ends_as(workdir, arguments)

    return check


def reader_leaves(module, *arguments):
    """``... | head``: it saves, leaves with the code of SIGPIPE, says nothing, and goes on."""

    def check():
        with folder() as path:
            workdir = path / "run"
            mine = adapt(epochs=40) if module == "her_adapt" else list(arguments)
            process = start(module, *mine, f"--workdir={workdir}")
            for _ in range(3):
                process.stdout.readline()
            process.stdout.close()
            with process.stderr:
                err = process.stderr.read()
            process.wait(timeout=300)
            assert (process.returncode, err) == (128 + signal.SIGPIPE, "")
            assert list((workdir / "checkpoints").rglob("state"))
            if module == "her_adapt":
                assert "resuming after" in ends_as(workdir, mine)

    return check


def second_process():
    """A second process on the folder of a run is told who has it, and the run is not disturbed."""
    with folder() as path:
        arguments, workdir = adapt(epochs=40), path / "run"
        process = start("her_adapt", *arguments, f"--workdir={workdir}")
        process.stdout.readline()
        for line in process.stdout:
            if re.match(r" +0 ", line):
                break
        code, out, err = run("her_adapt", *arguments, f"--workdir={workdir}")
        assert (code, out) == (2, ""), err
        assert err.startswith(f"error: {workdir} is in use by process {process.pid} on ")
        assert len(err.splitlines()) == 1
        process.communicate(timeout=300)
        assert process.returncode == 0
        ends_as(workdir, arguments)


def killed_and_at_once():
    """After SIGKILL the same command takes the lock over at once."""
    with folder() as path:
        arguments, workdir = adapt("--save_every=0", epochs=40), path / "run"
        process = start("her_adapt", *arguments, f"--workdir={workdir}")
        for line in process.stdout:
            if re.match(r" +2 ", line):
                process.kill()
                break
        process.communicate()
        assert (workdir / NAME).exists()
        assert "resuming after" in ends_as(workdir, arguments)


def full_for_a_while(many):
    """A disk that is full for a while costs a warning now and then, and nothing else."""

    def check():
        with folder() as path, small_disk(path, megabytes=30) as mounted:
            if not mounted:
                return
            seeds = ["--seeds=4", "--slots=2"] if many else []
            arguments = adapt("--save_every=0", *seeds, epochs=60)
            workdir = path / "run"
            process = start("her_adapt", *arguments, f"--workdir={workdir}")
            while process.poll() is None and not list(workdir.rglob("metrics.jsonl")):
                time.sleep(0.05)
            filler = fill(path)
            time.sleep(3)
            running = process.poll() is None
            filler.unlink()
            out, err = process.communicate(timeout=300)
            assert process.returncode == 0, err
            assert running, "it had ended before"
            assert "No space left on device" in err
            assert "Traceback" not in err
            assert len(err.splitlines()) < 100, err
            ends_as(workdir, arguments)

    return check


def refused_at_first(file):
    """A file of a population, which is refused for a while, is written later."""

    def check():
        with folder() as path:
            workdir = path / "run"
            command = adapt("--seeds=2", epochs=12)
            process = start("her_adapt", *command, f"--workdir={workdir}")
            while process.poll() is None and not (workdir / "run.json").exists():
                time.sleep(0.01)
            part = workdir / f"{file}.part"
            part.mkdir(parents=True)
            told = ""
            while process.poll() is None and "trying again" not in told:
                told += process.stderr.readline()
            part.rmdir()
            out, err = process.communicate(timeout=300)
            assert process.returncode == 0, told + err
            assert f"a result is not written ({part}: Is a directory): trying again" in told
            assert (workdir / file).is_file()

    return check


def full_for_ever():
    """A disk that stays full ends the run after a minute at its results: one line, code 2."""
    with folder() as path, small_disk(path, megabytes=30) as mounted:
        if not mounted:
            return
        arguments, workdir = adapt(epochs=12), path / "run"
        process = start("her_adapt", *arguments, f"--workdir={workdir}")
        while process.poll() is None and not list(workdir.rglob("metrics.jsonl")):
            time.sleep(0.02)
        filler = fill(path)
        out, err = process.communicate(timeout=300)
        assert process.returncode == 2, out + err
        assert "No space left on device" in err.splitlines()[-1]
        assert err.splitlines()[-1].startswith("error: ")
        assert "Traceback" not in err
        filler.unlink()
        ends_as(workdir, arguments)


def full_at_a_snapshot():
    """A snapshot of a pretraining that a full disk refuses is written later, the same."""
    with folder() as path, small_disk(path, megabytes=30) as mounted:
        if not mounted:
            return
        arguments = [*PRETRAIN, "--steps=60", "--snapshots=1,5,10,15,20,25,30", "--log_every=5"]
        workdir = path / "run"
        process = start("pretrain", *arguments, f"--workdir={workdir}")
        while process.poll() is None and not (workdir / "snapshot-1" / "config.json").exists():
            time.sleep(0.01)
        filler, told = fill(path), ""
        while process.poll() is None and "snapshot-5 is not written" not in told:
            told += process.stderr.readline()
        filler.unlink()
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, told + err
        assert f"{workdir / 'snapshot-5'} is not written (No space left on device): trying" in told
        assert "Traceback" not in told + err
        whole = weights().parent / "whole-pretraining"
        code, _, err = run("pretrain", *arguments, f"--workdir={whole}")
        assert code == 0, err
        for name in [f"snapshot-{step}" for step in (1, 5, 10, 15, 20, 25, 30)] + ["model"]:
            name += "/model.safetensors"
            assert (workdir / name).read_bytes() == (whole / name).read_bytes()


def result_damaged(*damages):
    """What is damaged of a member's results is made again, the same; the others are left."""

    def check():
        with folder() as path:
            workdir, arguments = path / "run", adapt("--seeds=2", "--slots=2", task="9-squares")
            code, _, err = run("her_adapt", *arguments, f"--workdir={workdir}")
            assert code == 0, err
            members = sorted(found.parent for found in workdir.rglob("result.json"))
            expected = (members[0] / "solution.py").read_bytes()
            other = {f: f.stat().st_mtime_ns for f in members[1].iterdir()}
            for name, data in damages:
                file = members[0] / name
                file.unlink() if data is None else file.write_bytes(data)
            code, out, err = run("her_adapt", *arguments, f"--workdir={workdir}")
            assert code == 0, err
            (warning,) = err.splitlines()
            for name, _ in damages:
                assert name in warning
            assert out.count("files in") == 1
            assert (members[0] / "solution.py").read_bytes() == expected
            assert {f: f.stat().st_mtime_ns for f in members[1].iterdir()} == other
            code, out, err = run("her_adapt", *arguments, f"--workdir={workdir}")
            assert (code, err) == (0, "")
            assert "nothing to do" in out

    return check


def metrics_damaged(data):
    """A metrics.jsonl is not believed: a run that is continued writes it anew."""

    def check():
        with folder() as path:
            workdir, arguments = path / "run", adapt("--save_every=0", epochs=40)
            process = start("her_adapt", *arguments, f"--workdir={workdir}")
            for line in process.stdout:
                if re.match(r" +3 ", line):
                    process.kill()
                    break
            process.communicate()
            file = workdir / "metrics.jsonl"
            file.unlink() if data is None else file.write_bytes(data)
            ends_as(workdir, arguments)

    return check


def progress_is_told():
    """A population without a terminal says how far it is, while one chunk of epochs runs, too."""
    with folder() as path:
        program = (
            "import sys; from herjax.commands import live_view; live_view.EVERY = 0.5;"
            "import runpy; runpy.run_module('herjax.commands.her_adapt', run_name='__main__',"
            " alter_sys=True)"
        )
        environment = {**ENVIRONMENT, "PYTHONUNBUFFERED": "1"}
        environment.pop("JAX_NUM_CPU_DEVICES", None)
        arguments = adapt("--seeds=3", "--slots=3", epochs=60)
        process = subprocess.run(
            [sys.executable, "-c", program, *arguments, f"--workdir={path / 'run'}"],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert process.returncode == 0, process.stderr
        told = [line for line in process.stdout.splitlines() if " of 3 ended, " in line]
        assert any("no epoch done yet" in line for line in told), process.stdout
        assert any(re.search(r"3 running, at epochs .* left$", line) for line in told)


FAST = {
    **{f"caught: {n.name}": caught(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)},
    **{f"restored: {n.name}": restored(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)},
    "SIGHUP ignored": hangup_ignored,
    "a second Ctrl-C": second_interrupt,
    "SIGTERM twice": both(signal.SIGTERM, signal.SIGTERM),
    "SIGINT, then SIGTERM": both(signal.SIGINT, signal.SIGTERM),
    "SIGHUP, then SIGTERM": both(signal.SIGHUP, signal.SIGTERM),
    "an error inside": error_inside,
}
PRETRAIN = ("--preset=tiny", "--size_limits=36", "--snapshots=", "--steps=4000", "--eval_every=5")
PRETRAIN += ("--eval_tasks=4", "--final_eval_tasks=4", "--model.layers=1")
SLOW = {
    **{f"stopped: {n.name}": stopped(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)},
    "head of an adaptation": reader_leaves("her_adapt"),
    "head of a pretraining": reader_leaves("pretrain", *PRETRAIN),
    "a second process": second_process,
    "killed, and at once again": killed_and_at_once,
    "full for a while": full_for_a_while(many=False),
    "full for a while, a population": full_for_a_while(many=True),
    "refused at first: the population's report": refused_at_first("report.html"),
    "refused at first: its numbers": refused_at_first("results.jsonl"),
    "full for ever": full_for_ever,
    "full at a snapshot": full_at_a_snapshot,
    "result.json cut off": result_damaged(("result.json", b"{")),
    "result.json empty": result_damaged(("result.json", b"{}")),
    "solution.py and report.html deleted": result_damaged(
        ("solution.py", None), ("report.html", None)
    ),
    "solution.py edited": result_damaged(("solution.py", b"mine")),
    "SHA256SUMS damaged": result_damaged((SUMS, b"x\n")),
    "metrics.jsonl deleted": metrics_damaged(None),
    "metrics.jsonl garbage": metrics_damaged(b"\xff[[[\n"),
    "metrics.jsonl of lies": metrics_damaged(b'{"epoch": 0, "seconds": "x"}\n' * 50),
    "progress is told": progress_is_told,
}
CASES = [Case(name, "signals", check) for name, check in FAST.items()]
CASES += [Case(name, "signals", check, slow=True) for name, check in SLOW.items()]
