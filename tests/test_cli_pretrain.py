"""python -m experiments.pretrain"""

import json
import pathlib
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import herjax
from tests.command_line import ENVIRONMENT, ROOT, run_quickly, start, without_times


def test_pretraining_stopped_and_continued_ends_the_same(tmp_path):
    arguments = ["--preset=tiny", "--size_limits=36", "--snapshots=", "--log_every=1"]
    arguments += ["--eval_tasks=4", "--final_eval_tasks=4", "--model.layers=1"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    code, out, err = run_quickly("pretrain", *arguments, f"--workdir={whole}")
    assert code == 0, err
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    units = re.search(r"\bamx_bf16\b", cpuinfo.read_text() if cpuinfo.exists() else "")
    assert ("--model.dtype=bfloat16" in out) == bool(units)

    process = start("pretrain", *arguments, f"--workdir={parts}")
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and process.poll() is None:
        log = parts / "metrics.jsonl"
        if log.exists() and log.read_text().count("\n") >= 3:
            process.send_signal(signal.SIGINT)
            break
        time.sleep(0.05)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 128 + signal.SIGINT, err
    assert "the same command continues" in out

    code, out, err = run_quickly("pretrain", *arguments, f"--workdir={parts}")
    assert code == 0, err
    assert "resuming at step" in out
    assert "bfloat16" not in out  # that was said
    name = "model/model.safetensors"
    assert (parts / name).read_bytes() == (whole / name).read_bytes()
    assert without_times(parts / "metrics.jsonl") == without_times(whole / "metrics.jsonl")

    code, _, err = run_quickly("pretrain", *arguments, f"--workdir={parts}", "--muon_lr=0.5")
    assert code == 2
    assert "holds another run (different muon_lr)" in err
    model = herjax.load_pretrained(parts / "model")
    assert model.info["programs_seen"] == 20 * 16
    assert np.isfinite(model.info["held_out"]["pass@8"])


REFUSED = """
import errno, os, runpy
from herjax.runtime import records

def refuse(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "metrics.jsonl")

records.append = refuse
runpy.run_module("experiments.pretrain", run_name="__main__", alter_sys=True)
"""
SHORT = ["--preset=tiny", "--size_limits=36", "--steps=2", "--snapshots=", "--final_eval_tasks=4"]
SHORT += ["--model.layers=1", "--log_every=1"]


@pytest.mark.slow
def test_numbers_that_a_full_disk_refused_are_written_by_the_same_command(tmp_path):
    command = [sys.executable, "-c", REFUSED, *SHORT, f"--workdir={tmp_path}"]
    environment = {**ENVIRONMENT}
    environment.pop("JAX_NUM_CPU_DEVICES", None)
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ended.returncode == 2, ended.stderr
    assert re.search(r"^error: .*No space left on device", ended.stderr, re.MULTILINE)
    assert not (tmp_path / "model" / "config.json").exists()  # so it is not done
    code, _, err = run_quickly("pretrain", *SHORT, f"--workdir={tmp_path}")
    assert code == 0, err
    lines = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert "pass@1" in list(lines)[-1]


def test_what_is_not_finite_is_not_saved(tmp_path):
    """Whatever it is that is due at a step: here a snapshot."""
    arguments = [*SHORT, "--steps=6", "--log_every=5", "--warmup_steps=1", "--adam_lr=1e30"]
    arguments += ["--snapshots=4", f"--workdir={tmp_path}"]
    code, _, err = run_quickly("pretrain", *arguments)
    assert code == 2
    assert re.search(r"error: loss .* at step 4 .* the last good checkpoint is step 0", err)
    assert not list(tmp_path.glob("checkpoints/[0-9]*"))


@pytest.mark.slow
def test_held_out_tells_of_each_range_and_input(tiny_weights, tmp_path):
    arguments = [f"--checkpoint={tiny_weights}", "--sides=3-4,11-12", "--tasks=16"]
    code, out, err = run_quickly("held_out", *arguments, f"--workdir={tmp_path / 'new' / 'folder'}")
    assert code == 0, err
    assert "knows sides up to 10, not 12" in out
    told = json.loads((tmp_path / "new" / "folder" / "held_out.json").read_text())
    assert [(row["sides"], row["inputs"]) for row in told["held_out"]] == [
        ("3-4", "blank"),
        ("3-4", "drawn"),
    ]
    arguments[1] = "--sides=11-12"
    code, out, err = run_quickly("held_out", *arguments, f"--workdir={tmp_path / 'new' / 'folder'}")
    assert (code, err) == (2, "error: nothing to measure: no model knows --sides=11-12\n")
    assert json.loads((tmp_path / "new" / "folder" / "held_out.json").read_text()) == told
