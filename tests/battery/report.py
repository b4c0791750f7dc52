"""Reports, overviews, ``herjax.report``, ``herjax.show``: hostile names, odd shapes, bad paths."""

import base64
import html.parser
import io
import os
import pathlib
import re
import resource
import shlex
import tempfile
import xml.etree.ElementTree
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import herjax
from herjax.commands.facts import command_line
from herjax.commands.member import Member
from herjax.commands.summary import write_summary
from herjax.dsl.ops import RECTANGLE
from herjax.dsl.source import format_script
from herjax.viewing import plotting
from herjax.viewing.display import Report
from herjax.viewing.overview import Ended, make_overview
from herjax.viewing.report import file_name, make_report
from herjax.viewing.story import epoch_rows
from tests import referee
from tests.battery import Case
from tests.pages import data_of


def case(name: str, function: Callable, *arguments) -> Case:
    return Case(name, "report", lambda: function(*arguments))


def refused(call: Callable, words: str, *arguments, **values) -> None:
    """A ValueError of one line that says this."""
    with pytest.raises(ValueError) as caught:
        call(*arguments, **values)
    message = str(caught.value)
    assert re.search(words, message), message
    assert "\n" not in message
    assert len(message) < 300


# ---- herjax.show --------------------------------------------------------------------------------

