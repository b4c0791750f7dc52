"""What XLA must be told before JAX starts, and for a program; this module does not import JAX.

``herjax/__init__.py`` imports it first: XLA reads its flags once, when a backend starts.
"""

import functools
import importlib.metadata
import os
import pathlib
import re
import sys
import warnings

SAFE_REDUCTIONS = "--xla_cpu_experimental_ynn_fusion_type=-reduce"
RUNS_FOR = SECONDS, MINUTES, HOURS = "seconds", "minutes", "hours"


@functools.cache
def jaxlib_version() -> tuple[int, ...]:
    """Its numbers, so that they compare."""
    return tuple(map(int, re.findall(r"\d+", importlib.metadata.version("jaxlib"))[:3]))


def given_flags() -> str:
    """What the user or herjax set; the content if XLA_FLAGS names a file, as XLA reads it."""
    flags = os.environ.get("XLA_FLAGS", "").strip()
    if not flags or flags.startswith("-"):
        return flags
    try:
        return pathlib.Path(flags).read_text("utf-8")
    except OSError:
        return flags


def names(flags: str, flag: str) -> bool:
    """Does a string of flags set this one (written without dashes)?"""
    return re.search(rf"(?<!\S)--?{flag}(?=[=\s]|$)", flags) is not None


def keep_reductions_in_xla() -> None:
    """Add SAFE_REDUCTIONS to XLA_FLAGS where it is needed, unless the user set that flag.

    On CPUs, jaxlib 0.10.2 gives some reductions to a library (YNN) and gets wrong rows back,
    silently (jax#39103); that and 0.11.0 crash on some of rank 7 and 8 (jax#39257, jax#40412).
    0.10.1 and 0.11.1 do neither. A version that does not know a flag ends the process.
    """
    flag = SAFE_REDUCTIONS.split("=")[0].strip("-")
    if not (0, 10, 2) <= jaxlib_version() < (0, 11, 1) or names(given_flags(), flag):
        return
    bridge = sys.modules.get("jax._src.xla_bridge")
    if bridge is not None and bridge.backends_are_initialized():
        problem = "JAX had started before herjax was imported: import herjax first"
    elif _added(SAFE_REDUCTIONS):
        return
    else:
        problem = f"the flags are in the file {os.environ['XLA_FLAGS'].strip()}"
    warnings.warn(
        f"jaxlib {importlib.metadata.version('jaxlib')} can reduce wrongly on CPUs, and {problem},"
        f" or set {SAFE_REDUCTIONS} in XLA_FLAGS",
        RuntimeWarning,
        stacklevel=2,
    )


def wait_for_late_devices() -> None:
    """Before JAX starts: CPU devices wait ten minutes for each other, unless the user set the flag.

    By default XLA ends the process when one is 40 s late, which other work on its core can make it.
    """
    flag = "xla_cpu_collective_call_terminate_timeout_seconds"
    if not names(given_flags(), flag):
        _added(f"--{flag}=600")


def _added(flag: str) -> bool:
    """Add a flag to XLA_FLAGS; False if that names a file."""
    before = os.environ.get("XLA_FLAGS", "").strip()
    if before and not before.startswith("-"):
        return False
    os.environ["XLA_FLAGS"] = f"{before} {flag}".strip()
    return True


def compiler_options(platform: str, runs_for: str = SECONDS) -> dict[str, bool | int | str]:
    """For a program that is compiled once and runs for so long, of RUNS_FOR; XLA_FLAGS win.

    Those for seconds halve the time to compile (BUILD_NOTES.md), but elementwise loops are not
    vectorised: the larger the arrays, the more that costs. Without its tree a sum is one loop, soon
    compiled and faster: less exact for a million terms, which here only the norm that gradients are
    clipped by has. On GPUs the products are the library's: none are made and tried out.
    """
    options: dict[str, bool | int | str] = {}
    if platform == "gpu" and runs_for != HOURS:
        options["xla_gpu_enable_triton_gemm"] = False
    if platform == "cpu" and runs_for != HOURS:
        options["xla_backend_optimization_level"] = 1
    if platform == "cpu" and jaxlib_version() < (0, 11, 1):  # later ones have no such options
        options["xla_disable_hlo_passes"] = "tree_reduction_rewriter"
        if runs_for == SECONDS:
            options["xla_cpu_use_fusion_emitters"] = False
    flags = given_flags()
    return {name: value for name, value in options.items() if not names(flags, name)}
