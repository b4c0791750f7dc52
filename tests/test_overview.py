"""The page of a population: exact numbers, and it works in a browser and on a phone."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

import herjax
from herjax.commands.facts import command_line, run_facts
from herjax.tasks.palette import PALETTE
from herjax.viewing.overview import Ended, make_overview, solved_shares, thumbnail
from tests.browser import WIDTHS, opened, violations
from tests.outcome import SECONDS

RNG = np.random.default_rng(0)
TARGET = RNG.integers(0, 10, (3, 5))


def member(task, seed, sampled, best=1.0, **values):
    known = {"run": 100 * sampled, "draws": 4, "seconds": 1.26, "target": TARGET}
    known |= {"link": f"{task}-seed{seed}/report.html", "solved": best == 1}
    return Ended(task, seed, best=best, sampled=sampled, **known | values)


MEMBERS = [
    member("a<b", 0, 120),
    member("a<b", 1, 12),
    member("c-10", 0, 4096, 0.999, run=20),
    member("c-9", 0, 24, run=3_000),
]


def test_solved_shares_count_those_solved_and_not_those_given_up():
    assert solved_shares(MEMBERS) == [(0, 0), (12, 1), (24, 2), (120, 3)]
    twice = [member("a", seed, 24) for seed in range(3)]
    assert solved_shares(twice) == [(0, 0), (24, 3)]
    assert solved_shares([member("a", 0, 60, 0.5)]) == [(0, 0)]


def test_rates_and_intervals_are_told():
    page = make_overview("four", MEMBERS)
    low, high = herjax.wilson_interval(3, 4)
    assert f"3 of 4 solved: 75.0 % (95 % interval {100 * low:.0f} .. {100 * high:.0f} %" in page
    rates = page[page.index("<h2>Tasks</h2>") : page.index("<h2>Adaptations</h2>")]
    rows = [re.sub("<[^>]+>", " ", row).split() for row in rates.split("<tr>")[2:]]
    low, high = herjax.wilson_interval(0, 1)
    assert rows[0][:6] == ["a&lt;b", "2", "of", "2", "100.0", "%"]
    assert rows[0][-1] == "12"  # half of the runs are solved by then
    assert rows[1] == ["c-10", "0", "of", "1", "0.0", "%", "0", "..", f"{100 * high:.0f}", "%"] + [
        "not",
        "solved",
    ]
    assert "<h2>Tasks</h2>" not in make_overview("one seed each", MEMBERS[1:])


def test_a_share_short_of_all_is_never_called_all():
    assert ">99.9 %<" in make_overview("x", MEMBERS).replace("\n", "<")


@pytest.mark.parametrize("shape", [(1, 1), (1, 20), (20, 20)])
def test_thumbnails_are_the_pictures(shape):
    picture = RNG.integers(0, 10, shape)
    data = base64.b64decode(thumbnail(picture).removeprefix("data:image/png;base64,"))
    shown = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    palette = np.array([list(bytes.fromhex(colour[1:])) for colour in PALETTE])
    assert np.array_equal(shown, palette[picture])


def places(path):
    """The corners of a path of M, H and V: [(x, y), ...]."""
    found = []
    for letter, numbers in re.findall(r"([MHVZ])([\d. -]*)", path):
        values = [float(number) for number in numbers.split()]
        x, y = found[-1] if found else (0.0, 0.0)
        if letter != "Z":
            found.append({"M": values[:2], "H": [*values, y], "V": [x, *values]}[letter])
    return found


@pytest.mark.parametrize("counts", [(12,), (12, 24, 48), (12, 4096), (5, 100_000), (1, 2)])
def test_the_chart_rises_by_the_shares_within_its_axes(counts):
    page = make_overview("x", [member("t", i, n) for i, n in enumerate(counts)])
    steps = places(re.search(r'/><path d="([^"]+)"/></g></svg>', page)[1])
    xs, ys = zip(*steps)
    assert list(xs) == sorted(xs)
    assert list(ys) == sorted(ys, reverse=True)
    heights = sorted({round((200 - y) / 186, 3) for y in ys})
    assert heights == pytest.approx(np.arange(len(counts) + 1) / len(counts), abs=1e-3)
    assert min(xs) >= 52
    assert max(xs) <= 545
    assert xs[-2] < 540  # the last step is seen
    ticks = re.findall(r'text-anchor="middle" >([\d,]+)</text>', page)
    numbers = [int(tick.replace(",", "")) for tick in ticks]
    assert 2 <= len(numbers) <= 16
    assert numbers == sorted(set(numbers))


def test_an_overview_of_nobody_is_refused():
    with pytest.raises(ValueError, match="members: an overview needs at least one"):
        make_overview("none", [])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["/x/experiments/her_adapt.py", "--task=a b"],
            "python -m experiments.her_adapt '--task=a b'",
        ),
        (["/bin/herjax-adapt", "--workdir=runs/mine", "--seed=1"], "herjax-adapt --seed=1"),
        (["herjax-adapt", "--workdir", "runs/mine", "--seed", "1"], "herjax-adapt --seed 1"),
        (["herjax-adapt", "-workdir=x"], "herjax-adapt"),
        (["herjax-adapt", "--task", "workdir"], "herjax-adapt --task workdir"),
        (["herjax-adapt", "--workdir"], "herjax-adapt"),
    ],
)
def test_the_command_is_told_without_its_folder(arguments, words):
    assert command_line(arguments) == words


def test_facts_of_a_run_come_from_its_result(monkeypatch):
    monkeypatch.setattr("sys.argv", ["herjax-adapt", "--seed=1", "--workdir=x"])
    values = {"seconds_run": 1.26, "seconds_compile": 12, "device": "cpu", "weights_sha256": "ab"}
    assert run_facts({**values, "versions": {"python": "3.11", "jax": "0.10"}}) == {
        "seconds": "1.3 seconds, and 12.0 of compiling",
        "command": "herjax-adapt --seed=1",
        "device": "cpu",
        "versions": "python 3.11, jax 0.10",
        "weights": "sha256 ab",
    }


def test_seconds_alone_differ_between_equal_runs_and_are_where_the_test_of_kills_looks():
    """It compares what an interrupted run leaves behind with that of an undisturbed one."""
    one, other = (
        make_overview("x", [member._replace(seconds=s) for member in MEMBERS], {"seconds": f"{s}"})
        for s in (1.0, 23.45)
    )
    assert one != other
    assert SECONDS.sub(b"", one.encode()) == SECONDS.sub(b"", other.encode())


@WIDTHS
def test_overview_in_chromium_sorts_and_fits(browser, tmp_path, width, scheme):
    wide = [*MEMBERS, member(60 * "w", 0, 5000)]
    page = make_overview(99 * "x", wide, {"command": "herjax-adapt " + 99 * "y"})
    with opened(browser, page, tmp_path / "all.html", width, scheme) as tab:
        table = tab.locator("table >> nth=1")
        assert table.locator("th:visible").count() == (8 if width > 500 else 6)
        orders = {  # of the column's cells; c-9 comes before c-10, and 3,000 after 20
            "task": ["a<b", "a<b", "c-9", "c-10", 60 * "w"],
            "sampled": ["12", "24", "120", "4,096", "5,000"],
            "best": ["99.9 %", *["100.0 %"] * 4],
            "run": ["20", "1,200", "3,000", "12,000", "500,000"],
        }
        columns = [name.split()[0] for name in table.locator("th").all_text_contents()]
        for name, order in orders.items():
            if name == "run" and width < 500:
                continue  # not shown
            for expected in (order, order[::-1]):  # a second time turns the order
                table.locator(f"th button:text-is('{name}')").focus()
                tab.keyboard.press("Enter")
                cells = table.locator(f"tbody td:nth-child({columns.index(name) + 1})")
                assert cells.all_inner_texts() == expected
        assert table.locator("th[aria-sort=descending]").count() == 1
        assert table.locator("img").first.evaluate("image => image.naturalWidth") == 5


@WIDTHS
def test_no_rule_of_accessibility_is_broken(browser, tmp_path, width, scheme):
    page = make_overview("two", MEMBERS, {"command": "herjax-adapt"})
    with opened(browser, page, tmp_path / "all.html", width, scheme) as tab:
        assert violations(tab) == []
