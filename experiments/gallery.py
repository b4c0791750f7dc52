"""The gallery, docs/gallery.md: python -m experiments.gallery runs/emoji16 runs/emoji20

Reads what her_adapt --task=emoji16, emoji20 and emoji30 leave in the folders, and writes the page,
its pictures and the strip of the README, docs/emoji.gif. Nothing is adapted: what has not ended
there is "not run yet", so the same command brings the page up to date while the runs go on.
"""

import datetime
import io
import pathlib
import statistics
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from absl import flags
from PIL import Image

from experiments.make_emoji import GROUPS
from herjax.commands import cli
from herjax.commands.results import RESULT, read_result
from herjax.dsl.source import ProgramError, parse_program
from herjax.runtime.files import CheckpointError, write_atomically
from herjax.stats import percent, wilson_interval
from herjax.tasks.palette import PALETTE
from herjax.tasks.suite import EMOJI_SIDES, emoji_grids, emoji_task
from herjax.viewing.story import stages

DOCS = flags.DEFINE_string("docs", "docs", "Folder of gallery.md, gallery/ and emoji.gif.")
CELL = {16: 5, 20: 4, 30: 3}  # pixels a cell, so that all sizes look about alike
STRIP, GAP = 10, 8  # emoji of the strip, pixels between them
FRAMES, WHOLE, EACH = 48, 3000, 120  # of the strip; milliseconds of the first, of the others

HEAD = """# Gallery

A hundred emoji of Noto Color Emoji (SIL Open Font License 1.1: herjax/tasks/emoji-LICENSE.txt) in
ten colours, each drawn by a program that the decoder taught itself to write, on a blank canvas.
Below each: draws of the program, programs sampled until it was found, and seconds without
compiling, beside whatever else the machine did. One seed each.
"""
FOOT = """## Make it again

```sh
{runs}
python -m experiments.gallery {folders}
```

The last one writes this page from what the runs have finished so far. One emoji alone is
`--task=emoji:rocket`, `--task=emoji16:rocket` or `--task=emoji30:rocket`.
"""


class Drawing(NamedTuple):
    """What an adaptation to an emoji has left."""

    result: dict  # of result.json
    stages: list[np.ndarray]  # the canvas before the first draw and after each, int [side, side]
    date: datetime.date  # when it ended


def find_drawings(folders: Iterable[pathlib.Path]) -> dict[tuple[str, int], Drawing]:
    """By name and side, the drawings of the least seed below some folders.

    Raises:
      CheckpointError: if there is none below a folder, or if one is damaged or of another picture.
    """
    grids = {side: emoji_grids(side) for side in EMOJI_SIDES}
    known = {emoji_task(name, side): (name, side) for side in EMOJI_SIDES for name in grids[side]}
    found: dict[tuple[str, int], Drawing] = {}
    for folder in folders:
        mine = 0
        for path in sorted(folder.rglob(RESULT)):
            result = read_result(path.parent)
            if result["task"] not in known:
                continue
            name, side = known[result["task"]]
            drawing, mine = read_drawing(path, result, grids[side][name]), mine + 1
            if (name, side) not in found or result["seed"] < found[name, side].result["seed"]:
                found[name, side] = drawing
        if not mine:
            raise CheckpointError(f"{folder} has no emoji: her_adapt --task=emoji --workdir=...")
    return found


def read_drawing(path: pathlib.Path, result: dict, target: np.ndarray) -> Drawing:
    """What the solution.py beside a result.json draws.

    Raises:
      CheckpointError: if that is not what the result says.
    """
    blank = np.zeros_like(target)
    try:
        program = parse_program((path.parent / "solution.py").read_text("utf-8"), *target.shape)
    except (OSError, ProgramError, UnicodeDecodeError) as error:
        raise CheckpointError(f"damaged {path.parent}: {error}") from None
    drawn = stages(program, blank)
    right = float((drawn[-1] == target).mean())
    if abs(right - max(result["best_accuracy"])) > 1e-6 or len(program) != result["draws"]:
        raise CheckpointError(f"{path.parent} is of another {result['task']} than that of today")
    return Drawing(result, drawn, datetime.date.fromtimestamp(path.stat().st_mtime))


def make_page(drawings: dict[tuple[str, int], Drawing]) -> str:
    """docs/gallery.md."""
    lines = [HEAD, *summary_table(drawings), ""]
    for group, emoji in GROUPS.items():
        sizes = [f"{side}x{side}" for side in EMOJI_SIDES]
        lines += [f"## {group}", "", f"| | {' | '.join(sizes)} |", "|---|---|---|---|"]
        for name in emoji:
            cells = [table_cell(name, side, drawings.get((name, side))) for side in EMOJI_SIDES]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        lines.append("")
    names = [f"emoji{side}" for side in EMOJI_SIDES]
    runs = "\n".join(
        f"python -m experiments.her_adapt --task={name} --max_epochs=341 --workdir=runs/{name}"
        for name in names
    )
    folders = " ".join(f"runs/{name}" for name in names)
    return "\n".join([*lines, FOOT.format(runs=runs, folders=folders)])


