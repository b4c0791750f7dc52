"""Floating-point operations and bytes that the decoder must spend: what speed is measured against.

Only matrix products and attention are counted, a multiply-add as 2 operations; bytes are those of
weights, as products read them, and of keys and values, as they are kept. Letters: P cells, N draws,
D width, as in ``model``.
"""

import jax.numpy as jnp

from herjax.decoder.embedding import ModelConfig
from herjax.dsl.grammar import SLOTS


def _dense_flops(model: ModelConfig) -> int:
    """Operations of the dense layers of one block for one token."""
    return 2 * (4 + 2 * model.mlp_ratio) * model.width**2


def encode_flops(model: ModelConfig, cells: int) -> int:
    """Operations of ``Decoder.encode`` for a canvas; the last block makes only keys and values."""
    width = model.width
    block = cells * (_dense_flops(model) + 4 * cells * width)
    last_and_pointers = cells * 3 * 2 * width**2
    return (model.layers - 1) * block + last_and_pointers


def program_flops(model: ModelConfig, cells: int, draws: int) -> int:
    """Operations of ``Decoder.__call__`` for a program of N ``draws``, given the encoded canvas."""
    tokens = SLOTS * draws + 1
    block = tokens * (_dense_flops(model) + 4 * (cells + tokens) * model.width)
    points = 2 * draws * (2 * 2 * model.width**2 + 2 * cells * model.width)
    return model.program_layers * block + points


def train_flops(model: ModelConfig, cells: int, draws: int, programs: int) -> int:
    """Operations of a training step on so many pairs: three times those of the forward pass."""
    return 3 * programs * (encode_flops(model, cells) + program_flops(model, cells, draws))


def muon_flops(model: ModelConfig, iterations: int = 5) -> int:
    """Operations of Muon: each iteration takes 4 a a b + 2 a a a for a matrix [a, b] of a block."""
    width, hidden = model.width, model.mlp_ratio * model.width

    def matrix(a: int, b: int) -> int:
        return iterations * (4 * a * a * b + 2 * a**3)

    return model.layers * (4 * matrix(width, width) + 2 * matrix(width, hidden))


def decode_flops(model: ModelConfig, cells: int, draws: int, programs: int) -> int:
    """Operations of sampling so many programs of so many draws, given the encoded canvas."""
    seen = SLOTS * (cells + draws / 2 + SLOTS / 2)  # keys seen, summed over a draw's tokens
    block = SLOTS * _dense_flops(model) + 4 * seen * model.width
    points = 2 * (2 * 2 * model.width**2 + 2 * cells * model.width)
    return int(programs * draws * (model.program_layers * block + points))


def decode_bytes(
    model: ModelConfig, cells: int, draws: int, programs: int, hidden_dtype: str
) -> int:
    """Bytes that the sampling counted by ``decode_flops`` must read.

    Every token reads the weights and the keys and values of the cells once, and of each program the
    cache of its finished draws. Keys and values are of ``hidden_dtype``.
    """
    layers, width = model.program_layers, model.width
    weights = layers * (4 + 2 * model.mlp_ratio) * width**2
    cell_keys = layers * 2 * cells * width
    cache = layers * 2 * programs * (draws / 2) * width
    seen = jnp.dtype(hidden_dtype).itemsize * (cell_keys + cache)
    return int(SLOTS * draws * (jnp.dtype(model.dtype).itemsize * weights + seen))
