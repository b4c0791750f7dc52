"""report.html holds exact data, and works in a browser (Chromium and Playwright, if installed)."""

import base64
import contextlib
import gzip
import json
import re
import shutil

import jax
import numpy as np
import pytest

import herjax
from herjax.dsl.ops import RECTANGLE
from herjax.tasks.random import random_program
from herjax.viewing.report import make_overview, make_report
from tests import referee

EPOCHS, PROGRAMS, SHAPE = 30, 32, (4, 7)
BLANK = np.zeros(SHAPE, int)


def drawn(programs):
    return np.stack([[referee.execute(p, BLANK) for p in row] for row in programs])


def make_history(programs, target, **values):
    """History of programs [E, A, N, 6], with what is not given counted as 0."""
    epochs, rows = programs.shape[:2]
    pictures = drawn(programs)
    integers = ("run", "distinct", "new", "trained")
    given = {name: np.zeros(epochs, int) for name in integers}
    given |= {name: np.zeros(epochs) for name in ("draws", "loss")}
    return herjax.EpochMetrics(
        program=programs,
        accuracy=np.float32((pictures == target).mean(axis=(2, 3))),
        best_picture=pictures[:, 0],
        solved=np.zeros(epochs, bool),
        **given | {name: np.array(value) for name, value in values.items()},
    )


@pytest.fixture(scope="module")
def history():
    keys = jax.random.split(jax.random.key(0), EPOCHS * PROGRAMS)
    programs = jax.vmap(lambda k: random_program(k, *SHAPE, 5))(keys)
    programs = np.asarray(programs, np.int8).reshape(EPOCHS, PROGRAMS, 5, 6)
    programs[3, 1] = programs[3, 0]  # one picture twice
    target = referee.execute(programs[-1, 5], BLANK)
    return make_history(programs, target, run=np.full(EPOCHS, PROGRAMS), draws=np.full(EPOCHS, 3))


@pytest.fixture(scope="module")
def page(history):
    target = referee.execute(history.program[-1, 5], BLANK)
    picture = herjax.Picture(BLANK, target, None)
    about = {"seed": 3, "note": "</script><b>"}
    return make_report("a <b> & c", picture, history, history.program[-1, 5], about)


# Four draws that together paint the target; sampled are one, two and three of them.
DRAWS = np.array(
    [[RECTANGLE, c + 1, *box] for c, box in enumerate([(0, 0, 1, 6), (2, 0, 3, 2), (2, 3, 3, 4)])]
    + [[RECTANGLE, 4, 2, 5, 3, 6]],
    np.int8,
)
SAMPLED, KEPT = 3, 2


def of(*places):
    """The program of some of the four draws."""
    program = np.zeros((5, 6), np.int8)
    program[: len(places)] = DRAWS[list(places)]
    return program


# A kept program brings the draw 1 into the second epoch, where nothing sampled has it.
RECOMBINED = np.stack(
    [
        np.stack(rows)
        for rows in (
            [of(0), of(0, 1), of(2), of(), of(), of(0, 1), of(0, 1), of(2, 0, 1), of(), of()],
            [of(0), of(0, 2), of(3), of(0, 1), of(), of(0, 3, 1, 2), of(0, 2, 3)]
            + [of(3), of(0, 1), of()],
        )
    ]
)


@pytest.fixture(scope="module")
def recombined():
    """Pages of one and of two epochs with children."""
    target = referee.execute(of(0, 1, 2, 3), BLANK)
    picture = herjax.Picture(BLANK, target, None)
    numbers = {"run": [40, 5123], "distinct": [4, 6], "new": [4, 3], "draws": [1.5, 1.9]}
    pages = {}
    for epochs in (1, 2):
        known = {name: values[:epochs] for name, values in numbers.items()}
        history = make_history(RECOMBINED[:epochs], target, **known)
        pages[epochs] = make_report("few", picture, history, of(0, 1), {}, SAMPLED, KEPT)
    return pages


def data_of(page):
    packed = re.search(r'id="data">([0-9A-Za-z+/=]*)</script>', page).group(1)
    return json.loads(gzip.decompress(base64.b64decode(packed)))


