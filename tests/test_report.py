"""report.html holds exact data, and works in a browser (Chromium and Playwright, if installed)."""

import csv
import json
import re

import jax
import numpy as np
import pytest
from PIL import Image

import herjax
from herjax.dsl.ops import RECTANGLE
from herjax.dsl.source import format_script
from herjax.tasks.random import random_program
from herjax.viewing.report import file_name, make_report
from tests import referee
from tests.browser import WIDTHS, opened, violations
from tests.pages import BLANK, KEPT, RECOMBINED, SAMPLED, SHAPE, data_of, make_history, of

EPOCHS, PROGRAMS = 30, 32
TITLE = f"few {100 * 'x'}"  # wider than a phone


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
        facts = {"seconds": "1.5 seconds", "command": "herjax-adapt --task='a <b>'"}
        rows = {"sampled": SAMPLED, "kept": KEPT}
        more = {"facts": facts, "overview": f"../{epochs}.html"}
        pages[epochs] = make_report(TITLE, picture, history, of(0, 1), {}, **rows, **more)
    return pages


def test_a_member_leads_back_to_its_population(recombined, page):
    assert '<a href="../2.html">All adaptations of this run</a>' in recombined[2]
    assert "All adaptations" not in page


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
        summary = "Not solved (best 85.7 %) after 1 epoch, 3 programs sampled, 40 run"
        assert tab.inner_text("#summary") == f"{summary}, in 1.5 seconds."
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


def middles(tab, canvas):
    """Is there a mark in a cell: the colours of its middle, its edge and beside its middle."""
    return tab.locator(canvas).evaluate(
        """(canvas, [rows, cols]) => {
            const size = canvas.width / cols, at = (x, y) =>
                canvas.getContext("2d").getImageData(x, y, 1, 1).data.join();
            return Array.from({length: rows * cols}, (_, i) => {
                const x = i % cols * size, y = Math.floor(i / cols) * size, plain = at(x, y);
                const cross = at(x + size / 2, y + size / 2) !== plain;
                return cross ? "x" : at(x + size / 4, y + size / 2) !== plain ? "o" : "";
            });
        }""",
        SHAPE,
    )


def test_cells_that_no_attempt_gets_right_are_marked(browser, recombined, tmp_path):
    target = referee.execute(of(0, 1, 2, 3), BLANK).ravel()
    with opened(browser, recombined[2], tmp_path / "two.html", 360, "dark") as tab:
        for epoch, programs in enumerate(RECOMBINED):
            tab.focus("#epoch")
            tab.keyboard.press("ArrowRight" if epoch else "ArrowLeft")
            right = [referee.execute(program, BLANK).ravel() == target for program in programs]
            attempts, all_ = np.any(right[:SAMPLED], axis=0), np.any(right, axis=0)
            marks = np.where(attempts, "", np.where(all_, "o", "x"))
            assert {*marks} == ({"", "o"} if epoch else {"", "x"})
            assert middles(tab, "#missed") == marks.tolist()
            words = tab.inner_text("#missedText")
            assert f"{(~attempts).sum()} cells that no attempt gets right" in words
            assert f"✕ {(~all_).sum()} that no program does" in words
            assert f"○ {(all_ & ~attempts).sum()} that a child" in words
        tab.locator("#tried button").nth(0).click()  # an attempt that misses something
        chosen = referee.execute(RECOMBINED[1][1], BLANK).ravel()
        assert [mark == "x" for mark in middles(tab, "#stepped")][:14] == [
            bool(wrong) for wrong in (chosen != target)[:14]
        ]


@WIDTHS
def test_no_rule_of_accessibility_is_broken(browser, recombined, tmp_path, width, scheme):
    with opened(browser, recombined[2], tmp_path / "two.html", width, scheme) as tab:
        tab.click("summary")  # all that can be opened is
        tab.click("#counts .word >> nth=0")
        assert violations(tab) == []


