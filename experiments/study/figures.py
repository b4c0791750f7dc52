"""Figures of the study: lines of runs or arrays in, a figure out, and of it an SVG."""

import io
import math
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
import matplotlib.backends.backend_svg  # what saving needs, so that importing this is enough
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from experiments.study.report import Line, Shown, gather, runs_of
from herjax.runtime.files import write_atomically
from herjax.stats import unsolved_share
from herjax.viewing.plotting import density, spread

# After Wong (2011, doi 10.1038/nmeth.1618), for any colour vision; darker, so that names in these
# colours can be read on white. Neighbours differ in the style, too.
COLOURS = ("#000000", "#0072B2", "#C65300", "#00805D", "#B5538A", "#5C3A00")
STYLES = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)))
INK = "#222222"
PANEL = (3.4, 2.5)  # inches, of one picture
ACROSS = 2  # panels: as wide as a page
FONT = 8  # points
MOST_RIDGES = 24  # more are not readable, and a heavy file


class Look(NamedTuple):
    """Of a row, the same in each panel and figure of a table."""

    color: str
    linestyle: object
    linewidth: float


def looks(shown: Shown) -> dict[str, Look]:
    """Of each row; the baseline, if any, is the black one, solid and heavier."""
    rows = [row for row in shown.rows if row != shown.baseline]
    first = 0 if shown.baseline is None else 1
    places = {row: first + i for i, row in enumerate(rows)}
    both = math.lcm(len(COLOURS), len(STYLES))  # after so many the styles are shifted by one
    found = {
        row: Look(COLOURS[i % len(COLOURS)], STYLES[(i + i // both) % len(STYLES)], 1.4)
        for row, i in places.items()
    }
    if shown.baseline is not None:
        found[shown.baseline] = Look(COLOURS[0], "-", 2.2)
    return found


# ---- Share solved -------------------------------------------------------------------------------


def share_solved(lines: Sequence[Line], shown: Shown, rows: Sequence[str] | None = None) -> Figure:
    """Share solved (1 - Kaplan-Meier) against programs sampled, with 95 % bands.

    A panel a picture, a line a row, each as far as its budget; names stand in the order of the
    shares at the ends, of equal ones the faster on top.

    Args:
      lines: of any tables.
      shown: the table.
      rows: those to show, out of the table's; all of them by default. Bands of more than five
        are hard to tell apart.
    """
    cells, look = gather(lines, shown), looks(shown)
    figure, panels = panels_of(shown)
    for axes, picture in panels:
        of_rows = {
            row: cells[row, picture] for row in rows or shown.rows if (row, picture) in cells
        }
        runs = [run for row in of_rows.values() for run in row]
        first = min((run["sampled"] for run in runs), default=2) / 2
        scale_programs(axes, first, max((run["budget"] for run in runs), default=2))
        axes.set_ylim(-0.03, 1.03)
        ends = {row: draw_share(axes, of_row, first, look[row]) for row, of_row in of_rows.items()}
        points = {row: end[:2] for row, end in ends.items()}
        label_ends(axes, points, look, {row: end[2] for row, end in ends.items()})
    name_axes(figure, "programs sampled", "share of seeds solved")
    return figure


def scale_programs(axes: Axes, first: float, last: float) -> None:
    """Logarithmic, with numbers in full, 3, 30, 300 too where there is room."""
    axes.set_xscale("log", subs=[])
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 3) if last / first < 300 else (1,)))
    axes.xaxis.set_major_formatter(lambda programs, _: f"{programs:,.0f}")
    axes.set_xlim(first, last)