def draws_of(data, program):
    return [data["draws"][index] for index in data["programs"][program][1]]


def painted(data, program):
    """The digits of a program's picture, as the page paints it."""
    cells = list(data["input"])
    for _, colour, hexadecimal in draws_of(data, program):
        bits = np.unpackbits(np.frombuffer(bytes.fromhex(hexadecimal), np.uint8))
        cells = [str(colour) if on else old for on, old in zip(bits, cells)]
    return "".join(cells)


def digits(picture):
    return "".join(map(str, picture.ravel()))


def test_every_attempt_is_there_with_its_picture_and_pixels_right(page, history):
    data = data_of(page)
    assert len(data["epochs"]) == EPOCHS
    target = [int(digit) for digit in data["target"]]
    for epoch, found in enumerate(data["epochs"]):
        pictures = [referee.execute(program, BLANK) for program in history.program[epoch]]
        assert [painted(data, place) for place in found["attempts"]] == list(map(digits, pictures))
        right = [int((picture.ravel() == target).sum()) for picture in pictures]
        assert [data["programs"][place][0] for place in found["attempts"]] == right
        assert found["kept"] == found["children"] == []
    assert data["final"] == herjax.format_program(history.program[-1, 5])


def test_children_know_their_parents_and_empty_places_are_no_programs(recombined):
    data = data_of(recombined[2])
    first, second = data["epochs"]

    def names(places):
        return [painted(data, place) for place in places]

    def pictures(*programs):
        return [digits(referee.execute(program, BLANK)) for program in programs]

    assert first["kept"] == []
    assert names(first["attempts"]) == pictures(of(0), of(0, 1), of(2))
    children, parents = zip(*first["children"])  # the second attempt accepted nothing
    assert names(children) == pictures(of(0, 1), of(2, 0, 1))
    assert list(parents) == [first["attempts"][0], first["attempts"][2]]
    assert names(second["kept"]) == pictures(of(0, 1))
    children, parents = zip(*second["children"])
    assert names(children) == pictures(of(0, 1, 2, 3), of(0, 2, 3))
    assert list(parents) == second["attempts"][:2]
    assert len({tuple(draws) for _, draws in data["programs"]}) == len(data["programs"])


def test_page_is_one_small_file_with_its_text_escaped(page):
    assert len(page) < 1_000_000
    assert "<title>a &lt;b&gt; &amp; c</title>" in page
    assert data_of(page)["about"]["note"] == "</script><b>"
    assert page.count("</script>") == 2
    assert not re.search(r"src=|@import|url\(", page)


def test_a_loss_that_is_not_finite_is_still_json(history):
    picture = herjax.Picture(BLANK, BLANK, None)
    broken = history.replace(loss=np.full(EPOCHS, np.nan))
    page = make_report("nan", picture, broken, history.program[0, 0], {})
    assert data_of(page)["epochs"][0]["loss"] is None


OVERVIEW = [
    {"task": "a<b", "best": "100.0%", "programs run": 5123, "link": "a-seed0/report.html"},
    {"task": "c", "best": "9.5%", "programs run": 640, "link": "c-seed0/report.html"},
]


def test_overview_links_into_members():
    page = make_overview("two", OVERVIEW)
    assert '<a href="a-seed0/report.html">a&lt;b</a><td>100.0%' in page
    assert "tr>:nth-child(2),tr>:nth-child(3){text-align:right}" in page
    assert not re.search(r"https?:|src=|@import|url\(", page)


@pytest.fixture
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox", "--disable-background-networking", "--disable-component-update"],
        )
        yield browser
        browser.close()


@contextlib.contextmanager
def opened(browser, page, path, width, scheme="light"):
    """A tab with the page; at its end nothing was logged, loaded from elsewhere, or too wide."""
    path.write_text(page)
    errors, requests = [], []
    tab = browser.new_page(viewport={"width": width, "height": 700}, color_scheme=scheme)
    tab.on("console", lambda message: message.type == "error" and errors.append(message.text))
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on("request", lambda request: requests.append(request.url))
    tab.goto(f"file://{path}")
    tab.locator("html[data-ready]").wait_for()
    yield tab
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert errors == []
    assert requests == [f"file://{path}"]
    tab.screenshot(path=path.with_suffix(".png"), full_page=True)


