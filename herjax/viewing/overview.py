"""The page of a population: how many were solved, after how many programs, and where to look on.

One file that opens from disk, and shows all but the sorting without JavaScript.
"""

import base64
import io
import math
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from herjax.stats import percent, wilson_interval
from herjax.tasks.palette import PALETTE
from herjax.viewing.report import escape, fact_list, fill, foot


class Ended(NamedTuple):
    """A member of a population that has ended."""

    task: str
    seed: int
    solved: bool
    best: float  # pixels right, 0 .. 1
    sampled: int  # programs
    run: int  # programs
    draws: int  # of the best program
    seconds: float
    link: str  # to its report, from the page
    target: np.ndarray  # [R, C]
    picture: np.ndarray | None = None  # [R, C], the best, where it is not the target


def make_overview(
    title: str, members: Sequence[Ended], facts: Mapping[str, str] | None = None
) -> str:
    """The page of a population.

    Args:
      title: of the page.
      members: at least one.
      facts: of the run, names and texts.

    Raises:
      ValueError: if there is no member.
    """
    if not members:
        raise ValueError("members: an overview needs at least one, got none")
    solved = sum(member.solved for member in members)
    low, high = wilson_interval(solved, len(members))
    tasks = _by_task(members)
    known = {
        "TITLE": escape(title),
        "SUMMARY": f"{solved} of {len(members)} solved: {percent(solved / len(members))}"
        f" (95 % interval {100 * low:.0f} .. {100 * high:.0f} %, Wilson).",
        "CHART": _chart(members, tasks),
        "CAPTION": _legend(tasks),
        "RATES": _rates(tasks) if len(tasks) < len(members) else "",
        "MEMBERS": _members(members),
        **fact_list(facts),
        **foot(),
    }
    return fill(pathlib.Path(__file__).with_suffix(".html").read_text("utf-8"), known)


def _by_task(members: Sequence[Ended]) -> dict[str, list[Ended]]:
    tasks: dict[str, list[Ended]] = {}
    for member in members:
        tasks.setdefault(member.task, []).append(member)
    return tasks


# ---- Tables -------------------------------------------------------------------------------------


def thumbnail(picture: np.ndarray) -> str:
    """A picture [R, C] as the address of an image that is in the page itself."""
    image = Image.fromarray(np.asarray(picture, np.uint8))
    image.putpalette(b"".join(bytes.fromhex(colour[1:]) for colour in PALETTE))
    data = io.BytesIO()
    image.save(data, format="PNG")
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()


def _table(columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[str]]) -> str:
    """Of columns (name, class), cells as HTML; a heading is a button that sorts."""
    kinds = [f' class="{kind}"' if kind else "" for _, kind in columns]
    heads = "".join(
        f'<th scope="col"{kind}><button>{name}</button></th>'
        for (name, _), kind in zip(columns, kinds)
    )
    lines = "\n".join(
        "<tr>" + "".join(f"<td{kind}>{cell}" for cell, kind in zip(row, kinds)) for row in rows
    )
    return f"<table><thead><tr>{heads}</thead><tbody>\n{lines}\n</tbody></table>"


def _image(picture: np.ndarray) -> str:
    return f'<img alt="" src="{thumbnail(picture)}">'  # beside its name, which says it all


def _best(member: Ended) -> str:
    if member.picture is None:
        return ""
    return f'<img alt="best picture" class="wide" src="{thumbnail(member.picture)}"> '


def _members(members: Sequence[Ended]) -> str:
    columns = [("task", ""), ("seed", "n"), ("solved", ""), ("best", "n"), ("sampled", "n")]
    columns += [("run", "n wide"), ("draws", "n wide"), ("seconds", "n")]
    rows = [
        (
            f'<a href="{escape(m.link)}">{_image(m.target)}<span>{escape(m.task)}</span></a>',
            str(m.seed),
            "yes" if m.solved else "no",
            f"{_best(m)}{percent(m.best)}",
            f"{m.sampled:,}",
            f"{m.run:,}",
            str(m.draws),
            f"{m.seconds:.1f}",
        )
        for m in members
    ]
    return _table(columns, rows)


def _rates(tasks: Mapping[str, Sequence[Ended]]) -> str:
    """How often each task was solved. Those not solved count as above every number of programs."""
    columns = [("task", ""), ("solved", "n"), ("share", "n wide"), ("95 % interval", "n")]
    columns += [("median sampled", "n wide")]
    rows = []
    for task, mine in tasks.items():
        solved = sum(member.solved for member in mine)
        low, high = wilson_interval(solved, len(mine))
        median = statistics.median_low(m.sampled if m.solved else math.inf for m in mine)
        rows.append(
            (
                f"<div>{_image(mine[0].target)}<span>{escape(task)}</span></div>",
                f"{solved} of {len(mine)}",
                percent(solved / len(mine)),
                f"{100 * low:.0f} .. {100 * high:.0f} %",
                f"{median:,.0f}" if math.isfinite(median) else "not solved",
            )
        )
    return (
        '<h2>Tasks</h2>\n<div class="box high" tabindex="0" role="region" aria-label="Tasks">'
        f"{_table(columns, rows)}</div>"
    )


