"""Layers of the decoder, with gradients spelt for XLA:CPU where that is faster.

Products are of ``dtype``, float32 or bfloat16; parameters, softmax and norms are always float32.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

COLUMNS = 16  # of the products of a FilledHead


def dense(features: int, dtype: str, scale: float = 1.0) -> nn.Dense:
    """A dense layer without bias; ``scale`` is that of its initial variance."""
    init = nn.initializers.variance_scaling(scale, "fan_in", "normal")
    return nn.Dense(features, use_bias=False, kernel_init=init, dtype=dtype)


@jax.custom_vjp
def attend(query: Array, key: Array, value: Array, bias: Array) -> Array:
    """Softmax attention of queries [B, H, T, K] over keys and values [B, H, S, K] -> [B, H, T, K].

    ``bias`` broadcasts to the scores [B, H, T, S]. The gradient is written out because it takes
    the sum of weights times their gradients as that of output times its gradient, K long and not S
    (Dao et al., FlashAttention, 2022, appendix B); ``bias`` gets none.
    """
    return _attend(query, key, value, bias)[0]


def _attend(query: Array, key: Array, value: Array, bias: Array) -> tuple[Array, tuple[Array, ...]]:
    scores = jnp.einsum("bhtk,bhsk->bhts", query, key).astype(jnp.float32)
    weights = jax.nn.softmax(scores + bias).astype(value.dtype)
    attended = jnp.einsum("bhts,bhsk->bhtk", weights, value)
    return attended, (query, key, value, weights, attended)


def _attend_gradient(saved: tuple[Array, ...], grad: Array) -> tuple[Array, Array, Array, None]:
    query, key, value, weights, attended = saved
    on_weights = jnp.einsum("bhtk,bhsk->bhts", grad, value)
    mean = jnp.sum((grad * attended).astype(jnp.float32), axis=-1, keepdims=True)
    on_scores = (weights * (on_weights - mean)).astype(query.dtype)
    return (
        jnp.einsum("bhts,bhsk->bhtk", on_scores, key),
        jnp.einsum("bhts,bhtk->bhsk", on_scores, query),
        jnp.einsum("bhts,bhtk->bhsk", weights, grad),
        None,
    )


attend.defvjp(_attend, _attend_gradient)


@jax.custom_vjp
def narrowing(x: Array, kernel: Array) -> Array:
    """x [N, wide] @ kernel [wide, narrow], whose gradient transposes the narrow array alone.

    Left to itself XLA:CPU transposes x for the kernel's gradient, which takes as long as the
    product.
    """
    return x @ kernel


def _narrowing_gradient(saved: tuple[Array, Array], grad: Array) -> tuple[Array, Array]:
    x, kernel = saved
    on_kernel = jax.lax.dot_general(grad, x, (((0,), (0,)), ((), ())))  # [narrow, wide]
    return grad @ kernel.T, jax.lax.optimization_barrier(on_kernel).T


narrowing.defvjp(lambda x, kernel: (x @ kernel, (x, kernel)), _narrowing_gradient)


class Narrowing(nn.Module):
    """A dense layer from a wide to a narrow array, see ``narrowing``."""

    features: int
    dtype: str

    @nn.compact
    def __call__(self, x: Array) -> Array:
        init = nn.initializers.variance_scaling(0.1, "fan_in", "normal")
        kernel = self.param("kernel", init, (x.shape[-1], self.features))
        return narrowing(x, kernel.astype(self.dtype))


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


class Norm(nn.Module):
    """Root-mean-square norm (Zhang and Sennrich, 2019)."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        wide = x.astype(jnp.float32)
        wide *= jax.lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + 1e-6)
        return (wide * scale).astype(x.dtype)
