"""The command lines as users run them: in processes of their own."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import herjax
from tests import referee

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    return f"--compilation_cache={tmp_path_factory.mktemp('cache')}"


def start(module, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", f"experiments.{module}", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(module, *arguments):
    process = start(module, *arguments)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def stop_once(process, pattern, number):
    """Send a signal when a line of standard output matches; -> return code, all output."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if re.search(pattern, line):
            process.send_signal(number)
            break
    out, err = process.communicate(timeout=300)
    return process.returncode, "".join(lines) + out, err


@pytest.fixture(scope="module")
def weights(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights") / "tiny"
    herjax.save_weights(folder, tiny.model.config, tiny.params, {"held_out": None})
    return f"--checkpoint={folder}"


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("module", "arguments", "message"),
    [
        ("her_adapt", ["--task=26-squares"], "unknown task '26-squares'; one of 9-vertical-lines"),
        ("her_adapt", ["--task=36-squares"], "36-squares is 12x12, larger than the model's canvas"),
        ("her_adapt", ["--checkpoint=nowhere"], "no model 'nowhere': give one of"),
        ("her_adapt", ["--programs=0"], "programs must be at least 1"),
        ("her_adapt", ["--programs=a"], "--programs=a: expected ints"),
        ("her_adapt", ["--temperatures=-1"], "temperatures must be above 0"),
        ("her_adapt", ["--max_epochs=0"], "max_epochs must be at least 1"),
        ("her_adapt", ["--seed=-1"], "seed"),
        ("her_adapt", ["--no_such_flag=1"], "Unknown command line flag 'no_such_flag'"),
        ("her_adapt", ["extra"], "unexpected argument 'extra'"),
        ("ood", ["--samples=0"], "samples"),
        ("pretrain", ["--preset=tiny", "--steps=0"], "steps must be at least 1"),
        ("pretrain", ["--preset=huge"], "preset"),
        ("pretrain", ["--preset=tiny", "--init=nowhere"], "no model 'nowhere': give one of"),
        ("pretrain", ["--preset=tiny", "--init=base"], "init: base is another model"),
        ("pretrain", ["--preset=tiny", "--muon_lr=nan"], "muon_lr must be positive"),
        ("pretrain", ["--preset=tiny", "--model.heads=0"], "heads must be at least 1"),
        ("study", ["--task=9-squares,x"], "unknown task 'x'"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(tmp_path, weights, module, arguments, message):
    workdir = tmp_path / "run"
    if module != "pretrain" and not any("--checkpoint" in a for a in arguments):
        arguments = [weights, *arguments]
    code, out, err = run(module, f"--workdir={workdir}", *arguments)
    assert code == 2, err
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert "Traceback" not in out + err
    assert not workdir.exists()


@pytest.mark.parametrize("module", ["her_adapt", "ood", "pretrain", "study"])
def test_workdir_that_cannot_be_used_is_one_line(tmp_path, weights, module):
    arguments = ["--preset=tiny"] if module == "pretrain" else [weights]
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.write_text("mine")
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    before = contents(tmp_path)
    for workdir in (file, folder):
        code, out, err = run(module, f"--workdir={workdir}", *arguments)
        assert code == 2, err
        assert len(err.strip().splitlines()) == 1
        assert str(workdir) in err
    assert contents(tmp_path) == before


def test_list_tasks():
    code, out, _ = run("her_adapt", "--list_tasks")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == list(herjax.pictures())


@pytest.fixture(scope="module")
def adapted(weights, cache, tmp_path_factory):
    """One uninterrupted run of an untrained decoder."""
    workdir = tmp_path_factory.mktemp("adapted") / "run"
    arguments = [
        "--task=12-squares",
        weights,
        cache,
        "--programs=12,4",
        "--temperatures=1.0,0.5",
        "--max_epochs=8",
        "--minibatch=2",
        "--max_draws=8",
    ]
    code, out, err = run("her_adapt", *arguments, f"--workdir={workdir}")
    assert code == 0, err
    return workdir, arguments, out


def test_her_adapt_writes_what_it_promises(adapted):
    workdir, _, out = adapted
    result = json.loads((workdir / "result.json").read_text())
    assert result["task"] == "12-squares"
    assert result["seed"] == 0
    assert result["programs_sampled"] == 16 * result["epochs"] == 16 * 8
    assert len(result["best_accuracy"]) == len(result["mean_accuracy"]) == 8
    assert result["solved"] is False
    assert {"seconds_compile", "seconds_run", "config", "versions", "device"} <= set(result)
    picture = herjax.pictures()["12-squares"]
    program = herjax.parse_program((workdir / "solution.py").read_text(), 6, 8)
    drawn = referee.execute(program, picture.input)
    assert (drawn == picture.target).mean() == pytest.approx(max(result["best_accuracy"]))
    for name in ("best_predictions.png", "accuracy_distribution.png"):
        assert (workdir / name).read_bytes().startswith(b"\x89PNG")
    assert "not solved" in out
    assert "def task(img):" in out


def without_times(path):
    values = json.loads(path.read_text())
    return {k: v for k, v in values.items() if not k.startswith("seconds")}


def test_her_adapt_stopped_and_continued_ends_the_same(adapted, tmp_path):
    uninterrupted, arguments, _ = adapted
    workdir = tmp_path / "run"
    arguments = [*arguments, f"--workdir={workdir}"]
    code, out, err = stop_once(start("her_adapt", *arguments), "compiled in", signal.SIGTERM)
    assert code == 128 + signal.SIGTERM, err
    assert "saved after epoch" in out
    assert not (workdir / "result.json").exists()
    code, out, err = run("her_adapt", *arguments)
    assert code == 0, err
    assert "resuming after epoch" in out
    assert without_times(workdir / "result.json") == without_times(uninterrupted / "result.json")
    for name in ("best_predictions.png", "accuracy_distribution.png", "solution.py"):
        assert (workdir / name).read_bytes() == (uninterrupted / name).read_bytes()


def test_her_adapt_keeps_a_finished_run_and_refuses_another_in_its_folder(adapted):
    workdir, arguments, _ = adapted
    before = contents(workdir)
    code, out, _ = run("her_adapt", *arguments, f"--workdir={workdir}")
    assert code == 0
    assert "nothing to do" in out
    code, _, err = run("her_adapt", *arguments, f"--workdir={workdir}", "--seed=1")
    assert code == 2
    assert "holds another run (different seed)" in err
    assert contents(workdir) == before


def test_ood_prints_and_saves(weights, cache, tmp_path):
    code, out, err = run("ood", "--samples=3", weights, cache, f"--workdir={tmp_path / 'ood'}")
    assert code == 0, err
    saved = json.loads((tmp_path / "ood" / "ood.json").read_text())["pictures"]
    assert saved["9-squares"]["source_best"] == 0.8148
    assert all(0 <= row["mean"] <= row["best"] <= 1 for row in saved.values())
    assert all(name in out for name in saved)


def test_pretraining_stopped_and_continued_ends_the_same(cache, tmp_path):
    arguments = ["--preset=tiny", cache, "--eval_tasks=4", "--final_eval_tasks=4", "--log_every=1"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    code, _, err = run("pretrain", *arguments, f"--workdir={whole}")
    assert code == 0, err

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

    code, out, err = run("pretrain", *arguments, f"--workdir={parts}")
    assert code == 0, err
    assert "resuming at step" in out
    name = "model/model.safetensors"
    assert (parts / name).read_bytes() == (whole / name).read_bytes()
    logs = []
    for folder in (whole, parts):
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        logs.append([{k: v for k, v in line.items() if "second" not in k} for line in lines])
    assert logs[0] == logs[1]

    code, _, err = run("pretrain", *arguments, f"--workdir={parts}", "--muon_lr=0.5")
    assert code == 2
    assert "holds another run (different muon_lr)" in err
    model = herjax.load_pretrained(parts / "model")
    assert model.info["programs_seen"] == 20 * 16
    assert np.isfinite(model.info["held_out"]["pass@8"])
