"""The ten colours, and pictures in the terminal."""

import numpy as np
from rich.text import Text

# The ARC palette, colours 0 .. 9; 10 is outside the canvas.
PALETTE = (
    "#000000", "#0074D9", "#FF4136", "#2ECC40", "#FFDC00",
    "#AAAAAA", "#F012BE", "#FF851B", "#7FDBFF", "#870C25", "#FFFFFF",
)  # fmt: skip


def terminal_grid(picture: np.ndarray) -> Text:
    """A picture [R, C] as coloured blocks, two characters a cell; as digits without colours."""
    text = Text()
    for r, row in enumerate(np.asarray(picture)):
        if r:
            text.append("\n")
        for cell in row:
            colour = PALETTE[int(cell)]
            text.append(f"{int(cell)} ", style=f"{colour} on {colour}")
    return text
