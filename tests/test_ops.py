"""The table of drawing calls, and that a new row in it is all that a new call needs."""

import inspect
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

import herjax
from herjax.dsl.ops import ARGUMENT_COLUMNS, OPS
from tests import referee

ROOT = pathlib.Path(herjax.__file__).parents[1]

# What a newcomer writes: a call that must not be rewritten, and two that transposing swaps.
MASKS = '''
def corners_covers(r1, c1, r2, c2, row, col) -> Array:
    """The four corners of a rectangle."""
    return ((row == r1) | (row == r2)) & ((col == c1) | (col == c2))


def elbow_covers(r1, c1, r2, c2, row, col) -> Array:
    """Along the row of point1, then along the column of point2."""
    across = (row == r1) & (col >= jnp.minimum(c1, c2)) & (col <= jnp.maximum(c1, c2))
    return across | ((col == c2) & (row >= jnp.minimum(r1, r2)) & (row <= jnp.maximum(r1, r2)))


def knee_covers(r1, c1, r2, c2, row, col) -> Array:
    """Along the column of point1, then along the row of point2."""
    return elbow_covers(r2, c2, r1, c1, row, col)


'''

ROWS = """\
    Op("draw_corners", ("point1", "point2", "color"), covers=corners_covers, corners=True),
    Op(
        "draw_elbow",
        ("point1", "point2", "color"),
        covers=elbow_covers,
        transposed="draw_knee",
        segment=True,
    ),
    Op(
        "draw_knee",
        ("point1", "point2", "color"),
        covers=knee_covers,
        transposed="draw_elbow",
        segment=True,
    ),
"""

DRAWING = '''

def draw_corners(img, point1, point2, color):
    """The four corners of a rectangle."""
    for row in (point1[0], point2[0]):
        for col in (point1[1], point2[1]):
            img[row, col] = color


def draw_elbow(img, point1, point2, color):
    """Along the row of point1, then along the column of point2."""
    bend = (point1[0], point2[1])
    draw_line(img, point1, bend, color)
    draw_line(img, bend, point2, color)


def draw_knee(img, point1, point2, color):
    """Along the column of point1, then along the row of point2."""
    draw_elbow(img, point2, point1, color)
'''

# The tests of what follows from a row; those of statistics and of pretraining do not.
TESTS = ("canonical", "grammar", "source", "augmentation", "executor", "tasks")
LEFT_OUT = "20000 or lengths_match or stream or uniform or buckets or bucket or bad_source"


def test_the_table_has_the_calls_of_drawing_py_in_their_order():
    assert [op.name for op in OPS] == [call.__name__ for call in referee.CALLS]
    for op, call in zip(OPS, referee.CALLS):
        assert ["img", *op.arguments] == list(inspect.signature(call).parameters)
    assert ARGUMENT_COLUMNS == referee.COLUMNS


def test_transposing_twice_is_nothing():
    other = {op.name: op.transposed or op.name for op in OPS}
    assert all(other[other[name]] == name for name in other)


@pytest.fixture
def copy(tmp_path):
    """The package and its tests, copied; with three more calls, added by the book."""
    ignored = shutil.ignore_patterns("pretrained", "__pycache__")
    for folder in ("herjax", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignored)
    shutil.copy(ROOT / "setup.cfg", tmp_path)
    table, drawing = (tmp_path / "herjax" / "dsl" / name for name in ("ops.py", "drawing.py"))
    text = table.read_text()
    for mark, new in (("\nOPS = (\n", MASKS), (")  # op ids are", ROWS)):
        assert text.count(mark) == 1
        text = text.replace(mark, new.removesuffix("\n") + mark)
    table.write_text(text)
    drawing.write_text(drawing.read_text() + DRAWING)
    return tmp_path


def run_tests(folder):
    """Run the chosen tests of a copy of the package; -> exit code, output."""
    files = [f"tests/test_{name}.py" for name in TESTS]
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:cov"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *files, "-k", f"not ({LEFT_OUT})"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
def test_a_call_added_by_the_book_passes_every_test(copy):
    code, output = run_tests(copy)
    assert code == 0, output
    assert " passed" in output
