import importlib.metadata
import os
import subprocess
import sys

import pytest

from herjax.runtime import xla_flags

FLAG = "xla_cpu_experimental_ynn_fusion_type"
wrong_here = pytest.mark.skipif(xla_flags.jaxlib_version() != (0, 10, 2), reason="right anyway")
REDUCTION = """
import jax, jax.numpy as jnp, numpy as np
rows = np.zeros((32769, 3), np.float32)
rows[:, 0] = np.arange(32769)
squares = jax.jit(jax.vmap(lambda row: jnp.sum((jnp.eye(3) @ row) ** 2)))(rows)
print(int(np.sum(squares != rows[:, 0] ** 2)), "wrong rows")
"""


def python(code, flags=""):
    """-> standard output, standard error, of a process that sees only these XLA flags."""
    environment = {**os.environ, "XLA_FLAGS": flags}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout, done.stderr


@pytest.fixture
def set_flags(monkeypatch):
    """Sets XLA_FLAGS, runs what ``import herjax`` runs in a fresh process, returns XLA_FLAGS."""

    def set_flags(before, version=(0, 10, 2)):
        monkeypatch.setenv("XLA_FLAGS", before)
        monkeypatch.setattr(xla_flags, "jaxlib_version", lambda: version)
        monkeypatch.delitem(sys.modules, "jax._src.xla_bridge", raising=False)
        xla_flags.keep_reductions_in_xla()
        return os.environ["XLA_FLAGS"]

    return set_flags


@wrong_here
def test_reductions_are_wrong_without_the_flag():
    assert python(REDUCTION)[0] == "1 wrong rows\n"


@pytest.mark.parametrize("first", ["import herjax", "import jax, herjax"])
def test_reductions_are_right_with_herjax(first):
    assert python(first + REDUCTION) == ("0 wrong rows\n", "")


@wrong_here
def test_one_warning_if_jax_has_started_before():
    code = "import jax; jax.devices(); import herjax, os; print(os.environ['XLA_FLAGS'])"
    out, err = python(code, "--xla_cpu_enable_fast_math=false")
    assert out == "--xla_cpu_enable_fast_math=false\n"
    assert err.count("RuntimeWarning") == 1
    assert f"import herjax first, or set --{FLAG}=-reduce in XLA_FLAGS" in err


@pytest.mark.parametrize("version", [(0, 10, 2), (0, 11, 0)])
def test_the_flag_is_added_to_those_of_the_user(set_flags, version):
    assert set_flags("", version) == f"--{FLAG}=-reduce"
    assert set_flags("--xla_a=1 --xla_b", version) == f"--xla_a=1 --xla_b --{FLAG}=-reduce"
    # Not the same flag.
    assert set_flags(f"--{FLAG}_2=dot", version) == f"--{FLAG}_2=dot --{FLAG}=-reduce"


@pytest.mark.parametrize("flags", [f"--{FLAG}=dot", f"--xla_a=1 --{FLAG}= --xla_b", f"--{FLAG}"])
def test_the_flag_of_the_user_is_kept(set_flags, flags):
    assert set_flags(flags) == flags


@pytest.mark.parametrize("version", [(0, 10, 1), (0, 11, 1), (0, 12, 0)])
def test_no_flag_where_jaxlib_is_right(set_flags, version):
    assert set_flags("--xla_a=1", version) == "--xla_a=1"


def test_flags_in_a_file_are_read_and_left_alone(set_flags, tmp_path):
    file = tmp_path / "flags"
    file.write_text(f"--xla_backend_optimization_level=3\n--{FLAG}=dot\n")
    assert set_flags(str(file)) == str(file)
    assert "xla_backend_optimization_level" not in xla_flags.compiler_options("cpu")
    file.write_text("--xla_a=1\n")
    with pytest.warns(RuntimeWarning, match=f"the flags are in the file {file}"):
        assert set_flags(str(file)) == str(file)


OLD = {
    "xla_cpu_use_fusion_emitters": False,
    "xla_disable_hlo_passes": "tree_reduction_rewriter",
}


def test_compiler_options_are_those_that_jaxlib_knows(set_flags):
    set_flags("", (0, 11, 0))
    assert xla_flags.compiler_options("cpu") == {"xla_backend_optimization_level": 1, **OLD}
    assert xla_flags.compiler_options("gpu") == {"xla_gpu_enable_triton_gemm": False}
    assert xla_flags.compiler_options("tpu") == {}
    set_flags("", (0, 11, 1))
    assert xla_flags.compiler_options("cpu") == {"xla_backend_optimization_level": 1}


def test_what_runs_longer_is_compiled_longer(set_flags):
    set_flags("", (0, 11, 0))
    minutes = xla_flags.compiler_options("cpu", xla_flags.MINUTES)
    assert minutes.keys() < xla_flags.compiler_options("cpu").keys()
    assert "xla_cpu_use_fusion_emitters" not in minutes
    hours = xla_flags.compiler_options("cpu", xla_flags.HOURS)
    assert hours == {"xla_disable_hlo_passes": "tree_reduction_rewriter"}
    assert xla_flags.compiler_options("gpu", xla_flags.HOURS) == {}


def test_compiler_options_give_way_to_flags(set_flags):
    set_flags("--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters_too=1")
    assert xla_flags.compiler_options("cpu") == OLD
    set_flags("--xla_gpu_enable_triton_gemm=true")
    assert xla_flags.compiler_options("gpu") == {}


def test_the_version_is_jaxlibs():
    version = importlib.metadata.version("jaxlib")
    assert version.startswith(".".join(map(str, xla_flags.jaxlib_version())))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "--xla_cpu_collective_call_terminate_timeout_seconds=600"),
        ("--x=1", "--x=1 --xla_cpu_collective_call_terminate_timeout_seconds=600"),
        ("--xla_cpu_collective_call_terminate_timeout_seconds=9",) * 2,
        ("flags.txt", "flags.txt"),
    ],
)
def test_devices_wait_longer_unless_the_user_says_how_long(monkeypatch, before, after):
    monkeypatch.setenv("XLA_FLAGS", before)
    xla_flags.wait_for_late_devices()
    assert os.environ["XLA_FLAGS"] == after
