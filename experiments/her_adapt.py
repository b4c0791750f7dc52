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
from herjax.checkpoint import Checkpoints
from herjax.her import AdaptConfig, AdaptState, EpochMetrics, compiled_epoch, init_adaptation
from herjax.picture_suite import Picture
from herjax.source import format_program, format_script
from herjax.weights import Pretrained, write_atomically

TASK = flags.DEFINE_string("task", "25-squares", "Names from --list_tasks, with commas; or all.")
LIST_TASKS = flags.DEFINE_bool("list_tasks", False, "Print the names of all tasks and leave.")
CHECKPOINT = flags.DEFINE_string("checkpoint", "base", "Shipped name, or folder with weights.")
SEED = flags.DEFINE_integer(
    "seed", 0, "Of everything random.", lower_bound=0, upper_bound=cli.MAX_SEED
)
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; default runs/TASK-seedSEED.")
config_lib.define_flags(AdaptConfig())

SAVE_EVERY = 20.0  # seconds between checkpoints


class History:
    """What happened in every epoch, in arrays of fixed size, so that it can be checkpointed."""

    def __init__(self, config: AdaptConfig, shape: tuple[int, int]):
        epochs, programs = config.max_epochs, len(config.epoch_temperatures)
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


COLUMNS = ("epoch", "best %", "mean %", "distinct", "new", "draws", "programs", "seconds")


def epoch_row(history: dict[str, np.ndarray], epoch: int, programs: int) -> list[str]:
    """What the live view says of an epoch."""
    accuracy = 100 * history["accuracy"][epoch]
    return [
        str(epoch),
        f"{accuracy.max():.1f}",
        f"{accuracy.mean():.1f}",
        str(history["distinct"][epoch]),
        str(history["new"][epoch]),
        f"{history['draws'][epoch]:.1f}",
        str((epoch + 1) * programs),
        f"{history['seconds'][: epoch + 1].sum():.1f}",
    ]


class LiveView:
    """A table of the last epochs and the best picture; plain rows without a terminal."""

    def __init__(self, console: Console, programs: int):
        self.console, self.programs = console, programs
        self.live = Live(console=console, auto_refresh=False)

    def __enter__(self):
        if self.console.is_terminal:
            self.live.start()
        else:
            self.console.print(" ".join(f"{name:>8}" for name in COLUMNS))
        return self

    def __exit__(self, *_):
        self.live.stop()

    def show(self, history: dict[str, np.ndarray]) -> None:
        """Show the newest epoch."""
        done = len(history["seconds"])
        picture = history["best_picture"][-1]
        shown = min(
            max(self.console.height - len(picture) - 6, 3), 20
        )  # what fits with the picture
        rows = [epoch_row(history, e, self.programs) for e in range(max(0, done - shown), done)]
        if not self.console.is_terminal:
            self.console.print(" ".join(f"{cell:>8}" for cell in rows[-1]), highlight=False)
            return
        table = Table(*COLUMNS)
        for column in table.columns:
            column.justify = "right"
        for row in rows:
            table.add_row(*row)
        self.live.update(Group(table, plotting.terminal_grid(picture)), refresh=True)


def adapt(
    run: dict, picture: Picture, pretrained: Pretrained, config: AdaptConfig, workdir: pathlib.Path
) -> None:
    """One adaptation with live view, files and resume."""
    if (workdir / "result.json").exists():
        print(f"{workdir} holds this run already, done: nothing to do")
        return
    console = Console()
    with cli.StopSignals() as stop:
        state, history, seconds_compile = run_epochs(
            console, picture, pretrained, config, Checkpoints(workdir / "checkpoints"), stop
        )
        result = write_files(workdir, picture, state, history, run, seconds_compile)
    best = max(result["best_accuracy"])
    console.print(format_program(np.asarray(state.best_program)), highlight=False)
    console.print(
        f"{run['task']}: {'solved' if result['solved'] else f'not solved, best {best:.1%}'}"
        f" after {result['epochs']} epochs, {result['programs_sampled']} programs,"
        f" {result['seconds_run']:.1f} s (+ {seconds_compile:.1f} s compiling);"
        f" files in {workdir}"
    )


