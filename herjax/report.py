"""report.html: an adaptation as one file that opens from disk; nothing is loaded from elsewhere.

The page is ``report.html`` beside this module with the data put in as JSON.
"""

import html
import json
import pathlib

import jax
import numpy as np

from herjax.executor import draw_masks, execute
from herjax.her import EpochMetrics
from herjax.ops import COLOUR, END, OP
from herjax.palette import PALETTE
from herjax.picture_suite import Picture
from herjax.program_cache import call_kept
from herjax.source import format_program

_draw_masks = jax.jit(draw_masks, static_argnames=("rows", "cols"))


@jax.jit
def _execute(programs, input):
    return jax.vmap(execute, (0, None))(programs, input)


def make_report(
    title: str, picture: Picture, history: EpochMetrics, program: np.ndarray, about: dict
) -> str:
    """The page of one adaptation.

    Args:
      title: of the page.
      picture: input and target.
      history: of all epochs, stacked: NumPy arrays [E, ...].
      program: records [N, 6], the best found.
      about: what is shown as the configuration, JSON.
    """
    table = _Draws(picture.target.shape)
    epochs = []
    for epoch in range(len(history.accuracy)):
        programs, accuracy = history.program[epoch], history.accuracy[epoch]
        drawn = np.asarray(call_kept(_execute, programs, picture.input))
        length = (programs[..., OP] != END).sum(axis=1)
        shown = {}
        for i in np.lexsort((length, -accuracy)):  # the best first, of each picture the shortest
            shown.setdefault(drawn[i].tobytes(), i)
        epochs.append(
            {
                "accuracy": [round(1000 * float(a)) for a in accuracy],  # per mille
                "distinct": int(history.distinct[epoch]),
                "new": int(history.new[epoch]),
                "draws": round(float(history.draws[epoch]), 2),
                "tried": [
                    [_digits(drawn[i]), round(1000 * float(accuracy[i])), table.add(programs[i])]
                    for i in shown.values()
                ],
            }
        )
    data = {
        "title": title,
        "shape": picture.target.shape,
        "palette": PALETTE,
        "input": _digits(picture.input),
        "target": _digits(picture.target),
        "epochs": epochs,
        "final": format_program(program),
        "draws": table.rows(),
        "about": about,
    }
    page = pathlib.Path(__file__).with_suffix(".html").read_text()
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    return page.replace("{{TITLE}}", html.escape(title)).replace("{{DATA}}", text)


def make_overview(title: str, rows: list[dict]) -> str:
    """The page of a population: a table that links to the report of every member.

    Args:
      title: of the page.
      rows: what is shown, a column a key; ``link`` is where the first column leads.
    """
    columns = [name for name in rows[0] if name != "link"]
    head = "".join(f"<th>{html.escape(name)}" for name in columns)
    body = []
    for row in rows:
        cells = [html.escape(str(row[name])) for name in columns]
        cells[0] = f'<a href="{html.escape(row["link"], quote=True)}">{cells[0]}</a>'
        body.append("<tr>" + "".join(f"<td>{cell}" for cell in cells))
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_OVERVIEW_STYLE}</style>"
        f"<h1>{html.escape(title)}</h1><table><tr>{head}\n" + "\n".join(body) + "</table></html>\n"
    )


_OVERVIEW_STYLE = (
    ":root{color-scheme:light dark;font:16px/1.4 system-ui,sans-serif}"
    "body{margin:1rem auto;max-width:50rem;padding:0 1rem;overflow-x:auto}"
    "td,th{text-align:left;padding:.2rem .8rem .2rem 0}"
)


def _digits(picture: np.ndarray) -> str:
    return "".join(map(str, picture.ravel().tolist()))


class _Draws:
    """Every different draw once: its call, its colour, the cells it paints."""

    def __init__(self, shape: tuple[int, int]):
        self.shape = shape
        self.index: dict[tuple, int] = {}

    def add(self, program: np.ndarray) -> list[int]:
        """The places of a program's draws in the table."""
        draws = [tuple(record) for record in program.tolist() if record[OP] != END]
        return [self.index.setdefault(draw, len(self.index)) for draw in draws]

    def rows(self) -> list[list]:
        """``[call, colour, cells]``; cells as hexadecimal bits in reading order."""
        size = 1 << max(len(self.index) - 1, 1).bit_length()  # so that few shapes are compiled
        records = np.zeros((size, 6), np.int32)
        records[: len(self.index)] = list(self.index) or np.zeros((0, 6), int)
        rows, cols = self.shape
        masks = np.asarray(call_kept(_draw_masks, records, rows=rows, cols=cols))
        masks = masks.reshape(size, -1)
        calls = format_program(records).splitlines()[1:-1]
        return [
            [call.strip(), int(record[COLOUR]), np.packbits(mask).tobytes().hex()]
            for call, record, mask in zip(calls, records, masks)
        ]
