"""What a person looks at from Python: an adaptation's report, and pictures.

Nothing is printed or opened: both functions return an object that shows itself where it is the last
expression of a cell, and in an interactive Python.
"""

import dataclasses
import html
import os
import pathlib

import jax
import numpy as np
from numpy.typing import ArrayLike
from rich.console import Console
from rich.table import Table
from rich.text import Text

from herjax.learning.config import AdaptConfig
from herjax.learning.result import Result
from herjax.runtime.files import write_atomically
from herjax.tasks.palette import PALETTE, terminal_grid
from herjax.tasks.suite import Picture
from herjax.tasks.task import check_grid
from herjax.viewing.report import escape, make_report

FRAME_HEIGHT = 800  # CSS pixels, of a report in a notebook


@dataclasses.dataclass(frozen=True)
class Report:
    """The page of an adaptation, as from ``herjax.report``.

    Attributes:
      html: the whole page, which loads nothing from elsewhere.
      title: of the page.
      solved: whether the target was drawn.
      epochs: of the adaptation.
    """

    html: str = dataclasses.field(repr=False)
    title: str
    solved: bool
    epochs: int

    def save(self, path: str | os.PathLike) -> None:
        """Write the page into a file, in place of an earlier page.

        Args:
          path: ends in ``.html``; its folder is there.

        Raises:
          ValueError: if it does not end so, is a folder, or its folder is not there.
        """
        if not isinstance(path, str | os.PathLike) or isinstance(os.fspath(path), bytes):
            raise ValueError(f"path must be a string or a path, got {path!r}")
        path = pathlib.Path(path)
        if path.suffix.lower() not in (".html", ".htm") or "\0" in str(path):
            raise ValueError(f"path must end in .html, got {str(path)!r}")
        if path.is_dir():
            raise ValueError(f"path {str(path)!r} is a folder, give a file in it")
        if not path.parent.is_dir():
            raise ValueError(f"path {str(path)!r}: there is no folder {str(path.parent)!r}")
        write_atomically(path, self.html.encode())

    def _repr_html_(self) -> str:
        # A frame of its own: the page's styles and scripts stay apart from the notebook's.
        return (
            f'<iframe srcdoc="{html.escape(self.html)}" title="{escape(self.title)}"'
            ' sandbox="allow-scripts allow-downloads allow-popups"'
            f' style="width:100%;height:{FRAME_HEIGHT}px;border:0"></iframe>'
        )


def report(result: Result, *, title: str = "herjax: an adaptation") -> Report:
    """The page that ``her_adapt`` writes as ``report.html``, but for seconds, command and versions.

    Args:
      result: of ``herjax.adapt`` or ``herjax.adapt_population``.
      title: of the page.

    Returns:
      A ``Report``: in a notebook the last expression of a cell shows it, and ``.save("x.html")``
      writes it.

    Raises:
      ValueError: if ``result`` is no result, or has no history; if ``title`` is no string.
    """
    if not isinstance(result, Result):
        raise ValueError(f"result must be a Result, as from adapt, got {type(result).__name__}")
    if not isinstance(title, str):
        raise ValueError(f"title must be a string, got {title!r}")
    if not result.history:
        raise ValueError("result has no history: take it as adapt returns it")
    history = jax.tree.map(lambda *rows: np.stack(rows), *result.history)
    config = result.config
    page = make_report(
        title,
        Picture(np.asarray(result.task.input), np.asarray(result.task.target), result.program),
        history,
        result.program,
        _settings(config),
        sampled=config.sampled,
        kept=config.kept,
        limit=config.draws(result.task.target.size),
        ops=result.adapted.model.config.ops,
    )
    return Report(page, title, result.solved, len(result.history))


