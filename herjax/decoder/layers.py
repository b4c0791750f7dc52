"""Layers of the decoder, with gradients spelt for XLA:CPU where that is faster.

Dense layers multiply in ``dtype``, float32 or bfloat16, attention in the type of what it gets;
parameters, softmax and norms are always float32.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.experimental.layout import Layout, with_layout_constraint

from herjax.runtime.jax_settings import as_written

COLUMNS = 16  # of the products of a FilledHead


@jax.custom_vjp
def attend(query: Array, key: Array, value: Array, bias: Array) -> Array:
    """Softmax attention of queries [B, H, T, K] over keys and values [B, H, S, K] -> [B, H, T, K].

    ``bias`` broadcasts to the scores [B, H, T, S]. As in FlashAttention (Dao et al., 2022, appendix
    B) the output is divided by the sum of weights, not they, and the gradient, which is written out
    for it, takes the sum of weights times their gradients as that of output times its gradient: K
    long, not S. ``bias`` gets none.
    """
    return _attend(query, key, value, bias)[0]


def _attend(query: Array, key: Array, value: Array, bias: Array) -> tuple[Array, tuple[Array, ...]]:
    scores = jnp.einsum("bhtk,bhsk->bhts", query, key).astype(jnp.float32)
    scores += bias
    weights = jnp.exp(scores - jnp.max(scores, axis=-1, keepdims=True))
    total = jnp.sum(weights, axis=-1, keepdims=True)
    weights = weights.astype(value.dtype)
    attended = (jnp.einsum("bhts,bhsk->bhtk", weights, value) / total).astype(value.dtype)
    return attended, (query, key, value, weights, total, attended)


@as_written()
def _attend_gradient(saved: tuple[Array, ...], grad: Array) -> tuple[Array, Array, Array, None]:
    query, key, value, weights, total, attended = saved
    grad = grad / total
    mean = jnp.sum(grad * attended, axis=-1, keepdims=True)
    grad = grad.astype(value.dtype)
    on_weights = jnp.einsum("bhtk,bhsk->bhts", grad, value)
    on_scores = (weights * (on_weights - mean)).astype(query.dtype)
    return (
        jnp.einsum("bhts,bhsk->bhtk", on_scores, key),
        _transposed_product(on_scores, query),
        _transposed_product(weights, grad),
        None,
    )


def _transposed_product(weights: Array, x: Array) -> Array:
    """weights [B, H, T, S] transposed @ x [B, H, T, K]; XLA:CPU transposes the narrow arrays."""
    return jnp.einsum("bhtk,bhts->bhks", x, weights).swapaxes(2, 3)


attend.defvjp(_attend, _attend_gradient)


@jax.custom_vjp
def turned(x: Array, kernel: Array) -> Array:
    """x [N, I] @ kernel [I, O], whose gradient of the kernel is (grad' @ x)', not x' @ grad.

    It is the same, but left to itself XLA:CPU writes x or grad once more, transposed, and computes
    it again for that: where x is wide, or follows from much, this takes longer than the product.
    """
    return x @ kernel


@as_written()
def _turned_gradient(saved: tuple[Array, Array], grad: Array) -> tuple[Array, Array]:
    x, kernel = saved
    on_kernel = jax.lax.dot_general(grad, x, (((0,), (0,)), ((), ())))  # [O, I]
    return grad @ kernel.T, jax.lax.optimization_barrier(on_kernel).T


turned.defvjp(lambda x, kernel: (x @ kernel, (x, kernel)), _turned_gradient)


@jax.custom_vjp
def rounded(x: Array, kernel: Array) -> Array:
    """float32 x [N, I] @ kernel [I, O], all rounded to bfloat16 first, and so in the gradient.

    For CPUs that multiply bfloat16 faster: sums stay float32, as does all between products.
    """
    return _rounded(x, kernel)[0]


def _rounded(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    x, kernel = x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)
    return _summed_wide(x, kernel, 0), (x, kernel)


@as_written()
def _rounded_gradient(saved: tuple[Array, Array], grad: Array) -> tuple[Array, Array]:
    x, kernel = saved
    grad = grad.astype(jnp.bfloat16)
    # Left to itself XLA would read x transposed, which its fast products cannot.
    turned_x = with_layout_constraint(x.T, Layout((0, 1)))
    return _summed_wide(grad, kernel, 1), _summed_wide(turned_x, grad, 0)


def _summed_wide(x: Array, y: Array, axis: int) -> Array:
    """The product over the last axis of x and one of y, which are bfloat16, in float32.

    The barrier keeps what follows out of it: with a transposition taken in XLA 0.10 compiles a
    product that it cannot run.
    """
    sides = (((1,), (axis,)), ((), ()))
    product = jax.lax.dot_general(x, y, sides, preferred_element_type=jnp.float32)
    return jax.lax.optimization_barrier(product)


rounded.defvjp(_rounded, _rounded_gradient)


class Dense(nn.Module):
    """A dense layer without bias over [..., I].

    What comes out is of ``dtype``, but float32 x stays float32: see ``rounded``.

    Attributes:
      features: O.
      dtype: of the product.
      scale: of the kernel's initial variance.
      turned: see ``turned``; where x is rounded it changes nothing.
    """

    features: int
    dtype: str
    scale: float = 1.0
    turned: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        init = nn.initializers.variance_scaling(self.scale, "fan_in", "normal")
        kernel = self.param("kernel", init, (x.shape[-1], self.features))
        flat = x.reshape(-1, x.shape[-1])
        if self.dtype == "bfloat16" and x.dtype == jnp.float32:
            flat = rounded(flat, kernel)
        else:
            product = turned if self.turned else jnp.matmul
            flat = product(flat.astype(self.dtype), kernel.astype(self.dtype))
        return flat.reshape(*x.shape[:-1], self.features)


@jax.custom_vjp
def lookup(table: Array, row: Array) -> Array:
    """Rows (int32 [...], there) of a table [V, D] -> [..., D].

    The gradient is a product with which row each one was: left to itself it is a scatter, which
    XLA:CPU, unless it compiles for long, makes a loop with a turn for each row, and which cards add
    up in no fixed order.
    """
    return table[row]


@as_written()
def _lookup_gradient(saved: tuple[Array, Array], grad: Array) -> tuple[Array, None]:
    table, row = saved
    which = jax.nn.one_hot(row.reshape(-1), len(table), dtype=table.dtype)
    grad = grad.reshape(-1, grad.shape[-1])
    return jnp.matmul(which.T, grad, precision=jax.lax.Precision.HIGHEST), None


lookup.defvjp(lambda table, row: (table[row], (table, row)), _lookup_gradient)


class Embed(nn.Module):
    """A learned vector of ``dtype`` for each of so many values, see ``lookup``."""

    values: int
    features: int
    dtype: str

    @nn.compact
    def __call__(self, value: Array) -> Array:
        init = nn.initializers.normal(0.3)
        table = self.param("embedding", init, (self.values, self.features))
        return lookup(table, value).astype(self.dtype)


class FilledHead(nn.Module):
    """A dense layer to a few choices, filled up with zeros to a multiple of COLUMNS.

    Compilers for accelerators tile products, and find few tiles for one with 6 columns.
    """

    features: int
    dtype: str

    @nn.compact
    def __call__(self, x: Array) -> Array:
        init = nn.initializers.variance_scaling(1.0, "fan_in", "normal")
        kernel = self.param("kernel", init, (x.shape[-1], self.features))
        filled = jnp.pad(kernel, ((0, 0), (0, -self.features % COLUMNS)))
        return (x.astype(self.dtype) @ filled.astype(self.dtype))[..., : self.features]


@jax.custom_vjp
def norm(x: Array, scale: Array) -> Array:
    """x [..., D] over its root mean square (Zhang and Sennrich, 2019), times scale [D].

    In the gradient the sum over all tokens is a product: as a sum XLA:CPU runs down each column,
    and computes what it sums for each cell apart.
    """
    return _norm(x, scale)[0]


def _norm(x: Array, scale: Array) -> tuple[Array, tuple[Array, Array, Array]]:
    wide = x.astype(jnp.float32)
    inverse = jax.lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + 1e-6)
    return (wide * inverse * scale).astype(x.dtype), (x, inverse, scale)


@as_written()
def _norm_gradient(saved: tuple[Array, Array, Array], grad: Array) -> tuple[Array, Array]:
    x, inverse, scale = saved
    normed, wide = x.astype(jnp.float32) * inverse, grad.astype(jnp.float32)
    by_column = (wide * normed).reshape(-1, len(scale))
    ones = jnp.ones(len(by_column))
    on_scale = jnp.matmul(ones, by_column, precision=jax.lax.Precision.HIGHEST)
    wide *= scale
    on_x = inverse * (wide - normed * jnp.mean(wide * normed, axis=-1, keepdims=True))
    return on_x.astype(x.dtype), on_scale


norm.defvjp(_norm, _norm_gradient)


class Norm(nn.Module):
    """See ``norm``."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        return norm(x, self.param("scale", nn.initializers.ones, (x.shape[-1],)))
