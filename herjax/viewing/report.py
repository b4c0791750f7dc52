"""report.html: an adaptation as one file that opens from disk; nothing is loaded from elsewhere.

The page is ``report.html`` beside this module, with ``report.js`` and the data as compressed JSON
put in. Programs and draws are in it once each, however often they occur; the page paints the
pictures.
"""

import base64
import gzip
import html
import json
import pathlib
import re
import sys
from collections.abc import Mapping

import numpy as np

from herjax._version import __version__
from herjax.dsl.ops import COLOUR, END, OP, SOURCE_OPS
from herjax.dsl.source import format_program, format_script
from herjax.learning.epoch import EpochMetrics
from herjax.tasks.metrics import least_draws
from herjax.tasks.palette import PALETTE
from herjax.tasks.suite import Picture
from herjax.viewing.story import STALLED, cells_drawn, epoch_rows, find_stall, missed_cells, stages

# What herjax repeats, and the method that it takes its name from; the pages link to both.
SOURCE = (
    "https://github.com/ironbar/arc25/blob/main/docs/modeling/"
    "Iteration_05_test_time_training_with_code_HER.md"
)
PAPER = "https://arxiv.org/abs/1707.01495"


def make_report(
    title: str,
    picture: Picture,
    history: EpochMetrics,
    program: np.ndarray,
    about: dict,
    sampled: int | None = None,
    kept: int = 0,
    facts: Mapping[str, str] | None = None,
    limit: int = sys.maxsize,
    overview: str | None = None,
    ops: int = SOURCE_OPS,
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
      facts: of this run, names and texts, such as ``seconds``, which also goes into the first line.
      limit: the most draws that a program may have, if that is known.
      overview: address of the page of all adaptations, if there is one.
      ops: calls that the decoder knows.
    """
    table = _Programs(picture.target.shape)
    waited = len(history.accuracy) - 1 - int(np.argmax(history.accuracy.max(axis=1)))
    missed = (missed_cells(picture, each) for each in history.program[-STALLED:])
    stall = find_stall(waited, missed, program, limit)
    data = {
        "title": title,
        "solved": bool((history.accuracy == 1).any()),
        "stall": stall and {"words": stall.words, "cells": stall.cells.ravel().tolist()},
        "shape": picture.target.shape,
        "palette": PALETTE,
        "input": _digits(picture.input),
        "target": _digits(picture.target),
        "epochs": [_epoch(history, e, table, sampled, kept) for e in range(len(history.program))],
        **_best(program, picture),
        "least": least_draws(picture.target, picture.input, ops),
        "picture": _digits(stages(program, picture.input)[-1]),
        "name": file_name(title),
        "programs": table.programs,
        "draws": table.draws(),
        # What JSON has no word for becomes text: the page must not fail for a setting.
        "about": json.loads(json.dumps(about, default=str), parse_constant=str),
    }
    folder = pathlib.Path(__file__).parent
    known = {
        "TITLE": escape(title),
        "SCRIPT": (folder / "report.js").read_text("utf-8"),
        "DATA": _packed(data),
        "OVERVIEW": _overview_link(overview),
        **fact_list(facts),
        **foot(),
    }
    return fill((folder / "report.html").read_text("utf-8"), known)


def with_program(page: str, program: np.ndarray, picture: Picture, before: int) -> str:
    """The page of an adaptation with another program of the same picture as the best one.

    Args:
      page: as from ``make_report``, or from this function.
      program: records [N, 6].
      picture: input and target.
      before: draws of the program that the adaptation found.

    Raises:
      ValueError: if the page is none that this version writes.
    """
    try:
        start, packed, end = re.split(r'(?<=<script type="text/plain" id="data">)([^<]*)', page)
        data = json.loads(gzip.decompress(base64.b64decode(packed)))
    except (ValueError, OSError):
        raise ValueError("report.html is not one that this version writes") from None
    return start + _packed({**data, **_best(program, picture), "before": before}) + end


def _best(program: np.ndarray, picture: Picture) -> dict:
    """What the page tells of the best program, records [N, 6]."""
    return {
        "final": format_program(program),
        "script": format_script(program, picture.input),
        "length": len(program),
    }


def fill(template: str, known: Mapping[str, str]) -> str:
    """A template with each ``{{NAME}}`` replaced, once: what is put in is not looked at again."""
    return re.sub(r"\{\{([A-Z_]+)\}\}", lambda found: known[found[1]], template)


def fact_list(facts: Mapping[str, str] | None) -> dict[str, str]:
    """What a template needs to tell of a run."""
    lines = "".join(_fact(*fact) for fact in (facts or {}).items())
    return {"FACTS": lines, "NO_FACTS": "" if facts else " hidden"}


def foot() -> dict[str, str]:
    """What a template needs to tell where it comes from."""
    return {"VERSION": __version__, "SOURCE": SOURCE, "PAPER": PAPER}


def escape(text: str) -> str:
    """Text as HTML, also in attributes; what has no UTF-8, as some names of files, as "?"."""
    return html.escape(text.encode(errors="replace").decode().replace("\0", "?"))


def _overview_link(address: str | None) -> str:
    if address is None:
        return ""
    return f'<nav><a href="{escape(address)}">All adaptations of this run</a></nav>'


def file_name(title: str) -> str:
    """A title as the name of a file, on any system."""
    return re.sub(r"[^0-9A-Za-z.-]+", "-", title).strip("-.")[:80] or "herjax"


def _packed(data: dict) -> str:
    """JSON, compressed, in characters that mean nothing to HTML; equal data, equal text."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def _fact(name: str, text: str) -> str:
    mark = ' id="seconds"' if name == "seconds" else ""
    return f"<dt>{escape(name)}</dt><dd{mark}>{escape(text)}</dd>"


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
