"""Adapt a pretrained decoder to pictures: python -m experiments.her_adapt --task=25-squares

Several tasks (--task=all) and seeds (--seeds=10) adapt together, as a population. Stopped or
killed, the same command continues where it was.
"""

import dataclasses
import hashlib
import importlib
import json
import os
import pathlib
import statistics
import threading
import time
from functools import partial

import jax
import numpy as np
from absl import flags
from rich.table import Table

import herjax
from experiments import cli
from experiments.live_view import LiveView, Member
from herjax import config as config_lib
from herjax import processes, program_cache, story
from herjax.adaptation import Result, make_result
from herjax.checkpoint import Checkpoints
from herjax.her import AdaptConfig
from herjax.metrics import least_draws
from herjax.model import DTYPES
from herjax.population import CHUNK, Population, by_shape
from herjax.report import make_overview, make_report
from herjax.source import format_script
from herjax.stats import percent
from herjax.weights import BASES, Pretrained, pretrained_for, save_weights, write_atomically

TASK = flags.DEFINE_string(
    "task",
    "25-squares",
    "With commas: names from --list_tasks; files (ARC .json, .json#train.0.output, .png, .gif,"
    " rows of digits, - for standard input); arc1:ID. Or all, or tuning, or"
    " arc200: the first 200 outputs of ARC-AGI-1 that are at most 10x10, or emoji: 20 of 20x20.",
)
BACKGROUND = flags.DEFINE_integer(
    "background", None, "Colour of the blank input of a file's picture; default its most common."
)
CELL_SIZE = flags.DEFINE_integer("cell_size", 1, "Pixels a cell, of image files.", lower_bound=1)
LIST_TASKS = flags.DEFINE_bool("list_tasks", False, "Print all tasks and sets of tasks, and leave.")
CHECKPOINT = flags.DEFINE_string(
    "checkpoint",
    None,
    "Shipped name, or folder with weights. Default: the shipped base for the size of the picture.",
)
DTYPE = flags.DEFINE_enum(
    "dtype", None, DTYPES, "What the decoder computes products in; default: as its weights say."
)
SEED = flags.DEFINE_integer("seed", 0, "The first seed.", lower_bound=0, upper_bound=cli.MAX_SEED)
SEEDS = flags.DEFINE_integer("seeds", 1, "Seeds of each task.", lower_bound=1, upper_bound=10**6)
SLOTS = flags.DEFINE_integer(
    "slots", 0, "Members at the same time; 0: what suits the device.", lower_bound=0
)
SAVE_WEIGHTS = flags.DEFINE_bool("save_weights", False, "Keep the adapted weights, in model/.")
SAVE_EVERY = flags.DEFINE_float("save_every", 20.0, "Seconds between checkpoints.", lower_bound=0)
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; default runs/TASK-seedSEED.")
PLAIN = flags.DEFINE_bool(
    "plain",
    False,
    "Plain HER: no recombination, and the settings that were best without it.",
)
config_lib.define_flags(AdaptConfig())
flags.adopt_module_key_flags(cli)  # into --help


MAX_TASK_ROWS = 30  # of the summary


# ---- Running ------------------------------------------------------------------------------------


def run_group(
    members: list[Member],
    pretrained: Pretrained,
    config: AdaptConfig,
    mesh: jax.sharding.Mesh,
    checkpoints: Checkpoints,
    view: LiveView,
    stopwatch: cli.Stopwatch,
) -> None:
    """Adapt the members of one canvas shape; those whose result.json is there have ended."""
    ended = {i for i, member in enumerate(members) if (member.folder / "result.json").exists()}
    population = make_population(members, pretrained, config, mesh)
    epochs, seconds = np.zeros(len(members), int), np.zeros((len(members), 2))
    saved = checkpoints.restore_latest(lambda info: population.like(info["members"]))
    if saved is None:
        population.waiting = [i for i in population.waiting if i not in ended]
    else:
        _, state, info = saved
        epochs, seconds = np.array(info["epochs"]), np.array(info["seconds"])
        population.restore(state, info["members"], ended)
        view.console.print(f"resuming after {epochs.sum()} epochs", highlight=False)
    stopwatch.lap()
    saved_at = time.monotonic()

    def save():
        state = {"members": population.members, "epochs": epochs, "seconds": seconds}
        info = {name: values.tolist() for name, values in state.items()}
        checkpoints.save(int(epochs.sum()), population.state, info)

    with cli.StopSignals() as stop:
        while not population.done:
            advances = population.advance(1 if len(view.members) == 1 else CHUNK)
            which, now = [a.member for a in advances], [a.epoch for a in advances]
            # Each member's share of the time: by its epochs; of compiling, an equal one.
            running, compiling = stopwatch.lap()
            share = (now - epochs[which]) / max(np.sum(now - epochs[which]), 1)
            epochs[which] = now
            seconds[which, 0] += running * share
            seconds[which, 1] += compiling / len(which)
            view.show([(members[a.member], a, seconds[a.member, 0]) for a in advances])
            for advance in advances:
                if advance.ended is not None:
                    member, spent = members[advance.member], seconds[advance.member]
                    result = make_result(advance.ended, config)
                    write = partial(write_files, member, result, pretrained, config, spent)
                    processes.on_first(write)
                    view.end(member, result, spent)
            stopwatch.lap()  # writing is nobody's share
            if stop.came():
                save()
                stop.leave(f"saved after {epochs.sum()} epochs in all")
            if time.monotonic() - saved_at >= SAVE_EVERY.value:
                save()
                saved_at = time.monotonic()