def draw_share(
    axes: Axes, lines: Sequence[Line], first: float, look: Look
) -> tuple[float, float, float]:
    """The line and the band of a row.

    Args:
      axes: with logarithmic programs.
      lines: the runs of the row.
      first: programs at which to begin, for 0 has no place there.
      look: of the row.

    Returns:
      Where the line ends, (programs, share), and the mean share over all of it.
    """
    curve = unsolved_share(runs_of(lines))
    times = np.maximum(curve.times, first)
    shares = [1 - part for part in (curve.share, curve.low, curve.high)]
    budget = max(line["budget"] for line in lines)
    if curve.share[-1] == 0 and budget > times[-1]:  # what is solved remains so
        times = np.append(times, budget)
        shares = [np.append(part, part[-1]) for part in shares]
    axes.step(times, shares[0], where="post", **look._asdict())
    low, high = shares[1:]
    axes.fill_between(times, low, high, step="post", color=look.color, alpha=0.09, linewidth=0)
    mean = np.sum(shares[0][:-1] * np.diff(np.log(times))) / np.log(times[-1] / first)
    return times[-1], shares[0][-1], mean


# ---- Draws over epochs --------------------------------------------------------------------------


def draws_over_epochs(lines: Sequence[Line], shown: Shown, rows: Sequence[str]) -> Figure:
    """Mean draws of an epoch's programs over epochs, a panel a picture.

    Thin lines are runs; the thick one is their mean while more than half of them go on, since the
    last to be solved are not like all.

    Args:
      lines: of any tables; "length" has a number an epoch.
      shown: the table.
      rows: those to show, out of the table's.
    """
    cells, look = gather(lines, shown), looks(shown)
    figure, panels = panels_of(shown)
    for axes, picture in panels:
        ends: dict[str, tuple[float, float]] = {}
        for row in rows:
            lengths = [line["length"] for line in cells.get((row, picture), []) if line["length"]]
            for length in lengths:
                epochs, colour = np.arange(1, len(length) + 1), look[row].color
                axes.plot(epochs, length, color=colour, alpha=0.25, linewidth=0.5, rasterized=True)
            if lengths:
                mean = mean_while_most_go_on(lengths)
                axes.plot(np.arange(1, len(mean) + 1), mean, **look[row]._asdict())
                axes.plot(len(mean), mean[-1], "o", color=look[row].color, markersize=3)
                ends[row] = (len(mean), mean[-1])
        axes.set_ylim(0)
        axes.set_xlim(1, max(axes.dataLim.x1, 2))
        label_ends(axes, ends, look, {row: end[1] for row, end in ends.items()})
    name_axes(figure, "epoch", "draws a program")
    return figure


