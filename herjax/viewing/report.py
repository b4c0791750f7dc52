"""report.html: an adaptation as one file that opens from disk; nothing is loaded from elsewhere.

The page is ``report.html`` beside this module, with ``report.js`` and the data as JSON put in.
Programs and draws are in it once each, however often they occur; the page paints the pictures.
"""

import html
import json
import pathlib
import re

import numpy as np

from herjax.dsl.ops import COLOUR, END, OP
from herjax.dsl.source import format_program
from herjax.learning.epoch import EpochMetrics
from herjax.tasks.palette import PALETTE
from herjax.tasks.suite import Picture
from herjax.viewing.story import cells_drawn, epoch_rows


def make_report(
    title: str,
    picture: Picture,
    history: EpochMetrics,
    program: np.ndarray,
    about: dict,
    sampled: int | None = None,
    kept: int = 0,
) -> str:
    """The page of one adaptation.

    Args:
      title: of the page.
      picture: input and target.
      history: of all epochs, stacked: NumPy arrays [E, ...].
      program: records [N, 6], the best found.
      about: what is shown as the configuration, JSON.
      sampled: G, the rows of an epoch that were sampled; None if all were.
      kept: M, the rows of programs kept from earlier epochs. After them follows a child of each.
    """
    table = _Programs(picture.target.shape)
    data = {
        "title": title,
        "solved": bool((history.accuracy == 1).any()),
        "shape": picture.target.shape,
        "palette": PALETTE,
        "input": _digits(picture.input),
        "target": _digits(picture.target),
        "epochs": [_epoch(history, e, table, sampled, kept) for e in range(len(history.program))],
        "final": format_program(program),
        "programs": table.programs,
        "draws": table.draws(),
        "about": about,
    }
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    source = pathlib.Path(__file__)
    page = source.with_suffix(".html").read_text()
    page = page.replace("{{SCRIPT}}", source.with_suffix(".js").read_text())
    return page.replace("{{TITLE}}", html.escape(title)).replace("{{DATA}}", text)


def _epoch(
    history: EpochMetrics, epoch: int, table: "_Programs", sampled: int | None, kept: int
) -> dict:
    """What the page shows of an epoch; programs as their places in the table."""
    program, accuracy = np.asarray(history.program[epoch]), np.asarray(history.accuracy[epoch])
    rows = epoch_rows(program, sampled, kept)
    place = {row: table.add(program[row], accuracy[row]) for part in rows[:3] for row in part}
    loss = float(history.loss[epoch])
    return {
        "attempts": [place[row] for row in rows.attempts],
        "kept": [place[row] for row in rows.kept],
        # -1: of a parent that is no program, but the blank input.
        "children": [
            [place[child], place.get(parent, -1)]
            for child, parent in zip(rows.children, rows.parents)
        ],
        **{name: int(getattr(history, name)[epoch]) for name in ("run", "distinct", "new")},
        "trained": int(history.trained[epoch]),
        "draws": round(float(history.draws[epoch]), 2),
        "loss": round(loss, 4) if np.isfinite(loss) else None,
    }


def make_overview(title: str, rows: list[dict]) -> str:
    """The page of a population: a table that links to the report of every member.

    Args:
      title: of the page.
      rows: what is shown, a column a key; ``link`` is where the first column leads.
    """
    columns = [name for name in rows[0] if name != "link"]
    head = "".join(f"<th><button>{html.escape(name)}</button>" for name in columns)
    body = []
    for row in rows:
        cells = [html.escape(str(row[name])) for name in columns]
        cells[0] = f'<a href="{html.escape(row["link"], quote=True)}">{cells[0]}</a>'
        body.append("<tr>" + "".join(f"<td>{cell}" for cell in cells))
    numbers = [
        f"tr>:nth-child({place})"
        for place, name in enumerate(columns, start=1)
        if all(_NUMBER.fullmatch(str(row[name])) for row in rows)
    ]
    style = _OVERVIEW_STYLE + (",".join(numbers) + "{text-align:right}" if numbers else "")
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{style}</style>"
        f"<h1>{html.escape(title)}</h1><p>A name leads to a report; a heading sorts by its column."
        f'<div tabindex="0"><table><thead><tr>{head}<tbody>\n' + "\n".join(body) + "</table></div>"
        f"<script>{_OVERVIEW_SCRIPT}</script></html>\n"
    )


_NUMBER = re.compile(r"-?[\d,]*\.?\d+ ?%?")

# The box scrolls sideways, not the page; the first column stays in sight.
_OVERVIEW_STYLE = (
    ":root{color-scheme:light dark;font:16px/1.4 system-ui,sans-serif}"
    "body{margin:1rem auto;max-width:60rem;padding:0 1rem}h1{font-size:1.4rem}"
    "div{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}"
    "td,th{text-align:left;padding:.25rem .7rem;white-space:nowrap;border-bottom:1px solid #8884}"
    "td:first-child,th:first-child{position:sticky;left:0;background:Canvas;padding-left:0}"
    "@media(max-width:30rem){td:first-child{white-space:normal;overflow-wrap:anywhere;"
    "min-width:7rem}}"
    "th button{font:inherit;font-weight:600;color:inherit;background:none;border:0;padding:0;"
    "cursor:pointer}th button:hover,a:hover{text-decoration:underline}"
    "tbody tr:hover{background:#8882}"
    'th[aria-sort=ascending] button::after{content:" \\25b2"}'
    'th[aria-sort=descending] button::after{content:" \\25bc"}'
)

_OVERVIEW_SCRIPT = """
const body = document.querySelector("tbody"), heads = [...document.querySelectorAll("th")];
heads.forEach((head, column) => head.firstChild.onclick = () => {
  const sign = head.ariaSort === "ascending" ? -1 : 1;
  const text = row => row.cells[column].textContent.trim().replaceAll(",", "");
  const compare = (a, b) => parseFloat(a) - parseFloat(b) || a.localeCompare(b);
  heads.forEach(other => other.removeAttribute("aria-sort"));
  head.ariaSort = sign > 0 ? "ascending" : "descending";
  body.append(...[...body.rows].sort((a, b) => sign * compare(text(a), text(b))));
});
"""


def _digits(picture: np.ndarray) -> str:
    return "".join(map(str, picture.ravel().tolist()))


class _Programs:
    """Every different program once, and every different draw once."""

    def __init__(self, shape: tuple[int, int]):
        self.shape = shape
        self.programs: list[tuple[int, list[int]]] = []  # pixels right, places of its draws
        self.place: dict[tuple, int] = {}
        self.draw_place: dict[tuple, int] = {}

    def add(self, program: np.ndarray, accuracy: float) -> int:
        """The place of a program, records [N, 6], in the table."""
        draws = tuple(tuple(record) for record in program.tolist() if record[OP] != END)
        if draws not in self.place:
            self.place[draws] = len(self.programs)
            places = [self.draw_place.setdefault(draw, len(self.draw_place)) for draw in draws]
            right = round(float(accuracy) * self.shape[0] * self.shape[1])
            self.programs.append((right, places))
        return self.place[draws]

    def draws(self) -> list[list]:
        """``[call, colour, cells]``; cells as hexadecimal bits in reading order."""
        count = len(self.draw_place)
        records = np.array(list(self.draw_place), np.int32).reshape(-1, 6)
        masks = cells_drawn(records, self.shape).reshape(count, self.shape[0] * self.shape[1])
        calls = format_program(records).splitlines()[1:-1]
        return [
            [call.strip(), int(record[COLOUR]), np.packbits(mask).tobytes().hex()]
            for call, record, mask in zip(calls, records, masks)
        ]
