"""A population that is disturbed for long: python -m tests.soak --minutes=60 --workdir=runs/soak

The same population runs twice: undisturbed, which tells whether memory stays flat, and with
SIGKILLs, damaged checkpoints, second processes and a disk that is full for a while, at random
moments. Both must leave the same bytes behind, seconds aside. The end is a table of what was tried;
the exit code is 1 if anything was not as it must be.
"""

import argparse
import collections
import dataclasses
import json
import pathlib
import random
import re
import resource
import statistics
import sys
import threading
import time

from rich.console import Console
from rich.table import Table

from tests.command_line import ENVIRONMENT, start  # first: it keeps the environment

# isort: split
import herjax
from herjax.runtime.lock import NAME
from tests.conftest import untrained
from tests.disk import fill, small_disk
from tests.outcome import outcome

TASKS = "9-squares,9-vertical-lines,12-squares,overlapping-squares,chick"
ADAPT = ["--programs=8", "--partners=11", "--minibatch=2", "--max_draws=6", "--max_epochs=30"]
ADAPT += [f"--task={TASKS}", "--slots=4", "--save_every=5"]
FIRST = 4  # seeds of each task that the speed is measured with
KINDS = ["kill", "kill", "damage", "second", "full"]
EVERY = 2.0  # seconds between two looks at the memory
WARM = 600.0  # seconds after which memory is to stay as it is
FULL = 20.0  # seconds that the disk is full
MOST_GROWTH = 0.05


