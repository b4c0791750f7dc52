"""Imports point one way: a module imports only from those above it in this list."""

import ast
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).parents[1] / "herjax"
ORDER = """
xla_flags ops drawing config stats palette plotting processes sharding checkpoint executor grammar
metrics source picture_suite picture_files canonical tasks augmentation layers model costs weights
program_cache recombination sampler train her story report pretraining adaptation population
""".split()  # noqa: SIM905


def imported(path):
    """Top-level packages, and for herjax its modules; "__init__" for the package itself."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            names = [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            first, *rest = name.split(".")
            yield (rest[0] if rest else "__init__") if first == "herjax" else first


def test_every_module_has_a_place():
    assert {path.stem for path in PACKAGE.glob("*.py")} == {*ORDER, "__init__"}


@pytest.mark.parametrize("module", ORDER)
def test_imports_point_one_way(module):
    above = ORDER[: ORDER.index(module)]
    for name in imported(PACKAGE / f"{module}.py"):
        assert name not in (*ORDER, "__init__") or name in above, f"{module} imports {name}"


@pytest.mark.parametrize(("module", "needs"), [("plotting", "numpy"), ("xla_flags", "os")])
def test_some_never_import_jax(module, needs):
    names = set(imported(PACKAGE / f"{module}.py"))
    assert needs in names
    assert "jax" not in names


def test_the_package_sets_xla_flags_before_it_imports_anything_else():
    first, call, *_ = ast.parse((PACKAGE / "__init__.py").read_text()).body[1:]
    assert ast.unparse(first) == "from herjax import xla_flags"
    assert ast.unparse(call) == "xla_flags.keep_reductions_in_xla()"
