"""What this process may take of the machine: processors and memory, control groups included."""

import math
import os
import pathlib
import sys
from collections.abc import Iterator

ROOT = pathlib.Path("/sys/fs/cgroup")
# Of control groups v2 and v1: the limit, what is used, and what of it is files that were read: they
# give their place to whoever needs it.
_MEMORY = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def processors() -> int:
    """How many this process may use at a time: those that it may run on, or fewer by a quota."""
    if sys.platform != "linux":
        return os.cpu_count() or 1
    found = [len(os.sched_getaffinity(0))]
    for folder in _control_groups("cpu"):
        quotas = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        quota = _numbers(folder / "cpu.max") or [n for q in quotas for n in _numbers(folder / q)]
        if len(quota) == 2 and min(quota) > 0:  # of time, and a period; -1, or one alone: no limit
            found.append(math.ceil(quota[0] / quota[1]))
    return min(found)


def available_bytes() -> int | None:
    """Memory that this process may still take; None where that is not known.

    On Linux, what the machine and the control groups have left; elsewhere all that there is.
    """
    found = []
    for line in _lines("/proc/meminfo"):
        if line.startswith("MemAvailable:"):
            found.append(1024 * int(line.split()[1]))
    for folder in _control_groups("memory"):
        for limit, used, files in _MEMORY:
            numbers = [*_numbers(folder / limit), *_numbers(folder / used)]
            kinds = dict(line.partition(" ")[::2] for line in _lines(folder / "memory.stat"))
            if len(numbers) == 2:
                found.append(max(numbers[0] - numbers[1] + int(kinds.get(files, 0)), 0))
    if not found and hasattr(os, "sysconf"):
        found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    return min(found, default=None)


def _control_groups(kind: str) -> Iterator[pathlib.Path]:
    """Where limits of "cpu" or "memory" may be told: of this process's groups, and those above."""
    for line in _lines("/proc/self/cgroup"):
        _, kinds, name = line.split(":", 2)
        if not kinds or kind in kinds.split(","):
            group = pathlib.PurePosixPath(name)
            for part in (group, *group.parents):
                yield ROOT / kinds / str(part).lstrip("/")


def _numbers(path: pathlib.Path) -> list[int]:
    """The integers in a file; none if it is not there."""
    words = [word for line in _lines(path) for word in line.split()]
    return [int(word) for word in words if word.lstrip("-").isdecimal()]


def _lines(path: str | pathlib.Path) -> list[str]:
    try:
        return pathlib.Path(path).read_text("utf-8").splitlines()
    except (OSError, ValueError):
        return []
