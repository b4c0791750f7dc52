"""The emoji of --task=emoji: python -m experiments.make_emoji FONT > herjax/tasks/emoji.txt

FONT is NotoColorEmoji.ttf, with colour bitmaps. The shipped grids are from version 2.042 (Debian's
fonts-noto-color-emoji 2.042-0+deb12u1, in /usr/share/fonts/truetype/noto) and Pillow 13.0.0.
"""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from herjax.commands import cli
from herjax.tasks.palette import nearest_colours

SIDE = 20  # cells
FONT_SIZE = 109  # the only one that the font has bitmaps of

# Chosen by their Unicode CLDR short names, before any was drawn; but octopus took the place of
# lady-beetle, whose spots and legs did not show as such in 20x20 cells.
EMOJI = {
    "grinning-face": "\N{GRINNING FACE}",
    "smiling-face-with-sunglasses": "\N{SMILING FACE WITH SUNGLASSES}",
    "alien": "\N{EXTRATERRESTRIAL ALIEN}",
    "frog": "\N{FROG FACE}",
    "fox": "\N{FOX FACE}",
    "penguin": "\N{PENGUIN}",
    "tropical-fish": "\N{TROPICAL FISH}",
    "octopus": "\N{OCTOPUS}",
    "red-apple": "\N{RED APPLE}",
    "banana": "\N{BANANA}",
    "watermelon": "\N{WATERMELON}",
    "cherries": "\N{CHERRIES}",
    "cactus": "\N{CACTUS}",
    "mushroom": "\N{MUSHROOM}",
    "rocket": "\N{ROCKET}",
    "sailboat": "\N{SAILBOAT}",
    "house": "\N{HOUSE BUILDING}",
    "red-heart": "\N{HEAVY BLACK HEART}",
    "star": "\N{WHITE MEDIUM STAR}",
    "rainbow": "\N{RAINBOW}",
}


def main(arguments):
    if len(arguments) != 2:
        raise ValueError("give one font: python -m experiments.make_emoji NotoColorEmoji.ttf")
    font = ImageFont.truetype(arguments[1], FONT_SIZE)
    blocks = []
    for name, character in EMOJI.items():
        grid = to_cells(centred(render(character, font)))
        blocks.append("\n".join([name, *("".join(map(str, row)) for row in grid)]))
    print("\n\n".join(blocks))


def render(character: str, font: ImageFont.FreeTypeFont) -> np.ndarray:
    """One glyph, cropped to its ink: RGBA from 0 to 255, the colours times alpha, [H, W, 4]."""
    canvas = Image.new("RGBA", (2 * FONT_SIZE, 2 * FONT_SIZE))
    # Over transparent black, Pillow blends colour and alpha alike: hence the colours times alpha.
    ImageDraw.Draw(canvas).text((20, 20), character, font=font, embedded_color=True)
    return np.asarray(canvas.crop(canvas.getchannel("A").getbbox()), float)


def centred(pixels: np.ndarray) -> np.ndarray:
    """In the middle of the smallest transparent square, [S, S, 4]."""
    height, width, _ = pixels.shape
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    square = np.zeros((side, side, 4))
    square[top : top + height, left : left + width] = pixels
    return square


def to_cells(pixels: np.ndarray, side: int = SIDE) -> np.ndarray:
    """The colour of the mean of each cell's area, 0 where its alpha is below half, [side, side].

    Args:
      pixels: RGBA from 0 to 255, the colours times alpha, [S, S, 4]. S need not be a multiple.
    """
    size = len(pixels)
    # Row i holds the share of cell i that lies in each pixel: in ``side`` pieces a pixel.
    shares = np.eye(size).repeat(side, axis=0).reshape(side, size, size).mean(axis=1)
    means = np.einsum("ih,jw,hwc->ijc", shares, shares, pixels, optimize=True)
    colour, alpha = means[..., :3], means[..., 3:] / 255
    colours = nearest_colours(colour / np.maximum(alpha, 0.5))
    return np.where(alpha[..., 0] < 0.5, 0, colours)


if __name__ == "__main__":
    cli.run(main, positional=True)
