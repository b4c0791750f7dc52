"""Any small image is brought to the ten colours, and what is lost is told."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

import herjax
from herjax.commands.named_tasks import chosen_tasks
from herjax.tasks.images import blown_up_by
from herjax.tasks.palette import PALETTE, colour_distances

RGB = np.array([list(bytes.fromhex(colour[1:])) for colour in PALETTE[:10]], np.uint8)
GRID = np.array([[4, 4, 2], [4, 9, 0]])


def save(path, pixels):
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path)
    return path


def grey_distance(a, b):
    """CIEDE2000 of two greys, in whose formula nothing but lightness is left."""
    light = [116 * np.cbrt(((v / 255 + 0.055) / 1.055) ** 2.4) - 16 for v in (a, b)]
    middle = (np.mean(light) - 50) ** 2
    return abs(light[0] - light[1]) / (1 + 0.015 * middle / np.sqrt(20 + middle))


def test_distances_are_of_what_is_seen():
    greys = np.array([[[255] * 3, [120] * 3, [170] * 3]])
    found = colour_distances(greys)[0, :, 5]  # colour 5 is #AAAAAA
    assert found == pytest.approx([grey_distance(v, 170) for v in (255, 120, 170)], abs=0.01)
    assert (colour_distances(RGB[None]).argmin(axis=-1) == np.arange(10)).all()
    # In RGB this dark grey is nearest to dark red, and white to light blue.
    assert colour_distances(np.array([[[60] * 3, [255] * 3]])).argmin(axis=-1).tolist() == [[0, 5]]


def test_what_is_lost_of_the_input_is_told_too(tmp_path):
    for name, grey in (("a.png", 120), ("b.png", 130)):
        save(tmp_path / name, [[grey, 0], [0, 0]])
    with pytest.warns(UserWarning, match="a.png: colours: .*; .*b.png: colours: ") as caught:
        herjax.load_picture(tmp_path / "a.png", input=tmp_path / "b.png")
    assert len(caught) == 1


def test_what_is_transparent_shows_what_it_is_drawn_on(tmp_path):
    pixels = np.dstack([RGB[GRID], np.full(GRID.shape, 255)])
    pixels[0, 1:, 3] = 127
    pixels[1, 0, 3] = 128
    save(tmp_path / "a.png", pixels)
    (tmp_path / "b.txt").write_text("123\n555\n")
    with pytest.warns(UserWarning, match="2 transparent cells show the input"):
        picture = herjax.load_picture(tmp_path / "a.png", input=tmp_path / "b.txt")
    assert picture.target.tolist() == [[4, 2, 3], [4, 9, 0]]
    assert picture.input.tolist() == [[1, 2, 3], [5, 5, 5]]


def test_what_is_transparent_in_16_bits_is(tmp_path):
    grey = Image.fromarray(np.array([[0, 65535], [0, 43690]], np.uint16))
    assert grey.mode == "I;16"
    grey.save(tmp_path / "a.png", transparency=65535)
    with pytest.warns(UserWarning, match="1 transparent cells became the background, colour 3"):
        picture = herjax.load_picture(tmp_path / "a.png", background=3)
    assert picture.target.tolist() == [[0, 3], [0, 5]]


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_what_is_transparent_in_few_bits_is(tmp_path, bits):
    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    parts = [chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, bits, 0, 0, 0, 0))]
    parts.append(chunk(b"tRNS", struct.pack(">H", 1)))
    parts.append(chunk(b"IDAT", zlib.compress(bytes([0, 1 << (8 - 2 * bits)]))))  # levels 0 and 1
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b""))
    with pytest.warns(UserWarning, match="1 transparent cells became the background, colour 3"):
        assert herjax.load_picture(tmp_path / "a.png", background=3).target.tolist() == [[0, 3]]


def test_what_is_lost_is_told_in_one_line(tmp_path):
    pixels = np.dstack([RGB[GRID], np.full(GRID.shape, 255, np.uint8)])
    pixels[0, 0, :3] = (250, 200, 20)
    pixels[0, 1, 3] = 127
    pixels[1, 0, 3] = 128
    path = save(tmp_path / "a.png", pixels)
    off = colour_distances(pixels[:1, :1, :3]).min()
    with pytest.warns(UserWarning, match=r"a\.png: ") as caught:
        picture = herjax.load_picture(path)
    assert str(caught[0].message) == (
        f"{path}: colours: 5 became 4, off by {off / 5:.1f} on average and {off:.1f} at most"
        " (CIEDE2000); 1 transparent cells became the background, colour 0; 1 half transparent ones"
        " became opaque"
    )
    assert caught[0].filename == __file__
    assert picture.target.tolist() == [[4, 0, 2], [4, 9, 0]]
    assert not picture.input.any()
    save(tmp_path / "b.png", pixels[:1, [0, 2, 2, 2, 1]])  # more of colour 2 than of holes
    with pytest.warns(UserWarning, match="1 transparent cells"):
        assert not herjax.load_picture(tmp_path / "b.png").input.any()
    with pytest.warns(UserWarning, match="the background, colour 3"):
        picture = herjax.load_picture(path, background=3)
    assert picture.target[0, 1] == 3
    assert (picture.input == 3).all()


def test_nothing_is_told_where_nothing_is_lost(tmp_path):
    invisible = np.random.default_rng(0).integers(0, 2, (*GRID.shape, 3), np.uint8)
    for noise in (0, invisible):
        path = save(tmp_path / "a.png", RGB[GRID] ^ noise)
        assert herjax.load_picture(path).target.tolist() == GRID.tolist()
    path = save(tmp_path / "a.png", np.minimum(RGB[GRID], 246) + 9)
    with pytest.warns(UserWarning, match="colours: 4 became 4, off by"):
        assert herjax.load_picture(path).target.tolist() == GRID.tolist()


def test_blown_up_images_are_made_small_where_they_are_too_large(tmp_path):
    path = save(tmp_path / "a.png", RGB[GRID].repeat(8, 0).repeat(8, 1))
    assert herjax.load_picture(path).target.shape == (16, 24)  # it fits
    with pytest.warns(UserWarning, match="a.png: 24x16 pixels were read as 3x2 cells of 8"):
        picture = herjax.load_picture(path, max_side=20)
    assert picture.target.tolist() == GRID.tolist()
    assert herjax.load_picture(path, max_side=20, cell_size=4).target.shape == (4, 6)
    with pytest.raises(ValueError, match="24x16 cells: at most 20x20; is cell_size, 1 pixels,"):
        herjax.load_picture(path, max_side=20, cell_size=1)
    pixels = RGB[GRID].repeat(8, 0).repeat(8, 1)
    pixels[5, 5] = 7  # one speck
    save(path, pixels)
    with pytest.raises(ValueError, match="has 24x16 cells: at most 20x20; make it smaller, or gi"):
        herjax.load_picture(path, max_side=20)


def test_colours_that_look_alike_do_not_hide_that_an_image_is_blown_up(tmp_path):
    seen = np.dstack([RGB[GRID], np.full(GRID.shape, 255)]).repeat(8, 0).repeat(8, 1)
    seen[:8, :8, 3] = 0
    seen[3, 3, 0] ^= 255  # under a transparent cell
    twice = Image.fromarray(seen[..., 0].astype(np.uint8) % 2)
    twice.putpalette([30, 147, 255] * 2)
    for image in (Image.fromarray(seen.astype(np.uint8)), twice):
        image.save(tmp_path / "a.png")
        with pytest.warns(UserWarning, match="24x16 pixels were read as"):
            assert herjax.load_picture(tmp_path / "a.png", max_side=20).target.size < 7


@pytest.mark.parametrize("chunk", [1, 20, 10**6])
def test_squares_are_found_in_any_chunks(monkeypatch, chunk):
    monkeypatch.setattr("herjax.tasks.images.CHUNK", chunk)
    rng = np.random.default_rng(0)
    for shape in ((3, 5), (4, 4, 3), (2, 6, 4)):
        cells = rng.integers(0, 256, shape)
        for side in (1, 2, 6):
            assert blown_up_by(cells.repeat(side, 0).repeat(side, 1)) == side
    lines = np.zeros((12, 12))
    lines[:, 8:] = 1
    assert blown_up_by(lines) == 4
    lines[3:, :] += 2
    assert blown_up_by(lines) == 1


def test_a_command_tells_it_in_one_line(tmp_path, capsys):
    path = save(tmp_path / "a.png", np.full((2, 3, 3), 255))
    chosen = chosen_tasks(str(path), 10)
    assert chosen["a.png"].target.tolist() == [[5] * 3] * 2
    out, err = capsys.readouterr()
    expected = "colours: 1 became 1, off by 20.0 on average and 20.0 at most (CIEDE2000)"
    assert (out, err) == ("", f"note: {path}: {expected}\n")
