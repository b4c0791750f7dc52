"""What a result and pictures look like from Python; bad arguments are in tests/battery."""

import xml.etree.ElementTree

import jax
import numpy as np
import pytest

import herjax
from herjax.tasks.palette import PALETTE
from tests import referee
from tests.browser import opened
from tests.pages import BLANK, KEPT, RECOMBINED, SAMPLED, data_of, make_history, of

PICTURE = np.random.default_rng(3).integers(0, 10, (4, 7))


TARGET = referee.execute(of(0, 1, 2, 3), BLANK)
CONFIG = herjax.AdaptConfig(programs=(SAMPLED,), temperatures=(1.0,), keep=KEPT, partners=4)


@pytest.fixture(scope="module")
def result():
    """Of two epochs, in which all draws of the target are found."""
    history = make_history(RECOMBINED, TARGET, distinct=[4, 6], new=[4, 3])
    epochs = [jax.tree.map(lambda rows, e=e: rows[e], history) for e in range(2)]
    task, base = herjax.make_task(TARGET), herjax.load_pretrained()
    return herjax.Result(True, of(0, 1, 2, 3)[:4], epochs, base, task, CONFIG)


def test_a_report_holds_the_adaptation(result):
    data = data_of(herjax.report(result, title="of mine").html)
    assert data["title"] == "of mine"
    assert data["solved"]
    assert data["target"] == data["picture"] == "".join(map(str, TARGET.ravel()))
    assert [epoch["distinct"] for epoch in data["epochs"]] == [4, 6]
    assert [len(epoch["attempts"]) for epoch in data["epochs"]] == [SAMPLED] * 2
    assert [len(epoch["kept"]) for epoch in data["epochs"]] == [0, 1]
    assert [len(epoch["children"]) for epoch in data["epochs"]] == [2, 2]
    assert data["about"]["minibatch"] == CONFIG.minibatch
    assert data["about"]["select"] == "select_best"
    assert herjax.report(result) == herjax.report(result)


def test_a_report_works_in_the_frame_of_a_notebook(browser, result, tmp_path):
    page = herjax.report(result, title='of "mine"')
    page.save(tmp_path / "saved.html")
    assert (tmp_path / "saved.html").read_text() == page.html
    notebook = f"<!doctype html><html lang=en><title>cell</title>{page._repr_html_()}</html>"
    with opened(browser, notebook, tmp_path / "notebook.html", 800, ready=False) as tab:
        frame = tab.frame_locator("iframe")
        frame.locator("html[data-ready]").wait_for()
        assert frame.locator("h1").inner_text() == 'of "mine"'
        epochs = len(result.history)
        assert f"after {epochs} epoch" in frame.locator("#summary").inner_text()
        with tab.expect_download() as caught:
            frame.locator("#getProgram").click()
        assert caught.value.suggested_filename == "of-mine.py"


def rectangles(svg):
    """The colour of every cell, by its rectangles."""
    name = "{http://www.w3.org/2000/svg}"
    pictures = []
    for group in xml.etree.ElementTree.fromstring(svg).iter(f"{name}g"):
        found = {}
        for box in group.iter(f"{name}rect"):
            x, y, width, height = (int(box.get(key)) for key in ("x", "y", "width", "height"))
            assert height == 16
            for cell in range(x // 16, (x + width) // 16):
                assert (y // 16, cell) not in found
                found[y // 16, cell] = box.get("fill")
        pictures.append(found)
    return pictures


def test_pictures_beside_each_other_are_drawn_cell_by_cell():
    pictures = PICTURE, PICTURE[:2, :3], PICTURE % 2
    given = herjax.Picture(PICTURE * 0, PICTURE, PICTURE), *pictures[1:]
    svg = herjax.show(*given, titles=["one", "a & b", ""])._repr_svg_()
    for picture, found in zip(pictures, rectangles(svg), strict=True):
        assert found == {place: PALETTE[colour] for place, colour in np.ndenumerate(picture)}
    root = xml.etree.ElementTree.fromstring(svg)
    texts = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts == ["one", "a & b"]
    assert root.get("role") == "img"
    assert root.get("aria-label") == "one, a & b"


def test_in_a_terminal_pictures_are_blocks_of_colour(monkeypatch):
    shown = herjax.show(PICTURE, titles="mine")
    assert repr(shown).split("\n")[0].strip() == "mine"
    assert repr(shown).split("\n")[1].split() == [str(cell) for cell in PICTURE[0]]
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.setenv("TERM", "xterm-256color")
    red, green, blue = bytes.fromhex(PALETTE[PICTURE[0, 0]][1:])
    assert f"\x1b[38;2;{red};{green};{blue};48;2;{red};{green};{blue}m" in repr(shown)
