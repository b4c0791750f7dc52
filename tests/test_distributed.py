"""Real processes of two CPU devices each: two against one of four devices; four, one killed."""

import shutil
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import safetensors.numpy

from tests.command_line import run, run_quickly, start, without_times
from tests.outcome import outcome


def joining(processes):
    """The options of each of so many processes that join."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    flags = ["--distributed", f"--coordinator=localhost:{port}", f"--num_processes={processes}"]
    return [[*flags, f"--process_id={i}"] for i in range(processes)]


def two_processes(module, *arguments, quickly=True, each=((), ())):
    """-> return codes, standard outputs, standard errors; ``each``: further arguments."""
    flags = joining(2)

    def one(i):
        mine = [*arguments, *flags[i], *each[i]]
        return run_quickly(module, *mine, number=i) if quickly else run(module, *mine)

    with ThreadPoolExecutor(2) as both:
        return zip(*both.map(one, range(2)))


def weights(folder):
    return safetensors.numpy.load_file(folder / "model.safetensors")


@pytest.mark.parametrize(
    ("steps", "as_users_compile"), [(6, False), pytest.param(12, True, marks=pytest.mark.slow)]
)
def test_pretraining_in_two_processes_equals_one(tmp_path, monkeypatch, steps, as_users_compile):
    """Compiled as tests are, rounding grows past the bound after step 8: so 12 as users compile."""
    if as_users_compile:
        monkeypatch.setenv("XLA_FLAGS", "")
    alone = run if as_users_compile else run_quickly
    arguments = ["--preset=tiny", "--mesh=data:4", "--size_limits=36", "--snapshots="]
    arguments += [
        f"--steps={steps}",
        f"--log_every={steps // 3}",
        "--checkpoint_every=3",
        "--eval_every=100",  # after an evaluation there is a checkpoint, too
        "--model.layers=1",
    ]
    arguments += ["--eval_tasks=16", "--final_eval_tasks=16"]
    code, _, err = alone("pretrain", *arguments, f"--workdir={tmp_path / 'one'}")
    assert code == 0, err
    codes, outs, errs = two_processes(
        "pretrain", *arguments, f"--workdir={tmp_path / 'two'}", quickly=not as_users_compile
    )
    assert codes == (0, 0), errs
    assert "held-out" in outs[0]
    assert "held-out" not in outs[1]
    one, two = (without_times(tmp_path / name / "metrics.jsonl") for name in ("one", "two"))
    assert len(one) == len(two) > 3
    for expected, line in zip(one, two):
        assert line == pytest.approx(expected, abs=1e-5, rel=1e-5)
    expected = weights(tmp_path / "one" / "model")
    assert_close(weights(tmp_path / "two" / "model"), expected)
    if not as_users_compile:
        return
    # One process goes on from what two have saved: as if both had been killed before the end.
    shutil.rmtree(tmp_path / "two" / "model")
    shutil.rmtree(tmp_path / "two" / "checkpoints" / str(steps))
    code, out, err = alone("pretrain", *arguments, f"--workdir={tmp_path / 'two'}")
    assert code == 0, err
    assert f"resuming at step {steps - 3} of {steps}" in out
    assert_close(weights(tmp_path / "two" / "model"), expected)


def assert_close(found, expected):
    for name, leaf in expected.items():
        assert np.allclose(found[name], leaf, atol=1e-5), name


def test_a_population_in_two_processes_equals_one(tiny_weights, tmp_path):
    arguments = ["--task=9-squares,9-vertical-lines", "--seeds=3", "--mesh=data:4"]
    arguments += [f"--checkpoint={tiny_weights}", "--programs=8", "--partners=0", "--max_epochs=3"]
    arguments += ["--minibatch=2", "--max_draws=6", "--learning_rate=1e-4"]
    code, _, err = run_quickly("her_adapt", *arguments, f"--workdir={tmp_path / 'one'}")
    assert code == 0, err
    # Clocks differ: here one wants to save after every look, and the other never.
    clocks = ["--save_every=0"], ["--save_every=1000"]
    codes, outs, errs = two_processes(
        "her_adapt", *arguments, f"--workdir={tmp_path / 'two'}", each=clocks
    )
    assert codes == (0, 0), errs
    assert "9-squares, seed 2" in outs[0]
    assert "9-squares" not in outs[1]
    one, two = (without_times(tmp_path / name / "results.jsonl") for name in ("one", "two"))
    assert len(one) == 6
    assert one == two


@pytest.mark.slow
def test_bad_input_stops_both_processes(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    codes, _, errs = two_processes(
        "pretrain", "--preset=tiny", "--mesh=data:4", f"--workdir={tmp_path}"
    )
    assert codes == (2, 2)
    assert "is not empty and holds no run" in errs[0]
    assert "the first process failed" in errs[1]


POPULATION = ["--task=9-squares,9-vertical-lines", "--seeds=6", "--mesh=data:8", "--save_every=0"]
POPULATION += ["--programs=8", "--partners=11", "--minibatch=2", "--max_draws=6", "--slots=8"]
POPULATION += ["--max_epochs=24"]
PRETRAINING = ["--preset=tiny", "--mesh=data:8", "--size_limits=36", "--snapshots=", "--steps=24"]
PRETRAINING += ["--log_every=6", "--checkpoint_every=3", "--eval_tasks=16"]
PRETRAINING += ["--final_eval_tasks=16"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "arguments"), [("pretrain", PRETRAINING), ("her_adapt", POPULATION)]
)
def test_four_processes_end_bit_for_bit_as_if_none_had_been_killed(
    tiny_weights, tmp_path, module, arguments
):
    """The others are killed with it, as SLURM and Kubernetes do, and all are started again."""
    if module == "her_adapt":
        arguments = [*arguments, f"--checkpoint={tiny_weights}"]

    def begin(name):
        where = f"--workdir={tmp_path / name}"
        return [start(module, *arguments, where, *flags) for flags in joining(4)]

    def end(processes):
        with ThreadPoolExecutor(4) as threads:
            outs, errs = zip(*threads.map(lambda each: each.communicate(timeout=500), processes))
        assert [each.returncode for each in processes] == [0] * 4, errs
        return outs

    end(begin("whole"))
    processes = begin("killed")
    checkpoints = tmp_path / "killed" / "checkpoints"
    while not any(path.name.isdigit() for path in checkpoints.rglob("*")):
        assert [each.poll() for each in processes] == [None] * 4
        time.sleep(0.05)
    for each in (processes[2], *processes):
        each.kill()
        time.sleep(0.5)
    for each in processes:
        each.communicate()
    outs = end(begin("killed"))
    assert "resuming" in outs[0]
    assert not any("step" in out or "solved" in out for out in outs[1:])  # the first one tells
    expected = outcome(tmp_path / "whole")
    assert len(expected) == 4 if module == "pretrain" else len(expected) > 4
    assert outcome(tmp_path / "killed") == expected
