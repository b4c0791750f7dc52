"""Figures. Never imports jax."""

import io
import pathlib
from collections.abc import Sequence
from functools import cache

import matplotlib
import matplotlib.backends.backend_agg  # what saving needs, so that importing this module is enough
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
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
    data = io.BytesIO()
    image.save(data, format="PNG")
    write_atomically(path, data.getvalue())


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
    data = io.BytesIO()
    frames[0].save(
        data,
        format="GIF",
        save_all=True,
        append_images=frames[1:],
        duration=list(milliseconds),
        loop=0,
    )
    write_atomically(path, data.getvalue())


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
def words_font() -> ImageFont.FreeTypeFont:
    """The font that Matplotlib brings along: the same on every machine."""
    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", 14)


# ---- Accuracies ---------------------------------------------------------------------------------

ATTEMPTS, CHILDREN = "#0067c0", "#e07b1a"


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
    height = 1.2 + (1.3 if few else 0.35) * epochs
    width, height = 7.0, min(height, 30)
    figure = Figure(figsize=(width, height))
    with_children = any(len(children) for _, children in accuracies)
    # Inches around the axes. A layout that Matplotlib finds itself draws everything twice.
    left, right, bottom, top = 0.6, 0.2, 0.5, 0.4 if with_children else 0.1
    box = left / width, bottom / height, 1 - (left + right) / width, 1 - (bottom + top) / height
    axes = figure.add_axes(box)
    for epoch, parts in enumerate(accuracies):
        single = matplotlib.colormaps["viridis"](epoch / max(epochs - 1, 1))
        colours = (ATTEMPTS, CHILDREN) if with_children or few else (single,)
        for place, (values, colour) in enumerate(zip(parts, colours)):
            if len(values):
                draw_ridge(axes, 100 * values, -epoch, colour, place, few)
    draw_axes(axes, epochs, few)
    if with_children:
        marks = [Patch(color=colour, alpha=0.7) for colour in (ATTEMPTS, CHILDREN)]
        names = ["attempts: sampled", "children: with draws of others, without needless ones"]
        figure.legend(marks, names, loc="upper right", ncols=2, frameon=False, fontsize=9)
    save(figure, path)


def draw_ridge(
    axes: matplotlib.axes.Axes, values: np.ndarray, base: float, colour, place: int, few: bool
) -> None:
    """The density of percentages, smoothed by 1.5, above ``base``; its top is always as high."""
    x = np.linspace(0, 100, 401)
    density = np.exp(-0.5 * ((x[:, None] - values) / 1.5) ** 2).mean(axis=1)
    scale = 0.7 if few else 1.8  # many ridges overlap, few have room
    y = base + scale * density / max(density.max(), 1e-9)
    axes.fill_between(x, base, y, color=colour, alpha=0.6 if few else 0.8, zorder=-base)
    axes.plot(x, y, color="white", linewidth=0.8, zorder=-base)
    if few:
        strokes = base - 0.05 - 0.09 * place
        axes.vlines(values, strokes - 0.07, strokes, color=colour, linewidth=1)
        name = ("attempt", "child")[place]
        axes.annotate(
            f"best {name} {percent(values.max() / 100)}",
            (0.01, base + 0.6 - 0.18 * place),
            xycoords=("axes fraction", "data"),
            color=colour,
            fontsize=9,
        )


def draw_axes(axes: matplotlib.axes.Axes, epochs: int, few: bool) -> None:
    """Ticks and names of a ridge plot."""
    step = max(epochs // 30, 1)
    axes.set_yticks(-np.arange(0, epochs, step), [str(e + 1) for e in range(0, epochs, step)])
    axes.set_ylim(-epochs + 0.7 if few else None, 0.85 if few else None)
    axes.set_xlim(0, 100.5)  # so that a stroke at 100 is whole
    axes.set_xlabel("pixels right, %")
    axes.set_ylabel("epoch")
    axes.grid(axis="x", color="#cccccc", linewidth=0.5)
    axes.set_axisbelow(True)


def save(figure: Figure, path: pathlib.Path) -> None:
    """Write a PNG, atomically and without a date, so that equal figures are equal files."""
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=110, metadata={"Software": None})
    write_atomically(path, data.getvalue())
