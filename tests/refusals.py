"""How much time and memory a refusal takes: python -m tests.refusals

Every case of these areas of the battery runs in a fork of a process that has imported everything,
which is how a command or a user's Python stands when it gets bad input. Memory is the most beyond
that of the start, for making the bad input, too. Printed are the worst ten of each area; the exit
code is 1 if one takes more than it may: of seconds count those of the processor, and of the wall
only whether it waits for ever.
"""

import importlib
import mmap
import os
import resource
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
from typing import NamedTuple

from jax._src import xla_bridge
from rich.console import Console
from rich.table import Table

from tests import command_line, warm

AREAS = ("options", "files", "library", "models", "programs")
MOST_SECONDS, LONGEST_WAIT, MOST_BYTES = 10.0, 120.0, 300_000_000
SHOWN = 10


class Measured(NamedTuple):
    """What a case took, and whether what it checks was so."""

    name: str
    seconds: float
    processor: float  # seconds
    memory: int  # bytes
    passed: bool


def run_here(module, *arguments, number=0):
    """As ``run_quickly``, in a fork of this process: its memory counts."""
    del number
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if not child:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            warm.run(module, [*map(str, arguments)])
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        told = []
        for file in (out, err):
            file.seek(0)
            told.append(file.read().decode())
        return code, *told


def measure(case):
    """Run a case in a fork."""
    begin, shared = time.monotonic(), mmap.mmap(-1, 8)
    child = os.fork()
    if not child:
        code = 1
        try:
            signal.alarm(int(LONGEST_WAIT))
            shared[:] = struct.pack("q", resident())
            case.check()
            code = 0
        except BaseException:
            traceback.print_exc()
        sys.stderr.flush()
        os._exit(code)
    _, status, usage = os.wait4(child, 0)
    seconds, processor = time.monotonic() - begin, usage.ru_utime + usage.ru_stime
    memory = 1024 * usage.ru_maxrss - struct.unpack("q", shared[:])[0]
    return Measured(case.name, seconds, processor, memory, status == 0)


def resident():
    """Bytes of this process in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def tell(area, found, console):
    """The worst of an area; -> whether all is as it must be."""
    table = Table(f"{area}: {len(found)} tried", "seconds", "of the processor", "MB", "")
    worst = sorted(found, key=share_of_most, reverse=True)[:SHOWN]
    bad = [each for each in found if not each.passed]
    for each in dict.fromkeys([*bad, *worst]):
        numbers = f"{each.seconds:.2f}", f"{each.processor:.2f}", f"{each.memory / 1e6:.0f}"
        table.add_row(each.name[:60], *numbers, "" if each.passed else "FAILED")
    console.print(table)
    return share_of_most(worst[0]) < 1 and not bad


def share_of_most(each):
    """Of what a refusal may take, in that which it takes most of."""
    seconds = max(each.processor / MOST_SECONDS, each.seconds / LONGEST_WAIT)
    return max(seconds, each.memory / MOST_BYTES)


def main():
    """Measure the areas that the command line names, or all."""
    warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
    for name in warm.WANTED:
        importlib.import_module(f"herjax.{name}")
    command_line.run_quickly = run_here  # before the battery takes it
    modules = {area: importlib.import_module(f"tests.battery.{area}") for area in AREAS}
    assert not xla_bridge.backends_are_initialized(), "a fork could not use JAX"
    wanted, console, good = sys.argv[1:] or AREAS, Console(width=110), True
    for area in wanted:
        good &= tell(area, [measure(case) for case in modules[area].CASES], console)
    sys.exit(not good)


if __name__ == "__main__":
    main()
