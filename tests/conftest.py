import dataclasses
import importlib.metadata
import os
import shutil

# Compile fast rather than run fast; and once for all processes that a worker's tests start.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "")
    + " --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
)
if tuple(map(int, importlib.metadata.version("jaxlib").split(".")[:3])) < (0, 11, 1):
    os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"  # later ones have them always
os.environ["JAX_COMPILATION_CACHE_DIR"] = os.path.abspath(
    f".pytest_cache/jax-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"
)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
os.environ["JAX_NUM_CPU_DEVICES"] = "8"  # so that sharding can be tested
os.environ["JAX_DEFAULT_MATMUL_PRECISION"] = "highest"  # or accelerators round what is compared

import jax
import numpy as np
import pytest

import herjax
from herjax.decoder.embedding import ModelConfig
from herjax.decoder.model import Decoder
from herjax.learning.pretraining import init_params
from herjax.runtime import program_cache

# Before JAX makes it: herjax keeps no programs where others may write.
os.makedirs(os.environ["JAX_COMPILATION_CACHE_DIR"], 0o700, exist_ok=True)
# What this process compiles itself all workers share; the files are written atomically.
program_cache.keep_in(".pytest_cache/programs")
# What is compiled once need not be written down; the command lines still do.
jax.config.update("jax_enable_compilation_cache", False)


def untrained(layers, program_layers, max_side=10):
    """An untrained decoder."""
    shape = {"layers": layers, "program_layers": program_layers, "max_side": max_side}
    config = ModelConfig(width=32, heads=2, **shape)
    params = jax.jit(init_params, static_argnums=0)(config, jax.random.key(0))
    # Sharpen it, so that its choices differ by more than rounding errors.
    params = jax.tree.map(lambda leaf: 2 * leaf if leaf.ndim == 2 else leaf, params)
    return herjax.Pretrained(Decoder(config), params, {"sha256": "untrained"})


@pytest.fixture(scope="session")
def tiny():
    """The least decoder: each layer more is traced and compiled in every test."""
    return untrained(layers=2, program_layers=1)


@pytest.fixture(scope="session")
def deep():
    """One whose cells and programs meet in more than one layer."""
    return untrained(layers=3, program_layers=2)


@pytest.fixture(scope="session")
def tiny_weights(tiny, tmp_path_factory):
    """A folder with the untrained decoder, for the command lines."""
    folder = tmp_path_factory.mktemp("weights") / "tiny"
    herjax.save_weights(folder, dataclasses.replace(tiny, info={"held_out": None}))
    return folder


@pytest.fixture(scope="session")
def target():
    """A busy picture, on a canvas larger than itself."""
    return np.random.default_rng(5).integers(0, 10, (6, 7))


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium, if it and Playwright are installed."""
    sync_api = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox", "--disable-background-networking", "--disable-component-update"],
        )
        yield browser
        browser.close()
