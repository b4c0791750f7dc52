"""Every attack of tests/battery; all of them: pytest -m "slow or not slow" tests/test_battery.py"""

import collections
import importlib
import pathlib
import subprocess
import sys

import pytest

from tests.command_line import ENVIRONMENT, ROOT

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


@pytest.mark.slow
def test_what_is_refused_takes_little_time_and_memory(capsys):
    command = [sys.executable, "-m", "tests.refusals"]
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    with capsys.disabled():
        print("", done.stdout, sep="\n")
    assert done.returncode == 0, done.stderr


def test_no_two_cases_have_a_name():
    names = [(case.area, case.name) for case in CASES]
    assert len(names) == len(set(names))
