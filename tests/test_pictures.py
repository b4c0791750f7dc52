import re

import numpy as np
import pytest

import herjax
from experiments.make_emoji import EMOJI, centred, to_cells
from herjax.commands import cli
from herjax.tasks.suite import emoji_pictures, from_runs
from tests import referee

SUITE = herjax.pictures()


@pytest.mark.parametrize("name", SUITE)
def test_reference_programs_draw_their_pictures(name):
    picture = SUITE[name]
    assert (picture.input == 0).all()
    assert np.array_equal(referee.execute(picture.program, picture.input), picture.target)


def test_the_suite_is_the_source_s():
    squares = {12: (6, 8), 16: (8, 8), 20: (10, 8), 25: (10, 10), 36: (12, 12), 49: (14, 14)}
    squares |= {64: (16, 16), 81: (18, 18), 100: (20, 20)}
    others = {"9-vertical-lines", "9-squares", "overlapping-squares", "chick"}
    assert set(SUITE) == others | {f"{n}-squares" for n in squares}
    for n, shape in squares.items():
        assert SUITE[f"{n}-squares"].target.shape == shape
        assert len(SUITE[f"{n}-squares"].program) == n


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("9-vertical-lines", {0: "123456789", 8: "123456789"}),
        ("9-squares", {0: "111222333", 3: "444555666", 8: "777888999"}),
        (
            "overlapping-squares",
            {0: "1111111111", 2: "1233333321", 4: "1234554321"},
        ),
        ("12-squares", {0: "11223344", 2: "55667788", 5: "99112233"}),
        ("25-squares", {0: "1122334455", 3: "6677889911", 9: "3344556677"}),
        ("100-squares", {0: "11223344556677112233", 2: "44556677112233445566"}),
        ("64-squares", {0: "1122334455667788", 2: "9911223344556677"}),
        ("chick", {0: "8888448888", 3: "8424474248", 9: "8847447488"}),
    ],
)
def test_rows_of_the_pictures(name, rows):
    for r, row in rows.items():
        assert "".join(map(str, SUITE[name].target[r])) == row


def test_from_runs_draws_any_picture():
    target = np.random.default_rng(0).integers(0, 3, (6, 9)).astype(np.int8)
    picture = from_runs(target)
    assert np.array_equal(referee.execute(picture.program, picture.input), target)


def test_twenty_emoji_that_differ():
    found = emoji_pictures()
    assert list(found) == list(EMOJI)
    assert len({picture.target.tobytes() for picture in found.values()}) == len(found) == 20
    for name, picture in found.items():
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", name)
        assert name not in SUITE
        assert picture.target.shape == (20, 20)
        assert picture.target.dtype == np.int8
        assert set(np.unique(picture.target)) <= set(range(10))
        assert not picture.input.any()
        assert np.array_equal(referee.execute(picture.program, picture.input), picture.target)
    assert (found["red-heart"].target[7] == 2).all()


def test_emoji_is_a_task_set():
    chosen = cli.chosen_tasks("emoji", max_side=20)
    assert list(chosen) == list(emoji_pictures())
    with pytest.raises(ValueError, match="grinning-face of 20x20 is larger"):
        cli.chosen_tasks("emoji", max_side=10)


def test_cells_are_means_of_areas_weighted_by_alpha():
    red, yellow = (255, 65, 54, 255), (255, 220, 0, 255)  # colours 2 and 4
    pixels = np.zeros((3, 3, 4))  # 2x2 cells of 1.5 x 1.5 pixels
    pixels[0, 0] = red  # alone 1 of 2.25
    pixels[:2, 2] = yellow  # with half of the pixel below: 1.5 of 2.25
    pixels[2, :2] = np.multiply(red, 0.8)  # 1.2 of 2.25: half the cell, and not darker for it
    assert to_cells(pixels, side=2).tolist() == [[0, 4], [2, 0]]


def test_glyphs_are_centred_in_a_square():
    square = centred(np.ones((2, 5, 4)))
    assert square[..., 3].tolist() == [[0] * 5, [1] * 5, [1] * 5, [0] * 5, [0] * 5]