def test_words_are_explained_where_they_stand_without_a_mouse(browser, recombined, tmp_path):
    with opened(browser, recombined[2], tmp_path / "two.html", 360) as tab:
        words = tab.locator("#counts .word")
        for place in range(words.count()):
            words.nth(place).focus()
            tab.keyboard.press("Enter")
            told = tab.inner_text("#tip")
            entry = tab.locator(f"#{words.nth(place).get_attribute('aria-describedby')}")
            assert told == " ".join(entry.text_content().split())
            box = tab.locator("#tip").bounding_box()
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= 360
            tab.keyboard.press("Escape")
            assert not tab.is_visible("#tip")
        asked = words.all_inner_texts()
        assert {"sampled", "kept from earlier epochs", "distinct pictures", "new"} <= {*asked}
        for name in ("best child", "loss, nats a token"):
            assert tab.locator(f"#numbers .word:text-is('{name}')").count() == 1


def test_program_picture_and_numbers_are_downloads(browser, recombined, tmp_path):
    def save(button):
        with tab.expect_download() as caught:
            tab.click(button)
        caught.value.save_as(tmp_path / caught.value.suggested_filename)
        return tmp_path / caught.value.suggested_filename

    data = data_of(recombined[2])
    with opened(browser, recombined[2], tmp_path / "two.html", 1200) as tab:
        program = save("#getProgram")
        assert program.name == f"few-{76 * 'x'}.py"
        assert program.read_text() == format_script(of(0, 1), BLANK)
        with Image.open(save("#getPicture")) as picture:
            corners = np.asarray(picture.convert("RGB"))[16::32, 16::32]
        expect = referee.execute(of(0, 1), BLANK)
        palette = [tuple(bytes.fromhex(colour[1:])) for colour in data["palette"]]
        assert [[palette[c] for c in row] for row in expect] == [
            [tuple(map(int, pixel)) for pixel in row] for row in corners
        ]
        with save("#getNumbers").open() as file:
            rows = list(csv.DictReader(file))
        assert [row["best_child"] for row in rows] == [str(24 / 28), "1"]
        assert [(row["epoch"], row["run"]) for row in rows] == [("1", "40"), ("2", "5123")]
        assert json.loads(save("#getData").read_text()) == data


def test_facts_of_the_run_are_told_and_escaped(recombined, page):
    assert "<dt>command</dt><dd>herjax-adapt --task=&#x27;a &lt;b&gt;&#x27;</dd>" in recombined[1]
    assert f"Made with herjax {herjax.__version__}" in page
    assert 'href="https://github.com/ironbar/arc25' in page
    assert "<section hidden><h2>This run" in page  # nothing is known of it
    assert "<section><h2>This run" in recombined[1]


def test_what_looks_like_a_place_in_the_template_stays_text():
    picture = herjax.Picture(BLANK, BLANK, None)
    history = make_history(RECOMBINED[:1], BLANK)
    page = make_report("{{DATA}} {{NONE}}", picture, history, of(0), {"a": "{{TITLE}}"}, 3, 2)
    assert "<h1>{{DATA}} {{NONE}}</h1>" in page
    assert data_of(page)["about"] == {"a": "{{TITLE}}"}


@pytest.mark.parametrize(
    ("title", "name"),
    [("herjax: 25-squares", "herjax-25-squares"), ("../../a b", "a-b"), ("é ☃", "herjax")],
)
def test_a_title_becomes_a_name_of_a_file(title, name):
    assert file_name(title) == name
    assert len(file_name(9 * title)) <= 80


def test_thirty_epochs_of_long_programs_take_less_than_a_megabyte():
    rng = np.random.default_rng(0)
    shape, epochs, rows, draws = (20, 20), 30, 32, 60
    corners = np.sort(rng.integers(0, 20, (9000, 2, 2)), axis=1).reshape(-1, 4)
    colours = rng.integers(0, 10, (len(corners), 1))
    pool = np.hstack([np.full_like(colours, RECTANGLE), colours, corners]).astype(np.int8)
    history = make_history(RECOMBINED[:1], BLANK).replace(
        program=pool[rng.integers(0, len(pool), (epochs, rows, draws))],
        accuracy=rng.random((epochs, rows)),
        **{name: np.zeros(epochs) for name in ("run", "distinct", "new", "trained", "draws")},
        loss=np.zeros(epochs),
    )
    canvas = rng.integers(0, 10, shape)
    picture = herjax.Picture(np.zeros(shape, int), canvas, None)
    page = make_report("long", picture, history, pool[:draws], {}, 12, 4)
    assert 200_000 < len(page) < 1_000_000