def make_population(
    members: list[Member], pretrained: Pretrained, config: AdaptConfig, mesh: jax.sharding.Mesh
) -> Population:
    """Its keys are those of ``herjax.adapt`` with the members' seeds."""
    side = pretrained.model.config.max_side
    keys = [jax.random.key_data(jax.random.key(member.seed)) for member in members]
    return Population(
        pretrained.model,
        pretrained.params,
        [herjax.make_task(m.picture.target, m.picture.input, side) for m in members],
        jax.random.wrap_key_data(np.stack(keys)),
        config,
        mesh=mesh,
        slots=SLOTS.value,
    )


def write_files(
    member: Member, result: Result, pretrained: Pretrained, config: AdaptConfig, seconds: np.ndarray
) -> None:
    """Figures, solution, and last result.json, which marks the member as done."""
    from herjax import plotting  # by now imported, see main

    history = jax.tree.map(lambda *rows: np.stack(rows), *result.history)
    best, attempts = history.accuracy.max(axis=1), history.accuracy[:, : config.sampled]
    values = {
        "task": member.task,
        "seed": member.seed,
        "solved": result.solved,
        "epochs": len(best),
        "programs_sampled": attempts.size,
        "programs_run": int(history.run.sum()),
        "best_accuracy": best.tolist(),
        "best_attempt": attempts.max(axis=1).tolist(),
        "mean_attempt": attempts.mean(axis=1).tolist(),
        "draws": len(result.program),
        "least_draws": least_draws(member.picture.target, member.picture.input),
        "colours": len(np.unique(member.picture.target)),
        "seconds_run": seconds[0],
        "seconds_compile": seconds[1],
        "weights_sha256": pretrained.info["sha256"],
        "config": dataclasses.asdict(config),
        "versions": cli.versions(),
        "device": jax.devices()[0].device_kind,
    }
    folder, picture = member.folder, member.picture
    folder.mkdir(parents=True, exist_ok=True)
    rows = {"sampled": config.sampled, "kept": config.kept}
    best_of_epochs = story.highlights(picture, history, **rows)
    plotting.best_predictions(
        folder / "best_predictions.png", picture.target, *zip(*best_of_epochs)
    )
    moments, milliseconds = story.film(picture, history, result.program, **rows)
    plotting.animation(folder / "adaptation.gif", picture.target, *zip(*moments), milliseconds)
    plotting.accuracy_distribution(
        folder / "accuracy_distribution.png", story.accuracies(history, **rows)
    )
    about = {name: values[name] for name in ("device", "versions", "weights_sha256")}
    about = {"seed": member.seed, **values["config"], **about}
    page = make_report(f"herjax: {member.task}", picture, history, result.program, about, **rows)
    write_atomically(folder / "report.html", page.encode())
    write_atomically(folder / "solution.py", format_script(result.program, picture.input).encode())
    if SAVE_WEIGHTS.value:
        info = {"adapted_to": member.task, "seed": member.seed}
        save_weights(folder / "model", pretrained.model.config, result.params, info)
    write_atomically(folder / "result.json", json.dumps(values, indent=2).encode() + b"\n")


def read_results(members: list[Member]) -> list[dict]:
    """The results of the members that have ended."""
    files = [member.folder / "result.json" for member in members]
    return [json.loads(file.read_text()) for file in files if file.exists()]


def write_summary(workdir: pathlib.Path, members: list[Member], results: list[dict]) -> None:
    """results.jsonl, and report.html with a link to each member's."""
    rows = [
        {
            "task": result["task"],
            "seed": result["seed"],
            "solved": "yes" if result["solved"] else "no",
            "best": percent(max(result["best_accuracy"])),
            "programs sampled": result["programs_sampled"],
            "programs run": result["programs_run"],
            "draws": result["draws"],
            "seconds": f"{result['seconds_run']:.1f}",
            "link": f"{member.folder.name}/report.html",
        }
        for member, result in zip(members, results)
    ]
    page = make_overview(f"herjax: {len(rows)} adaptations", rows)
    write_atomically(workdir / "report.html", page.encode())
    cli.write_lines(workdir / "results.jsonl", results)


