"""Success over seeds: python -m experiments.study --task=9-squares,25-squares --seeds=10

Runs every task with seeds 0 .. n - 1, appends a line a run to results.jsonl (a run found there is
not repeated), and prints solve rates with Wilson 95 % intervals and programs to solve.

Settings are tuned on ``--task=tuning`` alone: random pictures, none of them a named one.
"""

import dataclasses
import json
import pathlib
import time

import numpy as np
from absl import flags
from rich.console import Console
from rich.table import Table

import herjax
from experiments import cli
from herjax import config as config_lib
from herjax.her import AdaptConfig
from herjax.picture_suite import Picture, from_runs

TASK = flags.DEFINE_string(
    "task", "25-squares", "Names, with commas; all; tuning; or tuning-grids."
)
SEEDS = flags.DEFINE_integer("seeds", 10, "Seeds of each task.", lower_bound=1)
CHECKPOINT = flags.DEFINE_string("checkpoint", "base", "Shipped name, or folder with weights.")
WORKDIR = flags.DEFINE_string("workdir", None, "Folder for results.jsonl.", required=True)
config_lib.define_flags(AdaptConfig())


def tuning_pictures(count: int = 6, pieces: int = 20) -> dict[str, Picture]:
    """10x10 canvases cut at random into rectangles of random colours, by guillotine cuts."""
    pictures = {}
    for index in range(count):
        rng = np.random.default_rng((20261123, index))
        parts = [(0, 0, 10, 10)]
        while len(parts) < pieces:
            areas = np.array([h * w if h * w > 1 else 0 for _, _, h, w in parts], float)
            r, c, h, w = parts.pop(rng.choice(len(parts), p=areas / areas.sum()))
            if rng.random() < h / (h + w) and h > 1 or w == 1:
                cut = int(rng.integers(1, h))
                parts += [(r, c, cut, w), (r + cut, c, h - cut, w)]
            else:
                cut = int(rng.integers(1, w))
                parts += [(r, c, h, cut), (r, c + cut, h, w - cut)]
        target = np.zeros((10, 10), np.int8)
        for r, c, h, w in parts:
            target[r : r + h, c : c + w] = rng.integers(0, 10)
        pictures[f"tuning-{index}"] = from_runs(target)
    return pictures


def tuning_grids(count: int = 3, parts: int = 5) -> dict[str, Picture]:
    """10x10 canvases cut into ``parts`` x ``parts`` rectangles of uneven sides, random colours."""
    pictures = {}
    for index in range(count):
        rng = np.random.default_rng((20261124, index))
        cuts = [np.sort(rng.choice(np.arange(1, 10), parts - 1, replace=False)) for _ in range(2)]
        block = np.stack([np.searchsorted(cut, np.arange(10), side="right") for cut in cuts])
        colours = rng.integers(0, 10, (parts, parts))
        target = colours[block[0][:, None], block[1][None, :]].astype(np.int8)
        pictures[f"tuning-grid-{index}"] = from_runs(target)
    return pictures


def main(_):
    config = config_lib.read_flags(AdaptConfig(), flags.FLAGS)
    pretrained = herjax.load_pretrained(CHECKPOINT.value)
    if TASK.value == "tuning":
        tasks = {**tuning_pictures(), **tuning_grids()}
    elif TASK.value == "tuning-grids":
        tasks = tuning_grids()
    else:
        tasks = cli.chosen_tasks(TASK.value, pretrained.model.config.max_side)
    folder = pathlib.Path(WORKDIR.value)
    path = folder / "results.jsonl"
    settings = json.loads(json.dumps(dataclasses.asdict(config)))
    cli.claim(folder, {"weights_sha256": pretrained.info["sha256"], **settings})
    runs = cli.read_lines(path)
    cli.write_lines(path, runs)
    console = Console()
    stop = cli.StopSignals()

    def on_epoch(*_):
        stop.leave("finished runs are kept")

    for name, picture in tasks.items():
        for seed in range(SEEDS.value):
            if any(run["task"] == name and run["seed"] == seed for run in runs):
                continue
            start = time.monotonic()
            with stop:
                result = herjax.adapt(
                    picture.target,
                    picture.input,
                    params=pretrained,
                    seed=seed,
                    config=config,
                    on_epoch=on_epoch,
                )
            best = [float(epoch.accuracy.max()) for epoch in result.history]
            run = {
                "task": name,
                "seed": seed,
                "solved": result.solved,
                "epochs": len(best),
                "programs": len(best) * len(config.epoch_temperatures),
                "best_accuracy": max(best),
                "draws": len(result.program),
                "distinct": [int(epoch.distinct) for epoch in result.history],
                "best": [round(value, 4) for value in best],
                "seconds": round(time.monotonic() - start, 2),
            }
            runs.append(run)
            cli.append_line(path, run)
            shown = {key: run[key] for key in ("task", "seed", "solved", "programs")}
            console.print({**shown, "best": run["best_accuracy"], "seconds": run["seconds"]})
    console.print(summary([run for run in runs if run["task"] in tasks]))


def summary(runs: list[dict]) -> Table:
    """Solve rate and programs to solve by task; unsolved runs count as above the budget."""
    table = Table("task", "solved", "Wilson 95 %", "median programs", "range", "seconds a run")
    table.columns[0].no_wrap = True
    for task in dict.fromkeys(run["task"] for run in runs):
        mine = [run for run in runs if run["task"] == task]
        solved = sum(run["solved"] for run in mine)
        low, high = herjax.wilson_interval(solved, len(mine))
        needed = sorted(run["programs"] if run["solved"] else np.inf for run in mine)
        median = float(np.median(needed)) if np.isfinite(needed).any() else np.inf
        show = lambda value: f"{value:.0f}" if np.isfinite(value) else "not solved"  # noqa: E731
        table.add_row(
            task,
            f"{solved} of {len(mine)}",
            f"{low:.2f} .. {high:.2f}",
            show(median),
            f"{show(needed[0])} .. {show(needed[-1])}",
            f"{np.median([run['seconds'] for run in mine]):.1f}",
        )
    return table


if __name__ == "__main__":
    cli.run(main)
