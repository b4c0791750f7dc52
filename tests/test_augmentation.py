"""Augmented pairs are exact, and augmentation can be undone."""

import dataclasses
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import herjax
from herjax.dsl.executor import OUTSIDE
from herjax.dsl.ops import LINE, OP, OPS
from herjax.learning.hindsight import augment_pair
from herjax.tasks.augmentation import (
    augment_program,
    augment_task,
    inverse,
    random_augmentation,
)
from herjax.tasks.random import inside, random_program
from tests import referee

SHAPES = [(5, 5), (4, 7)]
CANVASES = [(shape, canvas) for shape in SHAPES for canvas in (shape, (9, 9))]
COUNT = 300


move = jax.jit(jax.vmap(augment_task))
move_programs = jax.jit(jax.vmap(augment_program))
execute = jax.jit(jax.vmap(herjax.execute))


def make_tasks(pictures, shape):
    """Tasks whose pictures, of a shape, are both input and target."""
    return jax.vmap(lambda x: herjax.Task(x, x, *map(jnp.int32, shape)))(pictures)


@partial(jax.jit, static_argnums=(0, 1))
def random_pairs(shape, canvas):
    """Augmentations, tasks on padded canvases, and programs of 6 draws."""
    keys = jax.random.split(jax.random.key(0), COUNT)
    inputs = jax.random.randint(keys[0], (COUNT, *canvas), 0, 10).astype(jnp.int8)
    inputs = jnp.where(inside(*shape, *canvas), inputs, OUTSIDE).astype(jnp.int8)
    tasks = make_tasks(inputs, shape)
    augmentations = jax.vmap(lambda k, t: random_augmentation(k, t, True, True))(keys, tasks)
    programs = jax.vmap(lambda k: random_program(k, *shape, 6, len(OPS)))(keys)
    return augmentations, tasks, programs


@pytest.mark.parametrize(("shape", "canvas"), CANVASES)
def test_inverse_undoes_canvas_and_program(shape, canvas):
    augmentations, tasks, programs = random_pairs(shape, canvas)
    back = jax.vmap(inverse)(augmentations)
    moved = move(augmentations, tasks)
    assert np.mean(np.any(moved.target != tasks.target, axis=(1, 2))) > 0.9
    chex.assert_trees_all_equal(moved.input, moved.target)
    outside = ~np.asarray(inside(*shape, *canvas))
    assert (np.asarray(moved.target)[:, outside] == OUTSIDE).all()
    assert (np.asarray(moved.target)[:, ~outside] < OUTSIDE).all()
    chex.assert_trees_all_equal(move(back, moved), tasks)
    moved_programs = move_programs(augmentations, programs, tasks)
    chex.assert_trees_all_equal(move_programs(back, moved_programs, tasks), programs)


@pytest.mark.parametrize(("shape", "canvas"), CANVASES)
def test_moved_program_draws_the_moved_picture(shape, canvas):
    """Except for lines, whose ties in rounding may break the other way."""
    augmentations, tasks, programs = random_pairs(shape, canvas)
    programs = jnp.where(programs[..., :1] == LINE, 0, programs)
    # What follows an empty record does not count: put the draws first.
    order = jnp.argsort(programs[..., OP] == 0, axis=1, stable=True)
    programs = jnp.take_along_axis(programs, order[..., None], axis=1)
    moved = move_programs(augmentations, programs, tasks)
    drawn = execute(moved, move(augmentations, tasks).input)
    pictures = make_tasks(execute(programs, tasks.input), shape)
    expected = move(augmentations, pictures).target
    chex.assert_trees_all_equal(drawn, expected)


@pytest.mark.parametrize(("shape", "canvas"), CANVASES)
def test_pairs_are_exact(shape, canvas):
    """Lines included, by the referee."""
    _, tasks, programs = random_pairs(shape, canvas)
    tasks = dataclasses.replace(tasks, target=execute(programs, tasks.input))
    tasks, moved = augment_pairs(tasks, programs)
    rows, cols = shape
    for task_input, target, program in zip(tasks.input, tasks.target, np.asarray(moved)):
        drawn = referee.execute(program, np.asarray(task_input)[:rows, :cols])
        assert np.array_equal(drawn, target[:rows, :cols])


@jax.jit
def augment_pairs(tasks, programs):
    config = herjax.AdaptConfig(symmetries=True, colour_permutations=True)
    keys = jax.random.split(jax.random.key(1), COUNT)
    return jax.vmap(partial(augment_pair, config=config))(keys, tasks, programs)


@pytest.mark.parametrize(("shape", "canvas"), CANVASES)
def test_a_label_that_the_program_does_not_draw_is_moved_with_it(shape, canvas):
    """As self-training has it: the target stays the target."""
    _, tasks, programs = random_pairs(shape, canvas)
    moved, _ = augment_pairs(tasks, programs)
    other = np.any(execute(programs, tasks.input) != tasks.target, axis=(1, 2))
    assert other.mean() > 0.9
    chex.assert_trees_all_equal(moved.target[other], moved.input[other])


@pytest.mark.parametrize(
    ("symmetries", "colours", "grids", "orders"),
    [(True, False, 8, 1), (False, True, 1, COUNT), (False, False, 1, 1)],
)
def test_options_choose_uniformly_from_their_group(symmetries, colours, grids, orders):
    keys = jax.random.split(jax.random.key(2), COUNT)
    task = herjax.make_task(np.zeros((5, 5), int))
    found = jax.vmap(lambda k: random_augmentation(k, task, symmetries, colours))(keys)
    grid = np.stack([found.transpose, found.flip_rows, found.flip_cols], axis=1)
    _, counts = np.unique(grid, axis=0, return_counts=True)
    assert len(counts) == grids
    assert counts.min() > 0.6 * COUNT / grids
    assert len(np.unique(found.colours, axis=0)) >= min(orders, COUNT - 1)
    assert np.array_equal(np.sort(found.colours, axis=1), np.tile(np.arange(10), (COUNT, 1)))


@pytest.mark.parametrize("canvas", [(4, 7), (9, 9)])
def test_oblong_pictures_keep_their_shape(canvas):
    augmentations, _, _ = random_pairs((4, 7), canvas)
    assert not augmentations.transpose.any()
    assert augmentations.flip_rows.any()
