"""Ctrl-C before a command has begun: one line, exit code 130, and nothing left."""

import pathlib
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

import herjax_commands
from herjax.commands import cli, facts
from herjax.runtime.lock import NAME
from tests.command_line import ENVIRONMENT, ROOT, start


@pytest.fixture(autouse=True)
def interruptible():
    """Processes do not ignore Ctrl-C, as those do that a shell has started behind "&"."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def until(process, happened):
    """Wait for something that a process does before it ends."""
    while process.poll() is None:
        if happened():
            return
        time.sleep(0.01)
    raise AssertionError(process.communicate())


def interrupted(process):
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def script(folder, name, *arguments):
    """A process of a console script as pip writes it."""
    path = folder / f"herjax-{name}"
    path.write_text(f"from herjax_commands import {name}\n{name}()\n")
    return subprocess.Popen(
        [sys.executable, path, *arguments],
        cwd=ROOT,
        env={**ENVIRONMENT, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="processes are watched in /proc")
@pytest.mark.parametrize("seconds", [0, 0.02, 0.1, 0.3, 0.8])
@pytest.mark.parametrize("module", ["her_adapt", "pretrain", "show", "study"])
def test_while_importing_it_is_one_line(tmp_path, module, seconds):
    process = start(module, f"--workdir={tmp_path / 'run'}")
    environment = pathlib.Path(f"/proc/{process.pid}/environ")
    until(process, lambda: b"GLIBC_TUNABLES=" in environment.read_bytes())  # it began anew
    time.sleep(seconds)
    assert interrupted(process) == (130, "", "stopped\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="processes are watched in /proc")
@pytest.mark.parametrize("seconds", [0, 0.1, 0.5])
def test_of_a_console_script_too(tmp_path, seconds):
    process = script(tmp_path, "adapt", f"--workdir={tmp_path / 'run'}")
    maps = pathlib.Path(f"/proc/{process.pid}/maps")
    until(process, lambda: "numpy" in maps.read_text())  # it imports
    time.sleep(seconds)
    assert interrupted(process) == (130, "", "stopped\n")


@pytest.mark.slow
def test_once_the_folder_is_claimed_the_lock_is_given_back(tmp_path):
    process = start("her_adapt", f"--workdir={tmp_path}", "--nocompilation_cache")
    until(process, (tmp_path / "run.json").exists)
    code, out, err = interrupted(process)
    assert code == 130
    assert (out + err).splitlines()[-1].startswith("stopped")
    assert "Traceback" not in err
    assert not (tmp_path / NAME).exists()


@pytest.mark.slow
def test_the_help_of_a_console_script_names_it(tmp_path):
    out, err = script(tmp_path, "show", "--help").communicate(timeout=300)
    assert out.startswith("Draw a program in the terminal, step by step: herjax-show PROGRAM.py")
    assert "experiments" not in out + err
    out, err = script(tmp_path, "show").communicate(timeout=300)
    assert (out, err) == ("", "error: give one program: herjax-show PROGRAM.py\n")


def test_the_command_is_named_as_it_was_called(monkeypatch):
    monkeypatch.setattr("sys.argv", ["/x/herjax/commands/her_adapt.py", "--seed=1"])
    main = SimpleNamespace(__doc__="Adapt: python -m experiments.her_adapt --task=chick")
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.setattr("sys.orig_argv", ["python", "-m", "experiments.her_adapt"])
    cli.name_as_called()
    assert main.__doc__ == "Adapt: python -m experiments.her_adapt --task=chick"
    assert facts.this_command() == "python -m experiments.her_adapt --seed=1"
    monkeypatch.setattr("sys.orig_argv", ["python", "/bin/herjax-adapt", "--seed=1"])
    cli.name_as_called()
    assert main.__doc__ == "Adapt: herjax-adapt --task=chick"
    assert facts.this_command() == "herjax-adapt --seed=1"


def test_an_ignored_interrupt_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        herjax_commands.stop_quietly()
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
        signal.signal(signal.SIGINT, signal.default_int_handler)
        herjax_commands.stop_quietly()
        assert signal.getsignal(signal.SIGINT) == herjax_commands._stop
    finally:
        signal.signal(signal.SIGINT, before)
