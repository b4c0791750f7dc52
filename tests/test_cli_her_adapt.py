"""python -m experiments.her_adapt"""

import io
import json
import os
import re
import signal
import time

import numpy as np
import pytest
from rich.console import Console

import herjax
from herjax.commands import door, her_adapt
from herjax.commands.named_tasks import chosen_tasks
from herjax.runtime import records
from tests import referee
from tests.command_line import contents, run, run_quickly, start, stop_once, without_times
from tests.test_numbers import read_events

FILES = (
    "best_predictions.png",
    "accuracy_distribution.png",
    "adaptation.gif",
    "solution.py",
    "model/model.safetensors",
)


@pytest.fixture(scope="module")
def adapted(tiny_weights, tmp_path_factory):
    """One uninterrupted run of an untrained decoder."""
    workdir = tmp_path_factory.mktemp("adapted") / "run"
    arguments = [
        "--task=12-squares",
        f"--checkpoint={tiny_weights}",
        "--save_weights",
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
    assert (result["seed"], result["learner"]) == (0, "hindsight")
    assert result["programs_sampled"] == 16 * result["epochs"] == 16 * 8
    assert result["programs_run"] > 10 * result["programs_sampled"]
    for name in ("best_accuracy", "best_attempt", "mean_attempt"):
        assert len(result[name]) == 8
    assert np.all(np.subtract(result["best_accuracy"], result["best_attempt"]) >= 0)
    assert result["solved"] is False
    assert result["colours"] == result["least_draws"] == 9
    assert {"seconds_compile", "seconds_run", "config", "versions", "device"} <= set(result)
    picture = herjax.pictures()["12-squares"]
    program = herjax.parse_program((workdir / "solution.py").read_text(), 6, 8)
    drawn = referee.execute(program, picture.input)
    assert (drawn == picture.target).mean() == pytest.approx(max(result["best_accuracy"]))
    for name in ("best_predictions.png", "accuracy_distribution.png"):
        assert (workdir / name).read_bytes().startswith(b"\x89PNG")
    assert "not solved" in out
    assert "def task(img):" in out


def test_her_adapt_stopped_and_continued_ends_the_same(adapted, tmp_path):
    uninterrupted, arguments, _ = adapted
    workdir = tmp_path / "run"
    arguments = [*arguments, f"--workdir={workdir}"]
    code, out, err = stop_once(start("her_adapt", *arguments), r"^ +0 ", signal.SIGTERM)
    assert code == 128 + signal.SIGTERM, err
    epochs = int(re.search(r"saved after (\d) epochs?", out).group(1))
    assert 1 <= epochs < 8
    assert not (workdir / "result.json").exists()
    code, out, err = run_quickly("her_adapt", *arguments)
    assert code == 0, err
    assert f"resuming after {epochs} epochs" in out
    assert without_times(workdir / "result.json") == without_times(uninterrupted / "result.json")
    for name in FILES:
        assert (workdir / name).read_bytes() == (uninterrupted / name).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [1, 3])
def test_event_files_have_every_epoch_once_whatever_stops_the_run(adapted, tmp_path, seeds):
    pytest.importorskip("tensorboardX")
    workdir = tmp_path / "run"
    arguments = [*adapted[1], "--tensorboard", "--save_every=0", "--max_epochs=40"]
    arguments += [f"--seeds={seeds}", "--slots=2", f"--workdir={workdir}"]
    process = start("her_adapt", *arguments)
    while len(list(workdir.rglob("*tfevents*"))) < min(seeds, 2) and process.poll() is None:
        time.sleep(0.02)
    process.kill()
    process.communicate()
    code, _, err = run("her_adapt", *arguments)
    assert (code, err) == (0, "")
    files = list(workdir.rglob("*tfevents*"))
    assert len(files) == seeds
    for file in files:
        lines = records.read_lines(file.parent / "metrics.jsonl")
        found = read_events(file.parent)
        assert [step for step, _, _ in found] == [line["epoch"] for line in lines]
        for (_, told, picture), line in zip(found, lines):
            assert told["best_accuracy"] == pytest.approx(line["best_accuracy"])
            assert picture.size == (8 * 20, 6 * 20)


def test_her_adapt_keeps_a_finished_run_and_refuses_another_in_its_folder(adapted):
    workdir, arguments, _ = adapted
    before = contents(workdir)
    code, out, _ = run_quickly("her_adapt", *arguments, f"--workdir={workdir}")
    assert code == 0
    assert "nothing to do" in out
    code, _, err = run_quickly("her_adapt", *arguments, f"--workdir={workdir}", "--seed=1")
    assert code == 2
    assert "holds another run (different seeds)" in err
    code, _, err = run_quickly("her_adapt", *arguments, f"--workdir={workdir}", "--learner=rloo")
    assert code == 2
    assert "holds another run (different learner)" in err
    assert contents(workdir) == before