# ---- Chart --------------------------------------------------------------------------------------

MAX_LINES = 5  # of single tasks; more are not readable
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 560, 250, 52, 545, 14, 200


def solved_shares(members: Sequence[Ended]) -> list[tuple[int, int]]:
    """After how many programs how many were solved: steps upwards, the first of 0."""
    ends = sorted(member.sampled for member in members if member.solved)
    return [(0, 0)] + [(n, i + 1) for i, n in enumerate(ends) if ends[i + 1 : i + 2] != [n]]


class _Scale(NamedTuple):
    """The x axis: linear from 0, or logarithmic where the numbers span more than 20 times."""

    low: float
    high: float
    log: bool

    def __call__(self, value: float) -> float:
        if self.log:
            part = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        else:
            part = (value - self.low) / (self.high - self.low)
        return LEFT + part * (RIGHT - LEFT)

    def ticks(self) -> list[int]:
        if self.log:
            powers = range(int(math.log10(self.low)), int(math.log10(self.high)) + 1)
            values = [factor * 10**power for power in powers for factor in (1, 2, 5)]
        else:
            powers = range(int(math.log10(self.high)) + 1)
            steps = (factor * 10**power for power in powers for factor in (1, 2, 5))
            step = next(step for step in steps if self.high <= 8 * step)
            values = list(range(0, int(self.high) + 1, step))
        return [value for value in values if self.low <= value <= self.high]


def _scale(members: Sequence[Ended]) -> _Scale:
    counts = [max(member.sampled, 1) for member in members]
    low, high = min(counts), max(counts)
    # A little more than the last, so that a step there is seen.
    return _Scale(low, 1.2 * high, True) if high > 20 * low else _Scale(0, 1.05 * high, False)


def _steps(points: Sequence[tuple[float, float]], x: _Scale) -> str:
    """A path of steps through (programs, share), which goes on to the right end."""
    words = f"M{x(points[0][0]):.1f} {_y(points[0][1]):.1f}"
    for programs, share in points[1:]:
        words += f"H{x(programs):.1f}V{_y(share):.1f}"
    return words + f"H{RIGHT}"


def _y(share: float) -> float:
    return BOTTOM - share * (BOTTOM - TOP)


def _chart(members: Sequence[Ended], tasks: Mapping[str, Sequence[Ended]]) -> str:
    x, total = _scale(members), len(members)
    steps = solved_shares(members)
    shares = [(n, k / total) for n, k in steps]
    low, high = ([(n, wilson_interval(k, total)[i]) for n, k in steps] for i in (0, 1))
    back = "".join(f"V{_y(b):.1f}H{x(n):.1f}" for n, b in reversed(low))
    lines = [
        f'<path class="band" d="{_steps(high, x)}{back}Z"/>',
        f'<path d="{_steps(shares, x)}"/>',
    ]
    if 1 < len(tasks) <= MAX_LINES:
        for place, (task, mine) in enumerate(tasks.items()):
            own = [(n, k / len(mine)) for n, k in solved_shares(mine)]
            name = f"<title>{escape(task)}</title>"
            lines.append(f'<path class="task t{place}" d="{_steps(own, x)}">{name}</path>')
    words = f"{steps[-1][1]} of {total} solved after {steps[-1][0]:,} programs sampled"
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Share solved: {words}">'
        f'{_axes(x)}<g class="all">{"".join(lines)}</g></svg>'
    )


def _legend(tasks: Mapping[str, Sequence[Ended]]) -> str:
    """What the lines are, each with its own dashes: colour alone does not tell."""
    words = [("all, shaded: their 95 % Wilson interval", "all", "")]
    if 1 < len(tasks) <= MAX_LINES:
        words += [(escape(task), "all", f"task t{i}") for i, task in enumerate(tasks)]
    marks = (
        f'<span class="mark"><svg class="key {group}" viewBox="0 0 26 8" aria-hidden="true">'
        f'<path class="{kind}" d="M0 4H26"/></svg> {name}</span>'
        for name, group, kind in words
    )
    return "Share solved, by programs sampled: " + " ".join(marks)


def _axes(x: _Scale) -> str:
    parts = []
    for share in (0, 0.25, 0.5, 0.75, 1):
        parts.append(f'<path class="axis" d="M{LEFT} {_y(share):.1f}H{RIGHT}"/>')
        parts.append(_text(LEFT - 6, _y(share) + 4, f"{100 * share:.0f} %", "end"))
    for value in x.ticks():
        parts.append(f'<path class="axis" d="M{x(value):.1f} {BOTTOM}v5"/>')
        parts.append(_text(x(value), BOTTOM + 19, f"{value:,}", "middle"))
    note = " (logarithmic)" if x.log else ""
    parts.append(_text((LEFT + RIGHT) / 2, HEIGHT - 8, f"programs sampled{note}", "middle"))
    turned = f'transform="translate(11 {(TOP + BOTTOM) / 2}) rotate(-90)"'
    parts.append(_text(0, 0, "solved", "middle", turned))
    return "".join(parts)


def _text(x: float, y: float, words: str, anchor: str, rest: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {rest}>{words}</text>'