def colours(tab, canvas):
    """The corner of every cell."""
    return tab.locator(canvas).evaluate(
        """(canvas, [rows, cols]) => {
            const size = canvas.width / cols, found = [];
            for (let i = 0; i < rows * cols; i++) {
                const x = i % cols * size, y = Math.floor(i / cols) * size;
                const p = canvas.getContext("2d").getImageData(x, y, 1, 1).data;
                const digits = [...p].slice(0, 3).map(v => v.toString(16).padStart(2, "0"));
                found.push(digits.join(""));
            }
            return found;
        }""",
        SHAPE,
    )


def expected(data, digits):
    return [data["palette"][int(digit)].lstrip("#").lower() for digit in digits]


WIDTHS = pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1200, "light")])


@WIDTHS
def test_many_epochs_in_chromium(browser, page, tmp_path, width, scheme):
    data = data_of(page)
    with opened(browser, page, tmp_path / "report.html", width, scheme) as tab:
        assert tab.inner_text("h1") == "a <b> & c"
        assert tab.inner_text("#summary") == "Solved after 30 epochs, 960 programs sampled."
        assert tab.inner_text("#number") == "30 of 30"
        tab.focus("#epoch")
        for _ in range(26):
            tab.keyboard.press("ArrowLeft")
        assert tab.inner_text("#number") == "4 of 30"
        attempts = data["epochs"][3]["attempts"]
        pictures = {painted(data, place) for place in attempts}
        buttons = tab.locator("#tried button")
        assert buttons.count() == len(pictures) <= 31
        assert f"{PROGRAMS} programs, {len(pictures)} pictures" in tab.inner_text("#tried h3")

        best = max(attempts, key=lambda place: data["programs"][place][0])
        assert colours(tab, "#target") == expected(data, data["target"])
        assert colours(tab, "#best") == colours(tab, "#stepped")  # it is chosen at first
        right = f"{data['programs'][best][0]} of 28 pixels"
        assert right in tab.inner_text("#programText")

        times = [int((text.split("×") + ["1"])[1]) for text in buttons.all_inner_texts()]
        assert sum(times) == PROGRAMS
        assert max(times) > 1

        lengths = [int(text.split()[0]) for text in tab.locator("#stepNumber").all_inner_texts()]
        for place in range(buttons.count()):  # also a longer program after a shorter one
            buttons.nth(place).click()
            step, _, count = tab.inner_text("#stepNumber").split()
            assert step == count
            lengths.append(int(count))
        assert any(a < b for a, b in zip(lengths, lengths[1:]))

        buttons.nth(0).focus()
        for place in (1, 2):
            tab.keyboard.press("ArrowRight")
            assert buttons.nth(place).get_attribute("aria-pressed") == "true"
        assert tab.locator("#tried button[aria-pressed=true]").count() == 1
        calls = tab.locator("#code .call").all_inner_texts()
        [chosen] = {
            painted(data, place)
            for place in attempts
            if [draw[0] for draw in draws_of(data, place)] == calls
        }
        assert colours(tab, "#stepped") == expected(data, chosen)
        assert colours(tab, "#tried button >> nth=2 >> canvas") == expected(data, chosen)
        tab.focus("#step")
        for _ in calls:
            tab.keyboard.press("ArrowLeft")
        assert colours(tab, "#stepped") == expected(data, data["input"])
        tab.keyboard.press("ArrowRight")
        assert tab.inner_text("#code .now .call") == calls[0]
        assert tab.locator("#curves .point").count() == 5 * EPOCHS
        assert tab.locator("#numbers tr").count() == 1 + EPOCHS
        assert "best child" not in tab.locator("#numbers th").all_text_contents()
        tab.click("#copy")
        tab.locator("#copy:text-is('Copied')").wait_for(timeout=10_000)


