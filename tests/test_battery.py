"""Every attack of tests/battery; all of them: pytest -m "slow or not slow" tests/test_battery.py"""

import collections
import importlib
import pathlib

import pytest

MODULES = sorted(
    path.stem
    for path in pathlib.Path(__file__).with_name("battery").glob("*.py")
    if path.stem != "__init__"
)
CASES = [
    case
    for module in MODULES
    for case in getattr(importlib.import_module(f"tests.battery.{module}"), "CASES", [])
]
# What Orbax leaves behind when a file is damaged.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def tally(request):
    """How many were tried and failed in each area; printed at the end, but by xdist's workers."""
    tried, failed = collections.Counter(), collections.Counter()
    yield tried, failed
    plugins = request.config.pluginmanager
    reporter, capture = plugins.get_plugin("terminalreporter"), plugins.get_plugin("capturemanager")
    if reporter is not None:
        with capture.global_and_fixture_disabled():
            for area, count in sorted(tried.items()):
                reporter.write_line(f"\n{area}: {count} tried, {failed[area]} failed")


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=f"{case.area}: {case.name}", marks=[pytest.mark.slow] * case.slow)
        for case in CASES
    ],
)
def test_battery(case, tally):
    tried, failed = tally
    tried[case.area] += 1
    failed[case.area] += 1
    case.check()
    failed[case.area] -= 1


def test_no_two_cases_have_a_name():
    names = [(case.area, case.name) for case in CASES]
    assert len(names) == len(set(names))
