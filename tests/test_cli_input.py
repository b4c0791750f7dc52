"""Bad input, and the small commands."""

import json
import os
import subprocess
import sys
import time

import pytest

import herjax
from tests.command_line import contents, run, run_quickly, start


@pytest.mark.parametrize(
    ("module", "arguments", "message"),
    [
        ("her_adapt", ["--task=26-squares"], "unknown task '26-squares' (did you mean"),
        (
            "her_adapt",
            ["--task=36-squares"],
            "36-squares of 12x12 is larger than the model's canvas",
        ),
        ("her_adapt", ["--checkpoint=nowhere"], "no model 'nowhere': give one of"),
        ("her_adapt", ["--programs=0"], "programs must be at least 1"),
        ("her_adapt", ["--programs=1", "--keep=0"], "partners must be 0: one program an epoch"),
        ("her_adapt", ["--partners=-1"], "partners must be 0 or more, got -1"),
        ("her_adapt", ["--programs=a"], "--programs=a: expected ints"),
        ("her_adapt", ["--temperatures=-1"], "temperatures must be above 0"),
        ("her_adapt", ["--max_epochs=0"], "max_epochs must be at least 1"),
        ("her_adapt", ["--seed=-1"], "seed"),
        ("her_adapt", ["--no_such_flag=1"], "unknown option --no_such_flag; --help lists all"),
        ("her_adapt", ["extra"], "unexpected argument 'extra'"),
        ("ood", ["--samples=0"], "samples"),
        ("pretrain", ["--preset=tiny", "--steps=0"], "steps must be at least 1"),
        ("pretrain", ["--preset=huge"], "preset"),
        ("pretrain", ["--preset=tiny", "--init=nowhere"], "no model 'nowhere': give one of"),
        ("pretrain", ["--preset=tiny", "--init=base"], "init: base is another model"),
        ("pretrain", ["--preset=tiny", "--muon_lr=-1"], "muon_lr must be positive"),
        ("pretrain", ["--preset=tiny", "--model.heads=0"], "heads must be at least 1"),
        ("her_adapt", ["--task=9-squares,x", "--seeds=2"], "unknown task 'x'"),
        ("her_adapt", ["--seeds=0"], "seeds"),
        ("her_adapt", ["--mesh=data:0"], "mesh 'data:0': expected data:N"),
        ("pretrain", ["--preset=tiny", "--mesh=rows:2"], "mesh 'rows:2': expected data:N"),
        ("pretrain", ["--preset=tiny", "--mesh=data:3"], "batch_size 16 is not a multiple of 3"),
        ("pretrain", ["--preset=tiny", "--process_id=1"], "go together, and with --distributed"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    tmp_path, tiny_weights, module, arguments, message
):
    workdir = tmp_path / "run"
    if module != "pretrain" and not any("--checkpoint" in a for a in arguments):
        arguments = [f"--checkpoint={tiny_weights}", *arguments]
    code, out, err = run_quickly(module, f"--workdir={workdir}", *arguments)
    assert code == 2, err
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert "Traceback" not in out + err
    assert not workdir.exists()


def test_bad_input_is_one_line_in_a_process_of_its_own(tmp_path):
    code, out, err = run("her_adapt", "--task=26-squares", f"--workdir={tmp_path / 'run'}")
    assert (code, out) == (2, "")
    assert err.startswith("error: unknown task '26-squares' (did you mean '")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("module", ["her_adapt", "ood", "pretrain"])
def test_workdir_that_cannot_be_used_is_one_line(tmp_path, tiny_weights, module):
    arguments = ["--preset=tiny"] if module == "pretrain" else [f"--checkpoint={tiny_weights}"]
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.write_text("mine")
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    before = contents(tmp_path)
    for workdir in (file, folder):
        code, out, err = run_quickly(module, f"--workdir={workdir}", *arguments)
        assert code == 2, err
        assert len(err.strip().splitlines()) == 1
        assert str(workdir) in err
    assert contents(tmp_path) == before


def test_show_draws_step_by_step(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "INPUT = [[5, 5]]\ndef task(img):\n    draw_pixel(img, point=(0, 1), color=3)\n"
        "    return img\n"
    )
    code, out, err = run("show", program)
    assert code == 0, err
    assert "1/1 draw_pixel(img, point=(0, 1), color=3)" in out
    program.write_text(program.read_text().replace("(0, 1)", "(0, 2)"))
    code, _, err = run_quickly("show", program)
    assert (code, err) == (2, "error: line 3: point = 2 is out of range, allowed 0 .. 1\n")


@pytest.mark.slow
def test_the_first_of_25_draws_is_soon_there(tmp_path):
    program = tmp_path / "program.py"
    draws = [f"    draw_pixel(img, point=({i // 5}, {i % 5}), color=3)\n" for i in range(25)]
    program.write_text("def task(img):\n" + "".join(draws) + "    return img\n")
    begin = time.monotonic()
    process = start("show", program)
    while not (line := process.stdout.readline()).startswith("1/25 draw_pixel"):
        assert line, process.communicate()
    seconds = time.monotonic() - begin
    out, _ = process.communicate()
    assert "25/25 draw_pixel" in out
    print(f"first draw after {seconds:.2f} s, all after {time.monotonic() - begin:.2f} s")
    assert seconds < 5


def test_list_tasks():
    code, out, _ = run_quickly("her_adapt", "--list_tasks")
    assert code == 0
    *names, sets, emoji = out.splitlines()
    assert [line.split()[0] for line in names] == list(herjax.pictures())
    assert (
        sets == "sets: all, tuning, arc200, arc-large, arc-edits, emoji, emoji16, emoji20, emoji30"
    )
    assert emoji.startswith("emoji:NAME, emoji16:NAME, emoji30:NAME: grinning-face, ")


def test_ood_prints_and_saves(tiny_weights, tmp_path):
    arguments = [f"--checkpoint={tiny_weights}", f"--workdir={tmp_path / 'ood'}"]
    code, out, err = run_quickly("ood", "--samples=3", *arguments)
    assert code == 0, err
    saved = json.loads((tmp_path / "ood" / "ood.json").read_text())["pictures"]
    assert saved["9-squares"]["source_best"] == 0.8148
    assert all(0 <= row["mean"] <= row["best"] <= 1 for row in saved.values())
    assert all(name in out for name in saved)


def test_a_terminal_that_lacks_letters_ends_no_command():
    code = "from herjax.commands import cli; cli.run(lambda _: print('k\\xe4se'))"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "k?se\n"), done.stderr