@WIDTHS
def test_one_epoch_in_chromium_has_dots_values_and_axes(
    browser, recombined, tmp_path, width, scheme
):
    with opened(browser, recombined[1], tmp_path / "one.html", width, scheme) as tab:
        summary = "Not solved (best 85.7 %) after 1 epoch, 3 programs sampled, 40 run."
        assert tab.inner_text("#summary") == summary
        assert not tab.is_visible("#epoch")
        curves = tab.locator("#curves svg")
        words = [" ".join(svg.locator("text").all_text_contents()) for svg in curves.all()]
        assert [svg.locator(".point").count() for svg in curves.all()] == [3, 2, 1]
        for name, value, found in zip(
            ("pixels right, %", "pictures", "draws"),
            ("85.7 best child", "4 distinct", "1.5 mean draws"),
            words,
        ):
            assert name in found
            assert value in found
            assert "1 epoch" in found  # the tick and the name of its axis
        inside = curves.nth(0).evaluate(
            """svg => [...svg.querySelectorAll(".point, text")].every(mark => {
                const box = svg.getBoundingClientRect(), own = mark.getBoundingClientRect();
                return own.left >= box.left - 1 && own.right <= box.right + 1
                    && own.top >= box.top - 1 && own.bottom <= box.bottom + 1;
            })"""
        )
        assert inside
        assert "programs" in tab.locator("#histogram text").all_text_contents()
        assert tab.locator("#numbers tr").count() == 2
        assert "best child" in tab.locator("#numbers th").all_text_contents()
        assert tab.locator("#tried .pictures").count() == 2  # nothing was kept yet
        assert tab.locator("#tried h3").all_inner_texts() == [
            "Attempts: 3 programs, 3 pictures",
            "Children: 2 programs, 2 pictures",
        ]


@WIDTHS
def test_a_child_in_chromium_stands_beside_its_parents(
    browser, recombined, tmp_path, width, scheme
):
    page = recombined[2]
    data = data_of(page)
    with opened(browser, page, tmp_path / "two.html", width, scheme) as tab:
        assert tab.inner_text("#bestText") == "best of the epoch: 100.0 %, child"
        family = [text.split("\n") for text in tab.locator("#family .picture").all_inner_texts()]
        assert family == [
            ["parent", "50.0 %", "gives 1 draw", "attempt"],
            ["partner 1", "64.2 %", "gives 1 draw", "attempt"],
            ["partner 2", "14.2 %", "gives 1 draw", "attempt"],
            ["partner 3", "71.4 %", "gives 1 draw", "kept from an earlier epoch"],
            ["child", "100.0 %", "4 draws"],
        ]
        lines = tab.locator("#code b").all_inner_texts()
        assert lines == ["parent", "partner 2", "partner 3", "partner 1"]
        parent = data["epochs"][1]["attempts"][0]
        assert colours(tab, "#family canvas >> nth=0") == expected(data, painted(data, parent))

        tab.click("#family button >> nth=3")  # the kept one
        assert tab.inner_text("#programText").startswith("kept from an earlier epoch: 71.4 %")
        assert tab.locator("#family *").count() == 0
        assert colours(tab, "#stepped") == expected(
            data, painted(data, data["epochs"][1]["kept"][0])
        )
        tab.locator("#tried button.child").nth(1).hover()
        tab.locator("#tried button.child").nth(1).click()
        assert tab.locator("#code b").all_inner_texts() == ["parent", "parent", "partner 1"]


@WIDTHS
def test_overview_in_chromium_sorts_and_fits(browser, tmp_path, width, scheme):
    page = make_overview("two", OVERVIEW)
    with opened(browser, page, tmp_path / "all.html", width, scheme) as tab:
        first = tab.locator("tbody tr >> nth=0 >> td >> nth=0")
        for name, order in (("best", "ca"), ("programs run", "ca"), ("task", "ac")):
            for letter in order:  # a second click turns the order
                tab.click(f"th button:text-is('{name}')")
                assert first.inner_text()[0] == letter
        assert tab.locator("th[aria-sort=descending]").count() == 1
