"""The gradients that are written out, against those JAX derives."""

import chex
import jax
import jax.numpy as jnp
import pytest

from herjax.decoder.layers import Dense, FilledHead, attend, lookup, norm, rounded, turned


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


@pytest.mark.parametrize("members", [0, 3])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("size", [(1, 8, 6), (9, 17, 128), (40, 128, 9)])
def test_rounded_product_and_its_gradient(size, transposed, members):
    """As products of rounded numbers; a transposition after it made XLA 0.10 fail at run time."""
    tokens, inputs, features = size
    shapes = ((tokens, inputs), (inputs, features), (tokens, features))
    lead = (members,) if members else ()
    arrays = [jax.random.normal(jax.random.key(n), lead + shapes[n]) for n in range(3)]

    def turn(x):
        return x.swapaxes(-1, -2) if transposed else x

    def found(x, kernel, grad):
        y, pull = jax.vjp(lambda x, kernel: turn(rounded(x, kernel)), x, kernel)
        return y, *map(turn, pull(turn(grad)))

    x, kernel, grad = (y.astype(jnp.bfloat16).astype(jnp.float32) for y in arrays)
    with jax.default_matmul_precision("highest"):
        expected = x @ kernel, grad @ kernel.swapaxes(-1, -2), x.swapaxes(-1, -2) @ grad
    run = jax.jit(jax.vmap(found) if members else found)
    chex.assert_trees_all_close(run(*arrays), tuple(map(turn, expected)), rtol=1e-5, atol=1e-4)


def test_no_rounded_product_reads_its_first_matrix_transposed():
    """XLA's fast products cannot."""
    gradient = jax.jit(jax.grad(lambda args: jnp.sum(rounded(*args) ** 2)))
    with jax.default_device(jax.devices("cpu")[0]):
        text = gradient.lower((jnp.ones((40, 16)), jnp.ones((16, 24)))).compile().as_text()
    assert text.count("lhs_contracting_dims={1}") == 3
    assert "lhs_contracting_dims={0}" not in text


@pytest.mark.parametrize(
    ("hidden", "dtype"),
    [("float32", "float32"), ("float32", "bfloat16"), ("bfloat16", "bfloat16")],
)
def test_a_dense_layer_keeps_the_type_of_what_it_gets(hidden, dtype):
    x, layer = jax.random.normal(jax.random.key(0), (2, 3, 8)).astype(hidden), Dense(6, dtype)
    params = layer.init(jax.random.key(1), x)
    kernel = params["params"]["kernel"]
    assert kernel.dtype == jnp.float32
    expected = x.astype(dtype).astype(float) @ kernel.astype(dtype).astype(float)
    found = layer.apply(params, x)
    assert found.dtype == hidden
    tolerance = 1e-5 if hidden == "float32" else 1e-2
    chex.assert_trees_all_close(found.astype(float), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("name", "scale"), [("query", 1), ("up", 1), ("out", 0.1), ("down", 0.1)])
def test_what_a_block_adds_begins_small(tiny, name, scale):
    kernel = tiny.params["params"]["blocks_0"][name]["kernel"] / 2  # ``tiny`` has them doubled
    assert kernel.std() == pytest.approx((scale / len(kernel)) ** 0.5, rel=0.1)


def test_a_norm_and_its_gradient():
    x, scale = jax.random.normal(jax.random.key(0), (3, 5, 8)), jnp.arange(1.0, 9.0)

    def plain(x, scale):
        return x / jnp.sqrt(jnp.mean(x**2, axis=-1, keepdims=True) + 1e-6) * scale

    chex.assert_trees_all_close(norm(x, scale), plain(x, scale), atol=1e-5)
    expected = gradients(plain, x, scale)
    chex.assert_trees_all_close(gradients(norm, x, scale), expected, rtol=1e-4, atol=1e-5)


def test_a_filled_head_has_the_parameters_and_the_choices_of_a_dense_layer():
    x, key = jax.random.normal(jax.random.key(0), (2, 3, 8)), jax.random.key(1)
    plain, filled = Dense(6, "float32"), FilledHead(6, "float32")
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
