import matplotlib.image
import numpy as np
import pytest
from PIL import Image

from herjax.tasks.palette import PALETTE, terminal_grid
from herjax.viewing import plotting

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(("epochs", "children"), [(1, 0), (1, 5), (3, 5), (12, 5), (130, 0)])
def test_figures_are_written_whole_and_repeat(tmp_path, epochs, children):
    pictures = RNG.integers(0, 10, (epochs, 4, 6))
    words = [f"epoch {i + 1} of {epochs}\nbest attempt: 10.0 %" for i in range(epochs)]
    accuracies = [(RNG.random(16), RNG.random(children)) for _ in range(epochs)]
    names = []
    for repeat in "ab":
        best, ridge = tmp_path / f"best-{repeat}.png", tmp_path / f"ridge-{repeat}.png"
        plotting.best_predictions(best, pictures[0], pictures, words)
        plotting.accuracy_distribution(ridge, accuracies)
        names.append((best, ridge))
    for one, other in zip(*names):
        assert one.read_bytes() == other.read_bytes()
        image = matplotlib.image.imread(one)
        assert image.std() > 0.05  # something is drawn
    assert not list(tmp_path.glob("*.part"))


def has_colour(image, colour, tolerance=0.12):
    """Is there much of a colour, in whatever shade of it on white?"""
    rgb = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    pixels = image[..., :3].reshape(-1, 3)
    shade = 0.6 * rgb + 0.4
    return (np.abs(pixels - shade).max(axis=1) < tolerance).mean() > 0.005


def test_attempts_and_children_have_their_colours(tmp_path):
    attempts, children = RNG.uniform(0.1, 0.4, 16), RNG.uniform(0.6, 1.0, 5)
    for name, parts in (("both", (attempts, children)), ("alone", (attempts, children[:0]))):
        plotting.accuracy_distribution(tmp_path / f"{name}.png", [parts])
        image = matplotlib.image.imread(tmp_path / f"{name}.png")
        assert has_colour(image, plotting.ATTEMPTS)
        assert has_colour(image, plotting.CHILDREN) == (name == "both")
        middle = image[:, image.shape[1] // 10 : -image.shape[1] // 10, :3]
        assert (middle.min(axis=2) < 0.95).mean() > 0.03  # no blank sheet


@pytest.mark.parametrize("epochs", [2, 9])
def test_ridges_stand_where_the_accuracies_are_the_first_on_top(tmp_path, epochs):
    places = np.linspace(0.4, 0.9, epochs)
    accuracies = [(np.full(12, place), np.zeros(0)) for place in places]
    plotting.accuracy_distribution(tmp_path / "a.png", accuracies)
    with Image.open(tmp_path / "a.png") as image:
        pixels = np.asarray(image).astype(int)[plotting.HEAD : -plotting.FOOT]
    down, across = (pixels[..., 2] - pixels[..., 0] > 100).nonzero()  # blue
    middles = plotting.LEFT + plotting.AXIS * places
    tops = [down[abs(across - middle) < 9].min() for middle in middles]
    assert (np.diff(tops) > 20).all()
    away = abs(across[:, None] - middles).min(axis=1) > 45  # three times what smooths them
    assert not away[across > middles[0]].any()


@pytest.mark.parametrize("count", [1, 2, 7])
@pytest.mark.parametrize("shape", [(3, 5), (12, 2)])
def test_animation_shows_the_target_beside_every_picture(tmp_path, shape, count):
    target, *pictures = RNG.integers(0, 10, (count + 1, *shape))
    words = [f"epoch {i + 1} of {count}\nbest child: {i}.0 %" for i in range(count)]
    times = [100 + 10 * i for i in range(count)]
    plotting.animation(tmp_path / "a.gif", target, pictures, words, times)
    palette = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in PALETTE])
    cell, header = plotting.cell_size(shape), plotting.header_height(words)
    headers = set()
    with Image.open(tmp_path / "a.gif") as gif:
        assert getattr(gif, "n_frames", 1) == count
        second = (gif.size[0] - plotting.MARGIN) // 2 + plotting.MARGIN
        for frame, picture in enumerate(pictures):
            gif.seek(frame)
            shown = np.asarray(gif.convert("RGB"))
            for left, expected in ((plotting.MARGIN, target), (second, picture)):
                corner = shown[header + cell // 2 :, left + cell // 2 :]
                cells = corner[::cell, ::cell][: shape[0], : shape[1]]
                assert np.array_equal(cells, palette[expected])
            for part in (shown[:header, :second], shown[:header, second:]):
                assert (part < 100).any()  # words
            headers.add(shown[:header].tobytes())
            assert gif.info.get("duration") == times[frame]
    assert len(headers) == count  # the words change


@pytest.mark.parametrize(
    ("side", "words"),
    [
        (plotting.PANEL, "epoch 200 of 200\ndraw 188 of 188: 100.0 %"),
        (plotting.SMALL_PANEL, "epoch 1000 of 1000\nbest attempt: 100.0 %"),
    ],
)
def test_words_have_room(side, words):
    wide = np.asarray(plotting.draw_panels([np.zeros((1, 1), int)], [words], 1, side))
    header = wide[: plotting.header_height([words])]
    assert (header[:, : side // 2] > 10).any()
    assert (header[:, -1] == 10).all()  # nothing is cut off at the edge


def test_words_stand_above_their_picture_in_every_row():
    image = plotting.draw_panels([np.zeros((2, 2), int)] * 2, ["words\ngo"] * 2, 1, borders=True)
    first, second = np.split(np.asarray(image), 2)
    assert np.array_equal(first, second)
    above = first[: plotting.header_height(["words\ngo"])]
    ink = np.flatnonzero((above != above[0, -1]).any(axis=1))
    assert 3 < ink[0] < ink[-1] < len(above) - 3


def test_pictures_have_the_arc_colours(tmp_path):
    path = tmp_path / "best.png"
    picture = np.array([[1, 2], [3, 4]])
    plotting.best_predictions(path, picture, picture[None], ["solved"])
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


def test_best_predictions_are_in_rows_with_borders_and_the_target_last(tmp_path):
    *pictures, target = RNG.integers(0, 10, (12, 3, 2))
    words = [f"{i}" for i in range(11)]
    plotting.best_predictions(tmp_path / "best.png", target, pictures, words)
    palette = np.array([list(bytes.fromhex(colour[1:])) for colour in PALETTE])
    cell, header = plotting.SMALL_PANEL // 3, plotting.header_height(words)
    down, across = header + 3 * cell + plotting.MARGIN, plotting.SMALL_PANEL + plotting.MARGIN
    with Image.open(tmp_path / "best.png") as image:
        shown = np.asarray(image.convert("RGB"))
    assert shown.shape == (2 * down, 10 * across + plotting.MARGIN, 3)
    for place, picture in enumerate([*pictures, target]):
        top, left = place // 10 * down + header, place % 10 * across + plotting.MARGIN
        panel = shown[top : top + 3 * cell, left : left + 2 * cell]
        assert np.array_equal(panel[cell // 2 :: cell, cell // 2 :: cell], palette[picture])
        for line in (panel[::cell], panel[:, ::cell], panel[-1], panel[:, -1]):
            assert (line == 0x55).all()
        assert (shown[top - header : top, left : left + across] < 100).any()  # words