class Watched:
    """A command in a process, and its memory over time."""

    def __init__(self, arguments, log):
        self.log = log.open("a+")
        self.begun = self.log.tell()
        streams = {"stdout": self.log, "stderr": self.log}
        self.process = start("her_adapt", *arguments, environment=ENVIRONMENT, **streams)
        self.start, self.memory = time.monotonic(), []
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self):
        while self.process.poll() is None:
            try:
                pages = int(pathlib.Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
            except (OSError, IndexError):
                return
            self.memory.append((time.monotonic() - self.start, pages * resource.getpagesize()))
            time.sleep(EVERY)

    def wait(self, seconds):
        """Whether it has ended within so many seconds."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                return True
            time.sleep(0.1)
        return False

    def told(self):
        """What it has printed."""
        self.log.seek(self.begun)
        return self.log.read()


def complete(arguments):
    """Run a command, however long it takes; -> return code, standard output, standard error."""
    process = start("her_adapt", *arguments, environment=ENVIRONMENT)
    out, err = process.communicate()
    return process.returncode, out, err


def growth(memory):
    """Of memory from the first to the last quarter after the beginning, and its most: shares."""
    warm = min(WARM, 0.4 * memory[-1][0])
    after = [size for seconds, size in memory if seconds >= warm]
    quarter = max(len(after) // 4, 1)
    before = statistics.median(after[:quarter])
    return statistics.median(after[-quarter:]) / before - 1, max(after) / before - 1, before


class Soak:
    """The disturbed run, what was done to it, and what was not as it must be."""

    def __init__(self, arguments, workdir, disk, seed):
        self.arguments, self.workdir, self.disk = arguments, workdir, disk
        self.log = workdir.parent.parent / "disturbed.log"
        self.drawn = random.Random(seed)
        self.tried, self.failed = collections.Counter(), []
        self.watched = Watched(arguments, self.log)
        self.runs = [self.watched]

    def go_on(self):
        self.watched = Watched(self.arguments, self.log)
        self.runs.append(self.watched)

    def kill(self):
        """SIGKILL, and the same command again."""
        self.watched.process.kill()
        self.watched.process.wait()
        self.go_on()

    def damage(self):
        """The newest of two checkpoints cut off while nobody runs: the older one is used."""
        self.watched.process.kill()
        self.watched.process.wait()
        folders = (self.workdir / "checkpoints").glob("*/*")
        steps = sorted((f for f in folders if f.name.isdigit()), key=lambda f: int(f.name))
        if len(steps) >= 2:
            file = max(
                (p for p in steps[-1].rglob("*") if p.is_file()), key=lambda p: p.stat().st_size
            )
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        self.go_on()
        if len(steps) < 2:
            return False
        while "resuming after" not in self.watched.told() and not self.watched.wait(0.5):
            pass
        self.require("is damaged" in self.watched.told(), "a damaged checkpoint was not told of")
        return True

    def second(self):
        """A second process is refused with the first one's number."""
        while not self.holds_the_lock():
            if self.watched.wait(0.1):
                return False
        code, out, err = complete(self.arguments)
        if self.watched.process.poll() is not None:
            return False
        expected = f"error: {self.workdir} is in use by process {self.watched.process.pid} on "
        fits = code == 2 and err.startswith(expected) and len(err.splitlines()) == 1
        self.require(fits, f"a second process: {code}, {out}{err}")
        return True

    def holds_the_lock(self):
        path = self.workdir / NAME
        text = path.read_text() if path.exists() else ""
        return f'"pid": {self.watched.process.pid},' in text

    def full(self):
        """A full disk is waited for."""
        if self.disk is None:
            return False
        filler = fill(self.disk)
        ended = self.watched.wait(FULL)
        filler.unlink()
        self.require(not ended, "the run ended while the disk was full")
        return True

    def require(self, fits, what):
        if not fits:
            self.failed.append(what)

    def disturb(self, between):
        """Until the run ends by itself: something every ``between`` seconds, more or less."""
        kinds = []
        while not self.watched.wait(self.drawn.uniform(0.5, 1.5) * between):
            if not kinds:
                kinds = self.drawn.sample(KINDS, len(KINDS))
            kind = kinds.pop()
            self.tried[kind] += getattr(self, kind)() is not False
        told = self.watched.told()
        self.require(self.watched.process.returncode == 0, f"it ended with: {told[-500:]}")
        text = self.log.read_text()
        self.require("Traceback" not in text, "a traceback in disturbed.log")

    def strays(self):
        """Files that nobody has asked for."""
        found = [path for path in self.workdir.rglob("*") if re.search(r"\.part$|tmp", path.name)]
        found += [self.workdir / NAME] * (self.workdir / NAME).exists()
        aside = [p.name for p in self.workdir.glob("checkpoints/*/*") if not p.name.isdigit()]
        self.require(len(aside) <= self.tried["damage"], f"set aside: {aside}")
        return found


def differences(first, second):
    """Names of what two runs left behind that is not equal, folder by folder."""
    different = []
    names = {path.name for root in (first, second) for path in root.iterdir() if path.is_dir()}
    for name in sorted(names - {"checkpoints"}):
        if outcome(first / name) != outcome(second / name):
            different.append(name)
    if outcome(first, "*") != outcome(second, "*"):
        different.append("results.jsonl, report.html or run.json")
    return different


def told_growth(memory):
    """How much it grew later, and that in words."""
    later, most, size = growth(memory)
    return later, f"{size / 1e6:.0f} MB, then {100 * later:+.1f} %, at most {100 * most:+.1f} %"


def soak(workdir, minutes, seed, console):
    """Both runs; -> rows of the table."""
    weights, programs = workdir / "weights", f"--compilation_cache={workdir / 'programs'}"
    tiny = untrained(layers=2, program_layers=1)
    herjax.save_weights(weights, dataclasses.replace(tiny, info={"held_out": None}))
    common = [*ADAPT, f"--checkpoint={weights}", programs]
    took = []
    for name in ("compiled", "measured", "measured"):  # at last there is nothing to do
        begin = time.monotonic()
        alone = [*common, f"--seeds={FIRST}", f"--workdir={workdir / name}"]
        code, _, err = complete(alone)
        assert code == 0, err
        took.append(time.monotonic() - begin)
    _, seconds, start_up = took
    seeds = max(round(FIRST * 0.35 * 60 * minutes / seconds), FIRST)
    common.append(f"--seeds={seeds}")
    members = seeds * len(TASKS.split(","))
    console.print(
        f"{members} adaptations; {FIRST} seeds took {seconds:.0f} s, {start_up:.0f} to start"
    )

    whole = Watched([*common, f"--workdir={workdir / 'whole'}"], workdir / "whole.log")
    while not whole.wait(60):
        pass
    assert whole.process.returncode == 0, whole.told()
    later, about = told_growth(whole.memory)
    judged = whole.memory[-1][0] > 1.5 * WARM  # before, the first figures may still be to come
    rows = [("undisturbed", f"{whole.memory[-1][0] / 60:.1f} min, {members} adaptations", True)]
    about += "" if judged else "; too short to judge"
    rows.append(("its memory", about, later <= MOST_GROWTH or not judged))

    place = workdir / "disk"
    place.mkdir()
    used = sum(path.stat().st_size for path in (workdir / "whole").rglob("*") if path.is_file())
    with small_disk(place, megabytes=2 * used // 10**6 + 100) as mounted:
        begin = time.monotonic()
        arguments = [*common, f"--workdir={place / 'run'}"]
        disturbed = Soak(arguments, place / "run", place if mounted else None, seed)
        disturbed.disturb(max(whole.memory[-1][0] / 15, 2 * start_up))
        rows.append(("disturbed", f"{(time.monotonic() - begin) / 60:.1f} min", True))
        rows += [(kind, f"{disturbed.tried[kind]} times", True) for kind in dict.fromkeys(KINDS)]
        if not mounted:
            rows.append(("full", "no disk could be mounted", False))
        long = [r for r in disturbed.runs if r.memory and r.memory[-1][0] > 2 * WARM]
        for each in long:
            later, about = told_growth(each.memory)
            rows.append(("memory of a long stretch", about, later <= MOST_GROWTH))
        different = differences(workdir / "whole", place / "run")
        told = (
            f"{len(different)} folders differ: {', '.join(different[:5])}" if different else "equal"
        )
        rows.append(("bytes left behind", told, not different))
        strays = disturbed.strays() + list((workdir / "programs").glob("*.part"))
        rows.append(("stray files", f"{len(strays)} {strays[:3] or ''}", not strays))
    rows += [("failed", what, False) for what in disturbed.failed]
    (workdir / "memory.json").write_text(
        json.dumps([whole.memory, *(r.memory for r in disturbed.runs)])
    )
    return rows


def main():
    """As the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60, help="about how long all of it takes")
    parser.add_argument(
        "--workdir", type=pathlib.Path, required=True, help="a folder that is not there"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of the moments and kinds of disturbances"
    )
    options, console = parser.parse_args(), Console(soft_wrap=True)
    options.workdir.mkdir(parents=True)
    rows = soak(options.workdir.resolve(), options.minutes, options.seed, console)
    table = Table("what", "came of it", "as it must be")
    for what, told, fits in rows:
        table.add_row(what, told, "yes" if fits else "NO")
    console.print(table)
    sys.exit(not all(fits for *_, fits in rows))


if __name__ == "__main__":
    main()
