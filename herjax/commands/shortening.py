"""Shorter programs for the members of a run that were solved: from their files, into their files.

A kill leaves either program, whole, and the same command then repeats the shortening alone: the
first program is kept beside the short one, and SHA256SUMS holds the digests of both while files
are being replaced.
"""

import contextlib
import json
import time
from collections.abc import Callable
from functools import partial

import numpy as np

from herjax.commands import cli
from herjax.commands.live_view import EVERY
from herjax.commands.member import Member, Writer
from herjax.commands.results import RESULT, SUMS, digests, read_result
from herjax.commands.terminal import Terminal
from herjax.dsl.source import format_script, parse_program
from herjax.learning.shortening import Shortened, shorten
from herjax.runtime import processes
from herjax.runtime.files import write_atomically
from herjax.runtime.lock import Lock
from herjax.viewing.report import with_program

SOLUTION, FIRST, REPORT = "solution.py", "first_solution.py", "report.html"


class _Stopped(Exception):
    """A signal came."""


def shorten_all(
    members: list[Member], epochs: int, lock: Lock, writer: Writer, console: Terminal
) -> int:
    """Shorten the programs of those that were solved and not yet shortened so; -> how many."""
    left = [member for member in members if is_left(member, epochs)]
    with cli.StopSignals() as stop:
        for number, member in enumerate(left):
            name = f"{member.task}, seed {member.seed}"
            told = time.monotonic()

            def look(epoch: int, draws: int, name: str = name) -> None:
                nonlocal told
                lock.check()
                if stop.received:
                    raise _Stopped
                if time.monotonic() - told >= EVERY:
                    told = time.monotonic()
                    words = f"{name}: shortening, epoch {epoch} of {epochs}, {draws} draws"
                    console.print(words, highlight=False, soft_wrap=True)

            processes.on_first(partial(_shorten, member, epochs, writer, look))
            writer.check(wait=True, stopped=lambda: stop.received != 0)
            if stop.came():
                stop.leave(f"{number} of {len(left)} programs are shortened")
            words = told_of(read_result(member.folder))
            console.print(f"{name}: {words}", highlight=False, soft_wrap=True)
    return len(left)


def is_left(member: Member, epochs: int) -> bool:
    """Was it solved, and not yet shortened for so many epochs?"""
    result = read_result(member.folder)
    return result["solved"] and result.get("shorten_epochs") != epochs


def told_of(result: dict) -> str:
    """What a shortening brought, in words."""
    draws, epochs = (
        f"{result[name]} {unit}{'s' * (result[name] != 1)}"
        for name, unit in (("draws", "draw"), ("shorten_epochs", "epoch"))
    )
    return (
        f"{draws} after {epochs} of shortening,"
        f" {result['draws_before']} before, at least {result['least_draws']} in any program;"
        f" {result['seconds_shorten']:.1f} s"
    )


def _shorten(member: Member, epochs: int, writer: Writer, look: Callable[[int, int], None]) -> None:
    result = read_result(member.folder)
    first, began = first_program(member, result), time.monotonic()
    target, canvas = member.picture.target, member.picture.input
    with contextlib.suppress(_Stopped):
        found = shorten(first, target, input=canvas, epochs=epochs, seed=member.seed, on_epoch=look)
        seconds = round(time.monotonic() - began, 3)
        writer.submit(lambda: write_short(member, result, first, found, seconds))


def first_program(member: Member, result: dict) -> np.ndarray:
    """The records [N, 6] that the adaptation found, however far a shortening came."""
    draws = result.get("draws_before", result["draws"])
    shape = member.picture.target.shape
    for name in (FIRST, SOLUTION):
        with contextlib.suppress(OSError, ValueError):  # no such file, or an edited one
            program = parse_program((member.folder / name).read_text("utf-8"), *shape)
            if len(program) == draws:
                return program
    raise ValueError(f"{member.folder} holds no program of {draws} draws, which {RESULT} tells of")


def write_short(
    member: Member, result: dict, first: np.ndarray, found: Shortened, seconds: float
) -> None:
    """Put the short program in place of the first one, which is kept.

    Args:
      member: whose files.
      result: what is in its result.json.
      first: records [N, 6], of the adaptation.
      found: the shorter one.
      seconds: that it took, with compiling.
    """
    folder, picture = member.folder, member.picture
    values = {
        **result,
        "draws": len(found.program),
        "draws_before": len(first),
        "shorten_epochs": len(found.draws) - 1,
        "shorten_draws": found.draws,
        "seconds_shorten": seconds,
    }
    page = (folder / REPORT).read_text("utf-8")
    new = {
        FIRST: format_script(first, picture.input).encode(),
        SOLUTION: format_script(found.program, picture.input).encode(),
        REPORT: with_program(page, found.program, picture, len(first)).encode(),
        RESULT: json.dumps(values, indent=2).encode() + b"\n",
    }
    old = (folder / SUMS).read_text() if (folder / SUMS).exists() else ""
    kept = [line for line in old.splitlines() if line.split("  ")[1] not in new]
    sums = "".join(f"{line}\n" for line in kept) + digests(new)
    write_atomically(folder / FIRST, new[FIRST])  # before a digest is there that it must fit
    write_atomically(folder / SUMS, (old + digests(new)).encode())
    for name in (SOLUTION, REPORT, RESULT):
        write_atomically(folder / name, new[name])
    write_atomically(folder / SUMS, sums.encode())
