"""SIGKILL at random moments: the same command ends with the same bytes as an undisturbed run."""

import random
import time

import pytest

from tests.command_line import run, start
from tests.outcome import outcome

PRETRAIN = ["--preset=tiny", "--size_limits=36", "--snapshots=10", "--steps=60"]
PRETRAIN += ["--checkpoint_every=5", "--eval_every=20", "--eval_tasks=16", "--final_eval_tasks=16"]
ADAPT = [
    "--programs=8",
    "--partners=11",
    "--minibatch=2",
    "--max_draws=6",
    "--save_every=0",
    "--save_weights",
]
KINDS = {
    "pretrain": ("pretrain", PRETRAIN),
    "adapt": ("her_adapt", [*ADAPT, "--task=9-squares", "--max_epochs=40"]),
    "population": (
        "her_adapt",
        [*ADAPT, "--task=9-squares,9-vertical-lines", "--seeds=2", "--slots=2", "--max_epochs=24"],
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "kills"), [(kind, 7) for kind in KINDS])
def test_killed_runs_end_bit_for_bit_the_same(tiny_weights, tmp_path, kind, kills):
    module, arguments = KINDS[kind]
    if module == "her_adapt":
        arguments = [*arguments, f"--checkpoint={tiny_weights}"]
    for name in ("cold", "whole"):  # the second finds everything compiled
        begin = time.monotonic()
        code, _, err = run(module, *arguments, f"--workdir={tmp_path / name}")
        assert code == 0, err
        seconds = time.monotonic() - begin
    expected = outcome(tmp_path / "whole")
    assert len(expected) > 4
    assert any(name.endswith("metrics.jsonl") for name in expected)
    assert outcome(tmp_path / "cold") == expected
    moments = random.Random(kind)
    resumed = 0
    for kill in range(kills):
        for attempt in range(5):  # the timed run may have been a slow one
            workdir = tmp_path / f"killed-{kill}-{attempt}"
            process = start(module, *arguments, f"--workdir={workdir}")
            time.sleep(moments.uniform(0.3, 0.9) * seconds)
            process.kill()
            process.communicate()
            if process.returncode == -9:
                break
            seconds *= 0.9
        assert process.returncode == -9, "it always ended before it was killed"
        code, out, err = run(module, *arguments, f"--workdir={workdir}")
        assert code == 0, err
        resumed += "resuming" in out
        assert outcome(workdir) == expected
    print(
        f"{kind}: {kills} of {kills} killed runs end the same, {resumed} resumed from a checkpoint"
    )
    assert resumed > 0
