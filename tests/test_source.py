import runpy

import numpy as np
import pytest

import herjax
from herjax.dsl.ops import OPS
from herjax.dsl.source import ProgramError, format_program, format_script, parse_program
from tests import referee


def test_round_trip_of_random_programs():
    rng = np.random.default_rng(0)
    for _ in range(200):
        height, width = rng.integers(1, 33, 2)
        program = referee.random_program(rng, rng.integers(0, 9), height, width)
        source = format_program(program)
        assert np.array_equal(parse_program(source, height, width), program)


def test_empty_records_are_left_out_as_they_paint_nothing():
    program = np.array([[5, 1, 0, 0, 0, 0], [0] * 6, [5, 2, 1, 1, 0, 0], [0] * 6], np.int32)
    draws = program[[0, 2]]
    assert np.array_equal(parse_program(format_program(program)), draws)
    canvas = np.zeros((2, 2), int)
    assert np.array_equal(herjax.execute(program, canvas), herjax.execute(draws, canvas))
    tokens = [herjax.encode_programs([each], 2, 2) for each in (program, draws)]
    assert np.array_equal(*tokens)


@pytest.mark.parametrize(
    "record", [[2, 12, 0, 0, 1, 1], [2, 3, -3, 0, 1, 1], [len(OPS) + 1, 3, 0, 0, 1, 1]]
)
def test_what_could_not_be_parsed_again_is_not_written(record):
    with pytest.raises(ValueError, match="program: "):
        format_program([record])


@pytest.mark.parametrize("kind", [float, bool])
def test_programs_are_integers(kind):
    program = np.ones((2, 6), kind)
    calls = [
        lambda: format_program(program),
        lambda: herjax.execute(program, np.zeros((3, 3), int)),
        lambda: herjax.prune(program.tolist(), np.zeros((3, 3), int)),
        lambda: herjax.encode_programs([program], 3, 3),
    ]
    for call in calls:
        with pytest.raises(
            ValueError, match=f"program must be integer records, got {kind.__name__}"
        ):
            call()


def test_documented_form():
    source = (
        "def task(img):\n"
        "    draw_line(img, point1=(0, 1), point2=(2, 3), color=4)\n"
        "    draw_rectangle(img, point1=(5, 6), point2=(7, 8), color=9)\n"
        "    draw_horizontal_line(img, y=1, color=2)\n"
        "    draw_vertical_line(img, x=3, color=4)\n"
        "    draw_pixel(img, point=(5, 6), color=7)\n"
        "    return img\n"
    )
    program = parse_program(source)
    assert np.array_equal(
        program,
        [
            [1, 4, 0, 1, 2, 3],
            [2, 9, 5, 6, 7, 8],
            [3, 2, 1, 0, 0, 0],
            [4, 4, 0, 3, 0, 0],
            [5, 7, 5, 6, 0, 0],
        ],
    )
    assert format_program(program) == source


def test_other_ways_to_write_it():
    source = '''
import numpy as np
def helper(x): return x
def task(canvas):
    """A docstring."""
    canvas = draw_line(canvas, (0, 1), [2, 3], 4)
    draw_pixel(canvas, color=7, point=(5, 6))
    return canvas
'''
    assert np.array_equal(parse_program(source), [[1, 4, 0, 1, 2, 3], [5, 7, 5, 6, 0, 0]])


def test_script_runs_by_itself_and_prints_the_picture(tmp_path, capsys):
    rng = np.random.default_rng(1)
    program = referee.random_program(rng, 8, 6, 7)
    input = rng.integers(0, 10, (6, 7))
    path = tmp_path / "solution.py"
    path.write_text(format_script(program, input))
    runpy.run_path(str(path), run_name="__main__")
    printed = [[int(cell) for cell in row] for row in capsys.readouterr().out.split()]
    assert np.array_equal(printed, referee.execute(program, input))
    assert np.array_equal(parse_program(path.read_text()), program)


def task(*lines):
    return "\n".join(["def task(img):", *("    " + line for line in lines), "    return img"])


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ("def task(img:\n", ["line 1", "not Python"]),
        ("x = 1", ["one function `task`, found 0"]),
        ("def task(img, other):\n    return img", ["line 1", "one argument"]),
        ("def task(img):\n    pass", ["line 2", "return img"]),
        (task("draw_nothing(img, color=1)"), ["line 2", "draw_nothing", "draw_line"]),
        (task("draw_pixel(img, point=(0, 0), color=10)"), ["line 2", "color = 10", "0 .. 9"]),
        (task("draw_pixel(img, point=(0, 0), color=-1)"), ["line 2", "color = -1"]),
        (task("pass", "x = 3"), ["line 2", "pass"]),
        (task("draw_pixel(img, point=(7, 0), color=1)"), ["point = 7", "0 .. 4"]),
        (task("draw_pixel(img, point=(0, 6), color=1)"), ["point = 6", "0 .. 5"]),
        (task("draw_horizontal_line(img, y=5, color=1)"), ["y = 5", "0 .. 4"]),
        (task("draw_vertical_line(img, x=6, color=1)"), ["x = 6", "0 .. 5"]),
        (task("draw_pixel(img, point=(0.5, 0), color=1)"), ["line 2", "pair of integers"]),
        (task("draw_pixel(img, point=(True, 0), color=1)"), ["pair of integers"]),
        (task("draw_pixel(img, point=3, color=1)"), ["pair of integers"]),
        (task("draw_pixel(img, point=(n, 0), color=1)"), ["pair of integers", "(n, 0)"]),
        (task("draw_pixel(img, point=(0, 0))"), ["line 2", "(img, point, color)"]),
        (task("draw_pixel(img, (0, 0), 1, 2)"), ["(img, point, color)"]),
        (task("draw_pixel(img, (0, 0), point=(0, 0), color=1)"), ["(img, point, color)"]),
        (task("draw_pixel(img, **k)"), ["(img, point, color)"]),
        (task("draw_pixel(other, point=(0, 0), color=1)"), ["first argument", "img"]),
        (task("x = draw_pixel(img, point=(0, 0), color=1)"), ["line 2", "drawing call"]),
        (task("np.draw_pixel(img)"), ["drawing call"]),
        (task("draw_pixel(img, point=(0, 99999999999), color=1)"), ["out of range"]),
        (task("draw_pixel(img, point=(0, 0), color='red')"), ["color", "'red'"]),
        (task("for r in range(2):", "    draw_pixel(img, point=(r, 0), color=1)"), ["line 2"]),
        (task("draw_pixel(img, point=(0, 0), color=" + "1+" * 900 + "1)"), ["line 2", "color"]),
        (task("draw_pixel(img, point=(0, 0), color=" + "-" * 600 + "1)"), ["line"]),
        ("(" * 5000, ["line 1"]),
        ("def task(img):\n    return img\n\x00", ["line 1"]),
    ],
)
def test_bad_source_is_one_clear_line(source, parts):
    with pytest.raises(ProgramError) as caught:
        parse_program(source, height=5, width=6)
    message = str(caught.value)
    for part in parts:
        assert part in message
    assert "\n" not in message


def test_source_is_never_executed():
    source = "raise SystemExit\n" + task("draw_pixel(img, point=(exit(), 0), color=1)")
    with pytest.raises(ProgramError):
        parse_program(source)
