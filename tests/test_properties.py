"""What holds for every program, canvas, source text and picture file; Hypothesis looks for others.

Arrays have one shape, padded, so that each function is compiled once.
"""

import io
import json
import pathlib
import tempfile

import jax
import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from PIL import Image

import herjax
from herjax.dsl.canonical import canonical_program
from herjax.dsl.executor import OUTSIDE, draw_count, execute
from herjax.dsl.source import ProgramError, format_program, parse_program
from tests import referee

SIDE, DRAWS = 8, 6
many = settings(max_examples=150, deadline=None, derandomize=True, database=None)
few = settings(many, max_examples=60)


# ---- Programs and canvases -----------------------------------------------------------------------


@st.composite
def records(draw, height, width, colours=10):
    """One draw with its points inside the canvas, straight more often than by chance."""
    op = draw(st.integers(1, referee.ALL_OPS))
    r1, r2 = draw(st.tuples(*[st.integers(0, height - 1)] * 2))
    c1, c2 = draw(st.tuples(*[st.integers(0, width - 1)] * 2))
    straight = draw(st.sampled_from(["", "", "row", "column", "cell"]))
    r2 = r1 if straight in ("row", "cell") else r2
    c2 = c1 if straight in ("column", "cell") else c2
    record = [op, draw(st.integers(0, colours - 1)), r1, c1, r2, c2]
    used = [0, *referee.used_columns(op)]
    return [value if column in used else 0 for column, value in enumerate(record)]


@st.composite
def cases(draw, colours=10):
    """A program [DRAWS, 6] and a canvas [SIDE, SIDE], padded; height and width."""
    height, width = draw(st.tuples(*[st.integers(1, SIDE)] * 2))
    drawn = draw(st.lists(records(height, width, colours), max_size=DRAWS))
    program = np.zeros((DRAWS, 6), np.int32)
    program[: len(drawn)] = np.reshape(drawn, (-1, 6))
    canvas = np.full((SIDE, SIDE), OUTSIDE, np.int8)
    cells = st.lists(st.integers(0, colours - 1), min_size=height * width, max_size=height * width)
    blank = draw(st.booleans())
    inside = np.zeros(height * width) if blank else np.array(draw(cells))
    canvas[:height, :width] = inside.reshape(height, width)
    return program, canvas, height, width


def painted(program, canvas, height, width):
    """By the referee, padded again."""
    picture = canvas.copy()
    picture[:height, :width] = referee.execute(program, canvas[:height, :width])
    return picture


def overlapping(drawn):
    """A case of a blank 2x2 canvas."""
    program, canvas = np.zeros((DRAWS, 6), np.int32), np.full((SIDE, SIDE), OUTSIDE, np.int8)
    program[: len(drawn)], canvas[:2, :2] = drawn, 0
    return program, canvas, 2, 2


@pytest.fixture(scope="module")
def compiled():
    return {"execute": jax.jit(execute), "canonical": jax.jit(canonical_program)}


@many
@given(case=cases())
def test_execute_paints_what_the_referee_paints(compiled, case):
    program, canvas, *_ = case
    assert np.array_equal(compiled["execute"](program, canvas), painted(*case))


@many
@given(case=cases(colours=3))
@example(overlapping([[3, 1, 0, 0, 0, 0], [4, 1, 0, 0, 0, 0]]))  # order once more: the other way
def test_canonical_form_is_the_same_picture_no_longer_and_needs_its_draws(compiled, case):
    program, canvas, height, width = case
    form = np.asarray(compiled["canonical"](program, canvas, height, width))
    assert np.array_equal(painted(form, canvas, height, width), painted(*case))
    assert draw_count(form) <= draw_count(program)
    again = np.asarray(compiled["canonical"](form, canvas, height, width))
    # Draws of one colour that overlap may change places, but stay the same draws.
    assert sorted(again.tolist()) == sorted(form.tolist())


# ---- Source --------------------------------------------------------------------------------------


@many
@given(
    case=st.tuples(*[st.integers(1, 40)] * 2).flatmap(
        lambda size: st.tuples(st.just(size), st.lists(records(*size), max_size=9))
    )
)
def test_source_of_a_program_parses_to_the_program(case):
    (height, width), drawn = case
    program = np.reshape(drawn, (-1, 6)).astype(np.int32)
    source = format_program(program)
    parsed = parse_program(source, height, width)
    assert parsed.dtype == np.int32
    assert np.array_equal(parsed, program)
    assert format_program(parsed) == source


# Pieces of programs, so that the parser is met beyond its first line.
PIECES = [
    *("draw_line", "draw_pixel", "draw_horizontal_line", "(", ")", "img", ",", "=", "point=", "y="),
    *("point1=(0, 1)", "color=3", "color=", "(0, 1)", "[2, 3]", "7", "-1", "1.5", "True", "None"),
    *("10**9", "f'{img}'", "'''\n'''", "*", "**", "lambda: 0", "\n    ", "\n", "return img", ";"),
    *("img = ", "img: int = ", "if img: pass", "pass", ":", "\\", "#", "\x00", "\t", "\ud800"),
]
calls = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)
bodies = st.lists(calls | st.text(max_size=8), max_size=4).map("\n    ".join)
tasks = bodies.map(lambda body: f"def task(img):\n    {body}\n    return img\n")
HUGE = f"0x{5000 * 'f'}"  # more digits than Python writes out


