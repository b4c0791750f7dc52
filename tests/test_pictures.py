import hashlib
import pathlib
import re

import numpy as np
import pytest
from PIL import ImageFont

import herjax
from experiments.make_emoji import EMOJI, FIRST, FONT_SIZE, GROUPS, centred, render, to_cells
from herjax.commands.named_tasks import TASK_SETS, chosen_tasks
from herjax.tasks.suite import (
    EMOJI_SIDES,
    emoji_file,
    emoji_grids,
    from_runs,
    tuning_pictures,
)
from tests import referee

SUITE = herjax.pictures()
# Of the tuning pictures, as they were when the settings were chosen on them.
TUNING_SHA256 = "98c0cf0bcf2d85249087a144db098b8e5da46c9a9d1cf5d4c80d123634a6ddf2"
# Of the file of the first twenty emoji, as it was when they were measured.
FIRST_SHA256 = "34a951f7c747bfd0b694bc37bf1ea307fba1038606e209d27eca7533eb523feb"


@pytest.mark.parametrize("name", SUITE)
def test_reference_programs_draw_their_pictures(name):
    picture = SUITE[name]
    assert (picture.input == 0).all()
    assert np.array_equal(referee.execute(picture.program, picture.input), picture.target)


def test_the_suite_is_the_source_s_and_two_larger_ones():
    squares = {12: (6, 8), 16: (8, 8), 20: (10, 8), 25: (10, 10), 36: (12, 12), 49: (14, 14)}
    squares |= {64: (16, 16), 81: (18, 18), 100: (20, 20), 196: (28, 28), 225: (30, 30)}
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
        ("196-squares", {0: "1122334455667788991122334455", 2: "6677889911223344556677889911"}),
        ("225-squares", {0: "112233445566771122334455667711", 2: "223344556677112233445566771122"}),
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


@pytest.mark.parametrize("side", EMOJI_SIDES)
def test_a_hundred_emoji_that_differ(side):
    grids = emoji_grids(side)
    assert list(grids) == list(EMOJI)
    assert len({grid.tobytes() for grid in grids.values()}) == len(grids) == 100
    for number, (name, grid) in enumerate(grids.items()):
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", name)
        assert (grid.shape, grid.dtype) == ((side, side), np.int8)
        assert set(np.unique(grid)) <= set(range(10))
        if number % 20 == 0:  # the calls of scikit-image take their time
            picture = from_runs(grid)
            assert np.array_equal(referee.execute(picture.program, picture.input), grid)
    assert (grids["red-heart"][side // 3, side // 4 : -side // 4] == 2).all()


def test_the_first_emoji_stay_what_was_measured():
    grids = emoji_grids(20)
    rows = [[name, *("".join(map(str, row)) for row in grids[name])] for name in FIRST.split()]
    text = "\n\n".join("\n".join(block) for block in rows) + "\n"
    assert len(rows) == 20
    assert hashlib.sha256(text.encode()).hexdigest() == FIRST_SHA256


def test_the_tuning_pictures_stay_what_settings_were_chosen_on():
    digest = hashlib.sha256()
    for name, picture in tuning_pictures().items():
        rows, cols = picture.target.shape
        assert not picture.input.any()
        digest.update(f"{name} {rows}x{cols}\n".encode() + picture.target.tobytes())
    assert digest.hexdigest() == TUNING_SHA256


def test_all_are_those_of_the_suite_that_fit_to_the_last_cell():
    small = [name for name, picture in SUITE.items() if max(picture.target.shape) <= 10]
    assert list(chosen_tasks("all", max_side=10)) == small
    assert {"25-squares", "chick"} < set(small) < set(SUITE)


def test_edits_are_on_the_input_of_their_task_asked_for_or_not(monkeypatch):
    edit = from_runs(np.array([[2, 2]]), np.array([[1, 2]]))
    monkeypatch.setitem(TASK_SETS, "arc-edits", lambda: {"edit": edit})
    for input in (None, "task"):
        assert chosen_tasks("arc-edits", max_side=10, input=input)["edit"] is edit
    blank = chosen_tasks("arc-edits", max_side=10, input="blank")["edit"]
    assert blank.input.tolist() == [[2, 2]]


def test_emoji_are_even_over_the_groups():
    assert {len(group) for group in GROUPS.values()} == {12, 13}
    assert len(GROUPS) == 8


def test_emoji_are_glyphs_of_the_font():
    font = pathlib.Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
    if not font.exists():
        pytest.skip("the font is not installed")
    pixels = centred(render(EMOJI["sunflower"], ImageFont.truetype(font, FONT_SIZE)))
    for side in EMOJI_SIDES:
        assert np.array_equal(to_cells(pixels, side), emoji_grids(side)["sunflower"])


def test_emoji_are_task_sets():
    for name in ("emoji", "emoji20"):
        assert list(chosen_tasks(name, max_side=20)) == list(EMOJI)
    assert list(chosen_tasks("emoji16", max_side=16))[:2] == [
        "grinning-face-16x16",
        "smiling-face-with-sunglasses-16x16",
    ]
    with pytest.raises(ValueError, match="grinning-face of 20x20 is larger"):
        chosen_tasks("emoji", max_side=10)
    message = "task grinning-face-30x30 of 30x30 is larger than the model's canvas, 20x20"
    with pytest.raises(ValueError, match=message):
        chosen_tasks("emoji30", max_side=20)


def test_one_emoji_by_its_name(monkeypatch):
    chosen = chosen_tasks("emoji:rocket,chick,emoji16:rocket,emoji30:rocket", max_side=30)
    assert list(chosen) == ["rocket", "chick", "rocket-16x16", "rocket-30x30"]
    for side, name in ((20, "rocket"), (16, "rocket-16x16"), (30, "rocket-30x30")):
        assert np.array_equal(chosen[name].target, emoji_grids(side)["rocket"])
        assert not chosen[name].input.any()
    with pytest.raises(ValueError, match="two tasks are called rocket: run them apart"):
        chosen_tasks("emoji:rocket,emoji20:rocket", max_side=20)
    for name, message in {
        "rocket": "unknown task 'rocket' \\(did you mean 'emoji:rocket'",
        "emoji16:rokcet": "no emoji 'rokcet' \\(did you mean 'rocket'",
        "emoji17:rocket": "unknown task 'emoji17:rocket': sizes are emoji, emoji16, emoji20",
    }.items():
        with pytest.raises(ValueError, match=message):
            chosen_tasks(name, max_side=20)
    with pytest.raises(ValueError, match="--background is for picture files"):
        chosen_tasks("emoji:rocket", max_side=20, background=0)
    # Each size is a file, of which those that nobody asks for are not read.
    monkeypatch.setattr("herjax.tasks.suite.emoji_file", {16: emoji_file(16)}.__getitem__)
    assert list(chosen_tasks("emoji16:rocket,chick", max_side=20)) == [
        "rocket-16x16",
        "chick",
    ]


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
