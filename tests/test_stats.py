import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from herjax.dsl.executor import OUTSIDE
from herjax.dsl.ops import SOURCE_OPS
from herjax.stats import pass_at_k, wilson_interval
from herjax.tasks.metrics import least_draws, pixel_accuracy
from tests import referee


@pytest.mark.parametrize(("n", "c", "k"), [(8, 0, 3), (8, 3, 2), (8, 7, 2), (6, 6, 6), (5, 1, 5)])
def test_pass_at_k_is_the_share_of_subsets_with_a_success(n, c, k):
    subsets = list(itertools.combinations([i < c for i in range(n)], k))
    assert pass_at_k(n, c, k) == pytest.approx(np.mean([any(s) for s in subsets]))


def test_pass_at_k_takes_arrays_and_rejects_k_out_of_range():
    assert np.allclose(pass_at_k(np.array([4, 4]), np.array([0, 2]), 1), [0, 0.5])
    for k in (0, 5):
        with pytest.raises(ValueError, match=f"k = {k}"):
            pass_at_k(4, 2, k)


def test_wilson_interval_solves_its_equation():
    # The bounds are the rates p with |s/n - p| = z * sqrt(p (1 - p) / n).
    for successes, trials in ((7, 10), (1, 30), (5, 5)):
        for p in wilson_interval(successes, trials):
            distance = abs(successes / trials - p)
            assert distance == pytest.approx(1.959964 * np.sqrt(p * (1 - p) / trials), abs=1e-9)
    assert wilson_interval(20, 20)[0] == pytest.approx(0.84, abs=0.005)
    with pytest.raises(ValueError, match="3 successes of 2"):
        wilson_interval(3, 2)


def test_pixel_accuracy_counts_only_the_canvas():
    target = np.array([[1, 2, OUTSIDE], [3, 4, OUTSIDE]])
    pictures = np.stack([target, target * 0, np.where(target == 4, 9, target)])
    assert np.allclose(pixel_accuracy(jnp.array(pictures), jnp.array(target)), [1, 0, 0.75])


def test_least_draws_is_a_bound_and_often_near():
    rng = np.random.default_rng(0)
    exact = 0
    for case in range(400):
        blank = np.full(rng.integers(1, 8, 2), rng.integers(10))
        program = referee.random_program(rng, case % 6, *blank.shape, ops=SOURCE_OPS)
        least = least_draws(referee.execute(program, blank), blank)
        assert least <= len(program)
        exact += least == len(program)
    assert exact > 100


def test_least_draws_counts_colours_and_changes_along_a_line():
    blank = np.zeros((1, 8), int)
    assert least_draws(blank, blank) == 0
    assert least_draws(np.arange(8)[None], blank) == 7
    assert least_draws(np.array([[0, 1, 0, 1, 0, 1, 0, 1]]), blank) == 4
    assert least_draws(np.array([[0, 1, 0, 1, 0, 1, 0, 1]]).T, blank.T) == 4
    assert least_draws(np.array([[1, 2, 1, 2, 1, 2, 1, 0]]), blank) == 4