def mean_while_most_go_on(lengths: Sequence[Sequence[float]]) -> np.ndarray:
    """Mean over runs at each epoch, of those that got so far, while these are more than half."""
    epochs = sorted(map(len, lengths), reverse=True)[len(lengths) // 2]
    return np.array([np.mean([one[e] for one in lengths if len(one) > e]) for e in range(epochs)])


# ---- Ridges -------------------------------------------------------------------------------------


def ridges(ours: np.ndarray, rival: np.ndarray, names: tuple[str, str]) -> Figure:
    """Density of the accuracy of an epoch's programs, hindsight beside a rival.

    An epoch is a ridge, the first on top, on the same height for both; if there are many, some
    are left out of both alike.

    Args:
      ours: accuracies as fractions [epochs, programs].
      rival: likewise; neither size need be the same.
      names: of the two.
    """
    epochs = max(len(ours), len(rival))
    lasts = [len(accuracies) - 1 for accuracies in (ours, rival)]
    chosen = np.union1d(spread(epochs, MOST_RIDGES - 1), lasts)
    figure = Figure(
        figsize=(7.2, 1.2 + 0.22 * len(chosen)), layout="constrained", facecolor="white"
    )
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    for axes, accuracies, name, colour in zip(panels, (ours, rival), names, COLOURS[1:]):
        for level, epoch in enumerate(chosen):
            if epoch < len(accuracies):
                x, height = density(accuracies[epoch])
                x, y = 100 * x, 1.8 * height - level
                axes.fill_between(x, -level, y, color=colour, alpha=0.8, zorder=level)
                axes.plot(x, y, color="white", linewidth=0.8, zorder=level)
        for artist in (*axes.collections, *axes.lines):
            artist.set_rasterized(True)  # 400 points a ridge are a heavy file
        axes.set_title(f"{name}, {len(accuracies)} epochs", fontsize=FONT + 1, color=INK)
        axes.set_yticks(-np.arange(len(chosen)), [str(epoch + 1) for epoch in chosen])
        axes.set_xlim(0, 100.5)
        axes.grid(axis="x", color="#cccccc", linewidth=0.5)
        axes.set_axisbelow(True)
        axes.tick_params(labelsize=FONT, colors=INK)
    name_axes(figure, "pixels right, %", "epoch")
    return figure


# ---- Common parts -------------------------------------------------------------------------------


def panels_of(shown: Shown) -> tuple[Figure, list[tuple[Axes, str]]]:
    """A figure, and of each picture its panel."""
    across = min(len(shown.pictures), ACROSS)
    down = -(-len(shown.pictures) // across)
    size = (PANEL[0] * across, PANEL[1] * down + 0.3)
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    grid = figure.subplots(down, across, squeeze=False).ravel()
    for axes in grid[len(shown.pictures) :]:
        axes.axis("off")
    panels = list(zip(grid, shown.pictures))
    for axes, picture in panels:
        axes.set_title(picture, fontsize=FONT + 1, color=INK)
        axes.tick_params(labelsize=FONT, colors=INK)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#dddddd", linewidth=0.5)
        axes.set_axisbelow(True)
    return figure, panels


def name_axes(figure: Figure, x: str, y: str) -> None:
    """Once for all panels."""
    figure.supxlabel(x, fontsize=FONT + 1, color=INK)
    figure.supylabel(y, fontsize=FONT + 1, color=INK)


def label_ends(
    axes: Axes, ends: dict[str, tuple[float, float]], look: dict[str, Look], order: dict
) -> None:
    """The names to the right of a panel, led to from the ends of their lines.

    Args:
      axes: the panel, its limits set.
      ends: of each line its last point.
      look: of each row.
      order: of each, what the names are sorted by where the ends are equally high.
    """
    bottom, top = axes.get_ylim()
    names = sorted(ends, key=lambda name: (ends[name][1], order[name]))
    heights = apart([(ends[name][1] - bottom) / (top - bottom) for name in names], LABEL_HEIGHT)
    for name, height in zip(names, heights):
        colour = look[name].color
        axes.annotate(
            name,
            xy=ends[name],
            xytext=(1.06, height),
            textcoords="axes fraction",
            fontsize=FONT,
            color=colour,
            verticalalignment="center",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "relpos": (0, 0.5),  # to the beginning of the name
                "linewidth": 0.7,
                "color": colour,
                "linestyle": ":",
            },
        )


LABEL_HEIGHT = 0.08  # of a panel


def apart(heights: Sequence[float], least: float) -> np.ndarray:
    """Rising heights moved as little as needed to be ``least`` apart and within 0 .. 1.

    If there is no room for that they are spread evenly.
    """
    count = len(heights)
    if (count - 1) * least >= 1:
        return np.linspace(0, 1, count)
    steps = least * np.arange(count)
    # Without their steps the heights need only not fall: means of those before and behind.
    free = np.asarray(heights, float) - steps
    rising = (np.maximum.accumulate(free) + np.minimum.accumulate(free[::-1])[::-1]) / 2
    return np.clip(rising, 0, 1 - least * (count - 1)) + steps


def save(figure: Figure, path: pathlib.Path) -> None:
    """Write an SVG, atomically; equal figures are equal files."""
    data = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "herjax"}):
        figure.savefig(data, format="svg", dpi=150, metadata={"Date": None, "Creator": None})
    write_atomically(path, data.getvalue())