GOOD = np.array([[1, 2, 2], [0, 9, 4]])
NOT_A_GRID = "does not hold a grid"
BAD_PICTURES = {
    "None": (None, NOT_A_GRID),
    "a number": (3, NOT_A_GRID),
    "a string": ("12", NOT_A_GRID),
    "bytes": (b"12", NOT_A_GRID),
    "a dict": ({0: [1]}, NOT_A_GRID),
    "a set": ({1, 2}, NOT_A_GRID),
    "a generator": ((row for row in [[1]]), NOT_A_GRID),
    "a type": (int, NOT_A_GRID),
    "a NumPy scalar": (np.int64(3), r"\[rows, columns\], got shape \(\)"),
    "no rows": ([], NOT_A_GRID),
    "empty rows": ([[], []], "shape"),
    "one row without brackets": ([1, 2], NOT_A_GRID),
    "a row of another length": ([[1, 2], [3]], "row 2 has 1 cells, row 1 has 2"),
    "rows of rows of rows": ([[[1]]], "colours are 0 .. 9"),
    "a float in a list": ([[1, 2.5]], "colours are 0 .. 9, got 2.5"),
    "a whole float in a list": ([[1.0]], "colours are 0 .. 9, got 1.0"),
    "True in a list": ([[True]], "colours are 0 .. 9, got True"),
    "None in a list": ([[None]], "colours are 0 .. 9, got None"),
    "a digit as text": ([["1"]], "colours are 0 .. 9, got '1'"),
    "ten in a list": ([[10]], "colours are 0 .. 9, got 10"),
    "minus one in a list": ([[-1]], "colours are 0 .. 9, got -1"),
    "a number of a thousand digits": ([[10**1000]], "colours are 0 .. 9"),
    "floats": (np.ones((2, 2)), "must hold integers, got float64"),
    "half floats": (np.ones((2, 2), np.float16), "must hold integers, got float16"),
    "NaN": (np.full((2, 2), np.nan), "must hold integers"),
    "complex numbers": (np.ones((2, 2), complex), "must hold integers"),
    "booleans": (np.ones((2, 2), bool), "must hold integers, got bool"),
    "objects": (np.array([[1, None]]), "must hold integers, got object"),
    "texts": (np.array([["1"]]), "must hold integers"),
    "dates": (np.array([["2020-01-01"]], "datetime64[D]"), "must hold integers"),
    "records": (np.zeros((2, 2), [("a", int)]), "must hold integers"),
    "one dimension": (np.arange(4), r"got shape \(4,\)"),
    "three dimensions": (np.zeros((2, 2, 3), int), r"got shape \(2, 2, 3\)"),
    "no cells": (np.zeros((0, 4), int), r"got shape \(0, 4\)"),
    "colour ten": (np.array([[0, 10]]), "colours 0 .. 10, allowed are 0 .. 9"),
    "colour minus one": (np.array([[-1, 3]]), "colours -1 .. 3, allowed are 0 .. 9"),
    "a photograph": (np.full((4, 4), 255, np.uint8), "colours 255 .. 255"),
    "the largest integer": (np.array([[2**63 - 1]]), "allowed are 0 .. 9"),
    "the largest unsigned integer": (np.array([[2**64 - 1]], np.uint64), "allowed are 0 .. 9"),
    "floats of JAX": (jnp.ones((2, 2)), "must hold integers"),
}
GOOD_PICTURES = {
    "rows": GOOD.tolist(),
    "tuples": tuple(map(tuple, GOOD.tolist())),
    "rows that are arrays": list(GOOD),
    "int8": GOOD.astype(np.int8),
    "unsigned": GOOD.astype(np.uint64),
    "big-endian": GOOD.astype(">i4"),
    "columns first": np.asfortranarray(GOOD),
    "every second cell": np.repeat(np.repeat(GOOD, 2, 0), 2, 1)[::2, ::2],
    "backwards in memory": GOOD[::-1, ::-1].copy()[::-1, ::-1],
    "JAX": jnp.asarray(GOOD),
    "a matrix": np.ma.masked_array(GOOD),
}
BAD_TITLES = {
    "one too many": (["a", "b"], "2 for 1 pictures"),
    "bytes": (b"a", "titles must be strings"),
    "a number": (1, "titles must be strings"),
    "numbers": ([1], r"titles must be strings, got \[1\]"),
    "None": (None, "titles must be strings, got None"),
    "a dict": ({"a": 1}, "titles must be strings"),
    "a list in a list": ([["a"]], "titles must be strings"),
}
HOSTILE = {
    "the end of the script": "</script><script>alert(1)</script>",
    "the end of the title": "</title><h1>x",
    "a comment": "<!-- <script>",
    "an attribute": '" onload="alert(1)" x=\'',
    "an entity": "&lt;b&gt;&amp;&#0;",
    "a place of the template": "{{DATA}}{{TITLE}}{{",
    "a group of a pattern": r"\1\g<0>\\",
    "a template of JavaScript": "${alert(1)}`",
    "a null": "a\0b",
    "lines": "a\nb\r\nc\u2028d\u2029e",
    "a name that is no UTF-8": os.fsdecode(b"pic\xff.png"),
    "half of a pair": "\ud83d",
    "from right to left": "\u202egnp.exe",
    "a picture": "\U0001f425\u200d\U0001f9ba",
    "much of it": "\u00e4" * 100_000,
    "nothing": "",
    "blanks": "   ",
    "a control character": "\x1b[31mred\x07",
    "CDATA": "]]><![CDATA[",
    "a style": "</style><style>*{display:none}",
}


def digits(text):
    return [line.split() for line in text.splitlines()]


def showing(picture):
    shown = herjax.show(picture)
    assert digits(repr(shown)) == [[str(cell) for cell in row] for row in GOOD]
    xml.etree.ElementTree.fromstring(shown._repr_svg_())


def show_nothing():
    refused(herjax.show, "at least one picture, got none")


def show_names_the_bad_one():
    refused(herjax.show, "^picture 2 has colours", GOOD, 10 * GOOD)


def show_hostile_title(title):
    shown = herjax.show(GOOD, titles=title)
    svg = shown._repr_svg_()
    svg.encode()
    if not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f]", svg):  # XML has no word for these
        root = xml.etree.ElementTree.fromstring(svg)
        assert {child.tag.split("}")[1] for child in root.iter()} <= {
            *("svg", "title", "g", "text", "rect", "path")
        }
    assert re.search("<(script|h1|style|b)>", svg) is None


