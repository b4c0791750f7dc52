"""Bad input of every kind, and what must come of it: the cases of tests/battery, one file an area.

The fast ones run with all tests; all of them by
``pytest -m "slow or not slow" tests/test_battery.py``.
"""

import importlib
import pathlib

import pytest

FOLDER = pathlib.Path(__file__).parent / "battery"
NAMES = sorted(f"tests.battery.{path.stem}" for path in FOLDER.glob("[!_]*.py"))
pytest.register_assert_rewrite(*NAMES)
CASES = [case for name in NAMES for case in getattr(importlib.import_module(name), "CASES", [])]


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=f"{case.area}-{case.name}", marks=[pytest.mark.slow] * case.slow)
        for case in CASES
    ],
)
def test_case(case):
    case.check()


def test_no_two_cases_have_one_name():
    names = [(case.area, case.name) for case in CASES]
    assert len(set(names)) == len(names) > 100
