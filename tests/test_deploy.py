"""What a person takes to a cluster: as far as that can be checked without one."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from tests.command_line import ROOT, run, without_times

FOLDER = ROOT / "deploy"
SCRIPTS = sorted(FOLDER.glob("*.sh"))
# As SLURM's: two tasks of one node, told by the environment; it ends as the worst of them did.
SRUN = r"""#!/bin/bash
[ "$1" = --kill-on-bad-exit=1 ] && shift
export SLURM_STEP_NODELIST=localhost SLURM_NTASKS=2 SLURM_STEP_NUM_NODES=1
for i in 0 1; do
  SLURM_PROCID=$i SLURM_LOCALID=$i "$@" & tasks[i]=$!
done
echo "${tasks[@]}" > "$TASKS"
code=0
for task in "${tasks[@]}"; do
  one=0; wait "$task" || one=$?
  [ "$one" -gt "$code" ] && code=$one
done
exit "$code"
"""


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_parse_and_tell_their_usage(script):
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", script], check=True)
    done = subprocess.run(["bash", script], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: ")


def test_the_manifest_fits_the_schema():
    validate = pytest.importorskip("kubernetes_validate")
    yaml = pytest.importorskip("yaml")
    found = list(yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text()))
    assert [part["kind"] for part in found] == ["Service", "Job"]
    for part in found:
        validate.validate(part, validate.latest_version(), strict=True)
    service, job = found
    pods = job["spec"]["template"]
    assert service["spec"]["selector"].items() <= pods["metadata"]["labels"].items()
    assert pods["spec"]["subdomain"] == service["metadata"]["name"]
    (command,) = pods["spec"]["containers"][0]["args"]
    assert f"--num_processes={job['spec']['completions']}" in command
    assert f"--coordinator={job['metadata']['name']}-0.{pods['spec']['subdomain']}:" in command


def slurm(folder, *arguments):
    """Start the SLURM script where ``srun`` starts two processes here."""
    for name, text in {
        "srun": SRUN,
        "scontrol": '#!/bin/sh\necho "$@" > "$TASKS.requeued"\n',
    }.items():
        path = folder / name
        path.write_text(text)
        path.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{folder}:{os.environ['PATH']}",
        "PYTHON": sys.executable,
        "TASKS": str(folder / "tasks"),
        "SLURM_JOB_ID": str(random.randrange(10**6)),  # the port of the first process
    }
    environment.pop("JAX_NUM_CPU_DEVICES", None)
    return subprocess.Popen(
        ["bash", FOLDER / "slurm.sh", *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.slow
def test_a_slurm_job_that_is_stopped_queues_again_and_ends_as_one_process_does(tmp_path):
    arguments = ["--preset=tiny", "--size_limits=36", "--snapshots=", "--model.layers=1"]
    arguments += ["--steps=6", "--log_every=1", "--eval_tasks=16", "--final_eval_tasks=16"]
    folder, metrics = tmp_path / "two", tmp_path / "two" / "metrics.jsonl"
    (tmp_path / "bin").mkdir()
    job = slurm(tmp_path / "bin", "pretrain", *arguments, f"--workdir={folder}")
    while job.poll() is None and not (metrics.exists() and metrics.read_text()):
        time.sleep(0.05)
    for task in (tmp_path / "bin" / "tasks").read_text().split():
        os.kill(int(task), signal.SIGTERM)
    out, _ = job.communicate(timeout=400)
    assert job.returncode == 143, out
    assert "the same command continues" in out
    assert (tmp_path / "bin" / "tasks.requeued").read_text().startswith("requeue ")
    job = slurm(tmp_path / "bin", "pretrain", *arguments, f"--workdir={folder}")
    out, _ = job.communicate(timeout=400)
    assert job.returncode == 0, out
    assert out.count("held-out") == 1
    code, _, err = run("pretrain", *arguments, "--mesh=data:2", f"--workdir={tmp_path / 'one'}")
    assert code == 0, err
    one, two = without_times(tmp_path / "one" / "metrics.jsonl"), without_times(metrics)
    assert len(one) == len(two)
    for expected, line in zip(one, two):
        assert line == pytest.approx(expected, abs=1e-5, rel=1e-5)
