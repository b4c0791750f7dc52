"""Figures, in NumPy and Pillow."""

import io
import math
import pathlib
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from herjax.runtime.files import write_atomically
from herjax.stats import percent
from herjax.tasks.palette import PALETTE

# ---- Pictures -----------------------------------------------------------------------------------

PANEL, SMALL_PANEL = 200, 160  # pixels, of a picture's longer side; in rows of more than six
MARGIN = 12  # pixels
MAX_PICTURES = 59  # of best_predictions; more are not readable
GREYS = 16  # from paper to ink, after the ten colours and paper, so that words have smooth edges
BORDER = len(PALETTE) + 10  # the grey between cells


def best_predictions(
    path: pathlib.Path, target: np.ndarray, pictures: Sequence[np.ndarray], words: Sequence[str]
) -> None:
    """The pictures (59 spread evenly, if there are more), then the target.

    Args:
      path: PNG to write.
      target: [R, C].
      pictures: each [R, C], such as the best of each epoch.
      words: what stands above each.
    """
    shown = spread(len(pictures), MAX_PICTURES)
    columns = min(len(shown) + 1, 10)
    panels = [*(pictures[place] for place in shown), target]
    texts = [*(words[place] for place in shown), "target"]
    image = draw_panels(panels, texts, columns, SMALL_PANEL if columns > 6 else PANEL, borders=True)
    save(image, path)


def spread(count: int, most: int) -> np.ndarray:
    """Of ``count`` places at most ``most``, evenly spread, the first and the last included."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))


def animation(
    path: pathlib.Path,
    target: np.ndarray,
    pictures: Sequence[np.ndarray],
    words: Sequence[str],
    milliseconds: Sequence[int],
) -> None:
    """A GIF of the target, and beside it one picture after the other, words above both.

    Args:
      path: GIF to write.
      target: [R, C].
      pictures: each [R, C].
      words: two lines for each.
      milliseconds: that each stays.
    """
    about = f"target\n{target.shape[0]} x {target.shape[1]} cells"
    frames = [draw_panels((target, each), (about, text), 2) for each, text in zip(pictures, words)]
    times = list(milliseconds)
    save(frames[0], path, save_all=True, append_images=frames[1:], duration=times, loop=0)


def cell_size(shape: tuple[int, ...], side: int = PANEL) -> int:
    """Pixels of a cell of a picture whose longer side has about so many."""
    return max(side // max(shape), 4)


def header_height(words: Sequence[str]) -> int:
    """Pixels above a picture, for the lines of its words."""
    return 10 + 17 * max(text.count("\n") + 1 for text in words)


def draw_panels(
    pictures: Sequence[np.ndarray],
    words: Sequence[str],
    columns: int,
    side: int = PANEL,
    borders: bool = False,
) -> Image.Image:
    """Pictures of one shape in rows of so many, words above each; an image with a palette."""
    cell, header = cell_size(pictures[0].shape, side), header_height(words)
    height, width = (cell * cells for cells in pictures[0].shape)
    pitch = header + height + MARGIN, max(width, side) + MARGIN  # as wide as the words need
    rows = -(-len(pictures) // columns)
    canvas = np.full((pitch[0] * rows, pitch[1] * columns + MARGIN), 10, np.uint8)
    ink = Image.new("L", canvas.shape[::-1])
    pen = ImageDraw.Draw(ink)
    for place, (picture, text) in enumerate(zip(pictures, words)):
        row, column = divmod(place, columns)
        top, left = pitch[0] * row, MARGIN + pitch[1] * column
        panel = canvas[top + header :, left:][:height, :width]
        panel[:] = np.kron(picture, np.ones((cell, cell), np.uint8))
        if borders:
            panel[::cell] = panel[:, ::cell] = panel[-1] = panel[:, -1] = BORDER
        pen.text((left, top + 4), text, fill=255, font=words_font())
    grey = np.asarray(ink) // (256 // GREYS)
    image = Image.fromarray(np.where(grey > 0, len(PALETTE) + grey, canvas))
    grid = [bytes.fromhex(colour[1:]) for colour in PALETTE]
    greys = [bytes([255 - 255 * i // (GREYS - 1)]) * 3 for i in range(GREYS)]
    image.putpalette(b"".join(grid + greys))
    return image


@cache
def words_font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The one that Pillow brings along: the same on every machine."""
    return ImageFont.load_default(14)


# ---- Accuracies ---------------------------------------------------------------------------------

ATTEMPTS, CHILDREN = "#0067c0", "#e07b1a"
LEFT, AXIS, RIGHT = 66, 684, 20  # pixels: before the axis, its length, and behind it
HEAD, TALLEST, FOOT = 40, 3000, 55  # pixels: above the ridges, most of them, and below
SMOOTH = 3  # edges are drawn so many times as large


