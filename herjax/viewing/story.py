"""What an adaptation did, put into order for figures and pages. Works on NumPy arrays.

An epoch samples *attempts*. With recombination these and the programs *kept* from earlier epochs
are the parents, and each parent has a *child*: its program with draws of the others on top, and
without needless ones.

Letters: E epochs, A rows of an epoch, G attempts, N draws, R rows and C columns of a picture.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from herjax.dsl.ops import COLOUR, END, OP
from herjax.dsl.source import Call, draw_call, program_calls
from herjax.learning.epoch import EpochMetrics
from herjax.stats import percent
from herjax.tasks.suite import Picture


def cells_drawn(program: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Cells that each draw of records [N, 6] paints on a canvas of ``shape``: bool [N, R, C].

    By the plain calls: nothing is compiled, and figures may be made while JAX is busy.
    """
    masks = np.zeros((len(program), *shape), bool)
    for mask, (name, arguments) in zip(masks, program_calls(program)):
        draw_call(mask, Call(name, {**arguments, "color": True}))
    return masks


# Epochs without a new best after which an adaptation is called stalled. Of 4,644 adaptations of the
# study that were solved 19 (0.4 %) waited as long at some time; of 1,026 that were not, 291 did.
STALLED = 25


class Stall(NamedTuple):
    """An adaptation that gets no further."""

    words: str  # what is known of it
    cells: np.ndarray  # bool [R, C], which are right in no program of the last STALLED epochs


class Rows(NamedTuple):
    """Which rows of an epoch hold what; the others hold nothing to show."""

    attempts: np.ndarray  # int [G]
    kept: np.ndarray  # int, without those where nothing was kept yet
    children: np.ndarray  # int, of those that differ from their parent
    parents: np.ndarray  # int, of each child


class Moment(NamedTuple):
    """One picture worth showing."""

    picture: np.ndarray  # [R, C]
    words: str  # two lines: "epoch 1 of 3" and "best child: 92.0 %"


def epoch_rows(program: np.ndarray, sampled: int | None = None, kept: int = 0) -> Rows:
    """Sort the programs [A, N, 6] of an epoch by what they are.

    Args:
      program: records; the attempts, then the kept ones, then a child for each of these.
      sampled: G; None if all rows were sampled.
      kept: places for programs of earlier epochs, filled with END where there is none yet.

    Raises:
      ValueError: if so many rows are neither attempts alone nor parents and children.
    """
    rows = len(program)
    sampled = rows if sampled is None else sampled
    parents = sampled + kept
    if rows not in (sampled, 2 * parents):
        raise ValueError(f"{rows} rows are not {sampled} sampled, nor twice {sampled} + {kept}")
    places = np.arange(rows)
    used = (program[..., OP] != END).any(axis=1)
    old = places[sampled:parents] if rows > sampled else places[:0]
    accepted = np.flatnonzero((program[parents:] != program[: rows - parents]).any(axis=(1, 2)))
    accepted = accepted[used[parents + accepted]]
    return Rows(places[:sampled], old[used[old]], parents + accepted, accepted)


def stages(program: np.ndarray, canvas: np.ndarray) -> list[np.ndarray]:
    """The canvas [R, C] before the first and after every draw of records [N, 6]."""
    program, canvases = np.asarray(program, np.int32), [np.asarray(canvas)]
    masks = cells_drawn(program, canvas.shape)
    for record, mask in zip(program, masks):
        if record[OP] == END:
            break
        canvases.append(np.where(mask, record[COLOUR], canvases[-1]))
    return canvases


def best_row(program: np.ndarray, accuracy: np.ndarray) -> int:
    """Of programs [A, N, 6] the one with most pixels right, then with fewest draws."""
    draws = (program[..., OP] != END).sum(axis=1)
    return int(np.lexsort((draws, -accuracy))[0])


