import jax
import jax.numpy as jnp
import numpy as np
import pytest

import herjax
from herjax.dsl.executor import OUTSIDE, draw_count
from herjax.learning import recombination
from herjax.tasks.task import Task
from tests import referee

SHAPE = (6, 7)


def make_case(seed, parents=5, draws=8, shape=SHAPE):
    """Programs of 0 .. draws draws, a busy target, and an input that is not blank."""
    rng = np.random.default_rng(seed)
    programs = np.zeros((parents, draws, 6), np.int32)
    for program, count in zip(programs, rng.permutation(draws + 1)[:parents]):
        program[:count] = referee.random_program(rng, count, *shape)
        program[:count, 1] %= 4  # few colours, so that draws are often right
    input, target = rng.integers(0, 4, (2, *shape))
    return programs, herjax.make_task(target, input=input)


def right(program, task):
    return (referee.execute(program, task.input) == np.asarray(task.target)).sum()


def recombine_by_execution(ring, task, partners):
    """Run everything that is asked for: no bits, no counting of what a draw would change."""
    children, asked, room = [], 0, ring.shape[1]
    for i, parent in enumerate(ring):
        child = [draw for draw in parent if draw[0]]
        for distance in range(1, partners + 1):
            for draw in ring[(i + distance) % len(ring)]:
                if draw[0] and len(child) < room:
                    asked += 1
                    if right([*child, draw], task) > right(child, task):
                        child.append(draw)
        kept = []
        for place, draw in enumerate(child):  # is anything lost without it?
            above = child[place + 1 :]
            asked += 1
            if right([*kept, draw, *above], task) > right([*kept, *above], task):
                kept.append(draw)
        children.append(kept)
    return children, asked


@pytest.fixture(scope="module")
def recombine():
    return jax.jit(recombination.recombine, static_argnums=2)


@pytest.mark.parametrize("partners", [1, 2, 4])
def test_children_are_those_of_plain_execution(recombine, partners):
    grown = shrunk = 0
    for seed in range(6):
        programs, task = make_case(seed)
        key = jax.random.key(seed)
        children, asked = recombine(programs, task, partners, key)
        order = np.asarray(jax.random.permutation(key, len(programs)))
        expected, expected_asked = recombine_by_execution(programs[order], task, partners)
        assert int(asked) == expected_asked
        for parent, child in zip(order, expected):
            found = np.asarray(children[parent])
            count = int(draw_count(found))
            assert np.array_equal(found[:count], np.reshape(child, (-1, 6)))
            assert not found[count:].any()
            grown += count > draw_count(programs[parent])
            shrunk += count < draw_count(programs[parent])
    assert grown > 3
    assert shrunk > 3


def test_a_child_is_at_least_as_right_as_its_parent(recombine):
    better = 0
    for seed in range(100, 140):
        programs, task = make_case(seed, parents=9)
        children, _ = recombine(programs, task, 8, jax.random.key(seed))
        for parent, child in zip(programs, np.asarray(children)):
            assert right(child, task) >= right(parent, task)
            better += right(child, task) > right(parent, task)
    assert better > 200


def test_cells_outside_of_a_padded_canvas_do_not_count(recombine):
    """The same child on a canvas in a larger frame."""
    programs, task = make_case(3)
    frame = np.full((8, 9), OUTSIDE, np.int8)
    framed = []
    for canvas in (task.input, task.target):
        frame[: SHAPE[0], : SHAPE[1]] = canvas
        framed.append(jnp.asarray(frame.copy()))
    padded = Task(*framed, task.height, task.width)
    inside = recombine(programs, task, 4, jax.random.key(0))
    outside = recombine(programs, padded, 4, jax.random.key(0))
    assert np.array_equal(inside[0], outside[0])
    assert int(inside[1]) == int(outside[1])


def test_records_of_numpy_will_do_and_other_arguments_are_told(recombine):
    programs, task = make_case(0)
    key = jax.random.key(0)
    expected = herjax.recombine(programs, task, 2, key)
    found = herjax.recombine(np.asarray(programs), task, np.int64(2), key)
    assert np.array_equal(found[0], expected[0])
    with pytest.raises(ValueError, match=r"programs must be \[P, N, 6\], got \[.*, 6\]"):
        herjax.recombine(programs[0], task, 2, key)
    most = len(programs) - 1
    for partners in (0, most + 1):
        with pytest.raises(ValueError, match=f"partners must be an integer, 1 .. {most}, got"):
            herjax.recombine(programs, task, partners, key)


def test_cells_as_bits():
    cells = np.random.default_rng(0).random((3, 5, 13)) < 0.4  # 65 cells: a third word for one
    words = recombination.pack_cells(jnp.asarray(cells))
    assert words.shape == (3, 3)
    flat = cells.reshape(3, -1)
    expected = [sum(int(bit) << i for i, bit in enumerate(row)) for row in flat]
    found = [sum(int(word) << 32 * i for i, word in enumerate(row)) for row in words]
    assert found == expected
    assert recombination.count_bits(words).tolist() == flat.sum(axis=1).tolist()
