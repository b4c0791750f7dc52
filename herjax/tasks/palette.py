"""The ten colours, and pictures in the terminal."""

import numpy as np
from rich.text import Text

from herjax.dsl.ops import COLOURS

# The ARC palette, colours 0 .. 9; 10 is outside the canvas.
PALETTE = (
    "#000000", "#0074D9", "#FF4136", "#2ECC40", "#FFDC00",
    "#AAAAAA", "#F012BE", "#FF851B", "#7FDBFF", "#870C25", "#FFFFFF",
)  # fmt: skip


def nearest_colours(pixels: np.ndarray) -> np.ndarray:
    """The colours 0 .. 9 of least Euclidean distance in RGB, int [R, C].

    Args:
      pixels: [R, C, 3], from 0 to 255, signed or floating.
    """
    return colour_distances(pixels).argmin(axis=-1)


def colour_distances(pixels: np.ndarray) -> np.ndarray:
    """Euclidean distances in RGB of pixels [R, C, 3] to the colours 0 .. 9, float64 [R, C, 10]."""
    palette = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in PALETTE[:COLOURS]])
    return np.sqrt(((pixels[:, :, None] - palette) ** 2).sum(axis=-1))


def terminal_grid(picture: np.ndarray, crossed: np.ndarray | None = None) -> Text:
    """A picture [R, C] as coloured blocks, two characters a cell; as digits without colours.

    ``crossed``, bool [R, C], are cells to mark.
    """
    text = Text()
    for r, row in enumerate(np.asarray(picture)):
        if r:
            text.append("\n")
        for c, cell in enumerate(row):
            colour = PALETTE[int(cell)]
            if crossed is not None and crossed[r, c]:
                light = sum(bytes.fromhex(colour[1:])) > 382
                text.append("× ", style=f"bold {'black' if light else 'white'} on {colour}")
            else:
                text.append(f"{int(cell)} ", style=f"{colour} on {colour}")
    return text