def run_epochs(
    console: Console,
    picture: Picture,
    pretrained: Pretrained,
    config: AdaptConfig,
    checkpoints: Checkpoints,
    stop: cli.StopSignals,
) -> tuple[AdaptState, dict[str, np.ndarray], float]:
    """Epochs until solved or the limit, from the last checkpoint on.

    Returns:
      Last state, the history of all epochs, seconds spent compiling.
    """
    model = pretrained.model
    task = herjax.make_task(picture.target, picture.input, model.config.max_side)
    key = jax.random.key(SEED.value)
    state = init_adaptation(pretrained.params, config, key, picture.target.size)
    history = History(config, picture.target.shape)
    done = 0
    restored = checkpoints.restore_latest({"state": state, "history": history.arrays})
    if restored is not None:
        done, saved = restored
        state = saved["state"]
        history.arrays = {name: np.array(array) for name, array in saved["history"].items()}
        console.print(f"resuming after epoch {done - 1}")
    solved = bool(history.arrays["solved"][done - 1]) if done else False

    start = time.monotonic()
    epoch = compiled_epoch.lower(model, state, task, config).compile()
    seconds_compile = time.monotonic() - start
    console.print(f"compiled in {seconds_compile:.1f} s")
    saved_at = time.monotonic()
    with LiveView(console, len(config.epoch_temperatures)) as view:
        while done < config.max_epochs and not solved:
            start = time.monotonic()
            state, metrics = epoch(state, task)
            metrics = jax.device_get(metrics)
            history.add(done, metrics, time.monotonic() - start)
            solved = bool(metrics.solved)
            done += 1
            view.show(history.first(done))
            if stop.received:
                break
            if time.monotonic() - saved_at > SAVE_EVERY:
                checkpoints.save(done, {"state": state, "history": history.arrays})
                saved_at = time.monotonic()
    checkpoints.save(done, {"state": state, "history": history.arrays})
    stop.leave(f"saved after epoch {done - 1}")
    return state, history.first(done), seconds_compile


def write_files(
    workdir: pathlib.Path,
    picture: Picture,
    state: AdaptState,
    history: dict[str, np.ndarray],
    run: dict,
    seconds_compile: float,
) -> dict:
    """Figures, solution, and last the result, which marks the run as done; -> the result."""
    best, mean = history["accuracy"].max(axis=1), history["accuracy"].mean(axis=1)
    result = {
        **run,
        "solved": bool(history["solved"][-1]),
        "epochs": len(best),
        "programs_sampled": history["accuracy"].size,
        "best_accuracy": best.tolist(),
        "mean_accuracy": mean.tolist(),
        "seconds_compile": seconds_compile,
        "seconds_run": float(history["seconds"].sum()),
        "versions": cli.versions(),
        "device": jax.devices()[0].device_kind,
    }
    plotting.best_predictions(
        workdir / "best_predictions.png", picture.target, history["best_picture"], best
    )
    plotting.accuracy_distribution(workdir / "accuracy_distribution.png", history["accuracy"])
    script = format_script(np.asarray(state.best_program), picture.input)
    write_atomically(workdir / "solution.py", script.encode())
    write_atomically(workdir / "result.json", json.dumps(result, indent=2).encode() + b"\n")
    return result


def main(_):
    if LIST_TASKS.value:
        for name, picture in herjax.pictures().items():
            rows, cols = picture.target.shape
            print(f"{name}  {rows}x{cols}")
        return
    config = config_lib.read_flags(AdaptConfig(), flags.FLAGS)
    pretrained = herjax.load_pretrained(CHECKPOINT.value)
    tasks = cli.chosen_tasks(TASK.value, pretrained.model.config.max_side)
    runs = []
    for name in tasks:
        folder = pathlib.Path(WORKDIR.value or f"runs/{name}-seed{SEED.value}")
        run = {
            "task": name,
            "seed": SEED.value,
            "weights_sha256": pretrained.info["sha256"],
            "config": json.loads(json.dumps(dataclasses.asdict(config))),
        }
        runs.append((run, folder / name if WORKDIR.value and len(tasks) > 1 else folder))
    for run, folder in runs:  # all of them before the first starts
        cli.claim(folder, run)
    for run, folder in runs:
        adapt(run, tasks[run["task"]], pretrained, config, folder)


if __name__ == "__main__":
    cli.run(main)
