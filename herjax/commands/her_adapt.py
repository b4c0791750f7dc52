"""Adapt a pretrained decoder to pictures: python -m experiments.her_adapt --task=25-squares

Several tasks (--task=all) and seeds (--seeds=10) adapt together, as a population. Stopped or
killed, the same command continues where it was.
"""

import hashlib
import logging
import pathlib
import signal
import time
from collections.abc import Iterator

import jax
import numpy as np
from absl import flags

import herjax
from herjax.commands import cli, events
from herjax.commands.flags import (
    define_flags,
    define_function,
    function_named,
    own_code,
    read_flags,
    to_json,
)
from herjax.commands.group import Group
from herjax.commands.live_view import LiveView
from herjax.commands.member import Member, Writer, write_files
from herjax.commands.named_tasks import TASK_SETS, chosen_tasks, files_of
from herjax.commands.results import RESULT, damage, set_aside
from herjax.commands.shortening import shorten_all
from herjax.commands.summary import read_results, summary, write_summary
from herjax.decoder.embedding import DTYPES
from herjax.decoder.weights import BASE, Pretrained
from herjax.learning.adaptation import keys_of
from herjax.learning.config import AdaptConfig
from herjax.learning.epoch import runs_for
from herjax.learning.population import CHUNK, Advance, Population, by_canvas
from herjax.learning.room import check_disk, check_room, default_slots
from herjax.runtime import processes, program_cache
from herjax.runtime.checkpoint import Checkpoints
from herjax.runtime.lock import Lock
from herjax.runtime.machine import processors
from herjax.runtime.sharding import platform_of, state_shardings
from herjax.runtime.xla_flags import SECONDS
from herjax.tasks.suite import Picture, emoji_grids
from herjax.tasks.task import canvas_side

