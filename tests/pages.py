"""Adaptations made by hand, and what a report of one holds."""

import base64
import gzip
import json
import re

import numpy as np

import herjax
from herjax.dsl.ops import RECTANGLE
from tests import referee

SHAPE = (4, 7)
BLANK = np.zeros(SHAPE, int)


def data_of(page):
    """The data of a report.html, as the page itself reads them."""
    packed = re.search(r'id="data">([0-9A-Za-z+/=]*)</script>', page).group(1)
    return json.loads(gzip.decompress(base64.b64decode(packed)))


def drawn(programs):
    return np.stack([[referee.execute(p, BLANK) for p in row] for row in programs])


def make_history(programs, target, **values):
    """History of programs [E, A, N, 6], with what is not given counted as 0."""
    epochs, rows = programs.shape[:2]
    pictures = drawn(programs)
    integers = ("run", "distinct", "new", "trained")
    given = {name: np.zeros(epochs, int) for name in integers}
    given |= {name: np.zeros(epochs) for name in ("draws", "loss")}
    return herjax.EpochMetrics(
        program=programs,
        accuracy=np.float32((pictures == target).mean(axis=(2, 3))),
        best_picture=pictures[:, 0],
        solved=np.zeros(epochs, bool),
        **given | {name: np.array(value) for name, value in values.items()},
    )


# Four draws that together paint the target; sampled are one, two and three of them.
DRAWS = np.array(
    [[RECTANGLE, c + 1, *box] for c, box in enumerate([(0, 0, 1, 6), (2, 0, 3, 2), (2, 3, 3, 4)])]
    + [[RECTANGLE, 4, 2, 5, 3, 6]],
    np.int8,
)
SAMPLED, KEPT = 3, 2


def of(*places):
    """The program of some of the four draws."""
    program = np.zeros((5, 6), np.int8)
    program[: len(places)] = DRAWS[list(places)]
    return program


# A kept program brings the draw 1 into the second epoch, where nothing sampled has it.
RECOMBINED = np.stack(
    [
        np.stack(rows)
        for rows in (
            [of(0), of(0, 1), of(2), of(), of(), of(0, 1), of(0, 1), of(2, 0, 1), of(), of()],
            [of(0), of(0, 2), of(3), of(0, 1), of(), of(0, 3, 1, 2), of(0, 2, 3)]
            + [of(3), of(0, 1), of()],
        )
    ]
)
