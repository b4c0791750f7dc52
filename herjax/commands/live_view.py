"""What a user sees while pictures are adapted to: a row an epoch, or a row a member."""

import collections
import threading
import time
from collections.abc import Sequence

import numpy as np
from rich.console import Group
from rich.live import Live
from rich.table import Table

from herjax.commands.member import Member
from herjax.commands.progress import Bests, Progress
from herjax.commands.terminal import Terminal
from herjax.dsl.source import format_program
from herjax.learning.config import AdaptConfig
from herjax.learning.epoch import EpochMetrics
from herjax.learning.population import Advance
from herjax.learning.result import Result
from herjax.runtime import processes
from herjax.stats import percent
from herjax.tasks.palette import terminal_grid
from herjax.viewing.story import STALLED, Stall, best_row, find_stall, missed_cells, stages

EVERY = 25.0  # seconds from one line of a population to the next, without a terminal
COLUMNS = ("epoch", "mean", "best", "child", "distinct", "new", "draws", "sampled", "run", "s")


class LiveView:
    """One member: a row an epoch and the best picture. Many: who is running, and how many ended.

    Without a terminal, plain lines: of a population one for every member that ends, and how far
    all are in between, however long the epochs take.
    """

    def __init__(self, members: list[Member], config: AdaptConfig, done: int = 0):
        """``done``: members that have ended before this process began."""
        self.members, self.config, self.done = members, config, done
        self.console = Terminal(quiet=not processes.is_first())
        if not self.console.is_terminal:
            self.console.width = 120  # in a file, nothing is to be wrapped
        self.live = Live(console=self.console, auto_refresh=False)
        self.rows: list[tuple[str, ...]] = []
        self.solved = self.ended = 0
        self.failed: list[tuple[Member, str]] = []  # those without a result, and why
        self.progress = Progress(len(members) - done, config.max_epochs)
        self.bests, self.waited = Bests(), dict[tuple[str, int], int]()
        # Of each of the only member's last epochs the programs; once stalled, the cells missed.
        self.recent = collections.deque[np.ndarray](maxlen=STALLED)
        self.best = np.zeros((0, 6), int)  # its best program
        self._told = time.monotonic()
        self._leave = threading.Event()

    def __enter__(self):
        if not self.console.is_terminal and len(self.members) > 1:
            threading.Thread(target=self._tell, name="progress", daemon=True).start()
        if self.console.is_terminal:
            self.live.start()
        elif len(self.members) == 1:
            self.console.print(" ".join(f"{name:>8}" for name in COLUMNS))
        return self

    def __exit__(self, *_):
        self._leave.set()
        self.live.stop()

    def _tell(self) -> None:
        while not self._leave.wait(min(1.0, EVERY / 5)):
            if time.monotonic() - self._told >= EVERY:
                self.console.print(self._standing(), highlight=False, soft_wrap=True)
                self._told = time.monotonic()

    def _standing(self) -> str:
        """How many have ended, and how far the others are."""
        ended = f"{self.done + self.ended} of {len(self.members)} ended, {self.solved} solved now"
        stalled = sum(waited >= STALLED for waited in self.waited.values())
        words = f"; {stalled} stalled: no new best for {STALLED} epochs" if stalled else ""
        return f"{ended}; {self.progress.told()}{words}"

    def show(self, running: list[tuple[Member, Advance, float]]) -> None:
        """The members in the slots, how far each is, and its seconds."""
        self.progress.see({(m.task, m.seed): advance.epoch for m, advance, _ in running})
        self.waited = {
            (m.task, m.seed): self.bests.see((m.task, m.seed), a.epoch, a.best_accuracy)
            for m, a, _ in running
        }
        if len(self.members) == 1:
            self._show_epoch(running[0][1], running[0][2])
        elif self.console.is_terminal:
            self._show_members(running)

    def _show_epoch(self, advance: Advance, seconds: float) -> None:
        metrics, epoch = advance.last, advance.epoch - 1
        accuracy = np.asarray(metrics.accuracy)
        attempts = accuracy[: self.config.sampled]
        children = accuracy[self.config.sampled + self.config.kept :]
        row = (
            f"{epoch}",
            percent(attempts.mean()),
            percent(attempts.max()),
            percent(children.max()) if len(children) else "-",
            f"{metrics.distinct}",
            f"{metrics.new}",
            f"{metrics.draws:.1f}",
            f"{advance.epoch * self.config.sampled}",
            f"{advance.run}",
            f"{seconds:.1f}",
        )
        self.recent.append(np.asarray(metrics.program))
        if self._waits() == 0:
            self.best = self.recent[-1][best_row(self.recent[-1], np.asarray(metrics.accuracy))]
        if not self.console.is_terminal:
            self.console.print(" ".join(f"{cell:>8}" for cell in row), highlight=False)
            stall = self._stall() if self._waits() % STALLED == 0 else None
            if stall:
                self.console.print(stall.words, highlight=False, soft_wrap=True)
            return
        stall = self._stall()
        self.rows.append(row)
        # What fits with the pictures, and with what is told of a stall.
        height = self.console.height - len(metrics.best_picture) - (9 if stall else 7)
        table = self._table(COLUMNS, self.rows[-min(max(height, 3), 20) :])
        shown = Group(table, self._pictures(metrics, stall), stall.words if stall else "")
        self.live.update(shown, refresh=True)

    def _waits(self) -> int:
        """Epochs of the only member without a new best."""
        return next(iter(self.waited.values()))

    def _stall(self) -> Stall | None:
        picture = self.members[0].picture
        if self._waits() >= STALLED:  # it costs time: not before, and each epoch once
            for place, found in enumerate(self.recent):
                if found.ndim == 3:
                    self.recent[place] = missed_cells(picture, found)
        limit = self.config.draws(picture.target.size)
        return find_stall(self._waits(), self.recent, self.best, limit)

    def _pictures(self, metrics: EpochMetrics, stall: Stall | None = None) -> Table:
        """The best program's picture, after its parent's if it is a child."""
        shown = Table.grid(padding=(0, 3))
        program, picture = np.asarray(metrics.program), np.asarray(metrics.best_picture)
        best = best_row(program, np.asarray(metrics.accuracy))
        parents = self.config.sampled + self.config.kept
        pictures = [("best", picture)]
        if best >= parents and 4 * len(picture[0]) + 3 <= self.console.width:
            canvas = stages(program[best - parents], self.members[0].picture.input)[-1]
            pictures = [("its parent", canvas), ("best, a child", picture)]
        shown.add_row(*(name for name, _ in pictures))
        crossed = [None] * (len(pictures) - 1) + [stall.cells if stall else None]
        shown.add_row(*(terminal_grid(p, cells) for (_, p), cells in zip(pictures, crossed)))
        return shown

    def _show_members(self, running: list[tuple[Member, Advance, float]]) -> None:
        rows = [
            (
                member.task,
                f"{member.seed}",
                f"{advance.epoch}",
                percent(advance.best_accuracy),
                f"{advance.epoch * self.config.sampled}",
                f"{advance.run}",
                f"{seconds:.1f}",
            )
            for member, advance, seconds in running
        ]
        fits = max(self.console.height - 6, 3)
        columns = ("task", "seed", "epoch", "best", "sampled", "run", "seconds")
        table = self._table(columns, rows[:fits])
        table.caption = self._standing()
        self.live.update(table, refresh=True)

    def end(self, member: Member, result: Result, seconds: np.ndarray) -> None:
        """One member has ended."""
        self.ended, self.solved = self.ended + 1, self.solved + result.solved
        self.progress.end((member.task, member.seed), result.solved)
        self._told = time.monotonic()
        bests = [np.asarray(epoch.accuracy).max() for epoch in result.history]
        best, stall = max(bests), None
        if not result.solved:
            waited = len(bests) - 1 - int(np.argmax(bests))
            recent = (np.asarray(epoch.program) for epoch in result.history[-STALLED:])
            missed = (missed_cells(member.picture, programs) for programs in recent)
            limit = self.config.draws(member.picture.target.size)
            stall = find_stall(waited, missed, result.program, limit)
        epochs, run = len(result.history), sum(int(epoch.run) for epoch in result.history)
        if len(self.members) == 1:
            self.console.print(format_program(result.program), highlight=False)
        self.console.print(
            f"{member.task}, seed {member.seed}:"
            f" {'solved' if result.solved else f'not solved, best {percent(best)}'}"
            f"{f' ({stall.words})' if stall else ''}"
            f" after {epochs} epoch{'s' * (epochs != 1)}, {epochs * self.config.sampled} programs"
            f" sampled and {run} run, {seconds[0]:.1f} s (+ {seconds[1]:.1f} s compiling);"
            f" files in {member.folder}",
            highlight=False,
            soft_wrap=True,
        )

    def fail(self, member: Member, error: Exception) -> None:
        """One member has ended without a result."""
        self.ended += 1
        self.progress.end((member.task, member.seed), False)
        self.failed.append((member, f"{member.task}, seed {member.seed}: {error}"))
        if len(self.members) > 1:
            self.console.print(self.failed[-1][1], highlight=False, soft_wrap=True)

    def _table(self, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Table:
        table = Table(*columns, box=None, pad_edge=False)  # ten columns fit into 80 characters
        for column in table.columns:
            column.justify, column.no_wrap = "right", True
        for row in rows:
            table.add_row(*row)
        return table
