"""Run the command lines as users do: in processes of their own."""

import atexit
import functools
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parents[1]

ENVIRONMENT = {**os.environ}  # before a test changes it


def start(module, *arguments, package="experiments", environment=os.environ, **streams):
    """Start ``python -m experiments.MODULE``."""
    environment = {**environment, "PYTHONUNBUFFERED": "1"}
    environment.pop("JAX_NUM_CPU_DEVICES", None)
    return subprocess.Popen(
        [sys.executable, "-m", f"{package}.{module}", *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        text=True,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams},
    )


def run(module, *arguments):
    """-> return code, standard output, standard error."""
    process = start(module, *arguments)
    out, err = process.communicate(timeout=400)
    return process.returncode, out, err


@functools.cache
def _warm(number=0):
    streams = {"stdin": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    process = start("warm", package="tests", environment=ENVIRONMENT, **streams)
    atexit.register(process.kill)
    return process


def run_quickly(module, *arguments, number=0, where=ROOT):
    """As ``run``, in a fork of a process that has imported herjax: for commands that soon end.

    Commands that run at the same time are forks of different processes, by ``number``. ``where`` is
    the folder to run it in.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = [f"{folder}/out", f"{folder}/err"]
        process = _warm(number)
        order = [module, [*map(str, arguments)], str(where), *files]
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()
        code = int(process.stdout.readline())
        return code, *(pathlib.Path(file).read_text() for file in files)


def stop_once(process, pattern, number):
    """Send a signal when a line of standard output matches; -> return code, all output."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if re.search(pattern, line):
            process.send_signal(number)
            break
    out, err = process.communicate(timeout=400)
    return process.returncode, "".join(lines) + out, err


def contents(folder):
    """Every file below a folder and its bytes."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def without_times(path):
    """A JSON file, or the lines of one, without what differs between two equal runs."""
    lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    return [{k: v for k, v in json.loads(line).items() if "second" not in k} for line in lines]