def summary_table(drawings: dict[tuple[str, int], Drawing]) -> list[str]:
    """A row for each size, and what the runs were made with."""
    columns = "solved | Wilson 95 % | programs sampled | draws | seconds | not run yet"
    lines = [f"| | {columns} |", f"{7 * '|---'}|"]
    for side in EMOJI_SIDES:
        results = [each.result for (_, its), each in drawings.items() if its == side]
        missing = sum(map(len, GROUPS.values())) - len(results)
        done = [result for result in results if result["solved"]]
        row = ["", "", "", "", ""]
        if results:
            low, high = wilson_interval(len(done), len(results))
            row[:2] = [f"{len(done)} of {len(results)}", f"{low:.2f} .. {high:.2f}"]
        if done:
            row[2:] = [
                spread([result["programs_sampled"] for result in done]),
                spread([result["draws"] for result in done]),
                spread([result["seconds_run"] for result in done], 1),
            ]
        lines.append(f"| {side}x{side} | {' | '.join(row)} | {missing} |")
    told = {
        f"{each.result['device']}, JAX {each.result['versions']['jax']}"
        for each in drawings.values()
    }
    until = max(each.date for each in drawings.values())
    medians = "Medians of the solved ones, and in brackets the least and the most."
    return [*lines, "", medians, f"Made on: {'; '.join(sorted(told))}, until {until}."]


def spread(values: list[float], decimals: int = 0) -> str:
    """Median, least and most; a median between two integers as it is."""
    middle = statistics.median(values)
    more = 1 if middle % 1 else 0
    ends = (f"{value:,.{decimals}f}" for value in (min(values), max(values)))
    return f"{middle:,.{max(decimals, more)}f} ({' .. '.join(ends)})"


def table_cell(name: str, side: int, drawing: Drawing | None) -> str:
    """An emoji in one size: what was drawn, and the numbers."""
    if drawing is None:
        return "not run yet"
    result = drawing.result
    if result["solved"]:
        draws = f"{result['draws']} draw{'s' * (result['draws'] != 1)}"
        words = f"{draws}, {result['programs_sampled']:,} programs, {result['seconds_run']:.1f} s"
    else:
        right = percent(max(result["best_accuracy"]))
        words = f"not solved: {right} right after {result['programs_sampled']:,} programs"
    return f"![{name}, {side}x{side}]({picture_name(name, side)})<br>{words}"


def picture_name(name: str, side: int) -> str:
    """Of the file, beside the page."""
    return f"gallery/{name}-{side}x{side}.png"


def as_image(picture: np.ndarray, cell: int) -> Image.Image:
    """A picture [R, C], ``cell`` pixels a cell; 10 is white."""
    image = Image.fromarray(np.asarray(picture, np.uint8).repeat(cell, 0).repeat(cell, 1))
    image.putpalette(b"".join(bytes.fromhex(colour[1:]) for colour in PALETTE))
    return image


def encoded(image: Image.Image, kind: str, **save: object) -> bytes:
    """The bytes of an image file."""
    data = io.BytesIO()
    image.save(data, kind, optimize=True, **save)
    return data.getvalue()


def make_strip(drawings: dict[tuple[str, int], Drawing]) -> bytes | None:
    """A GIF of up to ten emoji that draw themselves, of the size that most are solved in.

    They are spread evenly over the solved ones. None if none is.
    """
    solved = {
        side: [
            drawings[name, side].stages
            for group in GROUPS.values()
            for name in group
            if (name, side) in drawings and drawings[name, side].result["solved"]
        ]
        for side in EMOJI_SIDES
    }
    side = max(EMOJI_SIDES, key=lambda side: (min(len(solved[side]), STRIP), side))
    if not solved[side]:
        return None
    places = np.linspace(0, len(solved[side]) - 1, min(STRIP, len(solved[side])))
    chosen = [solved[side][int(place)] for place in places]
    cell = CELL[side]
    gap = np.full((side * cell, GAP), 10)
    frames = []
    for share in (1, *np.linspace(0, 1, FRAMES)[:-1]):  # where nothing moves, the first is seen
        now = [each[round(share * (len(each) - 1))] for each in chosen]
        parts = [part for each in now for part in (gap, each.repeat(cell, 0).repeat(cell, 1))]
        frames.append(as_image(np.hstack(parts[1:]), 1))
    durations = [WHOLE] + [EACH] * (FRAMES - 1)
    more = {"save_all": True, "append_images": frames[1:], "duration": durations, "loop": 0}
    return encoded(frames[0], "GIF", **more)


def main(arguments):
    """Write page, pictures and strip from the folders that the command line names."""
    if len(arguments) < 2:
        raise ValueError("give folders of runs: python -m experiments.gallery runs/emoji16 ...")
    drawings = find_drawings(map(pathlib.Path, arguments[1:]))
    docs = pathlib.Path(DOCS.value)
    (docs / "gallery").mkdir(parents=True, exist_ok=True)
    for (name, side), drawing in drawings.items():
        image = as_image(drawing.stages[-1], CELL[side])
        write_atomically(docs / picture_name(name, side), encoded(image, "PNG"))
    strip = make_strip(drawings)
    if strip is not None:
        write_atomically(docs / "emoji.gif", strip)
    write_atomically(docs / "gallery.md", make_page(drawings).encode())
    cli.say(f"{docs}/gallery.md has {len(drawings)} drawings")


if __name__ == "__main__":
    cli.run(main, positional=True)
