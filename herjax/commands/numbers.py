"""metrics.jsonl: the numbers of every epoch of a member, a line each, while it runs.

The file is never believed: when a run is continued it is written anew from the checkpoint, whose
history has checksums. Only the seconds are taken from it. With --tensorboard the same goes into
event files, with the best picture of every epoch.
"""

import itertools
import math
import pathlib
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh

from herjax.commands.events import EventFile
from herjax.learning.config import AdaptConfig
from herjax.learning.population import CHUNK, Advance, Population
from herjax.runtime import processes, records
from herjax.runtime.files import CheckpointError
from herjax.runtime.program_cache import call_kept
from herjax.runtime.sharding import replicated

NAME = "metrics.jsonl"
FIELDS = ("accuracy", "run", "distinct", "new", "trained", "draws", "loss", "solved")


@partial(jax.jit, static_argnames=("length", "mesh"))
def _rows(history: dict[str, Array], ends: Array, length: int, mesh: Mesh) -> dict[str, Array]:
    """The last rows before ``ends`` (int32 [S]) of every member; the first ones if there are less.

    Leaves [S, max_epochs, ...] -> [S, length, ...], whole on every device.
    """

    def rows(leaf: Array, end: Array) -> Array:
        return jax.lax.dynamic_slice_in_dim(leaf, jnp.maximum(end - length, 0), length)

    chosen = jax.tree.map(lambda leaf: jax.vmap(rows)(leaf, ends), history)
    return jax.lax.with_sharding_constraint(chosen, replicated(mesh))


@partial(jax.jit, static_argnames="mesh")
def _history(history: dict[str, Array], slot: Array, mesh: Mesh) -> dict[str, Array]:
    """All rows of one member, whole on every device."""
    mine = jax.tree.map(lambda leaf: leaf[slot], history)
    return jax.lax.with_sharding_constraint(mine, replicated(mesh))


