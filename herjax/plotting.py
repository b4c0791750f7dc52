"""Figures. Never imports jax."""

import pathlib

import matplotlib
import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from PIL import Image

from herjax.palette import PALETTE


def show_picture(axes: matplotlib.axes.Axes, picture: np.ndarray, title: str) -> None:
    """Draw a picture [R, C] with cell borders."""
    rows, cols = picture.shape
    axes.imshow(picture, cmap=ListedColormap(PALETTE), vmin=0, vmax=10)
    axes.set_xticks(np.arange(cols + 1) - 0.5, [])
    axes.set_yticks(np.arange(rows + 1) - 0.5, [])
    axes.grid(color="#555555", linewidth=0.5)
    axes.tick_params(length=0)
    axes.set_title(title, fontsize=9)


def best_predictions(
    path: pathlib.Path, target: np.ndarray, pictures: np.ndarray, accuracy: np.ndarray
) -> None:
    """The best picture of every epoch (of 59 spread evenly, if there are more), then the target.

    Args:
      path: PNG to write.
      target: [R, C].
      pictures: [E, R, C], the best of each epoch.
      accuracy: [E], their fractions of pixels right.
    """
    shown = np.arange(len(pictures))
    if len(shown) > 59:  # keep the figure readable: evenly spread, first and last included
        shown = np.unique(np.linspace(0, len(pictures) - 1, 59).round().astype(int))
    columns = min(len(shown) + 1, 10)
    rows = -(-(len(shown) + 1) // columns)
    figure = Figure(figsize=(1.5 * columns, 1.75 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, epoch in zip(grid, shown):
        show_picture(axes, pictures[epoch], f"epoch {epoch}: {accuracy[epoch]:.0%}")
    show_picture(grid[len(shown)], target, "target")
    for axes in grid[len(shown) + 1 :]:
        axes.axis("off")
    save(figure, path)


def animation(
    path: pathlib.Path, target: np.ndarray, pictures: np.ndarray, milliseconds: int = 120
) -> None:
    """A GIF of the target, and beside it the best picture [R, C] of every epoch [E, R, C]."""
    rows, cols = target.shape
    cell = max(160 // max(rows, cols), 4)  # pixels
    frames = []
    for picture in pictures:
        gap = np.full((rows, 1), 10)
        cells = np.concatenate([target, gap, picture], axis=1).astype(np.uint8)
        pixels = cells.repeat(cell, 0).repeat(cell, 1)
        frame = Image.frombytes("P", pixels.shape[::-1], pixels.tobytes())
        frame.putpalette(bytes.fromhex("".join(PALETTE).replace("#", "")))
        frames.append(frame)
    times = [milliseconds] * (len(frames) - 1) + [2000]
    temporary = path.with_name(path.name + ".part")
    frames[0].save(
        temporary, format="GIF", save_all=True, append_images=frames[1:], duration=times, loop=0
    )
    temporary.replace(path)


def accuracy_distribution(path: pathlib.Path, accuracy: np.ndarray) -> None:
    """Ridge plot of the pixel accuracy of all programs, an epoch a ridge, the first on top.

    Args:
      path: PNG to write.
      accuracy: [E, G], fractions.
    """
    epochs = len(accuracy)
    figure = Figure(figsize=(7, min(1.5 + 0.35 * epochs, 30)), layout="constrained")
    axes = figure.subplots()
    x = np.linspace(0, 100, 401)
    for epoch, values in enumerate(100 * accuracy):
        density = np.exp(-0.5 * ((x[:, None] - values) / 1.5) ** 2).mean(axis=1)
        height, base = 1.8 * density / max(density.max(), 1e-9), -epoch
        colour = matplotlib.colormaps["viridis"](epoch / max(epochs - 1, 1))
        axes.fill_between(x, base, base + height, color=colour, alpha=0.8, zorder=epoch)
        axes.plot(x, base + height, color="white", linewidth=0.8, zorder=epoch)
    step = max(epochs // 30, 1)
    axes.set_yticks(-np.arange(0, epochs, step), [str(e) for e in range(0, epochs, step)])
    axes.set_xlim(0, 100)
    axes.set_xlabel("pixels right, %")
    axes.set_ylabel("epoch")
    save(figure, path)


def save(figure: Figure, path: pathlib.Path) -> None:
    """Write a PNG, atomically and without a date, so that equal figures are equal files."""
    temporary = path.with_name(path.name + ".part")
    figure.savefig(temporary, format="png", dpi=110, metadata={"Software": None})
    temporary.replace(path)
