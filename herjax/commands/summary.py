"""What is told of a whole population once its members have ended."""

import os
import pathlib
import statistics
import urllib.parse

import numpy as np
from rich.table import Table

from herjax.commands.facts import this_command
from herjax.commands.member import Member
from herjax.commands.results import read_result
from herjax.dsl.source import parse_program
from herjax.runtime import records
from herjax.runtime.files import write_atomically
from herjax.stats import wilson_interval
from herjax.viewing.overview import Ended, make_overview
from herjax.viewing.story import stages

MAX_TASK_ROWS = 30  # of the summary
MAX_NAME = 24  # characters that stand in one line of it, whatever is left for the numbers


def read_results(members: list[Member]) -> list[dict]:
    """The results of all members, which have ended.

    Raises:
      CheckpointError: if one is missing or damaged.
    """
    return [read_result(member.folder) for member in members]


def write_summary(
    workdir: pathlib.Path, members: list[Member], results: list[dict], failed: int = 0
) -> None:
    """results.jsonl, and report.html with a link to each member's; ``failed`` ones have none."""
    ended = [
        Ended(
            task=result["task"],
            seed=result["seed"],
            solved=result["solved"],
            best=max(result["best_accuracy"]),
            sampled=result["programs_sampled"],
            run=result["programs_run"],
            draws=result["draws"],
            seconds=result["seconds_run"],
            link=f"{urllib.parse.quote(os.fsencode(member.folder.name))}/report.html",
            target=member.picture.target,
            picture=None if result["solved"] else best_picture(member),
        )
        for member, result in zip(members, results)
    ]
    facts = {
        "seconds": f"{sum(member.seconds for member in ended):.1f} seconds, without compiling",
        "command": this_command(),
    }
    if failed:
        facts["failed"] = f"{failed} more, whose loss was not finite, are not counted"
    page = make_overview(f"herjax: {len(ended)} adaptations", ended, facts)
    write_atomically(workdir / "report.html", page.encode())
    records.write_lines(workdir / "results.jsonl", results)


def best_picture(member: Member) -> np.ndarray | None:
    """What the member's solution.py draws, int [R, C]; None if it is not there, or damaged."""
    try:
        source = (member.folder / "solution.py").read_text("utf-8")
        program = parse_program(source, *member.picture.target.shape)
    except (OSError, ValueError):  # a ProgramError is one, and so is text that is no UTF-8
        return None
    return stages(program, member.picture.input)[-1]


def summary(results: list[dict]) -> list[Table]:
    """Solve rates by task; for many tasks instead by their colours and by their least draws."""
    tasks = list(dict.fromkeys(result["task"] for result in results))
    if len(tasks) <= MAX_TASK_ROWS:
        return [solve_rates(results, "task", tasks)]
    return [
        solve_rates(results, key, [*sorted({result[key] for result in results}), "all"])
        for key in ("colours", "least_draws")
    ]


def solve_rates(results: list[dict], key: str, values: list) -> Table:
    """A row for each value of a key. Unsolved runs count as above the budget of programs."""
    columns = ("solved", "Wilson 95 %", "median sampled", "range", "median run", "median seconds")
    table = Table(key.replace("_", " "), *columns)
    table.columns[0].no_wrap = max(len(str(value)) for value in values) <= MAX_NAME
    table.columns[0].overflow = "fold"

    def show(programs):
        return f"{programs:.0f}" if np.isfinite(programs) else "not solved"

    for value in values:
        mine = [result for result in results if value in (result[key], "all")]
        solved = sum(result["solved"] for result in mine)
        low, high = wilson_interval(solved, len(mine))
        needed = sorted(r["programs_sampled"] if r["solved"] else np.inf for r in mine)
        table.add_row(
            str(value),
            f"{solved} of {len(mine)}",
            f"{low:.2f} .. {high:.2f}",
            show(statistics.median_low(needed)),  # Kaplan and Meier's
            f"{show(needed[0])} .. {show(needed[-1])}",
            f"{statistics.median(result['programs_run'] for result in mine):.0f}",
            f"{statistics.median(result['seconds_run'] for result in mine):.1f}",
        )
    return table
