"""The ten colours, and pictures in the terminal."""

import numpy as np
from rich.text import Text

from herjax.dsl.ops import COLOURS

# The ARC palette, colours 0 .. 9; 10 is outside the canvas.
PALETTE = (
    "#000000", "#0074D9", "#FF4136", "#2ECC40", "#FFDC00",
    "#AAAAAA", "#F012BE", "#FF851B", "#7FDBFF", "#870C25", "#FFFFFF",
)  # fmt: skip


def colour_distances(pixels: np.ndarray) -> np.ndarray:
    """How unlike the colours 0 .. 9 pixels look, float64 [R, C, 10]: CIEDE2000, 1 is just visible.

    (Sharma, Wu & Dalal, 2005, https://doi.org/10.1002/col.20070)

    Args:
      pixels: sRGB [R, C, 3], from 0 to 255.
    """
    import skimage.color  # a tenth of a second that few runs need

    palette = [list(bytes.fromhex(colour[1:])) for colour in PALETTE[:COLOURS]]
    lab = [skimage.color.rgb2lab(np.asarray(rgb) / 255) for rgb in (pixels, palette)]
    return skimage.color.deltaE_ciede2000(lab[0][:, :, None], lab[1][None, None])


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
