"""Augmented pairs are exact, and augmentation can be undone."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import herjax
from herjax.dsl.ops import LINE, OP
from herjax.learning.attempts import augment_pair
from herjax.tasks.augmentation import (
    augment_canvas,
    augment_program,
    inverse,
    random_augmentation,
)
from herjax.tasks.random import random_program
from tests import referee

SHAPES = [(5, 5), (4, 7)]
COUNT = 300


def random_pairs(shape):
    """Augmentations, inputs and programs of 6 draws."""
    keys = jax.random.split(jax.random.key(0), COUNT)
    augmentations = jax.vmap(lambda k: random_augmentation(k, shape, True, True))(keys)
    programs = jax.vmap(lambda k: random_program(k, *shape, 6))(keys)
    inputs = jax.random.randint(keys[0], (COUNT, *shape), 0, 10).astype(jnp.int8)
    return augmentations, inputs, programs


@pytest.mark.parametrize("shape", SHAPES)
def test_inverse_undoes_canvas_and_program(shape):
    augmentations, inputs, programs = random_pairs(shape)
    back = jax.vmap(inverse)(augmentations)
    moved = jax.vmap(augment_canvas)(augmentations, inputs)
    assert np.mean(np.any(moved != inputs, axis=(1, 2))) > 0.9
    chex.assert_trees_all_equal(jax.vmap(augment_canvas)(back, moved), inputs)
    move = jax.vmap(partial(augment_program, shape=shape))
    chex.assert_trees_all_equal(move(back, move(augmentations, programs)), programs)


@pytest.mark.parametrize("shape", SHAPES)
def test_moved_program_draws_the_moved_picture(shape):
    """Except for lines, whose ties in rounding may break the other way."""
    augmentations, inputs, programs = random_pairs(shape)
    programs = jnp.where(programs[..., :1] == LINE, 0, programs)
    # What follows an empty record does not count: put the draws first.
    order = jnp.argsort(programs[..., OP] == 0, axis=1, stable=True)
    programs = jnp.take_along_axis(programs, order[..., None], axis=1)
    moved = jax.vmap(partial(augment_program, shape=shape))(augmentations, programs)
    drawn = jax.vmap(herjax.execute)(moved, jax.vmap(augment_canvas)(augmentations, inputs))
    expected = jax.vmap(augment_canvas)(augmentations, jax.vmap(herjax.execute)(programs, inputs))
    chex.assert_trees_all_equal(drawn, expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_pairs_are_exact(shape):
    """Lines included, by the referee."""
    _, inputs, programs = random_pairs(shape)
    config = herjax.AdaptConfig(symmetries=True, colour_permutations=True)
    tasks = jax.vmap(lambda x: herjax.Task(x, x, *map(jnp.int32, shape)))(inputs)
    keys = jax.random.split(jax.random.key(1), COUNT)
    tasks, moved = jax.vmap(partial(augment_pair, config=config))(keys, tasks, programs)
    for task_input, target, program in zip(tasks.input, tasks.target, np.asarray(moved)):
        assert np.array_equal(referee.execute(program, np.asarray(task_input)), target)


@pytest.mark.parametrize(
    ("symmetries", "colours", "grids", "orders"),
    [(True, False, 8, 1), (False, True, 1, COUNT), (False, False, 1, 1)],
)
def test_options_choose_uniformly_from_their_group(symmetries, colours, grids, orders):
    keys = jax.random.split(jax.random.key(2), COUNT)
    found = jax.vmap(lambda k: random_augmentation(k, (5, 5), symmetries, colours))(keys)
    grid = np.stack([found.transpose, found.flip_rows, found.flip_cols], axis=1)
    _, counts = np.unique(grid, axis=0, return_counts=True)
    assert len(counts) == grids
    assert counts.min() > 0.6 * COUNT / grids
    assert len(np.unique(found.colours, axis=0)) >= min(orders, COUNT - 1)
    assert np.array_equal(np.sort(found.colours, axis=1), np.tile(np.arange(10), (COUNT, 1)))


def test_oblong_canvases_keep_their_shape():
    augmentations, inputs, _ = random_pairs((4, 7))
    assert not augmentations.transpose.any()
    assert augmentations.flip_rows.any()
    assert jax.vmap(augment_canvas)(augmentations, inputs).shape == inputs.shape
