"""A table of the study as a page of Markdown: lines of runs and a declaration in, text out."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from herjax.stats import LogRank, Runs, holm, log_rank, median_to_solve, wilson_interval

LEVEL = 0.05  # of the p values that are shown
MAX_COLUMNS = 7  # pictures; where there are more, and more than rows, they become the rows
NOT_RUN = "not run"
MISSING = "–"

# What a column of means is called, if not as its key.
HEADINGS = {
    "distinct": "counted as different, last quarter",
    "seconds": "seconds",
    "draws": "draws",
    "run": "programs run",
    "accuracy": "best share of pixels right",
    "held_out_before": "held-out pass@8 before",
    "held_out_after": "held-out pass@8 after",
}

Line = Mapping  # a run, as its line of JSON: table, row, picture, seed, solved, sampled, ...
Cells = dict[tuple[str, str], list[Line]]  # the runs of each row and picture


class Origin(NamedTuple):
    """Where the numbers come from."""

    scale: str
    device: str
    commit: str
    date: str
    command: str


def solve_cell(lines: Sequence[Line], compared: LogRank | None) -> str:
    """Solved of all with Wilson's interval; median programs to solve with its interval; p."""
    solved = sum(bool(line["solved"]) for line in lines)
    low, high = wilson_interval(solved, len(lines))
    median = median_to_solve(runs_of(lines))
    budget = f"> {max(line['budget'] for line in lines):,}"
    words = budget
    if median.value is not None:
        ends = [budget if end is None else f"{end:,.0f}" for end in (median.low, median.high)]
        words = f"{median.value:,.0f} ({ends[0]} .. {ends[1]})"
    if compared is not None and compared.p < LEVEL:
        p = f"p {compared.p:.3f}" if compared.p >= 0.001 else "p < 0.001"
        words += f" {'▲' if compared.z > 0 else '▼'} {p}"
    return f"{solved}/{len(lines)} ({low:.2f} .. {high:.2f})<br>{words}"


def correct_cell(lines: Sequence[Line], compared: LogRank | None) -> str:
    """Programs that draw the picture among the samples of fixed weights, with Wilson's interval."""
    correct, samples = (sum(line[key] for line in lines) for key in ("correct", "samples"))
    low, high = (f"{100 * end:.2g}" for end in wilson_interval(correct, samples))
    return f"{correct:,}/{samples:,}<br>{low} .. {high} %"


class Cell(NamedTuple):
    """What a cell of the grid tells of its runs."""

    text: Callable[[Sequence[Line], LogRank | None], str]
    legend: str


SOLVES = Cell(
    solve_cell,
    "Each cell: seeds solved (Wilson's 95 % interval), then the Kaplan-Meier median of the programs"
    " sampled until solved (95 % interval of Brookmeyer and Crowley), or > budget.",
)
CORRECT = Cell(
    correct_cell,
    "Each cell: how many of the programs sampled draw the picture, then Wilson's 95 % interval of"
    " their share.",
)


class Shown(NamedTuple):
    """How the results of a table are shown."""

    name: str  # "table" of its lines
    title: str
    question: str
    rows: Sequence[str]  # in order
    pictures: Sequence[str]  # in order
    baseline: str | None = None  # the row that all others are compared with
    columns: Sequence[str] = ("distinct", "draws", "seconds", "run")  # numbers of a line, as means
    cell: Cell = SOLVES


def render(
    lines: Sequence[Line], shown: Shown, origin: Origin, figures: Sequence[tuple[str, str]] = ()
) -> str:
    """The page.

    Args:
      lines: of any tables.
      shown: the table.
      origin: where the numbers come from.
      figures: of each what it shows, and its file as seen from the page.

    Raises:
      ValueError: if a seed has two lines, or the baseline is no row.
    """
    cells = gather(lines, shown)
    compared = compare(cells, shown)
    parts = [f"# {shown.title}", shown.question, grid(cells, shown, compared)]
    parts.append(legend(shown, compared))
    if shown.columns:
        parts += [means(cells, shown), "Means over the runs of a picture, then over the pictures."]
    parts += [f"![{words}]({path})" for words, path in figures]
    parts.append(footer(lines, cells, shown, origin))
    return "\n\n".join(part for part in parts if part) + "\n"


def runs_of(lines: Sequence[Line]) -> Runs:
    """For the statistics: programs [n] and whether solved [n]."""
    return Runs([line["sampled"] for line in lines], [line["solved"] for line in lines])


def gather(lines: Sequence[Line], shown: Shown) -> Cells:
    """The runs of each row and picture that are shown and have any.

    Raises:
      ValueError: if a seed has two lines.
    """
    cells: Cells = {}
    for row in shown.rows:
        for picture in shown.pictures:
            key = (shown.name, row, picture)
            runs = [line for line in lines if place(line) == key]
            seeds = [line["seed"] for line in runs]
            if len(set(seeds)) < len(seeds):
                raise ValueError(f"{key}: a seed twice among {sorted(seeds)}")
            if runs:
                cells[row, picture] = runs
    return cells