class Numbers:
    """Writes the metrics.jsonl of the members of a population, on the first process."""

    def __init__(self, population: Population, folders: list[pathlib.Path], events: bool = False):
        """``folders``: of each member. ``events``: write event files, too."""
        self.population, self.config = population, population.config
        self.names = (*FIELDS, "best_picture") if events else FIELDS
        self._files = [records.Appender(folder / NAME) for folder in folders]
        self._events = [EventFile(folder, "epoch") for folder in folders] if events else None

    def resume(self, epochs: np.ndarray, ended: set[int]) -> None:
        """Make every file what it was after ``epochs`` (int [M]); those of ``ended`` are left."""
        population = self.population
        slots = {int(member): slot for slot, member in enumerate(population.members)}
        for member in range(len(self._files)):
            if member in ended:
                continue
            lines, pictures = [], np.zeros((0, 1, 1), np.int8)
            if member in slots and epochs[member]:
                found = call_kept(_history, self._fields(), slots[member], mesh=population.mesh)
                rows = jax.tree.map(lambda leaf, end=epochs[member]: leaf[:end], found)
                rows = jax.device_get(rows)
                lines = to_lines(rows, 0, 0, self.config)
                pictures = self._pictures(member, rows)
            processes.on_first(partial(self._rewrite, member, lines, pictures))

    def append(self, advances: list[Advance], before: np.ndarray, seconds: np.ndarray) -> None:
        """The lines of a chunk.

        Args:
          advances: of the chunk.
          before: int [M], epochs that each member had before it.
          seconds: float [M, 2], running before and after it.
        """
        rows = self._of_chunk(advances, before)
        if not processes.is_first():
            return
        for advance in advances:
            member, mine = advance.member, rows[advance.member]
            first = int(before[member])
            lines = to_lines(mine, first, advance.run - int(np.sum(mine["run"])), self.config)
            begin, end = seconds[member]
            for i, line in enumerate(lines, start=1):
                line["seconds"] = round(float(begin + (end - begin) * i / len(lines)), 3)
            self._files[member].append(*lines)
            if self._events is not None:
                self._events[member].append(lines, self._pictures(member, mine))

    def flush(self, member: int) -> None:
        """Append what a full disk refused; the member has ended.

        Raises:
          OSError: if it still does.
        """
        self._files[member].flush()
        if self._events is not None:
            self._events[member].flush()

    def _rewrite(self, member: int, lines: list[dict[str, Any]], pictures: np.ndarray) -> None:
        _rewrite(self._files[member].path, lines)
        if self._events is not None:
            self._events[member].rewrite(lines, pictures)

    def _pictures(self, member: int, rows: dict[str, np.ndarray]) -> np.ndarray:
        """The best picture of every epoch, int8 [epochs, R, C]; none if nobody wants them."""
        if self._events is None:
            return np.zeros((0, 1, 1), np.int8)
        height, width = self.population.shapes[member]
        return rows["best_picture"][:, :height, :width]  # without the padding of the canvas

    def _fields(self) -> dict[str, Array]:
        assert self.population.state is not None
        history = self.population.state.history
        return {name: getattr(history, name) for name in self.names}

    def _of_chunk(self, advances: list[Advance], before: np.ndarray) -> dict[int, dict]:
        """The rows of every member's chunk, NumPy [epochs of it, ...], by member."""
        found: dict[int, dict] = {}
        longer = []
        for a in advances:
            done = slice(int(before[a.member]), a.epoch)
            if done.stop == done.start + 1:
                found[a.member] = {n: np.asarray(getattr(a.last, n))[None] for n in self.names}
            elif a.ended is not None:
                whole = {name: getattr(a.ended.history, name) for name in self.names}
                found[a.member] = {n: leaf[done] for n, leaf in jax.device_get(whole).items()}
            else:
                longer.append(a)
        if longer:
            ends = np.zeros(len(self.population.members), np.int32)
            slots = {int(member): slot for slot, member in enumerate(self.population.members)}
            for a in longer:
                ends[slots[a.member]] = a.epoch
            length = min(CHUNK, self.config.max_epochs)
            arrays = self._fields(), ends
            rows = call_kept(_rows, *arrays, length=length, mesh=self.population.mesh)
            rows = jax.device_get(rows)
            for a in longer:
                start = max(a.epoch - length, 0)
                part = slice(int(before[a.member]) - start, a.epoch - start)
                slot = slots[a.member]
                found[a.member] = {name: leaf[slot, part] for name, leaf in rows.items()}
        return found


def to_lines(
    rows: dict[str, np.ndarray], first: int, run: int, config: AdaptConfig
) -> list[dict[str, Any]]:
    """A line for each epoch.

    Args:
      rows: of consecutive epochs [epochs, ...], as in ``EpochMetrics``.
      first: number of the first one.
      run: programs run before it.
      config: of the adaptation.
    """
    lines = []
    attempts = rows["accuracy"][:, : config.sampled]
    for i, accuracy in enumerate(rows["accuracy"]):
        run += int(rows["run"][i])
        loss = float(rows["loss"][i])
        lines.append(
            {
                "epoch": first + i,
                "best_accuracy": float(accuracy.max()),
                "best_attempt": float(attempts[i].max()),
                "mean_attempt": float(attempts[i].mean()),
                "distinct": int(rows["distinct"][i]),
                "new": int(rows["new"][i]),
                "trained": int(rows["trained"][i]),
                "draws": float(rows["draws"][i]),
                "loss": loss if math.isfinite(loss) else None,
                "solved": bool(rows["solved"][i]),
                "programs_sampled": (first + i + 1) * config.sampled,
                "programs_run": run,
            }
        )
    return lines


def _rewrite(path: pathlib.Path, lines: list[dict[str, Any]]) -> None:
    """Replace a file; without lines it goes."""
    try:
        old = [line.get("seconds") for line in records.read_lines(path)]
    except (CheckpointError, OSError):
        old = []
    for line, seconds in itertools.zip_longest(lines, old[: len(lines)]):
        sound = isinstance(seconds, float) and math.isfinite(seconds) and seconds >= 0
        line["seconds"] = seconds if sound else None
    if lines:
        records.write_lines(path, lines)
    else:
        path.unlink(missing_ok=True)
