"""What of an adaptation is shown, against Python loops and the referee's pictures."""

import jax
import numpy as np
import pytest

import herjax
from herjax.dsl.ops import RECTANGLE
from herjax.stats import percent
from herjax.tasks.random import random_program
from herjax.viewing.story import (
    STALLED,
    accuracies,
    build_up,
    epoch_rows,
    film,
    find_stall,
    highlights,
    missed_cells,
    stages,
)
from tests import referee

SHAPE = (4, 6)
BLANK = np.zeros(SHAPE, int)
# Row c in colour c + 1: together the target.
ROWS = np.array([[RECTANGLE, c + 1, c, 0, c, 5] for c in range(4)], np.int8)
TARGET = np.repeat(np.arange(1, 5), 6).reshape(SHAPE)
PICTURE = herjax.Picture(BLANK, TARGET, None)


def of(*places):
    program = np.zeros((6, 6), np.int8)
    program[: len(places)] = ROWS[list(places)]
    return program


# Two sampled, two kept: three attempts of children; the empty program accepts nothing.
FIRST = [of(0), of(1, 2), of(), of(), of(0, 1, 2), of(1, 2), of(), of()]
SECOND = [of(3, 0), of(), of(0, 1, 2), of(), of(3, 0), of(3), of(0, 1, 2, 3), of()]
# A solved epoch whose attempt is best: the child is no better and is not shown.
THIRD = [of(0, 1, 2, 3), of(0), of(), of(), of(0, 1, 2, 3), of(0, 1, 2, 3), of(), of()]


def history_of(*epochs):
    programs = np.stack([np.stack(rows) for rows in epochs])
    pictures = np.stack([[referee.execute(p, BLANK) for p in rows] for rows in programs])
    zeros = np.zeros(len(programs), int)
    names = ("run", "distinct", "new", "trained", "draws", "loss", "solved")
    return herjax.EpochMetrics(
        program=programs,
        accuracy=np.float32((pictures == TARGET).mean(axis=(2, 3))),
        best_picture=pictures[:, 0],
        **dict.fromkeys(names, zeros),
    )


def test_rows_are_sorted_and_empty_ones_left_out():
    first, second = (epoch_rows(np.stack(rows), 2, 2) for rows in (FIRST, SECOND))
    assert [part.tolist() for part in first] == [[0, 1], [], [4], [0]]
    # A program without draws that was sampled counts; an empty place for a kept one does not.
    assert [part.tolist() for part in second] == [[0, 1], [2], [5, 6], [1, 2]]
    plain = epoch_rows(np.stack(FIRST))
    assert [len(part) for part in plain] == [8, 0, 0, 0]
    with pytest.raises(ValueError, match=r"8 rows are not 3 sampled, nor twice 3 \+ 2"):
        epoch_rows(np.stack(FIRST), 3, 2)


def test_stages_are_the_pictures_of_the_first_draws():
    for seed in range(5):
        program = np.asarray(random_program(jax.random.key(seed), *SHAPE, 7))
        found = stages(program, BLANK)
        count = int((program[:, 0] != 0).sum())
        assert len(found) == count + 1
        for i, canvas in enumerate(found):
            assert np.array_equal(canvas, referee.execute(program[:i], BLANK))


def test_highlights_are_the_best_attempt_and_a_better_child():
    found = highlights(PICTURE, history_of(FIRST, SECOND, THIRD), 2, 2)
    assert [moment.words for moment in found] == [
        "epoch 1 of 3\nbest attempt: 50.0 %",
        "epoch 1 of 3\nbest child: 75.0 %",
        "epoch 2 of 3\nbest attempt: 50.0 %",
        "epoch 2 of 3\nbest child: 100.0 %",
        "epoch 3 of 3\nbest attempt: 100.0 %",
    ]
    for moment, program in zip(found, (of(1, 2), of(0, 1, 2), of(0, 3), of(0, 1, 2, 3))):
        assert np.array_equal(moment.picture, referee.execute(program, BLANK))


def test_accuracies_are_those_of_programs_alone():
    (attempts, children), second = accuracies(history_of(FIRST, SECOND), 2, 2)
    assert attempts.tolist() == [0.25, 0.5]
    assert children.tolist() == [0.75]
    assert [part.tolist() for part in second] == [[0.5, 0.0], [0.25, 1.0]]


@pytest.mark.parametrize(("epochs", "best"), [(1, 2), (3, 6), (60, 100), (500, 100)])
def test_film_ends_with_the_program_draw_by_draw_and_lasts_seconds(epochs, best):
    moments, milliseconds = film(PICTURE, history_of(*[FIRST] * epochs), of(3, 1)[:2], 2, 2)
    assert len(moments) == len(milliseconds) == best + 3
    assert [moment.words for moment in moments[-3:]] == [
        f"best program\ndraw {i} of 2: {share}"
        for i, share in enumerate(("0.0 %", "25.0 %", "50.0 %"))
    ]
    assert np.array_equal(moments[-1].picture, referee.execute(of(3, 1), BLANK))
    assert 5000 <= sum(milliseconds) <= 15000
    assert min(milliseconds[: best - 1]) >= 60
    assert milliseconds[-1] == max(milliseconds)


def test_the_solution_is_called_one():
    solved = build_up(PICTURE, of(0, 1, 2, 3)[:4])
    assert solved[-1].words == "solution\ndraw 4 of 4: 100.0 %"


@pytest.mark.parametrize(
    ("fraction", "words"), [(1.0, "100.0 %"), (2499 / 2500, "99.9 %"), (0.29, "29.0 %")]
)
def test_percent_rounds_down(fraction, words):
    assert percent(np.float32(fraction)) == words


def test_a_stall_is_told_with_its_cells_and_the_limit_of_draws():
    programs = [np.stack(FIRST), np.stack(SECOND[:6])]
    missed = [missed_cells(PICTURE, each) for each in programs]
    wrong = [np.stack([referee.execute(p, BLANK) != TARGET for p in each]) for each in programs]
    for found, each in zip(missed, wrong):
        assert np.array_equal(found, each.all(axis=0))
    assert missed[0].sum() == 6  # the last row, which a program of the second epoch has
    assert find_stall(STALLED - 1, missed, of(0), limit=1) is None
    stall = find_stall(STALLED, missed[:1], of(0, 1), limit=3)
    assert np.array_equal(stall.cells, missed[0])
    assert stall.words == (
        f"stalled: no new best for {STALLED} epochs, 6 cells right in no program of the last"
        f" {STALLED}"
    )
    stall = find_stall(STALLED, missed, of(0, 1), limit=2)
    assert not stall.cells.any()
    assert "each cell right in some program" in stall.words
    assert stall.words.endswith("; the best one has all 2 draws that max_draws allows")
