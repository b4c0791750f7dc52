"""The wings import one way, siblings one way within them; files and functions stay short."""

import ast
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).parents[1] / "herjax"
# A module imports only from modules above it.
ORDER = {
    "dsl": "ops drawing executor canonical grammar source",
    "runtime": (
        "xla_flags files config jax_settings threefry processes machine sharding devices compiled"
        " lock checkpoint records program_cache"
    ),
    ".": "_version stats",
    "tasks": "task palette metrics suite images files random augmentation",
    "decoder": "layers embedding model costs sampler weights",
    "learning": (
        "selection optimizers config room train recombination attempts learner hindsight epoch"
        " result population adaptation shortening rivals muon presets pretraining"
    ),
    "viewing": "story plotting report overview display",
    "commands": (
        "flags door cli named_tasks terminal progress facts results member events numbers"
        " group live_view summary shortening her_adapt pretrain plan show"
    ),
}
# What a wing may import besides itself, ``stats`` and ``_version``.
WINGS = {
    "dsl": "",
    "runtime": "",
    ".": "",
    "tasks": "dsl runtime",
    "decoder": "dsl runtime tasks",
    "learning": "dsl runtime tasks decoder",
    "viewing": "dsl runtime tasks decoder learning",
    "commands": "dsl runtime tasks decoder learning viewing",
}
NAMES = [
    name if wing == "." else f"{wing}.{name}"
    for wing, names in ORDER.items()
    for name in names.split()
]
LINES, CODE = 400, 45  # of a file; of a function, without docstring, comments and empty lines


def path_of(name):
    return PACKAGE.joinpath(*name.split(".")).with_suffix(".py")


def imported(path):
    """Top-level packages, and of herjax "wing.module", "wing" for a wing, "" for the package."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}".split(".")
                if whole[0] != "herjax":
                    yield whole[0]
                    continue
                known = [".".join(whole[1:end]) for end in (3, 2)]
                yield next((name for name in known if name in NAMES), ".".join(whole[1:-1]))
        elif isinstance(node, ast.Import):
            for alias in node.names:
                first, *rest = alias.name.split(".")
                yield ".".join(rest) if first == "herjax" else first


def test_every_module_has_a_place():
    found = {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in PACKAGE.rglob("*.py")
    }
    wings = {f"{wing}.__init__".removeprefix("..") for wing in ORDER if wing != "."}
    assert found == {*NAMES, "__init__", *wings}


@pytest.mark.parametrize("name", NAMES)
def test_imports_point_one_way(name):
    above = NAMES[: NAMES.index(name)]
    wing = name.split(".")[0] if "." in name else "."
    allowed = {wing, "stats", "_version", *WINGS[wing].split()}
    for other in imported(path_of(name)):
        if other == "":  # the package itself, which the commands alone may use
            assert wing == "commands", f"{name} imports herjax"
        elif other in NAMES:
            assert other in above, f"{name} imports {other}"
            assert other.split(".")[0] in allowed, f"{wing} imports {other}"
        else:
            assert other.split(".")[0] not in ORDER, f"{name} imports {other}, which is no module"


def test_the_library_loads_no_command_line():
    for path in PACKAGE.rglob("*.py"):
        if "commands" not in path.parts:
            assert "absl" not in set(imported(path)), f"{path.name} imports absl"


def test_the_library_does_without_matplotlib():
    for path in PACKAGE.rglob("*.py"):
        assert "matplotlib" not in set(imported(path)), path.name


@pytest.mark.parametrize(
    ("name", "needs"), [("viewing.plotting", "numpy"), ("runtime.xla_flags", "os")]
)
def test_some_never_import_jax(name, needs):
    names = set(imported(path_of(name)))
    assert needs in names
    assert "jax" not in names


def test_the_package_sets_xla_flags_before_it_imports_anything_else():
    first, call, *_ = ast.parse((PACKAGE / "__init__.py").read_text()).body[1:]
    assert ast.unparse(first) == "from herjax.runtime import xla_flags"
    assert ast.unparse(call) == "xla_flags.keep_reductions_in_xla()"


def code_lines(function, lines):
    """Lines of a function that are code, nested functions included."""
    docstrings = set()
    for node in ast.walk(function):
        if isinstance(node, ast.FunctionDef) and ast.get_docstring(node) is not None:
            first = node.body[0]
            docstrings.update(range(first.lineno, first.end_lineno + 1))
    return sum(
        number not in docstrings and lines[number - 1].strip(" )],:").split("#")[0] != ""
        for number in range(function.lineno, function.end_lineno + 1)
    )


@pytest.mark.parametrize("folder", ["herjax", "experiments"])
def test_files_and_functions_are_short(folder):
    for path in (PACKAGE.parent / folder).rglob("*.py"):
        lines = path.read_text().splitlines()
        assert len(lines) <= LINES, f"{path.name} has {len(lines)} lines"
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                count = code_lines(node, lines)
                assert count <= CODE, f"{path.name}: {node.name} has {count} lines of code"