def in_task(line):
    return f"def task(img):\n    {line}\n    return img\n"


@settings(many, max_examples=500)
@given(source=st.text() | calls | tasks)
@example(in_task(f"draw_pixel(img, point=(0, 0), color={HUGE})"))
@example(in_task("draw_pixel(img, point=(0, 0), color=f\"{'''\n'''}\")"))
@example("def task(other, /, img):\n    return img\n")
def test_any_text_is_a_program_or_a_program_error(source):
    program = refusal = None
    try:
        program = parse_program(source, 5, 6)
    except ProgramError as error:
        refusal = str(error)
    if refusal is not None:
        assert len(refusal.splitlines()) == 1
        assert refusal.startswith("line ")
        return
    assert program.dtype == np.int32
    assert program.shape == (len(program), 6)
    assert np.array_equal(parse_program(format_program(program), 5, 6), program)
    assert "other" not in source  # two arguments


# ---- Picture files -------------------------------------------------------------------------------

grids = st.tuples(*[st.integers(1, 6)] * 2).flatmap(
    lambda size: st.lists(
        st.lists(st.integers(0, 9), min_size=size[1], max_size=size[1]),
        min_size=size[0],
        max_size=size[0],
    )
)
RGB = [(0, 0, 0), (0, 116, 217), (255, 65, 54), (46, 204, 64), (255, 220, 0)]
RGB += [(170, 170, 170), (240, 18, 190), (255, 133, 27), (127, 219, 255), (135, 12, 37)]


def png(grid, cell=1):
    """An image of a grid as the bytes of a file."""
    pixels = np.array(RGB, np.uint8)[np.array(grid)].repeat(cell, 0).repeat(cell, 1)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


@pytest.fixture(scope="module")
def folder():
    with tempfile.TemporaryDirectory() as name:
        yield pathlib.Path(name)


def load(folder, suffix, content, part="", **options):
    """Write a file and load its picture."""
    path = folder / f"picture{suffix}"
    path.write_bytes(content)
    return herjax.load_picture(f"{path}{part}", **options)


def assert_picture_or_refusal(*args, **options):
    """Load; a refusal is a ValueError or an OSError of one line."""
    picture = refusal = None
    try:
        picture = load(*args, **options)
    except (ValueError, OSError) as error:
        refusal = str(error)
    if refusal is not None:
        assert len(refusal.splitlines()) == 1
        assert len(refusal) < 1000
        return
    assert picture.target.dtype == np.int8
    assert picture.target.ndim == 2
    assert 0 <= picture.target.min() <= picture.target.max() < 10
    assert np.array_equal(referee.execute(picture.program, picture.input), picture.target)


@few
@given(grid=grids, cell=st.integers(1, 3), background=st.none() | st.integers(0, 9))
def test_a_grid_comes_back_from_every_format(folder, grid, cell, background):
    text = "\n".join(" ".join(map(str, row)) for row in grid)
    task = {"train": [{"output": grid}]}
    for suffix, content, part in (
        (".json", json.dumps(grid).encode(), ""),
        (".json", json.dumps(task).encode(), ""),
        (".json", json.dumps(task).encode(), "#train.0.output"),
        (".txt", text.encode(), ""),
        (".png", png(grid, cell), ""),
    ):
        options = {"cell_size": cell} if suffix == ".png" else {}
        picture = load(folder, suffix, content, part, background=background, **options)
        assert picture.target.tolist() == grid
        assert np.array_equal(referee.execute(picture.program, picture.input), grid)
        assert background in (None, picture.input[0, 0])


leaves = st.none() | st.booleans() | st.integers(-2, 11) | st.integers() | st.floats() | st.text()
values = st.recursive(
    leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=12
)
rows = st.lists(st.lists(st.integers(0, 9) | leaves, max_size=4), max_size=4)
parts = st.sampled_from(["", "#0", "#train.0.output", "#-1", "#.", f"#{5000 * '1'}"])


@many
@given(value=values | rows | st.fixed_dictionaries({"train": values | rows}), part=parts)
def test_any_json_value_is_a_picture_or_refused(folder, value, part):
    assert_picture_or_refusal(folder, ".json", json.dumps(value).encode(), part)


@many
@given(content=st.binary() | st.text().map(str.encode), part=parts)
@example(200_000 * b"[", "")  # deeper than Python recurses
@example(b"[[" + 3000 * b"9" + b"]]", "")
def test_any_json_text_is_a_picture_or_refused(folder, content, part):
    assert_picture_or_refusal(folder, ".json", content, part)


@many
@given(content=st.binary() | st.text().map(str.encode) | st.text("0123456789 ,\n").map(str.encode))
def test_any_text_file_is_a_picture_or_refused(folder, content):
    assert_picture_or_refusal(folder, ".txt", content)


@st.composite
def damaged(draw, whole):
    """The bytes of a file of which some are others, or missing."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(content) - 1))
        content[place : place + draw(st.integers(0, 4))] = draw(st.binary(max_size=4))
        assume(content)
    return bytes(content)


@many
@given(content=damaged(png([[1, 2], [3, 4]])) | st.binary(), cell=st.integers(1, 2))
def test_any_bytes_of_an_image_are_a_picture_or_refused(folder, content, cell):
    assert_picture_or_refusal(folder, ".png", content, cell_size=cell)