def highlights(
    picture: Picture, history: EpochMetrics, sampled: int | None = None, kept: int = 0
) -> list[Moment]:
    """The best attempt of every epoch, and after it the best child where that is better.

    Args:
      picture: input and target.
      history: of all epochs, stacked: NumPy arrays [E, ...].
      sampled, kept: as of ``epoch_rows``.
    """
    found, epochs = [], len(history.program)
    for epoch, program in enumerate(history.program):
        rows = epoch_rows(program, sampled, kept)
        bar = -1.0
        for what, mine in (("attempt", rows.attempts), ("child", rows.children)):
            if not len(mine):
                continue
            row = mine[best_row(program[mine], np.asarray(history.accuracy)[epoch, mine])]
            if history.accuracy[epoch, row] > bar:
                bar = float(history.accuracy[epoch, row])
                words = f"epoch {epoch + 1} of {epochs}\nbest {what}: {percent(bar)}"
                found.append(Moment(stages(program[row], picture.input)[-1], words))
    return found


def missed_cells(picture: Picture, programs: np.ndarray) -> np.ndarray:
    """Cells that none of the programs, records [A, N, 6], gets right: bool [R, C]."""
    missed = np.ones(picture.target.shape, bool)
    for program in np.unique(programs, axis=0):
        missed &= stages(program, picture.input)[-1] != picture.target
    return missed


def find_stall(
    waited: int, missed: Iterable[np.ndarray], best: np.ndarray, limit: int
) -> Stall | None:
    """What to tell of an adaptation that has had no new best for long; None if it has.

    Args:
      waited: epochs since the last new best.
      missed: of each of the last STALLED epochs, which cells its programs miss, bool [R, C].
      best: records [N, 6] of the best program of all.
      limit: the most draws that a program may have.
    """
    if waited < STALLED:
        return None
    cells = np.logical_and.reduce(list(missed))
    count = int(cells.sum())
    found = f"{count} cell{'s' * (count != 1)} right in no" if count else "each cell right in some"
    words = f"stalled: no new best for {waited} epochs, {found} program of the last {STALLED}"
    if (best[:, OP] != END).sum() >= limit:
        words += f"; the best one has all {limit} draws that max_draws allows"
    return Stall(words, cells)


def build_up(picture: Picture, program: np.ndarray) -> list[Moment]:
    """The program that was found, draw by draw from the blank input.

    Args:
      picture: input and target.
      program: records [N, 6].
    """
    canvases = stages(program, picture.input)
    count, solved = len(canvases) - 1, np.array_equal(canvases[-1], picture.target)
    name = "solution" if solved else "best program"
    return [
        Moment(canvas, f"{name}\ndraw {i} of {count}: {percent(np.mean(canvas == picture.target))}")
        for i, canvas in enumerate(canvases)
    ]


def film(
    picture: Picture,
    history: EpochMetrics,
    program: np.ndarray,
    sampled: int | None = None,
    kept: int = 0,
) -> tuple[list[Moment], list[int]]:
    """The highlights, then the program that was found draw by draw; and the milliseconds of each.

    So even one epoch is a film; of many, a hundred moments are shown.

    Args:
      picture, history, sampled, kept: as of ``highlights``.
      program: records [N, 6], the best found.
    """
    best = highlights(picture, history, sampled, kept)
    best = [best[i] for i in np.unique(np.linspace(0, len(best) - 1, 100).astype(int))]
    drawn = build_up(picture, program)
    each = int(np.clip(8000 / len(best), 80, 1500))
    draw = int(np.clip(3000 / len(drawn), 80, 500))
    times = [each] * (len(best) - 1) + [max(each, 1000)] + [draw] * (len(drawn) - 1) + [2500]
    return best + drawn, times


def accuracies(
    history: EpochMetrics, sampled: int | None = None, kept: int = 0
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of every epoch the fractions of pixels right of the attempts, and of the children."""
    found = []
    for program, accuracy in zip(history.program, history.accuracy):
        rows = epoch_rows(program, sampled, kept)
        found.append((accuracy[rows.attempts], accuracy[rows.children]))
    return found