def place(line: Line) -> tuple[str, str, str]:
    """Table, row and picture of a line."""
    return line["table"], line["row"], line["picture"]


def compare(cells: Cells, shown: Shown) -> dict[tuple[str, str], LogRank]:
    """Each row against the baseline on the same picture, p corrected for all of the table (Holm).

    Raises:
      ValueError: if the baseline is no row.
    """
    if shown.baseline is None:
        return {}
    if shown.baseline not in shown.rows:
        raise ValueError(f"the baseline {shown.baseline} is none of the rows {list(shown.rows)}")
    raw = {
        (row, picture): log_rank(runs_of(runs), runs_of(cells[shown.baseline, picture]))
        for (row, picture), runs in cells.items()
        if row != shown.baseline and (shown.baseline, picture) in cells
    }
    corrected = holm([test.p for test in raw.values()])
    return {key: test._replace(p=float(p)) for (key, test), p in zip(raw.items(), corrected)}


def grid(cells: Cells, shown: Shown, compared: Mapping[tuple[str, str], LogRank]) -> str:
    """Rows by pictures; pictures by rows if there are many of these."""
    text = {key: shown.cell.text(runs, compared.get(key)) for key, runs in cells.items()}
    names = [f"{row} (baseline)" if row == shown.baseline else row for row in shown.rows]
    body = [[text.get((row, p), NOT_RUN) for p in shown.pictures] for row in shown.rows]
    if len(shown.pictures) > max(MAX_COLUMNS, len(shown.rows)):
        turned = list(zip(*body))
        return pipe_table(["", *names], [[p, *line] for p, line in zip(shown.pictures, turned)])
    return pipe_table(["", *shown.pictures], [[name, *line] for name, line in zip(names, body)])


def means(cells: Cells, shown: Shown) -> str:
    """A row each: means of the columns over runs, then over pictures, each counting the same."""
    body = []
    for row in shown.rows:
        of_row = [cells[row, p] for p in shown.pictures if (row, p) in cells]
        name = row
        if 0 < len(of_row) < len(shown.pictures):
            name += f" ({len(of_row)} of {len(shown.pictures)} pictures)"
        empty = MISSING if of_row else NOT_RUN
        values = [mean_of(of_row, column) for column in shown.columns]
        body.append([name, *(empty if value is None else number(value) for value in values)])
    headings = [HEADINGS.get(column, column.replace("_", " ")) for column in shown.columns]
    return pipe_table(["", *headings], body)


def mean_of(of_row: Sequence[Sequence[Line]], column: str) -> float | None:
    """Over pictures of the means over runs; None if no run has the number."""
    values = [[run[column] for run in runs if run.get(column) is not None] for runs in of_row]
    each = [np.mean(of_picture) for of_picture in values if of_picture]
    return float(np.mean(each)) if each else None


def number(value: float) -> str:
    """With about three digits."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def legend(shown: Shown, compared: Mapping) -> str:
    """What a cell says."""
    if not compared:
        return shown.cell.legend
    return (
        f"{shown.cell.legend} ▲ faster, ▼ slower than {shown.baseline} on the same picture: p of"
        f" the log-rank test, by permutation, where below {LEVEL} after Holm's correction for the"
        f" {len(compared)} comparisons of this table."
    )


def footer(lines: Sequence[Line], cells: Cells, shown: Shown, origin: Origin) -> str:
    """Where the numbers come from, how many runs there are, and what is left out."""
    counts = [len(runs) for runs in cells.values()]
    seeds = sorted({min(counts, default=0), max(counts, default=0)})
    words = [
        f"Scale {origin.scale}, {origin.device}, commit {origin.commit}, {origin.date}."
        f" `{origin.command}`.",
        f"{sum(counts):,} runs, {' to '.join(map(str, seeds))} seeds a cell.",
    ]
    if shown.baseline is not None:
        words.append(f"Corrected for {len(compare(cells, shown))} comparisons.")
    keys = [place(line)[1:] for line in lines if line["table"] == shown.name]
    hidden = [key for key in keys if key not in cells]
    if hidden:
        others = sorted({row for row, _ in hidden} - {*shown.rows})
        others += sorted({picture for _, picture in hidden} - {*shown.pictures})
        words.append(f"{len(hidden):,} runs of others are not shown: {', '.join(others)}.")
    return " ".join(words)


def pipe_table(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Of Markdown, the first column to the left, the others centred."""
    rule = ["---", *[":-:"] * (len(header) - 1)]
    rows = [[cell.replace("|", "\\|") for cell in row] for row in (header, *body)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (rows[0], rule, *rows[1:]))
