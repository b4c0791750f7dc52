import jax
import jax.numpy as jnp
import numpy as np

from herjax.learning.selection import (
    order_reversed,
    order_shuffled,
    order_sorted,
    select_all,
    select_best,
    select_diverse,
)


def test_selections_against_sorting():
    rng = np.random.default_rng(3)
    accuracy = rng.permutation(20) / 20
    candidate = rng.random(20) < 0.6
    ranked = sorted(np.flatnonzero(candidate), key=lambda i: -accuracy[i])
    for select, expected in (
        (select_all, ranked),
        (select_best, ranked[:5]),
        (select_diverse, ranked[:3] + ranked[-2:]),
    ):
        chosen = select(jnp.asarray(accuracy), jnp.asarray(candidate), 5)
        assert set(np.flatnonzero(chosen)) == set(expected)
    few = select_best(jnp.asarray(accuracy), jnp.asarray(candidate), 100)
    assert np.array_equal(few, candidate)


def test_orders():
    accuracy = jnp.array([0.5, 0.1, 0.9])
    key = jax.random.key(0)
    assert np.argsort(order_sorted(key, accuracy)).tolist() == [1, 0, 2]
    assert np.argsort(order_reversed(key, accuracy)).tolist() == [2, 0, 1]
    seen = {tuple(np.argsort(order_shuffled(jax.random.key(i), accuracy))) for i in range(40)}
    assert len(seen) == 6