def show_shape(rows, cols):
    picture = np.arange(rows * cols).reshape(rows, cols) % 10
    shown = herjax.show(picture, picture.T)
    lines = digits(repr(shown))
    if 2 * (rows + cols) + 3 > 80:  # what does not fit beside each other stands below
        assert len(lines) == rows + cols
        assert lines[0] == [str(cell) for cell in picture[0]]
        assert lines[rows:] == [[str(cell) for cell in row] for row in picture.T]
    else:
        assert len(lines) == max(rows, cols)
        assert lines[0] == [str(cell) for cell in (*picture[0], *picture.T[0])]
    xml.etree.ElementTree.fromstring(shown._repr_svg_())


SHAPES = [(1, 1), (1, 30), (30, 1), (2, 3), (30, 30), (20, 17), (1, 200)]
CASES = [
    *(
        case(f"show refuses {name}", refused, herjax.show, words, bad)
        for name, (bad, words) in BAD_PICTURES.items()
    ),
    *(case(f"show takes {name}", showing, good) for name, good in GOOD_PICTURES.items()),
    *(
        case(
            f"show refuses titles: {name}",
            lambda bad=bad, words=words: refused(herjax.show, words, GOOD, titles=bad),
        )
        for name, (bad, words) in BAD_TITLES.items()
    ),
    *(case(f"show: title of {name}", show_hostile_title, text) for name, text in HOSTILE.items()),
    *(case(f"show: {rows}x{cols}", show_shape, rows, cols) for rows, cols in SHAPES),
    case("show refuses nothing at all", show_nothing),
    case("show says which of two is bad", show_names_the_bad_one),
]

# ---- Reports ------------------------------------------------------------------------------------


def program_of(*records, length=3):
    program = np.zeros((length, 6), np.int8)
    program[: len(records)] = np.array(records).reshape(-1, 6)
    return program


def history_of(programs, target, **values):
    """Of programs [E, A, N, 6], with the referee's pictures."""
    blank = np.zeros(target.shape, int)
    pictures = np.stack([[referee.execute(p, blank) for p in row] for row in programs])
    names = ("run", "distinct", "new", "trained", "draws", "loss", "solved")
    known = {name: np.zeros(len(programs)) for name in names} | values
    return herjax.EpochMetrics(
        program=programs,
        accuracy=np.float32((pictures == target).mean(axis=(2, 3))),
        best_picture=pictures[:, 0],
        **known,
    )


def simple(shape=(2, 3), epochs=1, **values):
    """A picture, its history of two programs an epoch, and the best of them."""
    rows, cols = shape
    whole = program_of([RECTANGLE, 7, 0, 0, rows - 1, cols - 1])
    programs = np.stack([np.stack([program_of(), whole])] * epochs)
    target = np.full(shape, 7)
    picture = herjax.Picture(np.zeros(shape, int), target, whole)
    return picture, history_of(programs, target, **values), whole


