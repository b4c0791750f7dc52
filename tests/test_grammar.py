import numpy as np
import pytest

from herjax.dsl import grammar
from herjax.dsl.ops import OPS
from tests import referee


def test_encode_and_decode_are_inverse_for_every_width():
    rng = np.random.default_rng(0)
    widths = np.array([1, 4, 10, 32])
    programs = np.stack([referee.random_program(rng, 9, 6, width) for width in widths])
    programs[:, 6:] = 0
    tokens = grammar.encode(programs, widths)
    assert np.array_equal(grammar.decode(tokens, widths), programs)


def test_token_ids_are_as_documented():
    program = [[2, 3, 1, 2, 4, 0], [3, 9, 5, 0, 0, 0], [4, 0, 0, 1, 0, 0], [0] * 6]
    none, colour = grammar.NO_TOKEN, 1 + referee.ALL_OPS
    cell = colour + 10
    assert np.array_equal(
        grammar.encode(np.array(program), 7),
        [
            [2, colour + 3, cell + 1 * 7 + 2, cell + 4 * 7],
            [3, colour + 9, cell + 5 * 7, none],
            [4, colour + 0, cell + 1, none],
            [0, none, none, none],
        ],
    )


@pytest.mark.parametrize("op", range(1, len(OPS) + 1))
def test_legal_points_are_those_that_encode_can_make(op):
    rng = np.random.default_rng(op)
    height, width = 3, 4
    programs = referee.random_program(rng, 1500, height, width)
    tokens = np.asarray(grammar.encode(programs[programs[:, 0] == op], width))
    made = set(tokens[:, grammar.POINT1_SLOT] - grammar.FIRST_CELL)
    cell = np.arange(15)  # three more places than cells
    legal = grammar.legal_points(op, cell // width, cell % width, cell < height * width)
    assert made == set(np.flatnonzero(legal))


def test_programs_of_any_length_become_tokens():
    rng = np.random.default_rng(0)
    programs = [referee.random_program(rng, draws, 5, 7) for draws in (3, 0, 1)]
    tokens = grammar.encode_programs([*programs, np.zeros((9, 6), int)], 5, 7)
    assert tokens.shape == (4, 4, 4)
    for program, row in zip(programs, grammar.decode(tokens, 7)):
        assert np.array_equal(row[: len(program)], program)
        assert not row[len(program) :].any()
    assert grammar.encode_programs([], 5, 7).shape == (0, 1, 4)


@pytest.mark.parametrize(
    ("program", "told"),
    [
        (np.zeros((2, 6)), "integer records, got float64"),
        (np.array([[5, 1, 0, 7, 0, 0]]), r"draw 1 is \[5, 1, 0, 7, 0, 0\], allowed are"),
        (np.array([[5, -1, 0, 0, 0, 0]]), "draw 1"),
    ],
)
def test_what_is_no_program_does_not(program, told):
    with pytest.raises(ValueError, match=told):
        grammar.encode_programs([program], 5, 7)
