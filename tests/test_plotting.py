import matplotlib.image
import numpy as np
import pytest
from PIL import Image

from herjax import plotting
from herjax.palette import PALETTE, terminal_grid

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("epochs", [1, 12, 130])
def test_figures_are_written_whole_and_repeat(tmp_path, epochs):
    pictures = RNG.integers(0, 10, (epochs, 4, 6))
    accuracy = np.sort(RNG.random((epochs, 16)), axis=0)
    names = []
    for repeat in "ab":
        best, ridge = tmp_path / f"best-{repeat}.png", tmp_path / f"ridge-{repeat}.png"
        plotting.best_predictions(best, pictures[0], pictures, accuracy.max(axis=1))
        plotting.accuracy_distribution(ridge, accuracy)
        names.append((best, ridge))
    for one, other in zip(*names):
        assert one.read_bytes() == other.read_bytes()
        image = matplotlib.image.imread(one)
        assert image.std() > 0.05  # something is drawn
    assert not list(tmp_path.glob("*.part"))


def test_animation_shows_the_target_beside_every_picture(tmp_path):
    pictures = RNG.integers(0, 10, (7, 3, 5))
    plotting.animation(tmp_path / "a.gif", pictures[-1], pictures)
    palette = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in PALETTE])
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.n_frames == 7
        for frame, picture in enumerate(pictures):
            gif.seek(frame)
            cell = gif.size[1] // 3
            shown = np.asarray(gif.convert("RGB"))[cell // 2 :: cell, cell // 2 :: cell]
            assert np.array_equal(shown[:, :5], palette[pictures[-1]])
            assert np.array_equal(shown[:, 6:], palette[picture])


def test_pictures_have_the_arc_colours(tmp_path):
    path = tmp_path / "best.png"
    picture = np.array([[1, 2], [3, 4]])
    plotting.best_predictions(path, picture, picture[None], np.array([1.0]))
    shown = {
        tuple(c) for c in (matplotlib.image.imread(path)[..., :3].reshape(-1, 3) * 255).round()
    }
    for colour in (1, 2, 3, 4):
        value = PALETTE[colour].lstrip("#")
        assert tuple(int(value[i : i + 2], 16) for i in (0, 2, 4)) in shown


def test_terminal_grid_has_a_line_a_row_and_a_colour_a_cell():
    text = terminal_grid(np.array([[0, 2, 2], [9, 0, 4]]))
    assert text.plain == "0 2 2 \n9 0 4 "  # without colours still a picture
    styles = [str(span.style) for span in text.spans]
    assert styles == [f"{PALETTE[c]} on {PALETTE[c]}" for c in (0, 2, 2, 9, 0, 4)]