def test_a_loss_that_is_not_finite_stops_no_other_member(adapted, tmp_path):
    # Whose first epoch is exact, so that nothing is learned; the other one's is not.
    (tmp_path / "blank.txt").write_text("000000\n" * 8)
    task = f"--task=12-squares,{tmp_path / 'blank.txt'}"
    arguments = [*adapted[1], task, "--learning_rate=1e37", f"--workdir={tmp_path / 'run'}"]
    for others in (1, 0):  # once, and continued
        code, out, err = run_quickly("her_adapt", *arguments)
        assert (code, len(err.splitlines())) == (2, 1)
        assert "error: 12-squares, seed 0: loss nan in epoch" in err
        assert "(1 of 2 members, which are in no summary)" in err
        assert "12-squares, seed 0: loss nan" in out
        assert out.count("blank.txt, seed 0: solved") == others
    assert [path.parent.name for path in tmp_path.rglob("result.json")] == ["blank.txt-seed0"]
    assert len(records.read_lines(tmp_path / "run" / "results.jsonl")) == 1
    assert "1 more, whose loss was not finite" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.parametrize(
    "options", [["--plain", "--learner=best-of-n"], ["--learning_rate=0", "--keep=0"]]
)
def test_without_kept_programs_there_are_checkpoints_too(tiny_weights, tmp_path, options):
    arguments = [
        "--task=9-squares",
        f"--checkpoint={tiny_weights}",
        "--programs=4",
        "--max_draws=4",
    ]
    arguments += ["--max_epochs=2", "--minibatch=2", "--save_every=0", *options]
    arguments += ["--partners=3"] if "--plain" not in options else []
    code, _, err = run_quickly("her_adapt", *arguments, f"--workdir={tmp_path / 'run'}")
    assert (code, err) == (0, "")
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["programs_sampled"] == 8
    assert (result["programs_run"] == 8) == ("--plain" in options)
    learner = json.loads((tmp_path / "run" / "run.json").read_text())["learner"]
    assert learner == ("best-of-n" if "--plain" in options else "hindsight")
    assert list((tmp_path / "run" / "checkpoints").rglob("2"))


def test_a_run_from_before_recombination_is_refused_with_the_reason(adapted, tmp_path):
    workdir = tmp_path / "old"
    workdir.mkdir()
    settings = json.loads((adapted[0] / "run.json").read_text())
    for name in ("partners", "keep"):
        del settings["config"][name]
    (workdir / "run.json").write_text(json.dumps(settings))
    before = contents(workdir)
    code, _, err = run_quickly("her_adapt", *adapted[1], f"--workdir={workdir}")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "holds another run (different config.partners, config.keep)" in err
    assert contents(workdir) == before


def test_many_tasks_are_summed_up_by_colours_and_least_draws():
    results = [
        {
            "task": f"t{i}",
            "solved": i % 4 > 0,
            "colours": 2 + i % 2,
            "least_draws": i // 10,
            "programs_sampled": 32 * (i + 1),
            "programs_run": 1000,
            "seconds_run": 1.0,
        }
        for i in range(40)
    ]
    colours, least = her_adapt.summary(results)
    cells = [list(column.cells) for column in colours.columns]
    assert cells[:2] == [["2", "3", "all"], ["10 of 20", "20 of 20", "30 of 40"]]
    assert cells[4] == ["96 .. not solved", "64 .. 1280", "64 .. not solved"]
    assert list(least.columns[1].cells) == ["7 of 10", "8 of 10", "7 of 10", "8 of 10", "30 of 40"]
    results[0]["task"] = "a_rather_long_name_of_a_picture_of_my_experiment_2026-11-28.txt"
    with io.StringIO() as file:
        Console(file=file, width=80).print(*her_adapt.summary(results[:3]))
        for number in ("0 of 1", "1 of 1", "64", "96", "1000"):
            assert number in file.getvalue()
    results[0]["task"] = "t0"
    (by_task,) = her_adapt.summary(results[:3])
    assert list(by_task.columns[0].cells) == ["t0", "t1", "t2"]


def test_paths_of_the_home_are_found(tmp_path):
    home = os.path.expanduser("~")
    assert door.at_home("~/a.txt,b,c~/d,~e") == f"{home}/a.txt,b,c~/d,~e"
    assert door.at_home(["~/a", "b"]) == [f"{home}/a", "b"]
    code, _, err = run_quickly("her_adapt", "--task=~/no_such.txt", f"--workdir={tmp_path / 'r'}")
    assert code == 2
    assert f"{home}/no_such.txt" in err


def test_tasks_are_names_and_files(tmp_path, monkeypatch):
    (tmp_path / "own.txt").write_text("112\n112\n")
    (tmp_path / "b.json").write_text('{"train": [{"output": [[3, 3]]}]}')
    monkeypatch.setattr("sys.stdin", io.StringIO("5 6\n"))
    names = f"{tmp_path}/own.txt,9-squares,-,{tmp_path}/b.json#train.0.output"
    chosen = chosen_tasks(names, 10, background=2)
    assert list(chosen) == ["own.txt", "9-squares", "stdin", "b.json-train.0.output"]
    assert chosen["own.txt"].target.tolist() == [[1, 1, 2]] * 2
    assert chosen["stdin"].input.tolist() == [[2, 2]]
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "Own.txt").write_text("1")
    for other in (f"../{tmp_path.name}/own.txt", "b/Own.txt"):  # one folder on some file systems
        with pytest.raises(ValueError, match="two tasks are called (own.txt and Own|own).txt:"):
            chosen_tasks(f"{tmp_path}/own.txt,{tmp_path}/{other}", 10)
    on_own = chosen_tasks(f"{tmp_path}/own.txt", 10, input=f"{tmp_path}/own.txt")
    assert on_own["own.txt"].input.tolist() == [[1, 1, 2]] * 2
    assert not len(on_own["own.txt"].program)
    with pytest.raises(ValueError, match="own.txt is 2x3, its picture 9x9: not equal"):
        chosen_tasks("9-squares", 10, input=f"{tmp_path}/own.txt")
    with pytest.raises(ValueError, match="--input=task is for outputs in ARC tasks: 9-squares"):
        chosen_tasks("9-squares", 10, input="task")
    assert chosen_tasks("chick", 10, input="blank")["chick"].input.tolist() == [[4] * 10] * 10
    with pytest.raises(ValueError, match="own.txt, line 1: 3 cells, at most 2x2 cells"):
        chosen_tasks(f"{tmp_path}/own.txt", 2)
