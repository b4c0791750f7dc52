"""Files that are no pictures, or more than one bargains for."""

import io
import json
import os
import pathlib
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

import herjax
from tests.battery import Case, folder, make_socket
from tests.battery.door import refused, same

AREA = "files"
GRID = [[4, 4, 2], [4, 9, 0]]
TASK = {"train": [{"input": [[1]], "output": GRID}], "test": [{"input": [[7, 8]]}]}
YELLOW, BLACK, WHITE = (255, 220, 0), (0, 0, 0), (255, 255, 255)
NOISE = np.random.default_rng(0).integers(0, 256, (300, 300, 3)).astype(np.uint8)


def png(mode, size, *args, **save):
    file = io.BytesIO()
    Image.new(mode, size, *args).save(file, "PNG", **save)
    return file.getvalue()


def saved(array, kind="PNG", mode=None):
    file = io.BytesIO()
    image = Image.fromarray(np.asarray(array))
    (image.convert(mode) if mode else image).save(file, kind)
    return file.getvalue()


def header(width, height, depth=1, colour=0, data=b""):
    """A PNG that says it is so large."""

    def chunk(name, content):
        return (
            struct.pack(">I", len(content))
            + name
            + content
            + struct.pack(">I", zlib.crc32(name + content))
        )

    about = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = chunk(b"IHDR", about), chunk(b"IDAT", zlib.compress(data)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def bad(name, file, content, message, error=ValueError, slow=False, **options):
    """Load a file of this content: it is refused."""

    def check():
        with folder() as place:
            path = place / file.partition("#")[0]
            made = content() if callable(content) else content  # large ones, when asked for
            path.write_bytes(made.encode() if isinstance(made, str) else made)
            del made
            refused(lambda: herjax.load_picture(f"{place}/{file}", **options), message, error)

    return Case(name, AREA, check, slow)


def good(name, file, content, expected, **options):
    """Load a file of this content: it is this grid."""

    def check():
        with folder() as place:
            whole = place / file
            path = whole if "#" in file and options.pop("whole", False) else None
            path = path or place / file.partition("#")[0]
            path.write_bytes(content.encode() if isinstance(content, str) else content)
            same(lambda: herjax.load_picture(f"{place}/{file}", **options).target, expected)

    return Case(name, AREA, check)


def changed(name, content, expected, message):
    """Load an image of this content: it is this grid, and a warning says what was lost."""

    def check():
        with folder() as place:
            (place / "a.png").write_bytes(content)
            with pytest.warns(UserWarning, match=message) as caught:
                same(lambda: herjax.load_picture(place / "a.png").target, expected)
            assert len(str(caught[0].message).splitlines()) == len(caught) == 1

    return Case(name, AREA, check)


def special(name, make, message, error=ValueError, suffix=".txt"):
    """Load what is no regular file."""

    def check():
        with folder() as place:
            path = place / f"x{suffix}"
            make(path)
            refused(lambda: herjax.load_picture(path), message, error)

    return Case(name, AREA, check)


TEXTS = [
    ("a letter", "12\n1x\n", "line 2: rows are digits"),
    ("a minus", "1-2", "line 1: rows are digits"),
    ("unequal rows", "12\n3", "row 2 has 1 cells, row 1 has 2"),
    ("nothing", "", "does not hold a grid"),
    ("blanks alone", " \n\t\n ,\n", "does not hold a grid"),
    ("arabic digits", "١٢", "line 1: rows are digits"),
    ("superscript digits", "1²", "line 1: rows are digits"),
    ("too wide", "1" * 33, "33 cells, at most 30x30"),
    ("too high", "1\n" * 33, "row 31, at most 30x30"),
    ("a megabyte of rows", "1\n" * 499_999, "at most 30x30"),
    ("a megabyte in one row", "1" * 999_999, "999999 cells"),
    ("a megabyte of empty lines", "\n" * 999_999, "does not hold a grid"),
    ("too many bytes", lambda: "1" * 1_000_001, "is larger than 1 MB"),
    ("binary", bytes(range(256)), "rows are digits"),
    ("UTF-16", "12".encode("utf-16"), "rows are digits"),
    ("an escape sequence", "\x1b[2J", "rows are digits"),
    ("a null character", "1\x002", "rows are digits"),
    ("JSON in a text", "[[1]]", "rows are digits"),
    ("a float", "1.5", "rows are digits"),
]
JSONS = [
    ("cut off", "[[1, 2", "is not JSON"),
    ("empty", "", "is not JSON"),
    ("not UTF-8", b'["\xff\xfe"]', "is not JSON"),
    ("null", "null", "does not hold a grid"),
    ("a number", "3", "does not hold a grid"),
    ("a string", '"12"', "does not hold a grid"),
    ("true", "true", "does not hold a grid"),
    ("a row alone", "[1, 2]", "does not hold a grid"),
    ("no rows", "[]", "does not hold a grid"),
    ("an empty row", "[[]]", "must be [rows, columns]"),
    ("strings in rows", '[["1"]]', "row 1: colours are 0 .. 9, got '1'"),
    ("rows are strings", '["12", "34"]', "does not hold a grid"),
    ("null in rows", "[[null]]", "got None"),
    ("a list too deep", "[[[1]]]", "got [1]"),
    ("true in rows", "[[true]]", "got True"),
    ("a float", "[[1.0]]", "got 1.0"),
    ("not a number", "[[NaN]]", "got nan"),
    ("infinity", "[[1e999]]", "got inf"),
    ("ten", "[[10]]", "got 10"),
    ("minus one", "[[-1]]", "got -1"),
    ("256, which wraps to 0", "[[256]]", "got 256"),
    ("2**64", f"[[{2**64}]]", "got 18446744073709551616"),
    ("4,000 digits", f"[[{'9' * 4000}]]", "colours are 0 .. 9"),
    ("5,000 digits", f"[[{'9' * 5000}]]", "is not JSON"),
    ("nested 10^5 deep", "[" * 10**5, "is nested too deep"),
    ("objects nested 10^5 deep", '{"a":' * 10**5, "is nested too deep"),
    ("nested 990 deep", "[" * 990 + "]" * 990, ""),
    ("nested without end", lambda: "[" * 10**6, "more than 500,000 lists"),
    ("wide", lambda: "[" + "[]," * 600_000 + "[]]", "more than 500,000 lists"),
    ("many strings", lambda: "[" + '"ab",' * 300_000 + '""]', "more than 500,000 lists"),
    ("many numbers", lambda: "[[" + "0," * 2_000_000 + "0]]", "at most 30x30"),
    ("many large numbers", lambda: "[[" + "1234," * 1_000_000 + "0]]", "got 1234"),
    ("too many bytes", lambda: " " * 10_000_001, "is larger than 10 MB"),
    ("ten megabytes of blanks", lambda: " " * 10_000_000, "is not JSON"),
    ("ragged", "[[1, 2], [3]]", "row 2 has 1 cells"),
    ("33 columns", json.dumps([[1] * 33]), "is 1x33: at most 30x30"),
    ("33 rows", json.dumps([[1]] * 33), "is 33x1: at most 30x30"),
    ("no train", "{}", "has no part 'train.0.output'"),
    ("train is empty", '{"train": []}', "has no part"),
    ("train is a string", '{"train": "abc"}', "has no part"),
    ("no output", '{"train": [{}]}', "has no part"),
    ("the output is null", '{"train": [{"output": null}]}', "does not hold a grid"),
    ("the output is a task", '{"train": [{"output": {}}]}', "does not hold a grid"),
]
PARTS = [
    ("trian.0.output", "(did you mean 'train'?)"),
    ("train.7.output", "has no part"),
    ("train.-3.output", "has no part"),
    ("train.x.output", "has no part"),
    ("train", "does not hold a grid"),
    ("train.0.output.0.0.0", "has no part"),
    (".", "has no part"),
    ("train..output", "has no part"),
    ("train.0.output" + ".0" * 5000, "has no part"),
    ("train.٠.nothing", "has no part"),
]
IMAGES = [
    ("empty.png", b"", "holds no PNG or GIF", {}),
    ("text.png", b"12", "holds no PNG or GIF", {}),
    ("postscript.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "holds no PNG", {}),
    ("jpeg.png", saved(np.zeros((3, 3, 3), np.uint8), "JPEG"), "holds no PNG or GIF", {}),
    ("bmp.png", saved(np.zeros((3, 3, 3), np.uint8), "BMP"), "holds no PNG or GIF", {}),
    ("tiff.gif", saved(np.zeros((3, 3, 3), np.uint8), "TIFF"), "holds no PNG or GIF", {}),
    ("webp.png", b"RIFF\x24\x00\x00\x00WEBPVP8 ", "holds no PNG or GIF", {}),
    ("pdf.png", b"%PDF-1.4\n", "holds no PNG or GIF", {}),
    ("svg.png", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "holds no PNG or GIF", {}),
    ("head.png", b"\x89PNG\r\n\x1a\n", "is not an image that can be read", {}),
    ("head.gif", b"GIF89a", "is not an image that can be read", {}),
    ("cut.png", png("RGB", (9, 9), YELLOW)[:-30], "is not an image that can be read", {}),
    ("bomb.png", header(12000, 12000), "at most 20,000,000", {"cell_size": 400}),
    ("wide.png", header(10**9, 10**9), "more than 20,000,000", {"cell_size": 10**9}),
    ("huge.png", header(2**31 - 1, 2**31 - 1), "more than 20,000,000 pixels", {}),
    ("none.png", header(0, 0), "", {}),
    ("short.png", header(8, 8, 8, 2, b"\0" * 9), "is not an image that can be read", {}),
    ("clear.png", png("RGBA", (3, 3), (0, 0, 0, 0)), "is transparent all over", {}),
    ("veiled.png", png("RGBA", (3, 3), (0, 0, 0, 127)), "is transparent all over", {}),
    ("clear-p.png", png("P", (3, 3), 0, transparency=0), "is transparent all over", {}),
    ("clear-la.png", png("LA", (3, 3), (0, 0)), "is transparent all over", {}),
    ("many.png", png("RGB", (40, 40), YELLOW), "at most 30x30; is cell_size, 1", {"cell_size": 1}),
    ("noise.png", saved(NOISE[:40, :40]), "has 40x40 cells: at most 30x30; make it smaller", {}),
    ("photo.png", saved(NOISE), "has 300x300 cells", {}),
    ("blown-up.png", saved(NOISE[:40, :40].repeat(2, 0).repeat(2, 1)), "has 40x40 cells", {}),
    ("prime.png", header(4001, 4003), "has 4001x4003 cells", {}),
    ("column.png", header(1, 10**6), "has 1x1000000 cells", {}),
    ("odd.png", png("RGB", (7, 8), YELLOW), "is 7x8: not a multiple of 2", {"cell_size": 2}),
    ("larger.png", png("RGB", (4, 4), YELLOW), "not a multiple of 5", {"cell_size": 5}),
    ("photo.jpg", b"\xff\xd8\xff", ".png or .gif, not .jpg", {}),
    ("photo.JPEG", b"\xff\xd8\xff", "not .jpeg: convert it", {}),
    ("photo.bmp", b"BM", "not .bmp: convert it", {}),
    ("photo.webp", b"RIFF", "not .webp: convert it", {}),
    ("photo.tiff", b"II*\0", "not .tiff: convert it", {}),
    ("drawing.svg", b"<svg/>", "not .svg: convert it", {}),
]


def npy(array, **save):
    file = io.BytesIO()
    np.save(file, array, **save)
    return file.getvalue()


UNREADABLE = "is not an array that can be read"
LARGER = b"(3, 3), }" + b" " * 11, b"(" + b"9" * 14 + b",), }"  # of the same length
ARRAYS = [
    ("empty", b"", UNREADABLE),
    ("text", b"12\n34\n", UNREADABLE),
    ("cut", npy(np.ones((3, 3), int))[:-1], UNREADABLE),
    ("more than memory", npy(np.ones((3, 3), int)).replace(*LARGER), "Unable to allocate"),
    ("objects", npy(np.array([[print]]), allow_pickle=True), UNREADABLE),
    ("reals", npy(np.ones((3, 3))), "must hold integers, got float64"),
    ("fields", npy(np.zeros((3, 3), [(f"{i}", int) for i in range(99)])), "must hold integers"),
    ("three axes", npy(np.ones((3, 3, 1), int)), "must be [rows, columns]"),
    ("none", npy(np.ones((0, 3), int)), "got shape (0, 3)"),
    ("a colour too many", npy(np.full((3, 3), 10)), "has colours 10 .. 10"),
    ("many", npy(np.ones((31, 3), int)), "is 31x3: at most 30x30 cells"),
]


def _spot():
    image = Image.new("RGB", (40, 40))
    image.paste(YELLOW, (20, 20, 40, 40))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _missing():
    refused(lambda: herjax.load_picture("/nowhere/x.txt"), "/nowhere/x.txt", OSError)


def _name(path, message, error=ValueError):
    return lambda: refused(lambda: herjax.load_picture(path), message, error)


CASES = [
    *(bad(f"text: {name}", "a.txt", *rest) for name, *rest in TEXTS),
    *(bad(f"JSON: {name}", "a.json", *rest) for name, *rest in JSONS),
    *(
        bad(f"part {part[:20]} of {len(part)}", f"a.json#{part}", json.dumps(TASK), m)
        for part, m in PARTS
    ),
    *(bad(f"array: {name}", "a.npy", *rest) for name, *rest in ARRAYS),
    *(bad(f"image: {c[0]}", c[0], c[1], c[2], **c[3]) for c in IMAGES),
    bad("a part of a text", "x.txt#zzz", "12", "is not .json: it has no part 'zzz'"),
    bad("a part of an image", "x.png#0", png("RGB", (2, 2)), "is not .json"),
    special("a folder", lambda p: p.mkdir(), "is a folder", OSError),
    special("a folder named as an image", lambda p: p.mkdir(), "is a folder", OSError, ".png"),
    special("a pipe nobody writes to", os.mkfifo, "is not a regular file"),
    special("a pipe named as JSON", os.mkfifo, "is not a regular file", suffix=".json"),
    special("a pipe named as an image", os.mkfifo, "is not a regular file", suffix=".png"),
    special("a socket", make_socket, "x.txt", OSError),
    special("a link to itself", lambda p: p.symlink_to(p), "x.txt", OSError),
    special("a link to nothing", lambda p: p.symlink_to("gone"), "x.txt", OSError),
    special("/dev/zero", lambda p: p.symlink_to("/dev/zero"), "is not a regular file"),
    special(
        "/dev/zero as an image",
        lambda p: p.symlink_to("/dev/zero"),
        "is not a regular",
        suffix=".png",
    ),
    special("/dev/null", lambda p: p.symlink_to("/dev/null"), "is not a regular file"),
    special("a sparse file of 1 TB", lambda p: os.truncate(_touched(p), 10**12), "is larger than"),
    special(
        "a sparse image of 1 TB",
        lambda p: os.truncate(_touched(p), 10**12),
        "is larger than 10 MB",
        suffix=".png",
    ),
    Case("no such file", AREA, _missing),
    Case("a name of 300 letters", AREA, _name("a" * 300 + ".txt", "name", OSError)),
    Case("a null character in the name", AREA, _name("a\0.txt", "null")),
    Case("no name", AREA, _name("", "", OSError)),
    Case("a # alone", AREA, _name("#", "", (OSError, ValueError))),
    Case("a number for a name", AREA, _name(3, "path must be a string or a path, got 3")),
    Case("bytes for a name", AREA, _name(b"a.txt", "path must be a string or a path")),
    Case("None for a name", AREA, _name(None, "path must be a string or a path, got None")),
    good("a byte order mark", "a.txt", "\ufeff12\n34\n", [[1, 2], [3, 4]]),
    good("a byte order mark before JSON", "a.json", "\ufeff[[1]]", [[1]]),
    good("UTF-16 JSON", "a.json", "[[1]]".encode("utf-16"), [[1]]),
    good("lines of Windows", "a.txt", "12\r\n34\r\n", [[1, 2], [3, 4]]),
    good("lines of the old Mac", "a.txt", "12\r34\r", [[1, 2], [3, 4]]),
    good("commas and tabs", "a.csv", "1,2\n3\t4\n", [[1, 2], [3, 4]]),
    good("a # in the name", "pic#1.txt", "12", [[1, 2]], whole=True),
    good("a # in the name of JSON", "pic#1.json", "[[1]]", [[1]], whole=True),
    good("a part", "a.json#test.0.input", json.dumps(TASK), [[7, 8]]),
    good("a part counted from behind", "a.json#train.-1.output", json.dumps(TASK), GRID),
    good("a name in capitals", "A.PNG", png("RGB", (2, 1), YELLOW), [[4, 4]]),
    good("one bit", "a.png", png("1", (2, 2), 0), [[0, 0], [0, 0]]),
    changed(
        "a palette, which has another yellow",
        saved(np.array([[YELLOW, BLACK]], np.uint8), mode="P"),
        [[4, 0]],
        "2 became 2",
    ),
    good("GIF named PNG", "a.png", saved(np.zeros((1, 2, 3), np.uint8), "GIF"), [[0, 0]]),
    good("16-bit black", "a.png", saved(np.zeros((2, 2), np.uint16)), [[0, 0], [0, 0]]),
    good("16-bit grey", "a.png", saved(np.full((1, 1), 170 * 257, np.uint16)), [[5]]),
    good("8-bit grey", "a.png", saved(np.full((1, 1), 170, np.uint8)), [[5]]),
    good("opaque with alpha", "a.png", png("RGBA", (1, 1), (*YELLOW, 255)), [[4]]),
    good("cells of 600 pixels", "a.png", png("1", (1200, 600), 0), [[0, 0]], cell_size=600),
    # What no colour is near to was refused; now it is brought to the ten, and told.
    changed("white", png("RGB", (2, 1), WHITE), [[5, 5]], "1 became 1, off by 20.0"),
    changed("pink", png("RGB", (1, 1), (255, 192, 203)), [[5]], "off by 22.1"),
    changed("16-bit white", saved(np.full((1, 1), 65535, np.uint16)), [[5]], "off by 20.0"),
    changed("veiled", png("RGBA", (1, 1), (*YELLOW, 128)), [[4]], "1 half transparent ones"),
    changed("blown up", png("1", (2000, 1000), 0), [[0, 0]], "2000x1000 pixels were read as 2x1"),
    changed("a spot", _spot(), [[0, 0], [0, 4]], "40x40 pixels were read as 2x2 cells of 20"),
    *(
        bad(f"{argument}={value!r}", "a.txt", "12", f"{argument} must be", **{argument: value})
        for argument, values in {
            "background": (-1, 10, 2**40, True, 1.0, "1", np.float32(1)),
            "cell_size": (0, -1, True, 1.5, "2", 10**10),
            "max_side": (0, -1, None, "3", 1.5),
        }.items()
        for value in values
    ),
]


def _touched(path):
    pathlib.Path(path).touch()
    return path
