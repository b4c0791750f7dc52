"""What README and docs say can be found: names, files, links; their Python runs."""

import pathlib
import re

import pytest

import herjax

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
CODE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)

PATH = re.compile(r"(?<![\w/-])(?:herjax|tests|experiments|docs)/[\w/.-]*\.\w+")


def relative(page):
    return str(page.relative_to(ROOT))


def test_the_reference_has_every_public_name():
    told = re.findall(
        r"^\.\. (?:auto\w+|py:data):: (\w+)$", (ROOT / "docs/api.md").read_text(), re.M
    )
    assert sorted(told) == sorted({*told})  # none twice
    assert {*herjax.__all__} - {*told} == set()
    assert [name for name in herjax.__all__ if not hasattr(herjax, name)] == []
    assert {*told} - {*herjax.__all__} <= {"__version__"}


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_lead_to_files(page):
    for link in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        if "://" not in link:
            assert (page.parent / link).exists(), f"{relative(page)} links to {link}"


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_files_of_the_repository_exist(page):
    for path in re.findall(PATH, page.read_text()):
        assert (ROOT / path).exists(), f"{relative(page)} names {path}"


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_commands_are_modules(page):
    for name in re.findall(r"experiments\.(\w+)", page.read_text()):
        found = [ROOT / f"experiments/{name}.py", ROOT / f"experiments/{name}/__main__.py"]
        assert any(path.exists() for path in found), f"{relative(page)} runs {name}"


@pytest.mark.parametrize("page", [p for p in PAGES if CODE.search(p.read_text())], ids=relative)
def test_python_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for code in CODE.findall(page.read_text()):
        names = {}
        exec(compile(code, relative(page), "exec"), names)
        assert "result" not in code or names["result"].solved
