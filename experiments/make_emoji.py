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

# By Unicode's groups, flags apart, 12 or 13 of each: by their CLDR short names, before any of them
# was drawn, and only such as need no tone of skin.
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
        "robot": "\N{ROBOT FACE}",
        "pile-of-poo": "\N{PILE OF POO}",
    },
    "People & body": {
        "eyes": "\N{EYES}",
        "mouth": "\N{MOUTH}",
        "tongue": "\N{TONGUE}",
        "tooth": "\N{TOOTH}",
        "bone": "\N{BONE}",
        "brain": "\N{BRAIN}",
        "anatomical-heart": "\N{ANATOMICAL HEART}",
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
        "butterfly": "\N{BUTTERFLY}",
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
        "soccer-ball": "\N{SOCCER BALL}",
        "basketball": "\N{BASKETBALL AND HOOP}",
        "pool-8-ball": "\N{BILLIARDS}",
        "bullseye": "\N{DIRECT HIT}",
        "game-die": "\N{GAME DIE}",
        "puzzle-piece": "\N{JIGSAW PUZZLE PIECE}",
        "artist-palette": "\N{ARTIST PALETTE}",
    },
    "Objects": {
        "crown": "\N{CROWN}",
        "top-hat": "\N{TOP HAT}",
        "glasses": "\N{EYEGLASSES}",
        "t-shirt": "\N{T-SHIRT}",
        "bell": "\N{BELL}",
        "guitar": "\N{GUITAR}",
        "television": "\N{TELEVISION}",
        "floppy-disk": "\N{FLOPPY DISK}",
        "light-bulb": "\N{ELECTRIC LIGHT BULB}",
        "open-book": "\N{OPEN BOOK}",
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
        "right-arrow": "\N{BLACK RIGHTWARDS ARROW}",
        "infinity": "\N{PERMANENT PAPER SIGN}",
        "large-orange-diamond": "\N{LARGE ORANGE DIAMOND}",
    },
}
EMOJI = {name: character for group in GROUPS.values() for name, character in group.items()}


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
