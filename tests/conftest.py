import os

# Compile fast rather than run fast; several devices, so that sharding can be tested.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "")
    + " --xla_backend_optimization_level=0 --xla_force_host_platform_device_count=4"
)

import jax
import pytest

import herjax
from herjax.model import Decoder, ModelConfig
from herjax.pretraining import init_params


@pytest.fixture(scope="session")
def tiny():
    """An untrained decoder for canvases up to 10x10."""
    config = ModelConfig(width=32, layers=3, program_layers=2, heads=2)
    params = init_params(config, jax.random.key(0))
    # Sharpen it, so that its choices differ by more than rounding errors.
    params = jax.tree.map(lambda leaf: 2 * leaf if leaf.ndim == 2 else leaf, params)
    return herjax.Pretrained(Decoder(config), params, {"sha256": "untrained"})
