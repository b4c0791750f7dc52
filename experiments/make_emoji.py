"""The emoji of --task=emoji: python -m experiments.make_emoji FONT writes herjax/tasks/emoji*.txt

FONT is NotoColorEmoji.ttf, with colour bitmaps. The shipped grids are from version 2.042 (Debian's
fonts-noto-color-emoji 2.042-0+deb12u1, in /usr/share/fonts/truetype/noto) and Pillow 13.0.0.

The hundred are an even spread over Unicode's groups, flags apart: 12 or 13 of each, chosen by
their CLDR short names before any of them was drawn by herjax, and only such as need no tone of
skin. Those that a person could not recognise in the cells of some size were replaced, also before:
lady-beetle by octopus, robot by alien-monster, tongue by speaking-head, eyes by eye,
anatomical-heart by zombie, butterfly by spouting-whale, soccer-ball by american-football,
pool-8-ball by ribbon, top-hat by scissors, open-book by envelope, right-arrow by prohibited.
Penguin and octopus, which are older, are hard to recognise in 16x16 cells.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from herjax.commands import cli
from herjax.dsl.ops import COLOURS
from herjax.runtime.files import write_atomically
from herjax.tasks.palette import PALETTE, colour_distances
from herjax.tasks.suite import EMOJI_SIDES, emoji_file

FONT_SIZE = 109  # the only one that the font has bitmaps of

GROUPS = {
    "Smileys & emotion": {
        "grinning-face": "\N{GRINNING FACE}",
        "smiling-face-with-sunglasses": "\N{SMILING FACE WITH SUNGLASSES}",
        "alien": "\N{EXTRATERRESTRIAL ALIEN}",
        "red-heart": "\N{HEAVY BLACK HEART}",
        "face-with-tears-of-joy": "\N{FACE WITH TEARS OF JOY}",
        "smiling-face-with-heart-eyes": "\N{SMILING FACE WITH HEART-SHAPED EYES}",
        "thinking-face": "\N{THINKING FACE}",
        "cowboy-hat-face": "\N{FACE WITH COWBOY HAT}",
        "skull": "\N{SKULL}",
        "ghost": "\N{GHOST}",
        "alien-monster": "\N{ALIEN MONSTER}",
        "pile-of-poo": "\N{PILE OF POO}",
    },
    "People & body": {
        "eye": "\N{EYE}",
        "mouth": "\N{MOUTH}",
        "speaking-head": "\N{SPEAKING HEAD IN SILHOUETTE}",
        "tooth": "\N{TOOTH}",
        "bone": "\N{BONE}",
        "brain": "\N{BRAIN}",
        "zombie": "\N{ZOMBIE}",
        "lungs": "\N{LUNGS}",
        "mechanical-arm": "\N{MECHANICAL ARM}",
        "mechanical-leg": "\N{MECHANICAL LEG}",
        "footprints": "\N{FOOTPRINTS}",
        "bust-in-silhouette": "\N{BUST IN SILHOUETTE}",
    },
    "Animals & nature": {
        "frog": "\N{FROG FACE}",
        "fox": "\N{FOX FACE}",
        "penguin": "\N{PENGUIN}",
        "tropical-fish": "\N{TROPICAL FISH}",
        "octopus": "\N{OCTOPUS}",
        "cactus": "\N{CACTUS}",
        "mushroom": "\N{MUSHROOM}",
        "owl": "\N{OWL}",
        "pig-face": "\N{PIG FACE}",
        "turtle": "\N{TURTLE}",
        "spouting-whale": "\N{SPOUTING WHALE}",
        "sunflower": "\N{SUNFLOWER}",
        "evergreen-tree": "\N{EVERGREEN TREE}",
    },
    "Food & drink": {
        "red-apple": "\N{RED APPLE}",
        "banana": "\N{BANANA}",
        "watermelon": "\N{WATERMELON}",
        "cherries": "\N{CHERRIES}",
        "strawberry": "\N{STRAWBERRY}",
        "pineapple": "\N{PINEAPPLE}",
        "carrot": "\N{CARROT}",
        "avocado": "\N{AVOCADO}",
        "hamburger": "\N{HAMBURGER}",
        "pizza": "\N{SLICE OF PIZZA}",
        "doughnut": "\N{DOUGHNUT}",
        "soft-ice-cream": "\N{SOFT ICE CREAM}",
        "hot-beverage": "\N{HOT BEVERAGE}",
    },
    "Travel & places": {
        "rocket": "\N{ROCKET}",
        "sailboat": "\N{SAILBOAT}",
        "house": "\N{HOUSE BUILDING}",
        "star": "\N{WHITE MEDIUM STAR}",
        "rainbow": "\N{RAINBOW}",
        "castle": "\N{EUROPEAN CASTLE}",
        "tent": "\N{TENT}",
        "automobile": "\N{AUTOMOBILE}",
        "helicopter": "\N{HELICOPTER}",
        "vertical-traffic-light": "\N{VERTICAL TRAFFIC LIGHT}",
        "crescent-moon": "\N{CRESCENT MOON}",
        "snowman-without-snow": "\N{SNOWMAN WITHOUT SNOW}",
        "fire": "\N{FIRE}",
    },
    "Activities": {
        "jack-o-lantern": "\N{JACK-O-LANTERN}",
        "christmas-tree": "\N{CHRISTMAS TREE}",
        "balloon": "\N{BALLOON}",
        "wrapped-gift": "\N{WRAPPED PRESENT}",
        "trophy": "\N{TROPHY}",
        "american-football": "\N{AMERICAN FOOTBALL}",
        "basketball": "\N{BASKETBALL AND HOOP}",
        "ribbon": "\N{RIBBON}",
        "bullseye": "\N{DIRECT HIT}",
        "game-die": "\N{GAME DIE}",
        "puzzle-piece": "\N{JIGSAW PUZZLE PIECE}",
        "artist-palette": "\N{ARTIST PALETTE}",
    },
    "Objects": {
        "crown": "\N{CROWN}",
        "scissors": "\N{BLACK SCISSORS}",
        "glasses": "\N{EYEGLASSES}",
        "t-shirt": "\N{T-SHIRT}",
        "bell": "\N{BELL}",
        "guitar": "\N{GUITAR}",
        "television": "\N{TELEVISION}",
        "floppy-disk": "\N{FLOPPY DISK}",
        "light-bulb": "\N{ELECTRIC LIGHT BULB}",
        "envelope": "\N{ENVELOPE}",
        "key": "\N{KEY}",
        "magnet": "\N{MAGNET}",
        "locked": "\N{LOCK}",
    },
    "Symbols": {
        "warning": "\N{WARNING SIGN}",
        "no-entry": "\N{NO ENTRY}",
        "radioactive": "\N{RADIOACTIVE SIGN}",
        "recycling-symbol": "\N{BLACK UNIVERSAL RECYCLING SYMBOL}",
        "peace-symbol": "\N{PEACE SYMBOL}",
        "yin-yang": "\N{YIN YANG}",
        "check-mark-button": "\N{WHITE HEAVY CHECK MARK}",
        "cross-mark": "\N{CROSS MARK}",
        "red-question-mark": "\N{BLACK QUESTION MARK ORNAMENT}",
        "prohibited": "\N{NO ENTRY SIGN}",
        "infinity": "\N{PERMANENT PAPER SIGN}",
        "large-orange-diamond": "\N{LARGE ORANGE DIAMOND}",
    },
}
EMOJI = {name: character for group in GROUPS.values() for name, character in group.items()}

# Measured in 20x20 cells of the nearest colours in RGB, and kept so.
FIRST = """
grinning-face smiling-face-with-sunglasses alien frog fox penguin tropical-fish octopus red-apple
banana watermelon cherries cactus mushroom rocket sailboat house red-heart star rainbow
"""
FIRST_SIDE = 20


def main(arguments):
    if len(arguments) != 2:
        raise ValueError("give one font: python -m experiments.make_emoji NotoColorEmoji.ttf")
    font = ImageFont.truetype(arguments[1], FONT_SIZE)
    glyphs = {name: centred(render(character, font)) for name, character in EMOJI.items()}
    for side in EMOJI_SIDES:
        blocks = []
        for name, pixels in glyphs.items():
            first = side == FIRST_SIDE and name in FIRST.split()
            grid = to_cells(pixels, side, rgb_distances if first else colour_distances)
            blocks.append("\n".join([name, *("".join(map(str, row)) for row in grid)]))
        write_atomically(emoji_file(side), "\n\n".join(blocks).encode() + b"\n")


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


def to_cells(
    pixels: np.ndarray,
    side: int,
    distances: Callable[[np.ndarray], np.ndarray] = colour_distances,
) -> np.ndarray:
    """The colour of the mean of each cell's area, 0 where its alpha is below half, [side, side].

    Args:
      pixels: RGBA from 0 to 255, the colours times alpha, [S, S, 4]. S need not be a multiple.
      side: of the picture, cells.
      distances: of means [side, side, 3] to the ten colours, [side, side, 10].
    """
    size = len(pixels)
    # Row i holds the share of cell i that lies in each pixel: in ``side`` pieces a pixel.
    shares = np.eye(size).repeat(side, axis=0).reshape(side, size, size).mean(axis=1)
    means = np.einsum("ih,jw,hwc->ijc", shares, shares, pixels, optimize=True)
    colour, alpha = means[..., :3], means[..., 3:] / 255
    colours = distances(colour / np.maximum(alpha, 0.5)).argmin(axis=-1)
    return np.where(alpha[..., 0] < 0.5, 0, colours)


def rgb_distances(pixels: np.ndarray) -> np.ndarray:
    """Euclidean distances in RGB of pixels [R, C, 3] to the colours 0 .. 9, [R, C, 10]."""
    palette = np.array([list(bytes.fromhex(colour[1:])) for colour in PALETTE[:COLOURS]])
    return np.sqrt(((pixels[:, :, None] - palette) ** 2).sum(axis=-1))


if __name__ == "__main__":
    cli.run(main, positional=True)
