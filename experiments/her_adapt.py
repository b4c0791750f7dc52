"""Adapt a pretrained decoder to a picture: python -m experiments.her_adapt --task=25-squares

Stopped by Ctrl-C or SIGTERM, the same command continues where it was.
"""

import dataclasses
import json
import pathlib
import time

import jax
import numpy as np
from absl import flags
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

import herjax
from experiments import cli
from herjax import config as config_lib
from herjax import plotting
from herjax.checkpoint import CheckpointError, Checkpoints
from herjax.her import AdaptConfig, EpochMetrics, compiled_epoch, init_adaptation
from herjax.picture_suite import Picture
from herjax.source import format_program, format_script
from herjax.weights import Pretrained, write_atomically

TASK = flags.DEFINE_string("task", "25-squares", "Names from --list_tasks, with commas; or all.")
LIST_TASKS = flags.DEFINE_bool("list_tasks", False, "Print the names of all tasks and leave.")
CHECKPOINT = flags.DEFINE_string("checkpoint", "base", "Shipped name, or folder with weights.")
SEED = flags.DEFINE_integer("seed", 0, "Of everything random.", lower_bound=0)
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; default runs/TASK-seedSEED.")
config_lib.define_flags(AdaptConfig())

SAVE_EVERY = 20.0  # seconds between checkpoints


class History:
    """What happened in every epoch, in arrays of fixed size, so that it can be checkpointed."""

    def __init__(self, config: AdaptConfig, shape: tuple[int, int]):
        epochs, programs = config.max_epochs, sum(config.programs)
        self.arrays = {
            "accuracy": np.zeros((epochs, programs), np.float32),
            "best_picture": np.zeros((epochs, *shape), np.int8),
            **{name: np.zeros(epochs, np.int32) for name in ("distinct", "new", "trained")},
            **{name: np.zeros(epochs, np.float32) for name in ("draws", "loss", "seconds")},
            "solved": np.zeros(epochs, bool),
        }

    def add(self, epoch: int, metrics: EpochMetrics, seconds: float) -> None:
        values = {**vars(metrics), "seconds": seconds}
        for name, array in self.arrays.items():
            array[epoch] = values[name]

    def first(self, epochs: int) -> dict[str, np.ndarray]:
        """The arrays of the epochs done."""
        return {name: array[:epochs] for name, array in self.arrays.items()}


def epoch_table(history: dict[str, np.ndarray], programs: int) -> Table:
    """The live view's table: one row an epoch, the last twenty."""
    table = Table("epoch", "best %", "mean %", "distinct", "new", "draws", "programs", "seconds")
    for column in table.columns:
        column.justify = "right"
    seconds = np.cumsum(history["seconds"])
    for epoch in range(max(0, len(seconds) - 20), len(seconds)):
        accuracy = 100 * history["accuracy"][epoch]
        table.add_row(
            str(epoch),
            f"{accuracy.max():.1f}",
            f"{accuracy.mean():.1f}",
            str(history["distinct"][epoch]),
            str(history["new"][epoch]),
            f"{history['draws'][epoch]:.1f}",
            str((epoch + 1) * programs),
            f"{seconds[epoch]:.1f}",
        )
    return table


