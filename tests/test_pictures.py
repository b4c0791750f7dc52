import numpy as np
import pytest

import herjax
from herjax.picture_suite import from_runs
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