def accuracy_distribution(
    path: pathlib.Path, accuracies: Sequence[tuple[np.ndarray, np.ndarray]]
) -> None:
    """Ridge plot of the pixel accuracy of all programs, an epoch a ridge, the first on top.

    Up to five epochs also show each program, as a stroke below its ridge.

    Args:
      path: PNG to write.
      accuracies: of each epoch, fractions: of the attempts [G], and of the children, any number.
    """
    epochs = len(accuracies)
    few = epochs <= 5
    pitch = 143 if few else min(38, TALLEST / epochs)  # pixels from one ridge to the next
    peak = (0.7 if few else 1.8) * pitch  # many ridges overlap, few have room
    first = HEAD + peak + 20
    floor = first + pitch * (epochs - 1) + (40 if few else 12)
    image = Image.new("RGB", (LEFT + AXIS + RIGHT, round(floor) + FOOT), "white")
    pen, font = ImageDraw.Draw(image), words_font()
    for right in range(0, 101, 20):
        x = LEFT + AXIS * right / 100
        pen.line([(x, HEAD), (x, floor + 5)], "#cccccc")
        pen.text((x, floor + 9), f"{right}", "black", font, "mt")
    for epoch, parts in enumerate(accuracies):
        base = first + pitch * epoch
        for place, (values, colour) in enumerate(zip(parts, (ATTEMPTS, CHILDREN))):
            if not len(values):
                continue
            draw_ridge(image, values, colour, base, peak)
            if few:
                draw_strokes(image, values, colour, base + 7 + 13 * place)
                best = f"best {('attempt', 'child')[place]} {percent(values.max())}"
                pen.text((LEFT + 8, base - peak + 26 * place), best, colour, font, "lm")
        pen.line([(LEFT, base), (LEFT + AXIS, base)], "#bbbbbb")
        if epoch % max(epochs // 30, 1) == 0:
            pen.line([(LEFT - 5, base), (LEFT, base)], "black")
            pen.text((LEFT - 9, base), f"{epoch + 1}", "black", font, "rm")
    pen.rectangle([LEFT, HEAD, LEFT + AXIS + 4, floor], outline="black")
    pen.text((LEFT + AXIS / 2, floor + 30), "pixels right, %", "black", font, "mt")
    pen.text((LEFT - 9, HEAD), "epoch", "black", font, "rm")
    pen.text((LEFT, 10), "attempts: sampled", ATTEMPTS, font)
    if any(len(children) for _, children in accuracies):
        words = "children: with draws of others, without needless ones"
        pen.text((LEFT + AXIS, 10), words, CHILDREN, font, "ra")
    save(image, path)


def draw_ridge(
    image: Image.Image, values: np.ndarray, colour: str, base: float, peak: float
) -> None:
    """The density of fractions above ``base``; its top is always as high."""
    x, height = density(values)
    line = list(zip(LEFT + AXIS * x, base - peak * height))
    paint(image, colour, [[(LEFT, base), *line, (LEFT + AXIS, base)]], opacity=0.65)
    paint(image, "white", [line], width=1.2)


def density(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of fractions: places 0 .. 1, and how dense they are there, smoothed by 0.015, at most 1."""
    x = np.linspace(0, 1, 401)
    height = np.exp(-0.5 * ((x[:, None] - values) / 0.015) ** 2).mean(axis=1)
    return x, height / max(height.max(), 1e-9)


def draw_strokes(image: Image.Image, values: np.ndarray, colour: str, top: float) -> None:
    """A stroke for each fraction."""
    places = LEFT + AXIS * values
    paint(image, colour, [[(x, top), (x, top + 10)] for x in places], width=1.5)


def paint(
    image: Image.Image,
    colour: str,
    shapes: Sequence[Sequence[Sequence[float]]],
    width: float = 0.0,
    opacity: float = 1.0,
) -> None:
    """Polygons of points (x, y), in pixels; with a width, lines. Their edges are smooth."""
    heights = [y for points in shapes for _, y in points]
    top, bottom = math.floor(min(heights)) - 1, math.ceil(max(heights)) + 1
    mask = Image.new("L", (SMOOTH * image.width, SMOOTH * (bottom - top)))
    pen = ImageDraw.Draw(mask)
    for points in shapes:
        scaled = [(SMOOTH * x, SMOOTH * (y - top)) for x, y in points]
        if width:
            pen.line(scaled, 255, round(SMOOTH * width))
        else:
            pen.polygon(scaled, 255)
    image.paste(colour, (0, top), mask.reduce(SMOOTH).point(lambda value: value * opacity))


def save(image: Image.Image, path: pathlib.Path, **options: Any) -> None:
    """Write a PNG or GIF, atomically."""
    data = io.BytesIO()
    image.save(data, format=path.suffix[1:], **options)
    write_atomically(path, data.getvalue())