class Texts(html.parser.HTMLParser):
    """The tags of a page, and its title."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.title, self.inside, self.attributes = [], "", "", set()
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.inside = tag
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        if self.inside == "title":
            self.title += data


PLAIN = Texts(make_report("plain", *simple(), {"a": 1}, facts={"b": "c"}))


def as_written(text):
    return text.encode(errors="replace").decode().replace("\0", "?")


def hostile_report(place, text):
    """No tag and no attribute comes in, and what was meant is told."""
    title = text if place == "title" else "plain"
    about = {"setting": {"a": 1}, "its name": {text: 1}, "its value": {"a": text}}.get(place)
    facts = {"fact": {text: "c"}, "its text": {"b": text}}.get(place, {"b": "c"})
    page = make_report(title, *simple(), about or {"a": 1}, facts=facts)
    page.encode()
    found = Texts(page)
    assert found.tags == PLAIN.tags
    assert found.attributes == PLAIN.attributes
    if "\r" not in text:
        assert found.title == as_written(title)
    data = data_of(page)
    assert data["about"] == (about or {"a": 1})
    assert data["title"] == title


def odd_shape(shape):
    data = data_of(make_report("x", *simple(shape), {}))
    assert data["target"] == data["picture"] == "7" * (shape[0] * shape[1])
    assert data["solved"]
    [best] = {place for place in data["epochs"][0]["attempts"] if data["programs"][place][1]}
    assert data["programs"][best][0] == shape[0] * shape[1]


def odd_loss(loss):
    found = data_of(make_report("x", *simple(loss=np.array([loss])), {}))
    assert found["epochs"][0]["loss"] is None


def odd_setting(value, told):
    assert data_of(make_report("x", *simple(), {"a": value}))["about"] == {"a": told}


def many_epochs():
    page = make_report("x", *simple(epochs=500), {})
    assert len(data_of(page)["epochs"]) == 500
    assert len(page) < 100_000  # programs are in it once


def nothing_drawn():
    programs = np.zeros((1, 4, 3, 6), np.int8)
    target = np.array([[1, 0]])
    picture = herjax.Picture(np.zeros((1, 2), int), target, None)
    data = data_of(make_report("x", picture, history_of(programs, target), program_of()[:0], {}))
    assert data["draws"] == []
    assert data["programs"] == [[1, []]]
    assert data["picture"] == "00"
    assert not data["solved"]


def rows_that_do_not_fit():
    refused(make_report, "2 rows are not 1 sampled", "x", *simple(), {}, sampled=1, kept=3)


REFUSED_RESULTS = {
    "None": None,
    "a number": 3,
    "a tuple": (True, None, [], None),
    "a dict": {"solved": True},
    "a class": herjax.Result,
    "a path": "runs/25-squares",
}


def result_of(**values):
    picture, history, best = simple()
    known = {
        "solved": True,
        "program": best[:1],
        "history": [herjax.EpochMetrics(**{k: v[0] for k, v in vars(history).items()})],
        "adapted": herjax.load_pretrained(),
        "task": herjax.make_task(picture.target),
        "config": herjax.AdaptConfig.plain(programs=(2,), temperatures=(1.0,)),
    }
    return herjax.Result(**known | values)


def refuse_a_result_of_no_epoch():
    refused(herjax.report, "result has no history", result_of(history=[]))


def whole_result():
    page = herjax.report(result_of(), title="a & b")
    data = data_of(page.html)
    assert data["target"] == data["picture"] == "777777"
    assert data["about"]["programs"] == [2]
    assert "<h1>a &amp; b</h1>" in page.html
    assert repr(page) == "Report(title='a & b', solved=True, epochs=1)"


def frame_holds_the_page(title):
    page = herjax.report(result_of(), title=title)
    frames = []

    class Frames(html.parser.HTMLParser):
        def handle_starttag(self, tag, attrs):
            frames.append((tag, dict(attrs)))

    Frames().feed(page._repr_html_())
    [(tag, attributes)] = frames
    assert tag == "iframe"
    assert attributes["srcdoc"] == page.html
    assert set(attributes) == {"srcdoc", "title", "sandbox", "style"}
    assert "allow-same-origin" not in attributes["sandbox"]  # the notebook's is not the page's


PAGE = Report("<!doctype html><p>page", "t", True, 1)
BAD_PATHS = {
    "None": (None, "must be a string or a path, got None"),
    "a number": (3, "must be a string or a path, got 3"),
    "bytes": (b"x.html", "must be a string or a path"),
    "nothing": ("", "must end in .html"),
    "no ending": ("page", "must end in .html, got"),
    "a program": ("solution.py", "must end in .html"),
    "weights": ("model.safetensors", "must end in .html"),
    "a hidden file": (".html", "must end in .html"),
    "an ending before the last": ("a.html.gz", "must end in .html"),
    "a null": ("a\0.html", "must end in .html"),
    "a folder that is not there": ("no/where/a.html", "there is no folder"),
    "a file in place of a folder": ("file.txt/a.html", "there is no folder"),
    "a folder": ("folder.html", "is a folder"),
}
GOOD_PATHS = ["a.html", "a.HTM", "with blank.html", "\u00e4 \u2603.html", "a.b.html", "-.html"]


def in_a_folder(function, *arguments):
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "folder.html").mkdir()
        (folder / "file.txt").write_text("kept")
        before = sorted(folder.rglob("*"))
        function(folder, *arguments)
        assert (folder / "file.txt").read_text() == "kept"
        return before, sorted(folder.rglob("*"))


def save_refused(bad, words):
    def attempt(folder):
        path = str(folder / bad) if isinstance(bad, str) and bad else bad
        refused(PAGE.save, words, path)

    before, after = in_a_folder(attempt)
    assert before == after


def save_good(name):
    def attempt(folder):
        for path in (str(folder / name), folder / name):
            (folder / name).write_text("an earlier page")
            PAGE.save(path)
            assert (folder / name).read_text() == PAGE.html

    before, after = in_a_folder(attempt)
    assert len(after) == len(before) + 1


def save_on_a_full_disk():
    """The earlier page stays whole; the limit stands for a disk that is full."""

    def attempt(folder):
        path = folder / "a.html"
        path.write_text("an earlier page")
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        try:
            with pytest.raises(OSError, match="too large"):
                Report("x" * 10_000, "t", True, 1).save(path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert path.read_text() == "an earlier page"

    in_a_folder(attempt)


def save_a_name_that_is_too_long():
    def attempt(folder):
        with pytest.raises(OSError, match="too long"):
            PAGE.save(folder / ("x" * 300 + ".html"))

    before, after = in_a_folder(attempt)
    assert before == after


CASES += [
    *(
        case(f"report: {place} of {name}", hostile_report, place, text)
        for place in ("title", "its name", "its value", "fact", "its text")
        for name, text in HOSTILE.items()
    ),
    *(case(f"report: {shape}", odd_shape, shape) for shape in SHAPES if max(shape) <= 30),
    *(case(f"report: loss {loss}", odd_loss, loss) for loss in (np.nan, np.inf, -np.inf)),
    case("report: a setting that is NaN", odd_setting, float("nan"), "NaN"),
    case("report: an infinite setting", odd_setting, -float("inf"), "-Infinity"),
    case("report: a path as a setting", odd_setting, pathlib.Path("/a"), "/a"),
    case("report: a tuple as a setting", odd_setting, (1, (2,)), [1, [2]]),
    case("report: a NumPy number as a setting", odd_setting, np.float32(0.5), "0.5"),
    case("report: 500 epochs", many_epochs),
    case("report: programs that draw nothing", nothing_drawn),
    case("report: rows that do not fit", rows_that_do_not_fit),
    *(
        case(f"herjax.report refuses {name}", refused, herjax.report, "result must be a Res", bad)
        for name, bad in REFUSED_RESULTS.items()
    ),
    *(
        case(
            f"herjax.report refuses a title that is {title!r}",
            lambda title=title: refused(
                herjax.report, "title must be a string", result_of(), title=title
            ),
        )
        for title in (None, 3, b"a", ["a"])
    ),
    case("herjax.report refuses a result without epochs", refuse_a_result_of_no_epoch),
    case("herjax.report takes a whole result", whole_result),
    *(
        case(f"herjax.report in a notebook: title of {name}", frame_holds_the_page, text)
        for name, text in HOSTILE.items()
    ),
    *(
        case(f"save refuses {name}", save_refused, bad, words)
        for name, (bad, words) in BAD_PATHS.items()
    ),
    *(case(f"save takes {name!r}", save_good, name) for name in GOOD_PATHS),
    case("save on a full disk", save_on_a_full_disk),
    case("save under a name that is too long", save_a_name_that_is_too_long),
    case("epoch_rows: one too few", refused, epoch_rows, "7 rows", np.zeros((7, 2, 6)), 2, 2),
    case("epoch_rows: more sampled", refused, epoch_rows, "8 rows", np.zeros((8, 2, 6)), 9, 0),
    case("epoch_rows: negative kept", refused, epoch_rows, "8 rows", np.zeros((8, 2, 6)), 4, -1),
]

# ---- Overviews, figures, names ------------------------------------------------------------------


def ended(**values):
    known = {"task": "t", "seed": 0, "solved": True, "best": 1.0, "sampled": 12, "run": 90}
    known |= {"draws": 3, "seconds": 1.0, "link": "t/report.html", "target": GOOD}
    return Ended(**known | values)


def tags_of(*members, title="x", facts=None):
    return Texts(make_overview(title, members, facts)).tags


def hostile_overview(place, text):
    two = [ended(), ended(seed=1)]
    plain = tags_of(*two, title="plain", facts={"b": "c"})
    if place == "task":
        two = [member._replace(task=text) for member in two]
    if place == "link":
        two = [member._replace(link=text) for member in two]
    title = text if place == "title" else "plain"
    facts = {"b": text} if place == "fact" else {"b": "c"}
    page = make_overview(title, two, facts)
    page.encode()
    assert Texts(page).tags == plain
    assert not Texts(page).attributes & {"onload", "onclick"}


def odd_members(*members):
    """Numbers of the chart are numbers, and stand inside of it."""
    page = make_overview("x", members)
    for path in re.findall(r' d="([^"]+)"', page):
        places = [float(n) for n in re.findall(r"-?[\d.]+", path)]
        assert all(-1 <= place <= 560 for place in places)
    assert not re.search(r"[^a-z](nan|inf)[^a-z]", page[page.index("<svg") : page.index("</svg>")])


def folder_as_address(name):
    """A link of the overview is the address of the member's folder, whatever that is called."""
    with tempfile.TemporaryDirectory() as root:
        workdir = pathlib.Path(root)
        picture = herjax.Picture(GOOD, GOOD, None)
        members = [Member("t", 0, picture, workdir / name)]
        result = {"task": "t", "seed": 0, "solved": True, "best_accuracy": [1.0], "draws": 1}
        result |= {"programs_sampled": 12, "programs_run": 90, "seconds_run": 1.0}
        write_summary(workdir, members, [result])
        [link] = re.findall(r'<a href="([^"]+)"><img', (workdir / "report.html").read_text())
    assert link.endswith("/report.html")
    assert re.fullmatch(r"[\w.~%/-]+", link, re.ASCII)