def summary(results: list[dict]) -> list[Table]:
    """Solve rates by task; for many tasks instead by their colours and by their least draws."""
    tasks = list(dict.fromkeys(result["task"] for result in results))
    if len(tasks) <= MAX_TASK_ROWS:
        return [solve_rates(results, "task", tasks)]
    return [
        solve_rates(results, key, [*sorted({result[key] for result in results}), "all"])
        for key in ("colours", "least_draws")
    ]


def solve_rates(results: list[dict], key: str, values: list) -> Table:
    """A row for each value of a key. Unsolved runs count as above the budget of programs."""
    columns = ("solved", "Wilson 95 %", "median sampled", "range", "median run", "median seconds")
    table = Table(key.replace("_", " "), *columns)
    table.columns[0].no_wrap = True

    def show(programs):
        return f"{programs:.0f}" if np.isfinite(programs) else "not solved"

    for value in values:
        mine = [result for result in results if value in (result[key], "all")]
        solved = sum(result["solved"] for result in mine)
        low, high = herjax.wilson_interval(solved, len(mine))
        needed = sorted(r["programs_sampled"] if r["solved"] else np.inf for r in mine)
        table.add_row(
            str(value),
            f"{solved} of {len(mine)}",
            f"{low:.2f} .. {high:.2f}",
            show(statistics.median(needed)),
            f"{show(needed[0])} .. {show(needed[-1])}",
            f"{statistics.median(result['programs_run'] for result in mine):.0f}",
            f"{statistics.median(result['seconds_run'] for result in mine):.1f}",
        )
    return table


def main(_):
    if LIST_TASKS.value:
        for name, picture in herjax.pictures().items():
            rows, cols = picture.target.shape
            print(f"{name}  {rows}x{cols}")
        print(f"sets: all, {', '.join(cli.TASK_SETS)}")
        return
    defaults = AdaptConfig.plain() if PLAIN.value else AdaptConfig()
    config = config_lib.read_flags(defaults, flags.FLAGS)
    is_set = TASK.value == "all" or TASK.value in cli.TASK_SETS
    many = SEEDS.value > 1 or is_set or "," in TASK.value
    # On CPUs one member is fastest on one device with all cores, many are on one device a core.
    cli.use_devices(cpu_devices=os.cpu_count() if many else 1)
    given = herjax.load_pretrained(CHECKPOINT.value) if CHECKPOINT.value else None
    side = (given or herjax.load_pretrained(BASES[-1])).model.config.max_side
    pictures = cli.chosen_tasks(TASK.value, side, BACKGROUND.value, CELL_SIZE.value)
    seeds = range(SEED.value, SEED.value + SEEDS.value)
    name = TASK.value if is_set else "+".join(pictures)
    name += f"-seed{'-'.join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))}"
    workdir = pathlib.Path(WORKDIR.value or f"runs/{name}")
    shapes = {picture.target.shape for picture in pictures.values()}
    pretrained = {shape: given or pretrained_for(shape) for shape in shapes}
    if DTYPE.value:
        pretrained = {s: p.computing_in(DTYPE.value) for s, p in pretrained.items()}
    grids = [grid for picture in pictures.values() for grid in (picture.input, picture.target)]
    run = {
        "task": ",".join(pictures),
        "pictures_sha256": hashlib.sha256(repr([p.tolist() for p in grids]).encode()).hexdigest(),
        "seeds": [seeds[0], seeds[-1]],
        "weights_sha256": ",".join(sorted({p.info["sha256"] for p in pretrained.values()})),
        "dtype": ",".join(sorted({p.model.config.dtype for p in pretrained.values()})),
        "config": json.loads(json.dumps(dataclasses.asdict(config))),
    }
    members = [
        Member(task, seed, picture, workdir / f"{task}-seed{seed}")
        for task, picture in pictures.items()
        for seed in seeds
    ]
    if len(members) == 1:
        members = [members[0]._replace(folder=workdir)]
    mesh = cli.mesh(len(members))
    cli.claim(workdir, run)
    view, stopwatch = LiveView(members, config), cli.Stopwatch()
    # Matplotlib takes most of a second to import: meanwhile XLA compiles, or runs an epoch.
    threading.Thread(target=importlib.import_module, args=["herjax.plotting"], daemon=True).start()
    with view:
        for group in by_shape([member.picture for member in members]):
            mine = [members[i] for i in group]
            rows, cols = shape = mine[0].picture.target.shape
            checkpoints = Checkpoints(workdir / "checkpoints" / f"{rows}x{cols}")
            run_group(mine, pretrained[shape], config, mesh, checkpoints, view, stopwatch)
            if view.ended < len(members):
                program_cache.clear()  # no other shape needs these programs
    if len(members) > 1:
        results = read_results(members)
        processes.on_first(lambda: write_summary(workdir, members, results))
        for table in summary(results):
            view.console.print(table)
    if not view.ended:
        cli.say(f"{workdir} holds this run already, done: nothing to do")


if __name__ == "__main__":
    cli.run(main)
