"""Parsers meet what Hypothesis makes up: documented errors of one line alone come out.

A find becomes a case of tests/battery.
"""

import io
import json
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import herjax
from tests.battery import folder

EXAMPLES = settings(
    max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
PROGRAM = herjax.format_program(np.array([[1, 4, 0, 1, 2, 3], [5, 7, 5, 6, 0, 0]]))


def image(kind):
    file = io.BytesIO()
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[1:3] = (255, 220, 0)
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def array():
    file = io.BytesIO()
    np.save(file, np.ones((3, 4), np.int16))
    return file.getvalue()


SEEDS = {
    ".png": image("PNG"),
    ".gif": image("GIF"),
    ".json": json.dumps({"train": [{"input": [[1]], "output": [[4, 2], [9, 0]]}]}).encode(),
    ".npy": array(),
    ".txt": b"123\n456\n",
}


@st.composite
def damaged(draw, data):
    """Bytes with some of them replaced, cut out, said twice or put in."""
    made = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(made) - 1, 0)))
        length = draw(st.integers(0, 8))
        made[at : at + draw(st.sampled_from((0, length)))] = draw(
            st.one_of(st.binary(max_size=8), st.just(bytes(made[at : at + length])))
        )
    return bytes(made)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", SEEDS)
def test_damaged_files_are_refused_in_one_line_or_are_pictures(suffix):
    with folder() as place:

        @EXAMPLES
        @given(damaged(SEEDS[suffix]))
        def attack(data):
            (place / f"x{suffix}").write_bytes(data)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", UserWarning)  # of what is lost of an image
                    picture = herjax.load_picture(place / f"x{suffix}")
            except (ValueError, OSError) as error:
                assert_one_line(error)
            else:
                assert 0 <= picture.target.min() <= picture.target.max() <= 9

        attack()


def assert_one_line(error):
    assert len(str(error).splitlines()) == 1
    assert len(str(error)) < 700


def assert_program_or_refusal(source):
    try:
        program = herjax.parse_program(source)
    except herjax.ProgramError as error:
        assert_one_line(error)
    else:
        again = herjax.parse_program(herjax.format_program(program))
        assert np.array_equal(again, program)


@pytest.mark.slow
@EXAMPLES
@given(damaged(PROGRAM.encode()))
def test_damaged_programs_are_refused_in_one_line_or_are_programs(data):
    assert_program_or_refusal(data.decode("latin-1"))


@pytest.mark.slow
@EXAMPLES
@given(st.text(), st.text(alphabet="draw_pixel(img, )=0123[]{}*'\"\\\n\t#:.-~@!"))
def test_made_up_text_is_refused_in_one_line(anything, likely):
    assert_program_or_refusal(anything)
    assert_program_or_refusal(f"def task(img):\n    {likely}\n    return img")


@pytest.mark.slow
@EXAMPLES
@given(
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3)),
        lambda inside: st.one_of(
            st.lists(inside, max_size=4), st.dictionaries(st.text(max_size=3), inside, max_size=3)
        ),
        max_leaves=20,
    ),
    st.text(alphabet="train.0123-outpi#", max_size=9),
)
def test_made_up_grids_are_refused_in_one_line(value, part):
    with folder() as place:
        (place / "x.json").write_text(json.dumps(value))
        for name in ("x.json", f"x.json#{part}"):
            try:
                herjax.load_picture(place / name)
            except ValueError as error:
                assert_one_line(error)
    try:
        herjax.make_task(value)
    except ValueError as error:
        assert_one_line(error)
