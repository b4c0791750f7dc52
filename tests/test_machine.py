"""What this process may take of the machine, by control groups of both versions."""

import os
import sys

import pytest

from herjax.runtime import machine

linux = pytest.mark.skipif(sys.platform != "linux", reason="control groups are Linux's")


def groups(monkeypatch, told):
    """Let files hold what is told, and no others be there."""
    told = {str(path): text for path, text in told.items()}
    monkeypatch.setattr(machine, "_lines", lambda path: told.get(str(path), "").splitlines())


@linux
def test_this_machine_is_known():
    assert machine.processors() >= 1
    assert 10**8 < machine.available_bytes() < 10**14


@linux
@pytest.mark.parametrize(
    ("group", "files", "expected"),
    [
        ("0::/", {"cpu.max": "200000 100000"}, 2),
        ("0::/", {"cpu.max": "max 100000"}, 64),
        ("0::/", {"cpu.max": "50000 100000"}, 1),
        ("0::/user/job", {"user/cpu.max": "250000 100000", "user/job/cpu.max": "max 100000"}, 3),
        (
            "4:cpu,cpuacct:/job",
            {
                "cpu,cpuacct/job/cpu.cfs_quota_us": "400000",
                "cpu,cpuacct/job/cpu.cfs_period_us": "100000",
            },
            4,
        ),
        (
            "4:cpu,cpuacct:/",
            {"cpu,cpuacct/cpu.cfs_quota_us": "-1", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
            64,
        ),
        ("4:memory:/", {"memory/cpu.max": "100000 100000"}, 64),
    ],
)
def test_a_quota_counts_as_processors(monkeypatch, group, files, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(64))
    files = {machine.ROOT / name: text for name, text in files.items()}
    groups(monkeypatch, {"/proc/self/cgroup": group, **files})
    assert machine.processors() == expected


@pytest.mark.parametrize(
    ("group", "files", "expected"),
    [
        ("0::/", {"memory.max": "8000", "memory.current": "7900"}, 100),
        ("0::/", {"memory.max": "max", "memory.current": "7900"}, 10240),
        (
            "0::/user/job",  # files that were read give their place to another
            {
                "user/memory.max": "8000",
                "user/memory.current": "7900",
                "user/memory.stat": "anon 900\ninactive_file 6500",
            },
            6600,
        ),
        (
            "9:memory:/job",
            {
                "memory/job/memory.limit_in_bytes": "8000",
                "memory/job/memory.usage_in_bytes": "7900",
                "memory/job/memory.stat": "inactive_file 1\ntotal_inactive_file 6500",
            },
            6600,
        ),
        ("0::/", {"memory.max": "800", "memory.current": "900"}, 0),
    ],
)
def test_a_control_group_limits_memory(monkeypatch, group, files, expected):
    files = {machine.ROOT / name: text for name, text in files.items()}
    meminfo = {"/proc/meminfo": "MemTotal: 20 kB\nMemAvailable: 10 kB"}
    groups(monkeypatch, {"/proc/self/cgroup": group, **meminfo, **files})
    assert machine.available_bytes() == expected


def test_without_linux_it_is_all_that_there_is(monkeypatch):
    groups(monkeypatch, {})
    assert machine.available_bytes() == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert machine.processors() == os.cpu_count()
