"""A member of a run, and the files that are written once it has ended."""

import contextlib
import dataclasses
import json
import logging
import math
import os
import pathlib
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import jax
import numpy as np

from herjax.commands import cli
from herjax.commands.facts import run_facts
from herjax.commands.flags import to_json
from herjax.commands.results import FILES, RESULT, WEIGHTS, write_sums
from herjax.decoder.weights import Pretrained, save_weights
from herjax.dsl.source import format_script
from herjax.learning.config import AdaptConfig
from herjax.learning.epoch import EpochMetrics
from herjax.learning.result import Result
from herjax.runtime import processes
from herjax.runtime.files import write_atomically
from herjax.tasks.metrics import least_draws
from herjax.tasks.suite import Picture
from herjax.viewing import plotting, story
from herjax.viewing.report import make_report

RETRY, PATIENCE = 10.0, 60.0  # seconds, see Writer
MOST_WAITING = 32  # members whose files are still to be written

log = logging.getLogger(__name__)


class Member(NamedTuple):
    """One adaptation of the run."""

    task: str
    seed: int
    picture: Picture
    folder: pathlib.Path  # of its files
    overview: str | None = None  # address of the population's report, from its own


class Writer:
    """Writes the files of members that have ended, one after the other, beside further epochs.

    On Linux its thread has the lowest priority, so that epochs take no longer for it. What a full
    disk refuses is tried again every RETRY seconds. Once all else is done, or more than
    MOST_WAITING members wait, each of which holds memory and would be lost by a kill, epochs wait
    for it: for a disk at most PATIENCE seconds.
    """

    def __init__(self):
        self._pool = ThreadPoolExecutor(max_workers=1, initializer=_step_back)
        self._pending: list[tuple[Future, Callable[[], None]]] = []
        self._refused: list[Callable[[], None]] = []
        self._next = math.inf  # when to try again

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._pool.shutdown()

    def submit(self, write: Callable[[], None]) -> None:
        """Do it soon, on the first process."""
        if processes.is_first():
            self._pending.append((self._pool.submit(write), write))

    def check(self, wait: bool = False, stopped: Callable[[], bool] = lambda: False) -> None:
        """Raise what a write raised, try again what failed; all processes call this together.

        Args:
          wait: until all is written.
          stopped: asked while waiting for a disk: should it be given up?
        """
        behind = len(self._pending) + len(self._refused) > MOST_WAITING
        processes.on_first(lambda: self._wait(stopped) if wait or behind else self._check())

    def _wait(self, stopped: Callable[[], bool]) -> None:
        end = None
        while True:
            self._check(wait=True)
            if not self._refused and not self._pending:
                return
            end = end or time.monotonic() + PATIENCE
            if self._refused and (time.monotonic() >= end or stopped()):
                self._refused.pop()()  # raises, or writes it after all
            time.sleep(min(0.2, RETRY))

    def _check(self, wait: bool = False) -> None:
        done = [(future, write) for future, write in self._pending if wait or future.done()]
        # What has not begun is written here: the thread gets little of a busy processor.
        here = [future.cancel() for future, _ in done]
        for (future, write), mine in zip(done, here):
            try:
                write() if mine else future.result()
            except OSError as error:
                if not self._refused:  # once for all that are tried together
                    where = f"{error.filename}: " if error.filename else ""
                    reason = f"{where}{error.strerror or error}"
                    log.warning("a result is not written (%s): trying again", reason)
                    self._next = time.monotonic() + RETRY
                self._refused.append(write)
        self._pending = [pair for pair in self._pending if pair not in done]
        if self._refused and time.monotonic() >= self._next:
            again, self._refused = self._refused, []
            for write in again:
                self.submit(write)


def _step_back() -> None:
    if sys.platform == "linux":  # elsewhere it would be that of the process
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)


def write_files(
    member: Member,
    result: Result,
    pretrained: Pretrained,
    config: AdaptConfig,
    learner: str,
    seconds: np.ndarray,
    weights: bool,
) -> None:
    """Figures, solution, weights if asked for, and last result.json: then the member is done.

    Args:
      member: whose files.
      result: of its adaptation.
      pretrained: the decoder before the adaptation.
      config: of the adaptation.
      learner: likewise, its name on the command line.
      seconds: running, and compiling.
      weights: write model/, too.
    """
    history = jax.tree.map(lambda *rows: np.stack(rows), *result.history)
    ops = pretrained.model.config.ops
    values = measure(member, result, history, config, seconds, ops)
    values |= {"weights_sha256": pretrained.info["sha256"], "config": to_json(config)}
    values |= {"learner": learner, "versions": cli.versions()}
    values |= {"device": jax.devices()[0].device_kind}
    folder, picture = member.folder, member.picture
    folder.mkdir(parents=True, exist_ok=True)
    write_figures(member, result, history, config)
    about = {"seed": member.seed, "learner": learner, **values["config"]}
    page = make_report(
        f"herjax: {member.task}",
        picture,
        history,
        result.program,
        about,
        sampled=config.sampled,
        kept=config.kept,
        facts=run_facts(values),
        limit=config.draws(picture.target.size),
        overview=member.overview,
        ops=ops,
    )
    write_atomically(folder / "report.html", page.encode())
    write_atomically(folder / "solution.py", format_script(result.program, picture.input).encode())
    if weights:
        info = {"adapted_to": member.task, "seed": member.seed}
        save_weights(folder / "model", dataclasses.replace(result.adapted, info=info))
    data = json.dumps(values, indent=2).encode() + b"\n"
    write_sums(folder, [*FILES, *(WEIGHTS if weights else ())], data)
    write_atomically(folder / RESULT, data)


def measure(
    member: Member,
    result: Result,
    history: EpochMetrics,
    config: AdaptConfig,
    seconds: np.ndarray,
    ops: int,
) -> dict:
    """The numbers of an adaptation; ``history`` is that of all its epochs, stacked."""
    best, attempts = history.accuracy.max(axis=1), history.accuracy[:, : config.sampled]
    return {
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
        "least_draws": least_draws(member.picture.target, member.picture.input, ops),
        "colours": len(np.unique(member.picture.target)),
        "seconds_run": seconds[0],
        "seconds_compile": seconds[1],
    }


def write_figures(
    member: Member, result: Result, history: EpochMetrics, config: AdaptConfig
) -> None:
    """best_predictions.png, adaptation.gif and accuracy_distribution.png."""
    rows = {"sampled": config.sampled, "kept": config.kept}
    folder, picture = member.folder, member.picture
    best_of_epochs = story.highlights(picture, history, **rows)
    plotting.best_predictions(
        folder / "best_predictions.png", picture.target, *zip(*best_of_epochs)
    )
    moments, milliseconds = story.film(picture, history, result.program, **rows)
    pictures, words = zip(*moments)
    plotting.animation(folder / "adaptation.gif", picture.target, pictures, words, milliseconds)
    plotting.accuracy_distribution(
        folder / "accuracy_distribution.png", story.accuracies(history, **rows)
    )