def adapt(
    name: str, picture: Picture, pretrained: Pretrained, config: AdaptConfig, workdir: pathlib.Path
) -> bool:
    """One adaptation with live view, files and resume; -> solved."""
    run = {
        "task": name,
        "seed": SEED.value,
        "weights_sha256": pretrained.info["sha256"],
        "config": json.loads(json.dumps(dataclasses.asdict(config))),
    }
    claim(workdir, run)
    if (workdir / "result.json").exists():
        print(f"{workdir} holds this run already, done: nothing to do")
        return json.loads((workdir / "result.json").read_text())["solved"]

    console = Console()
    model = pretrained.model
    task = herjax.make_task(picture.target, picture.input, model.config.max_side)
    key = jax.random.key(SEED.value)
    state = init_adaptation(pretrained.params, config, key, picture.target.size)
    history = History(config, picture.target.shape)
    checkpoints = Checkpoints(workdir / "checkpoints", run)
    done = 0
    restored = checkpoints.restore_latest({"state": state, "history": history.arrays})
    if restored is not None:
        done, saved = restored
        state, history.arrays = (
            saved["state"],
            {n: np.array(a) for n, a in saved["history"].items()},
        )
        console.print(f"resuming after epoch {done - 1}")

    start = time.monotonic()
    step = compiled_epoch.lower(model, state, task, config).compile()
    seconds_compile = time.monotonic() - start
    console.print(f"{name}, seed {SEED.value}: compiled in {seconds_compile:.1f} s")
    programs = sum(config.programs)
    saved_at = time.monotonic()
    solved = False
    with cli.StopSignals() as stop, Live(console=console, auto_refresh=False) as live:
        while done < config.max_epochs and not solved:
            start = time.monotonic()
            state, metrics = step(state, task)
            metrics = jax.device_get(metrics)
            history.add(done, metrics, time.monotonic() - start)
            solved = bool(metrics.solved)
            done += 1
            grid = plotting.terminal_grid(metrics.best_picture)
            live.update(Group(epoch_table(history.first(done), programs), grid), refresh=True)
            finished = solved or done == config.max_epochs
            if stop.received or (time.monotonic() - saved_at > SAVE_EVERY and not finished):
                checkpoints.save(done, {"state": state, "history": history.arrays})
                saved_at = time.monotonic()
            if stop.received:
                live.stop()
                cli.exit_stopped(stop, f"saved after epoch {done - 1}; the same command continues")

    program = np.asarray(state.best_program)
    result = {
        **run,
        "solved": solved,
        "epochs": done,
        "programs_sampled": done * programs,
        "best_accuracy": [float(a.max()) for a in history.first(done)["accuracy"]],
        "mean_accuracy": [float(a.mean()) for a in history.first(done)["accuracy"]],
        "seconds_compile": seconds_compile,
        "seconds_run": float(history.first(done)["seconds"].sum()),
        "versions": cli.versions(),
        "device": jax.devices()[0].device_kind,
    }
    write_files(workdir, picture, program, history.first(done), result)
    outcome = "solved" if solved else f"not solved, best {max(result['best_accuracy']):.1%}"
    console.print(
        f"{name}: {outcome} after {done} epochs, {done * programs} programs, "
        f"{result['seconds_run']:.1f} s (+ {seconds_compile:.1f} s compiling)"
    )
    console.print(format_program(program), highlight=False)
    return solved


def claim(workdir: pathlib.Path, run: dict) -> None:
    """Make the folder this run's own, or find that it is."""
    path = workdir / "run.json"
    if path.exists():
        try:
            other = json.loads(path.read_text())
        except ValueError:
            raise CheckpointError(f"damaged {path}: not JSON") from None
        if other != run:
            names = [name for name in run if other.get(name) != run[name]]
            raise CheckpointError(
                f"{workdir} holds another run (different {', '.join(names)});"
                " choose another --workdir"
            )
        return
    if workdir.exists() and any(workdir.iterdir()):
        raise CheckpointError(f"{workdir} is not empty and holds no run: choose another --workdir")
    workdir.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(run, indent=2).encode() + b"\n")


def write_files(workdir, picture: Picture, program, history: dict, result: dict) -> None:
    """Figures, solution, and last the result, which marks the run as done."""
    best = history["accuracy"].max(axis=1)
    plotting.best_predictions(
        workdir / "best_predictions.png", picture.target, history["best_picture"], best
    )
    plotting.accuracy_distribution(workdir / "accuracy_distribution.png", history["accuracy"])
    write_atomically(workdir / "solution.py", format_script(program, picture.input).encode())
    write_atomically(workdir / "result.json", json.dumps(result, indent=2).encode() + b"\n")


def main(_):
    if LIST_TASKS.value:
        for name, picture in herjax.pictures().items():
            rows, cols = picture.target.shape
            print(f"{name}  {rows}x{cols}")
        return
    config = config_lib.read_flags(AdaptConfig(), flags.FLAGS)
    pretrained = herjax.load_pretrained(CHECKPOINT.value)
    tasks = cli.chosen_tasks(TASK.value, pretrained.model.config.max_side)
    for name, picture in tasks.items():
        folder = pathlib.Path(WORKDIR.value or f"runs/{name}-seed{SEED.value}")
        if WORKDIR.value and len(tasks) > 1:
            folder = folder / name
        adapt(name, picture, pretrained, config, folder)


if __name__ == "__main__":
    cli.run(main)
