"""Images as grids of the ten colours, and what is lost on the way."""

import io
import math
import warnings
from typing import NamedTuple

import numpy as np
from PIL import Image

from herjax.runtime.files import read_bounded
from herjax.tasks.palette import colour_distances

MAX_BYTES = 10_000_000  # of a file
MAX_PIXELS = 20_000_000  # what Pillow decodes takes up to 4 bytes each
OPAQUE = 128  # least alpha of a cell that has a colour, of 255
VISIBLE = 1  # least distance of colours that is told
CHUNK = 1_000_000  # pixels that are compared at a time


class Cells(NamedTuple):
    """An image, cell by cell."""

    grid: np.ndarray  # int [R, C], colours 0 .. 9
    holes: np.ndarray  # bool [R, C], which cells are transparent
    lost: str  # what is not as in the file, in one line; empty if all is


def read_image(name: str, cell_size: int | None, max_side: int, hole: int | None = 0) -> Cells:
    """A PNG or GIF, each cell in the colour that looks most like it.

    Args:
      name: of the file.
      cell_size: pixels a cell, of which the one in the middle counts. None: 1, but the most that
        changes nothing if there are more than ``max_side`` pixels.
      max_side: the most rows and columns, cells.
      hole: colour of transparent cells; None: that of the input, for now 0.

    Raises:
      ValueError: if it is no such image, too large, or transparent all over.
      OSError: if it cannot be read.
    """
    with _open(name) as image:
        width, height = image.size
        blown_up = cell_size is None and max(width, height) > max_side
        size = cell_size or (math.gcd(width, height) if blown_up else 1)  # the most that it can be
        _check_size(image.size, name, size, max_side, blown_up)
        try:
            _scale_transparency(image)
            image.load()
            if blown_up:
                size = blown_up_by(_as_seen(image))
            # The pixel in the middle of each cell, before anything else is made of them.
            cells = (width // size, height // size)
            small = image.resize(cells, Image.Resampling.NEAREST)
            if small.mode.startswith("I"):  # 16-bit grey, which Pillow would cut off at 255
                grey, clear = np.asarray(small), small.info.get("transparency", -1)
                light, alpha = (grey / 257).round(), np.where(grey == clear, 0, 255)
                pixels = np.dstack([light, light, light, alpha]).astype(np.uint8)
            else:
                pixels = np.asarray(small.convert("RGBA"))
        except Exception as error:
            why = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ValueError(f"{name} is not an image that can be read: {why}") from None
    _check_size((width, height), name, size, max_side, blown_up)
    grid, lost = _quantised(pixels, name, hole)
    if blown_up:
        lost = [
            f"{width}x{height} pixels were read as {cells[0]}x{cells[1]} cells of {size}",
            *lost,
        ]
    return Cells(grid, pixels[..., 3] < OPAQUE, "; ".join(lost))


def _scale_transparency(image: Image.Image) -> None:
    """Bring the transparent level of a PNG of 2 or 4 bits to 8, as Pillow does with the others."""
    tiles = getattr(image, "tile", ())  # of each how the file has it, until it is loaded
    bits = {"L;2": 2, "L;4": 4}.get(tiles[0][3] if tiles else "")
    clear = image.info.get("transparency")
    if bits and isinstance(clear, int) and clear < 2**bits:
        image.info["transparency"] = clear * 255 // (2**bits - 1)


def _open(name: str) -> Image.Image:
    data = io.BytesIO(read_bounded(name, MAX_BYTES))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of bombs: there is a limit of our own
            # Named: Pillow would start Ghostscript for a PostScript file of this name.
            return Image.open(data, formats=("PNG", "GIF"))
    except Image.DecompressionBombError:
        raise ValueError(f"{name} has more than {MAX_PIXELS:,} pixels") from None
    except Exception as error:  # Pillow's parsers raise whatever they meet
        why = str(error).splitlines()[0] if str(error) and "BytesIO" not in str(error) else ""
        raise ValueError(
            f"{name} is not an image that can be read: it holds no PNG or GIF {why}".rstrip()
        ) from None


def _check_size(
    size: tuple[int, int], name: str, cell_size: int, max_side: int, guessed: bool
) -> None:
    """ValueError unless an image of ``size`` (width, height) has whole cells, and few enough."""
    width, height = size
    if width % cell_size or height % cell_size:
        raise ValueError(f"{name} is {width}x{height}: not a multiple of {cell_size}")
    if max(width, height) > max_side * cell_size:
        hint = f"is cell_size, {cell_size} pixels, right?"
        if guessed:
            hint = "make it smaller, or give cell_size, the pixels of a cell"
        raise ValueError(
            f"{name} has {width // cell_size}x{height // cell_size} cells: at most"
            f" {max_side}x{max_side}; {hint}"
        )
    if width * height > MAX_PIXELS:
        raise ValueError(
            f"{name} has {width}x{height} pixels: at most {MAX_PIXELS:,}; one a cell is enough"
        )


def _as_seen(image: Image.Image) -> np.ndarray:
    """Pixels that differ only if they look different: not in palette or under transparency."""
    if image.mode.startswith("I"):
        return np.asarray(image)
    pixels = np.array(image.convert("RGBA"))
    pixels[pixels[..., 3] < OPAQUE] = 0
    return pixels


def blown_up_by(pixels: np.ndarray) -> int:
    """The side of the largest squares of one colour that pixels [H, W, ...] are a grid of."""
    side = math.gcd(*pixels.shape[:2])
    for lines in (pixels, pixels.swapaxes(0, 1)):
        step = max(1, CHUNK // lines.shape[1])
        for start in range(1, len(lines), step):
            now = lines[start : start + step]
            changed = now != lines[start - 1 : start - 1 + len(now)]
            changes = np.flatnonzero(changed.reshape(len(now), -1).any(axis=1)) + start
            side = math.gcd(side, *changes.tolist())
    return side


def _quantised(pixels: np.ndarray, name: str, hole: int | None) -> tuple[np.ndarray, list[str]]:
    """The colours [R, C] that look most like pixels [R, C, 4] in RGBA, and what was lost.

    Raises:
      ValueError: if all are transparent.
    """
    rgb, alpha = pixels[..., :3], pixels[..., 3]
    opaque = alpha >= OPAQUE
    if not opaque.any():
        raise ValueError(f"{name} is transparent all over: there is nothing to draw")
    distances = colour_distances(rgb)
    grid = np.where(opaque, distances.argmin(axis=-1), hole or 0)
    off, lost = distances.min(axis=-1)[opaque], []
    if off.max() >= VISIBLE:
        counts = [len(np.unique(cells[opaque], axis=0)) for cells in (rgb, grid[..., None])]
        lost.append(
            f"colours: {counts[0]} became {counts[1]}, off by {off.mean():.1f} on average and"
            f" {off.max():.1f} at most (CIEDE2000)"
        )
    if holes := int((~opaque).sum()):
        become = "show the input" if hole is None else f"became the background, colour {hole}"
        lost.append(f"{holes} transparent cells {become}")
    if veiled := int((opaque & (alpha < 255)).sum()):
        lost.append(f"{veiled} half transparent ones became opaque")
    return grid, lost