def _settings(config: AdaptConfig) -> dict:
    """By name; a function by its own."""
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    return {name: getattr(value, "__name__", value) for name, value in values.items()}


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Shown:
    """Pictures side by side, as from ``herjax.show``.

    Attributes:
      pictures: each int8 [R, C].
      titles: of the pictures.
    """

    pictures: tuple[np.ndarray, ...]
    titles: tuple[str, ...]

    def __repr__(self) -> str:
        """Coloured blocks where the terminal has colours, else digits."""
        widths = [max(2 * p.shape[1], len(t)) for p, t in zip(self.pictures, self.titles)]
        beside = sum(widths) + 3 * (len(widths) - 1)
        console = Console(highlight=False, force_jupyter=False)  # or it shows itself there
        rows = [range(len(widths))]
        if beside > console.width:  # then below each other
            rows = [range(i, i + 1) for i in range(len(widths))]
        console.width = max(console.width, *widths)  # a line is never broken
        with console.capture() as capture:
            for row in rows:
                console.print(self._line(row))
        return capture.get().rstrip("\n")

    def _line(self, places: range) -> Table:
        table = Table.grid(padding=(0, 3))
        if any(self.titles):
            table.add_row(*(Text(self.titles[i]) for i in places))
        table.add_row(*(terminal_grid(self.pictures[i]) for i in places))
        return table

    def _repr_svg_(self) -> str:
        top = TITLE_HEIGHT if any(self.titles) else 1
        height = top + CELL * max(len(picture) for picture in self.pictures) + 1
        parts, left = [], 1
        for picture, title in zip(self.pictures, self.titles):
            width = CELL * picture.shape[1]
            words = escape(title)
            parts.append(f'<g transform="translate({left} {top})" shape-rendering="crispEdges">')
            if title:
                parts.append(f'<text y="-6" font-size="13">{words}</text>')
            parts += _cells(picture)
            parts.append("</g>")
            left += max(width, 7 * len(title)) + GAP
        name = escape(", ".join(filter(None, self.titles)) or "picture")
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{left - GAP + 1}" height="{height}"'
            f' role="img" aria-label="{name}" font-family="sans-serif" fill="#808080">'
            f"<title>{name}</title>{''.join(parts)}</svg>"
        )


CELL, GAP, TITLE_HEIGHT = 16, 24, 22  # pixels


def _cells(picture: np.ndarray) -> list[str]:
    """Runs of one colour, then the borders of all cells."""
    rows, cols = picture.shape
    parts = []
    for r, row in enumerate(picture.tolist()):
        starts = [c for c in range(cols) if c == 0 or row[c] != row[c - 1]]
        for c, end in zip(starts, [*starts[1:], cols]):
            parts.append(
                f'<rect x="{CELL * c}" y="{CELL * r}" width="{CELL * (end - c)}" height="{CELL}"'
                f' fill="{PALETTE[row[c]]}"/>'
            )
    lines = [f"M0 {CELL * r}h{CELL * cols}" for r in range(rows + 1)]
    lines += [f"M{CELL * c} 0v{CELL * rows}" for c in range(cols + 1)]
    parts.append(f'<path d="{"".join(lines)}" stroke="#555" stroke-width="1" fill="none"/>')
    return parts


def show(*pictures: ArrayLike | Picture, titles: str | tuple[str, ...] | list[str] = ()) -> Shown:
    """Pictures side by side: in colours in a notebook, as blocks of colour in a terminal.

    Args:
      pictures: one or more, each integers [R, C], colours 0 .. 9, or a ``Picture``; of any shapes.
      titles: one for each picture; none by default. For one picture a string will do.

    Returns:
      An object that shows itself as the last expression of a cell, or by ``print``.

    Raises:
      ValueError: if a picture is malformed, there is none, or not one title for each.
    """
    if not pictures:
        raise ValueError("show needs at least one picture, got none")
    single = len(pictures) == 1
    checked = [
        check_grid(
            picture.target if isinstance(picture, Picture) else picture,
            "picture" if single else f"picture {i}",
        )
        for i, picture in enumerate(pictures, start=1)
    ]
    titles = (titles,) if isinstance(titles, str) else titles
    if not isinstance(titles, tuple | list) or not all(isinstance(t, str) for t in titles):
        raise ValueError(f"titles must be strings, got {titles!r}")
    if titles and len(titles) != len(pictures):
        raise ValueError(f"titles: {len(titles)} for {len(pictures)} pictures, give one for each")
    return Shown(tuple(checked), tuple(titles) or ("",) * len(pictures))
