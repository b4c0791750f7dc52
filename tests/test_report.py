"""report.html holds exact data, and works in a browser (Chromium and Playwright, if installed)."""

import json
import re
import shutil

import jax
import numpy as np
import pytest

import herjax
from herjax.report import make_overview, make_report
from herjax.tasks import random_program
from tests import referee

EPOCHS, PROGRAMS, SHAPE = 30, 32, (4, 7)


@pytest.fixture(scope="module")
def history():
    keys = jax.random.split(jax.random.key(0), EPOCHS * PROGRAMS)
    programs = jax.vmap(lambda k: random_program(k, *SHAPE, 5))(keys)
    programs = np.asarray(programs, np.int8).reshape(EPOCHS, PROGRAMS, 5, 6)
    programs[3, 1] = programs[3, 0]  # one picture twice
    drawn = np.stack([[referee.execute(p, np.zeros(SHAPE, int)) for p in row] for row in programs])
    accuracy = np.float32((drawn == drawn[-1, 5]).mean(axis=(2, 3)))
    zeros = np.zeros(EPOCHS)
    return herjax.EpochMetrics(
        program=programs,
        accuracy=accuracy,
        best_picture=drawn[:, 0],
        **{name: zeros.astype(int) for name in ("distinct", "new", "trained")},
        draws=zeros,
        loss=zeros,
        solved=zeros.astype(bool),
    )


@pytest.fixture(scope="module")
def page(history):
    target = referee.execute(history.program[-1, 5], np.zeros(SHAPE, int))
    picture = herjax.Picture(np.zeros(SHAPE, int), target, None)
    about = {"seed": 3, "note": "</script><b>"}
    return make_report("a <b> & c", picture, history, history.program[-1, 5], about)


def data_of(page):
    return json.loads(re.search(r'id="data">(.*)</script>\n<script>', page).group(1))


def test_every_tried_picture_is_drawn_by_its_program(page, history):
    data = data_of(page)
    assert len(data["epochs"]) == EPOCHS
    for epoch, found in enumerate(data["epochs"]):
        expected = set()
        for program in history.program[epoch]:
            expected.add("".join(map(str, referee.execute(program, np.zeros(SHAPE, int)).ravel())))
        assert {tried[0] for tried in found["tried"]} == expected
        assert len(found["tried"]) == len(expected)
        assert [tried[1] for tried in found["tried"]] == sorted(
            (tried[1] for tried in found["tried"]), reverse=True
        )
        for digits, _, draws in found["tried"]:
            cells = list(data["input"])
            for _, colour, hexadecimal in (data["draws"][index] for index in draws):
                bits = np.unpackbits(np.frombuffer(bytes.fromhex(hexadecimal), np.uint8))
                cells = [str(colour) if on else old for on, old in zip(bits, cells)]
            assert "".join(cells) == digits
    assert data["final"] == herjax.format_program(history.program[-1, 5])


def test_page_is_one_small_file_with_its_text_escaped(page):
    assert len(page) < 3_000_000
    assert "<title>a &lt;b&gt; &amp; c</title>" in page
    assert data_of(page)["about"]["note"] == "</script><b>"
    assert page.count("</script>") == 2
    assert not re.search(r"https?:|src=|@import|url\(", page)


def test_overview_links_into_members():
    page = make_overview("two", [{"task": "a<b", "solved": "yes", "link": "a-seed0/report.html"}])
    assert '<a href="a-seed0/report.html">a&lt;b</a><td>yes' in page


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


@pytest.mark.parametrize("width", [360, 1200])
def test_in_chromium(browser, page, tmp_path, width):
    (tmp_path / "report.html").write_text(page)
    data, errors, requests = data_of(page), [], []
    tab = browser.new_page(viewport={"width": width, "height": 700})
    tab.on("console", lambda message: message.type == "error" and errors.append(message.text))
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on("request", lambda request: requests.append(request.url))
    tab.goto(f"file://{tmp_path}/report.html")
    assert tab.inner_text("h1") == "a <b> & c"
    assert "Solved after 30 epochs, 960 programs." in tab.inner_text("#summary")
    assert tab.inner_text("#number") == "29 of 29"

    tab.focus("#epoch")
    for _ in range(26):
        tab.keyboard.press("ArrowLeft")
    assert tab.inner_text("#number") == "3 of 29"
    tried = data["epochs"][3]["tried"]
    buttons = tab.locator("#tried button")
    assert buttons.count() == len(tried) <= 31
    assert not tab.is_visible("#program")

    longest = max(range(len(tried)), key=lambda i: len(tried[i][2]))
    buttons.nth(longest).focus()
    tab.keyboard.press("Enter")
    draws = tried[longest][2]
    assert tab.inner_text("#code").split("\n") == [data["draws"][i][0] for i in draws]

    def colours(canvas):
        """The corner of every cell."""
        return tab.eval_on_selector(
            canvas,
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

    def expected(digits):
        return [data["palette"][int(digit)].lstrip("#").lower() for digit in digits]

    assert colours("#target") == expected(data["target"])
    assert colours("#best") == expected(tried[0][0])
    assert colours("#stepped") == expected(tried[longest][0])
    tab.focus("#step")
    for _ in draws:
        tab.keyboard.press("ArrowLeft")
    assert colours("#stepped") == expected(data["input"])
    tab.keyboard.press("ArrowRight")
    assert tab.inner_text("#code .now") == data["draws"][draws[0]][0]
    tab.click("#copy")
    assert tab.inner_text("#copy") == "Copied"
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert errors == []
    assert requests == [f"file://{tmp_path}/report.html"]
    tab.screenshot(path=tmp_path / "page.png", full_page=True)
