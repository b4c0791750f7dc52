"""The gradients that are written out, against those JAX derives."""

import chex
import jax
import jax.numpy as jnp

from herjax.decoder.layers import FilledHead, attend, dense, lookup, norm, turned


def gradients(function, *args):
    """Of a sum of squares of what the function returns, by every argument."""
    return jax.grad(lambda args: jnp.sum(function(*args) ** 2))(args)


def test_attention_and_its_gradient():
    keys = jax.random.split(jax.random.key(0), 3)
    query, key, value = (
        jax.random.normal(k, (2, 3, length, 4)) for k, length in zip(keys, (5, 7, 7))
    )
    bias = jnp.where(jax.random.bernoulli(keys[0], 0.7, (2, 1, 5, 7)), 0.0, -1e9)

    def plain(query, key, value):
        scores = query @ key.swapaxes(2, 3) + bias
        return jax.nn.softmax(scores) @ value

    def fast(query, key, value):
        return attend(query, key, value, bias)

    chex.assert_trees_all_close(fast(query, key, value), plain(query, key, value), atol=1e-5)
    expected = gradients(plain, query, key, value)
    chex.assert_trees_all_close(gradients(fast, query, key, value), expected, atol=1e-5)


def test_turned_product_and_its_gradient():
    x, kernel = (jax.random.normal(jax.random.key(s), (n, m)) for s, n, m in ((0, 9, 6), (1, 6, 2)))
    chex.assert_trees_all_close(turned(x, kernel), x @ kernel, atol=1e-5)
    expected = gradients(jnp.matmul, x, kernel)
    chex.assert_trees_all_close(gradients(turned, x, kernel), expected, atol=1e-5)


def test_a_norm_and_its_gradient():
    x, scale = jax.random.normal(jax.random.key(0), (3, 5, 8)), jnp.arange(1.0, 9.0)

    def plain(x, scale):
        return x / jnp.sqrt(jnp.mean(x**2, axis=-1, keepdims=True) + 1e-6) * scale

    chex.assert_trees_all_close(norm(x, scale), plain(x, scale), atol=1e-5)
    expected = gradients(plain, x, scale)
    chex.assert_trees_all_close(gradients(norm, x, scale), expected, rtol=1e-4, atol=1e-5)


def test_a_filled_head_has_the_parameters_and_the_choices_of_a_dense_layer():
    x, key = jax.random.normal(jax.random.key(0), (2, 3, 8)), jax.random.key(1)
    plain, filled = dense(6, "float32"), FilledHead(6, "float32")
    params = plain.init(key, x)
    chex.assert_trees_all_equal(params, filled.init(key, x))
    chex.assert_trees_all_close(filled.apply(params, x), plain.apply(params, x), atol=1e-6)
    assert "[8,16]" in str(jax.make_jaxpr(filled.apply)(params, x))
    expected, found = (
        jax.grad(lambda params: jnp.sum(layer.apply(params, x) ** 2))(params)  # noqa: B023
        for layer in (plain, filled)
    )
    chex.assert_trees_all_close(found, expected, atol=1e-5)


def test_lookup_and_its_gradient():
    """For rows that are looked up often, once and never."""
    table = jax.random.normal(jax.random.key(0), (5, 3))
    rows = jnp.array([[0, 2, 2], [4, 2, 0]])
    found = gradients(lambda table: lookup(table, rows), table)
    chex.assert_trees_all_equal(lookup(table, rows), table[rows])
    chex.assert_trees_all_close(found, gradients(lambda table: table[rows], table), rtol=1e-6)
    assert not found[0][1].any()