log = logging.getLogger(__name__)
TASK = flags.DEFINE_string(
    "task",
    "25-squares",
    "With commas: names from --list_tasks; files (ARC .json, .json#train.0.output, .png, .gif,"
    " .npy, rows of digits, - for standard input) or folders/ of them; arc1:ID; emoji:rocket. Or"
    " all, or tuning, or arc200: the first 200 outputs of ARC-AGI-1 that are at most 10x10, or"
    " arc-large: 100 that are larger, or arc-edits: 100 drawn on inputs of their shape, or emoji:"
    " 100 of 20x20 cells, or emoji16, emoji30 (and emoji16:rocket).",
)
INPUT = flags.DEFINE_string(
    "input",
    None,
    "What the pictures are drawn on: blank; task, which is the input of an ARC task's output; or a"
    " file like those of --task. Default: blank for files, else what the task says.",
)
BACKGROUND = flags.DEFINE_integer(
    "background",
    None,
    "Colour of the blank input of a file's picture, and of transparent cells; default its most"
    " common, and 0 if there are such cells.",
)
CELL_SIZE = flags.DEFINE_integer(
    "cell_size",
    None,
    "Pixels a cell, of image files. Default: 1, or what its squares have if it is larger than the"
    " model's canvas.",
    lower_bound=1,
)
LIST_TASKS = flags.DEFINE_bool("list_tasks", False, "Print all tasks and sets of tasks, and leave.")
CHECKPOINT = flags.DEFINE_string(
    "checkpoint",
    BASE,
    "Shipped name, or folder with weights.",
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
SHORTEN = flags.DEFINE_integer(
    "shorten",
    0,
    "Epochs of a search for a shorter program of each picture that is drawn; 0: none. Also for a"
    " run that has ended.",
    lower_bound=0,
    upper_bound=10**6,
)
SAVE_EVERY = flags.DEFINE_float("save_every", 20.0, "Seconds between checkpoints.", lower_bound=0)
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; default runs/TASK-seedSEED.")
PLAIN = flags.DEFINE_bool(
    "plain",
    False,
    "Plain HER: no recombination, and the settings that were best without it.",
)
LEARNER = define_function(
    "learner",
    "hindsight",
    "What changes the weights in an epoch: hindsight, one of its rivals, or a function of yours.",
)
define_flags(AdaptConfig())
flags.adopt_module_key_flags(cli)  # into --help
flags.adopt_module_key_flags(events)

LOOK_EVERY = 8.0  # seconds from one look at a population to the next, if its epochs allow


def has_ended(member: Member) -> bool:
    """Are its results there, and whole? Damaged ones are set aside with a warning."""
    folder = member.folder
    if not (folder / RESULT).exists():
        return False
    found = damage(folder, member.task, member.seed, SAVE_WEIGHTS.value)
    if not processes.anywhere(bool(found)):
        return True

    def tell() -> None:
        told = ", ".join(f"{name} {reason}" for name, reason in found.items())
        log.warning("results in %s are made again: %s", folder, told)
        set_aside(folder, found)

    processes.on_first(tell)
    return False


def make_population(
    members: list[Member], pretrained: Pretrained, config: AdaptConfig, mesh: jax.sharding.Mesh
) -> Population:
    """Its keys are those of ``herjax.adapt`` with the members' seeds."""
    side = pretrained.model.config.max_side
    return Population(
        pretrained,
        [herjax.make_task(m.picture, max_side=side) for m in members],
        keys_of([member.seed for member in members]),
        config,
        learner=function_named("learner", LEARNER.value),
        mesh=mesh,
        slots=SLOTS.value,
    )


def groups_left(
    workdir: pathlib.Path,
    members: list[Member],
    done: set[int],
    decoder: Pretrained,
    config: AdaptConfig,
    mesh: jax.sharding.Mesh,
) -> Iterator[Group]:
    """The members of each canvas on which some are not ``done``, as far as they have come."""
    shapes = [member.picture.target.shape for member in members]
    max_side = decoder.model.config.max_side
    for indices in by_canvas(shapes, max_side):
        ended = {place for place, i in enumerate(indices) if i in done}
        if len(ended) < len(indices):
            mine = [members[i] for i in indices]
            side = canvas_side(shapes[indices[0]], max_side)
            population = make_population(mine, decoder, config, mesh)
            checkpoints = Checkpoints(workdir / "checkpoints" / f"{side}x{side}")
            yield Group(mine, population, checkpoints, ended, events.TENSORBOARD.value)


def run_group(
    group: Group, lock: Lock, writer: Writer, view: LiveView, stopwatch: cli.Stopwatch
) -> None:
    """Adapt the members of a group until all have ended, with checkpoints on the way."""
    if group.resumed:
        view.console.print(f"resuming after {group.epochs.sum()} epochs", highlight=False)
        running = [i for i in group.population.members if i >= 0]
        mine = [(group.members[i], int(group.epochs[i])) for i in running]
        view.progress.resume({(member.task, member.seed): epochs for member, epochs in mine})
    stopwatch.lap()
    soon = runs_for(group.population.tasks.target) == SECONDS
    saved_at, epochs = time.monotonic(), CHUNK if soon and len(view.members) > 1 else 1
    with cli.StopSignals() as stop:
        while not group.population.done:
            lock.check()
            began = time.monotonic()
            advances = group.advance(epochs, stopwatch)
            if len(view.members) > 1:
                epochs = until_next_look(epochs, time.monotonic() - began)
            members = [(group.members[a.member], a, group.seconds[a.member]) for a in advances]
            view.show([(member, advance, spent[0]) for member, advance, spent in members])
            for member, advance, spent in members:
                if advance.ended is not None:
                    end_member(group, member, advance, spent, writer, view)
            writer.check(wait=group.population.done, stopped=lambda: stop.received != 0)
            stopwatch.lap()  # this is nobody's share
            if view.console.closed:
                stop.received = stop.received or signal.SIGPIPE
            all_done = view.progress.ended == view.progress.members and not SHORTEN.value
            if stop.came() and not all_done:
                stop.leave(f"{'' if group.save() else 'not '}saved after {epochs_done(group)}")
            if processes.anywhere(time.monotonic() - saved_at >= SAVE_EVERY.value):
                group.save()  # all of them together, though their clocks differ
                saved_at = time.monotonic()


def until_next_look(epochs: int, seconds: float) -> int:
    """Epochs until a population is looked at again, after so many that took so long anywhere."""
    slow = processes.anywhere(seconds > LOOK_EVERY)
    return max(epochs // 2, 1) if slow else min(2 * epochs, CHUNK)


def epochs_done(group: Group) -> str:
    """How far a group is, in words."""
    count = group.epochs.sum()
    return f"{count} epoch{'s' * int(count != 1)} in all"


def end_member(
    group: Group,
    member: Member,
    advance: Advance,
    seconds: np.ndarray,
    writer: Writer,
    view: LiveView,
) -> None:
    """Write the files of a member that has ended, and show it."""
    population = group.population
    try:
        result = population.result(advance)
    except FloatingPointError as error:
        view.fail(member, error)
        return
    before, spent = population.pretrained, seconds.copy()

    def write() -> None:
        group.numbers.flush(advance.member)
        how = population.config, LEARNER.value
        write_files(member, result, before, *how, spent, SAVE_WEIGHTS.value)

    writer.submit(write)
    view.end(member, result, seconds)


def describe_run(
    pictures: dict[str, Picture], seeds: range, decoder: Pretrained, config: AdaptConfig
) -> dict:
    """What tells this run from others, in run.json."""
    grids = [grid for picture in pictures.values() for grid in (picture.input, picture.target)]
    return {
        "task": ",".join(pictures),
        "pictures_sha256": hashlib.sha256(repr([p.tolist() for p in grids]).encode()).hexdigest(),
        "seeds": [seeds[0], seeds[-1]],
        "weights_sha256": decoder.info["sha256"],
        "dtype": decoder.model.config.dtype,
        "learner": LEARNER.value,
        "config": to_json(config),
        **own_code(),
    }


def run(
    workdir: pathlib.Path,
    members: list[Member],
    decoder: Pretrained,
    config: AdaptConfig,
    mesh: jax.sharding.Mesh,
    lock: Lock,
) -> int:
    """Adapt all members, canvas by canvas; -> how many ended or were shortened now.

    Raises:
      FloatingPointError: when the others have ended, if there are members whose loss is not finite.
    """
    done = {i for i, member in enumerate(members) if has_ended(member)}
    view, stopwatch = LiveView(members, config, len(done)), cli.Stopwatch()
    with Writer() as writer:
        with view:
            for group in groups_left(workdir, members, done, decoder, config, mesh):
                run_group(group, lock, writer, view, stopwatch)
                if view.ended + len(done) < len(members):
                    program_cache.clear()  # no other canvas needs these programs
        whole = [m for m in members if all(m is not failed for failed, _ in view.failed)]
        epochs = SHORTEN.value
        shortened = shorten_all(whole, epochs, lock, writer, view.console) if epochs else 0
        if len(members) > 1 and whole:
            results = read_results(whole)
            writer.submit(lambda: write_summary(workdir, whole, results, len(view.failed)))
            writer.check(wait=True)
            for table in summary(results):
                view.console.print(table)
    if view.failed:
        count = f" ({len(view.failed)} of {len(members)} members, which are in no summary)"
        raise FloatingPointError(view.failed[0][1] + count * (len(members) > 1))
    return view.ended + shortened


def check_fits(
    workdir: pathlib.Path,
    pictures: dict[str, Picture],
    seeds: int,
    decoder: Pretrained,
    config: AdaptConfig,
    mesh: jax.sharding.Mesh,
) -> None:
    """ValueError with the numbers if the run would take more memory or disk than there is."""
    shapes = [picture.target.shape for picture in pictures.values()] * seeds
    check_room(shapes, decoder, config, mesh=mesh, slots=SLOTS.value)
    slots = SLOTS.value or default_slots(mesh.shape["data"], platform_of(mesh))
    check_disk(workdir, decoder, shapes, config, slots=slots, weights=SAVE_WEIGHTS.value)


def list_tasks() -> None:
    """Print all tasks and sets of tasks."""
    for name, picture in herjax.pictures().items():
        rows, cols = picture.target.shape
        print(f"{name}  {rows}x{cols}")
    print(f"sets: all, {', '.join(TASK_SETS)}")
    print(f"emoji:NAME, emoji16:NAME, emoji30:NAME: {', '.join(emoji_grids())}")


def main(_):
    """Adapt to what the flags say."""
    if LIST_TASKS.value:
        list_tasks()
        return
    events.require_tensorboard()
    is_set = TASK.value == "all" or TASK.value in TASK_SETS
    folder = TASK.value.rstrip("/") if files_of(TASK.value) else None
    many = SEEDS.value > 1 or is_set or folder or "," in TASK.value
    # On CPUs one member is fastest on one device with all cores, many are on one device a core.
    cli.use_devices(cpu_devices=processors() if many else 1)
    # Now the user's modules may compute as they are imported.
    config = read_flags(AdaptConfig.plain() if PLAIN.value else AdaptConfig(), flags.FLAGS)
    function_named("learner", LEARNER.value)
    decoder = herjax.load_pretrained(CHECKPOINT.value)
    if DTYPE.value:
        decoder = decoder.computing_in(DTYPE.value)
    side = decoder.model.config.max_side
    pictures = chosen_tasks(TASK.value, side, BACKGROUND.value, CELL_SIZE.value, INPUT.value)
    seeds = range(SEED.value, SEED.value + SEEDS.value)
    name = TASK.value if is_set else pathlib.Path(folder).name if folder else "+".join(pictures)
    name += f"-seed{'-'.join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))}"
    workdir = pathlib.Path(WORKDIR.value or f"runs/{name}")
    # Before the folder is claimed: --mesh may be wrong, or there may be too many members.
    mesh = cli.mesh(len(pictures) * len(seeds))
    state_shardings(mesh, decoder.params)  # or refuses what "model" does not divide
    check_fits(workdir, pictures, len(seeds), decoder, config, mesh)
    members = [
        Member(task, seed, picture, workdir / f"{task}-seed{seed}", "../report.html")
        for task, picture in pictures.items()
        for seed in seeds
    ]
    if len(members) == 1:
        members = [members[0]._replace(folder=workdir, overview=None)]
    with cli.claim(workdir, describe_run(pictures, seeds, decoder, config)) as lock:
        if not run(workdir, members, decoder, config, mesh, lock):
            cli.say(f"{workdir} holds this run already, done: nothing to do")


if __name__ == "__main__":
    cli.run(main)
