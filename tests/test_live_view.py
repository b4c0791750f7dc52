import io
import pathlib

import numpy as np
import pytest
from rich.console import Console

import herjax
from herjax.commands.live_view import LiveView
from herjax.commands.member import Member
from herjax.dsl.ops import PIXEL
from herjax.learning.config import AdaptConfig
from herjax.learning.epoch import EpochMetrics
from herjax.learning.population import Advance
from herjax.viewing.story import STALLED

CONFIG = AdaptConfig(programs=(2,), keep=1, partners=2)  # A = 6: 2 sampled, 1 kept, 3 children
TARGET = np.array([[1, 2], [3, 4]])


def metrics(accuracy, programs):
    """An epoch whose programs paint so many cells rightly."""
    records = np.zeros((len(accuracy), 4, 6), np.int8)
    for row, cells in enumerate(programs):
        for i in range(cells):
            records[row, i, :4] = PIXEL, TARGET.flat[i], i // 2, i % 2
    best = int(np.argmax(accuracy))
    picture = np.zeros(4, int)
    picture[: programs[best]] = TARGET.flat[: programs[best]]
    numbers = {name: np.int32(0) for name in ("distinct", "new", "trained", "loss", "solved")}
    return EpochMetrics(
        program=records,
        accuracy=np.array(accuracy),
        best_picture=picture.reshape(2, 2),
        run=np.int32(90),
        draws=np.float32(1.5),
        **numbers,
    )


@pytest.fixture
def view():
    picture = herjax.Picture(np.zeros_like(TARGET), TARGET, np.zeros((0, 6), int))
    view = LiveView([Member("own", 0, picture, pathlib.Path("own"))], CONFIG)
    view.console = Console(file=io.StringIO(), width=120)
    return view


def test_a_row_tells_attempts_from_children_and_programs_sampled_from_run(view):
    epoch = metrics([0.25, 0.5, 0.5, 0.75, 1.0, 0.5], [1, 2, 2, 3, 4, 2])
    with view:
        view.show([(view.members[0], Advance(0, 7, 1.0, 640, epoch, None), 1.25)])
    names, row = view.console.file.getvalue().splitlines()
    cells = dict(zip(names.split(), row.replace(" %", "%").split()))
    assert (cells["mean"], cells["best"], cells["child"]) == ("37.5%", "50.0%", "100.0%")
    assert (cells["epoch"], cells["sampled"], cells["run"]) == ("6", "14", "640")


@pytest.mark.parametrize(
    ("accuracy", "programs", "names", "digits"),
    [
        ([0.25, 0.5, 0, 0.5, 0.75, 0], [1, 2, 0, 2, 3, 0], "its parent best, a child", "121230"),
        ([0.25, 0.5, 0, 0.25, 0.5, 0], [1, 2, 0, 1, 2, 0], "best", "1200"),
    ],
)
def test_a_child_is_shown_beside_its_parent(view, accuracy, programs, names, digits):
    console = Console(file=io.StringIO(), width=80)
    console.print(view._pictures(metrics(accuracy, programs)))
    first, *rows = console.file.getvalue().splitlines()
    assert first.split() == names.split()
    cells = [row.split() for row in rows]
    shown = [cell for row in cells for cell in row]
    expected = {"121230": "1 2 1 2 0 0 3 0", "1200": "1 2 0 0"}[digits]
    assert shown == expected.split()


def test_a_stall_is_told_and_its_cells_are_marked(view):
    """Cell 3 is never right; the second epoch has the last new best."""
    epochs = [metrics([0.25, 0, 0, 0.25, 0, 0], [1, 0, 0, 1, 0, 0])]
    epochs += [metrics([0.5, 0.75, 0, 0.5, 0.75, 0], [2, 3, 0, 2, 3, 0])] * (STALLED + 1)
    with view:
        for number, epoch in enumerate(epochs, start=1):
            best = 0.25 if number == 1 else 0.75
            view.show([(view.members[0], Advance(0, number, best, 0, epoch, None), 1.0)])
    last = view.console.file.getvalue().splitlines()[-1]
    assert last == (
        f"stalled: no new best for {STALLED} epochs, 1 cell right in no program of the last"
        f" {STALLED}"
    )
    shown = io.StringIO()
    Console(file=shown, width=80).print(view._pictures(epochs[-1], view._stall()))
    assert shown.getvalue().split()[-4:] == ["1", "2", "3", "×"]


def test_the_line_of_a_population_counts_those_that_stalled(view):
    view.members *= 2
    for epoch in (8, 8 + STALLED):
        running = [
            (view.members[0]._replace(seed=seed), Advance(seed, epoch, best, 0, None, None), 1.0)
            for seed, best in enumerate((0.5, epoch / 100))
        ]
        view.show(running)
    assert view._standing().endswith(f"; 1 stalled: no new best for {STALLED} epochs")
