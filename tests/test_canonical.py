import jax
import numpy as np
import pytest

from herjax.dsl.canonical import canonical_program, order_draws, simplify_draws
from herjax.dsl.ops import LINE, SOURCE_OPS
from tests import referee

HEIGHT, WIDTH = 4, 5


@pytest.fixture(scope="module")
def cases():
    rng = np.random.default_rng(0)
    programs = np.stack([referee.random_program(rng, 6, HEIGHT, WIDTH) for _ in range(500)])
    programs[:, :, 1] %= 4
    inputs = rng.integers(0, 4, (500, HEIGHT, WIDTH)).astype(np.int8)
    return programs, inputs


def canonical(programs, inputs):
    run = jax.vmap(canonical_program, (0, 0, None, None))
    return np.asarray(jax.jit(run)(programs, inputs, HEIGHT, WIDTH))


def test_simplify_keeps_the_cells_of_every_draw(cases):
    records = cases[0].reshape(-1, 6)
    for before, after in zip(records, np.asarray(simplify_draws(records, HEIGHT, WIDTH))):
        shape = (HEIGHT, WIDTH)
        assert np.array_equal(referee.cells(before, shape), referee.cells(after, shape))
        assert before[1] == after[1]


def test_simplify_names_equal_cells_alike_except_for_lines_that_differ_from_their_reverse(cases):
    names = {}
    records = cases[0].reshape(-1, 6)
    records = records[records[:, 0] <= SOURCE_OPS]  # an outline two cells wide is a rectangle
    for record in np.asarray(simplify_draws(records, HEIGHT, WIDTH)):
        cells = referee.cells(record, (HEIGHT, WIDTH)).tobytes()
        names.setdefault(cells, set()).add((record[0], *record[2:].tolist()))
    repeated = [forms for forms in names.values() if len(forms) > 1]
    # Different lines may share their cells on so small a canvas only if both are diagonal.
    assert all(form[0] == LINE for forms in repeated for form in forms)
    assert len(repeated) <= 0.1 * len(names)


@pytest.mark.parametrize("shape", [(7, 1), (1, 7)])
def test_simplify_has_one_name_on_a_canvas_one_cell_wide(shape):
    rng = np.random.default_rng(0)
    records = referee.random_program(rng, 300, *shape, ops=6)  # a call more may paint the same
    names = {}
    for before, after in zip(records, np.asarray(simplify_draws(records, *shape))):
        cells = referee.cells(before, shape)
        assert np.array_equal(cells, referee.cells(after, shape))
        names.setdefault(cells.tobytes(), set()).add((after[0], *after[2:].tolist()))
    assert len(names) > 20
    assert all(len(forms) == 1 for forms in names.values())


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ([2, 7, 3, 4, 1, 2], [2, 7, 1, 2, 3, 4]),  # corners
        ([2, 7, 3, 4, 3, 4], [5, 7, 3, 4, 0, 0]),  # one cell
        ([2, 7, 2, 4, 2, 0], [3, 7, 2, 0, 0, 0]),  # a row
        ([1, 7, 3, 1, 0, 1], [4, 7, 0, 1, 0, 0]),  # a column
        ([2, 7, 3, 1, 2, 1], [1, 7, 2, 1, 3, 1]),  # one cell wide
        ([1, 7, 3, 3, 1, 1], [1, 7, 1, 1, 3, 3]),  # a diagonal backwards
        ([1, 7, 1, 2, 0, 0], [1, 7, 1, 2, 0, 0]),  # differs from its reverse
        ([0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]),
    ],
)
def test_simplify_examples(record, expected):
    assert np.array_equal(simplify_draws(np.array([record]), HEIGHT, WIDTH)[0], expected)


def test_canonical_program_paints_the_same_picture(cases):
    for program, input, after in zip(*cases, canonical(*cases)):
        assert np.array_equal(referee.execute(after, input), referee.execute(program, input))


def test_canonical_program_does_not_depend_on_the_order_of_separate_draws():
    draws = np.array([[2, 1, 0, 0, 1, 1], [5, 2, 3, 0, 0, 0], [1, 3, 0, 3, 3, 3]])
    input = np.zeros((HEIGHT, WIDTH), np.int8)
    forms = {
        canonical(draws[None, list(order)], input[None]).tobytes()
        for order in ([0, 1, 2], [2, 1, 0], [1, 0, 2], [2, 0, 1])
    }
    assert len(forms) == 1


def test_canonical_program_does_not_depend_on_the_order_of_draws_of_one_colour():
    row, column = [3, 1, 1, 0, 0, 0], [4, 1, 0, 2, 0, 0]
    programs = np.array([[row, column], [column, row]])
    forms = canonical(programs, np.zeros((2, HEIGHT, WIDTH), np.int8))
    assert np.array_equal(forms, [[column, row]] * 2)  # the column is seen first


def test_order_paints_by_first_visible_cell_but_never_above_what_covers():
    # The row lies over the column; the pixel is apart, and seen before the column.
    column, row, pixel = [4, 1, 0, 2, 0, 0], [3, 2, 0, 0, 0, 0], [5, 3, 1, 0, 0, 0]
    ordered = order_draws(np.array([column, row, pixel, [0] * 6]), np.zeros((4, 5), np.int8))
    assert np.array_equal(ordered, [pixel, column, row, [0] * 6])
