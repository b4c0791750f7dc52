"""Imports point one way: a module imports only from those above it in this list."""

import ast
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).parents[1] / "herjax"
ORDER = """
ops drawing config stats plotting checkpoint executor grammar metrics source picture_suite
canonical tasks model weights sampler train her pretraining adaptation
""".split()  # noqa: SIM905


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("herjax"):
            yield from (
                [alias.name for alias in node.names]
                if node.module == "herjax"
                else [node.module.split(".")[1]]
            )
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_every_module_has_a_place():
    assert {path.stem for path in PACKAGE.glob("*.py")} == {*ORDER, "__init__"}


@pytest.mark.parametrize("module", ORDER)
def test_imports_point_one_way(module):
    above = ORDER[: ORDER.index(module)]
    for name in imported(PACKAGE / f"{module}.py"):
        assert name not in ORDER or name in above, f"{module} imports {name}"


def test_plotting_never_imports_jax():
    assert not any(name.startswith("jax") for name in imported(PACKAGE / "plotting.py"))