def beside_a_solution(write):
    """The overview of a run of which a member's solution is damaged comes, without its picture."""
    with tempfile.TemporaryDirectory() as root:
        workdir = pathlib.Path(root)
        (workdir / "t").mkdir()
        write(workdir / "t" / "solution.py")
        picture = herjax.Picture(np.zeros((2, 3), int), GOOD, None)
        result = {"task": "t", "seed": 0, "solved": False, "best_accuracy": [0.5], "draws": 1}
        result |= {"programs_sampled": 12, "programs_run": 90, "seconds_run": 1.0}
        write_summary(workdir, [Member("t", 0, picture, workdir / "t")], [result])
        return re.findall(
            '<img alt="best picture".*?base64,([^"]+)"', (workdir / "report.html").read_text()
        )


def whole_solution():
    script = format_script(program_of([RECTANGLE, 7, 0, 0, 1, 2]), np.zeros((2, 3), int))
    [picture] = beside_a_solution(lambda path: path.write_text(script))
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture))))
    assert (shown == 7).all()


def damaged_solution(data):
    assert beside_a_solution(lambda path: data is None or path.write_bytes(data)) == []


DAMAGED = {
    "not there": None,
    "empty": b"",
    "no UTF-8": b"\xff\xfe",
    "a null": b"\0",
    "cut off": b"def task(img):\n    draw_pix",
    "another call": b"def task(img):\n    exec('1')\n    return img",
    "a point outside": b"def task(img):\n    draw_pixel(img, point=(9, 9), color=1)",
    "nested deep": b"def task(img):\n    return " + b"(" * 5000 + b"img" + b")" * 5000,
}


def quoted(argument):
    words = shlex.split(command_line(["herjax-adapt", argument, "--seed=1"]))
    assert words == ["herjax-adapt", argument, "--seed=1"]


def safe_name(text):
    name = file_name(text)
    assert re.fullmatch(r"[0-9A-Za-z][0-9A-Za-z.-]*", name)
    assert len(name) <= 80


def figures(shape, count):
    pictures = np.zeros((count, *shape), int)
    words = ["epoch 1 of 1\nbest attempt: 1.0 %"] * count
    with tempfile.TemporaryDirectory() as root:
        folder = pathlib.Path(root)
        plotting.animation(folder / "a.gif", pictures[0], pictures, words, [100] * count)
        plotting.best_predictions(folder / "b.png", pictures[0], pictures, words)
        assert {path.name for path in folder.iterdir()} == {"a.gif", "b.png"}


MEMBERS = {
    "one": [ended()],
    "one that was not solved": [ended(solved=False, best=0.5)],
    "no programs at all": [ended(sampled=0, solved=False, best=0.0)],
    "a million million programs": [ended(sampled=10**12), ended(sampled=1)],
    "equal ones": [ended()] * 5,
    "a thousand": [ended(seed=i, sampled=12 * i + 12) for i in range(1000)],
    "a hundred tasks": [ended(task=f"t{i}") for i in range(100)],
    "one sample": [ended(sampled=1)],
    "no draws": [ended(draws=0)],
    "endless seconds": [ended(seconds=float("inf"))],
    "a picture of one cell": [ended(target=np.array([[3]]))],
    "a picture of 30x30": [ended(target=np.full((30, 30), 9))],
    "best a hair below": [ended(solved=False, best=np.nextafter(1, 0))],
    "numbers of NumPy": [ended(sampled=np.int64(12), best=np.float32(1), solved=np.bool_(True))],
}
FOLDERS = [
    "a b",
    "javascript:alert(1)",
    "a?b#c",
    "\u00e4",
    "a%2e",
    '"x"',
    os.fsdecode(b"\xff"),
    "<b>",
]
ARGUMENTS = ["--task=a b", "--task='", '--task="', "--task=$HOME", "--task=`id`", "--task=;rm", ""]
ARGUMENTS += ["--task=*", "--task=\\", "--task=a\nb", "--task=\u00e4", "--task=!x", "--task=a#b"]
CASES += [
    *(
        case(f"overview: {place} of {name}", hostile_overview, place, text)
        for place in ("title", "task", "link", "fact")
        for name, text in HOSTILE.items()
    ),
    *(case(f"overview: {name}", odd_members, *members) for name, members in MEMBERS.items()),
    case("overview: a solution that is whole", whole_solution),
    *(
        case(f"overview: a solution that is {name}", damaged_solution, data)
        for name, data in DAMAGED.items()
    ),
    case("overview: nobody", refused, make_overview, "members: .* got none", "x", []),
    *(case(f"overview: folder {name!r}", folder_as_address, name) for name in FOLDERS),
    *(case(f"command: {argument!r}", quoted, argument) for argument in ARGUMENTS),
    *(case(f"file name of {name}", safe_name, text) for name, text in HOSTILE.items()),
    *(case(f"figures of {shape}", figures, shape, 2) for shape in [(1, 1), (1, 30), (30, 1)]),
]
