"""Tables and figures of the study, of runs that are made up."""

import re

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from skimage.color import rgb2lab

from experiments.study import figures, report
from herjax.stats import LogRank

ORIGIN = report.Origin("small", "a CPU", "abc1234", "2026-11-24", "python -m study --table=rivals")
PICTURES = ("squares", "chick", "lines")
SHOWN = report.Shown(
    "rivals", "Rivals", "Does it help?", ("her", "twin", "slow", "fast", "new"), PICTURES, "her"
)


def line(row, picture, seed, sampled, budget=600, **others):
    """A run; solved if that took at most its budget."""
    solved = sampled <= budget
    sampled = min(sampled, budget)
    return {
        "table": "rivals",
        "row": row,
        "picture": picture,
        "seed": seed,
        "solved": solved,
        "sampled": sampled,
        "run": 10 * sampled,
        "epochs": sampled // 12,
        "budget": budget,
        "accuracy": 1.0 if solved else 0.5,
        "draws": 9,
        "seconds": 0.5,
        "distinct": 0.25,
        "best": [0.5, 1.0],
        "length": [5.0 + epoch for epoch in range(sampled // 12)],
    } | others


@pytest.fixture
def lines():
    """Eight seeds of four rows on two pictures; one row is slower, and one faster, on chick."""
    found = []
    for seed in range(8):
        for row in ("her", "twin", "slow", "fast"):
            found.append(line(row, "squares", seed, 120 + 12 * seed))
            sampled = {"slow": 9999, "fast": 12}.get(row, 120 + 12 * seed)
            found.append(line(row, "chick", seed, sampled))
    return found


def tables(text):
    """The cells of each table of Markdown, and that it is one: equally long rows below a rule."""
    found = []
    for block in re.findall(r"(?:^\|.*\|\n)+", text, re.M):
        rows = [
            [cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]]
            for row in block.splitlines()
        ]
        assert len({len(row) for row in rows}) == 1
        assert all(re.fullmatch(":?---?:?|:-:", cell) for cell in rows[1])
        found.append([rows[0], *rows[2:]])
    return found


def test_page_has_a_grid_means_and_where_they_come_from(lines):
    text = report.render(lines, SHOWN, ORIGIN, figures=[("shares", "share.svg")])
    grid, means = tables(text)
    assert grid[0] == ["", *PICTURES]
    assert [row[0] for row in grid[1:]] == ["her (baseline)", "twin", "slow", "fast", "new"]
    assert means[0][1:] == [
        "counted as different, last quarter",
        "draws",
        "seconds",
        "programs run",
    ]
    assert text.startswith("# Rivals\n\nDoes it help?\n\n|")
    assert "![shares](share.svg)" in text
    for words in (*ORIGIN, "64 runs, 8 seeds a cell", "Corrected for 6 comparisons"):
        assert words in text
    assert "not shown" not in text


def test_cells_tell_rate_median_and_direction(lines):
    text = report.render(lines, SHOWN, ORIGIN)
    squares, chick, missing = zip(*(row[1:] for row in tables(text)[0][1:]))
    # Wilson's interval of 8 of 8: 1 / (1 + 1.96^2 / 8) = 0.68. The fourth of eight takes 156.
    assert squares[:4] == ("8/8 (0.68 .. 1.00)<br>156 (120 .. 192)",) * 4
    assert chick[0] == chick[1] == squares[0]  # as the baseline: no p value
    assert re.fullmatch(r"0/8 \(0\.00 \.\. 0\.32\)<br>> 600 ▼ p < 0\.001", chick[2])
    assert re.fullmatch(r"8/8 \(0\.68 \.\. 1\.00\)<br>12 \(12 \.\. 12\) ▲ p < 0\.001", chick[3])
    assert {*missing, squares[4], chick[4]} == {"not run"}


def test_p_values_are_corrected_and_told_below_the_level():
    told = [
        report.solve_cell([line("slow", "chick", s, 12) for s in range(6)], LogRank(z, p))
        for z, p in ((1.9, 0.0004), (2.1, 0.03), (-2.1, 0.0312), (-1.0, 0.05), (3.0, 0.9))
    ]
    ends = [re.findall("[▲▼].*", text) for text in told]
    assert ends == [["▲ p < 0.001"], ["▲ p 0.030"], ["▼ p 0.031"], [], []]
    runs = {"her": [12] * 4, "a": [12, 12, 24, 24], "b": [24, 24, 24, 36], "c": [12] * 4}
    few = [line(row, "chick", s, n) for row, all_of in runs.items() for s, n in enumerate(all_of)]
    raw, corrected = [], {}
    for rows in (("her", "a"), ("her", "b"), ("her", "c"), tuple(runs)):
        shown = SHOWN._replace(rows=rows)
        corrected = report.compare(report.gather(few, shown), shown)
        raw += [test.p for test in corrected.values()]
    assert [key[0] for key in corrected] == ["a", "b", "c"]
    assert raw[1] < raw[0] < raw[2] == 1  # alone
    assert [test.p for test in corrected.values()] == pytest.approx([2 * raw[0], 3 * raw[1], 1])
    assert corrected["b", "chick"].z < 0


def test_open_ends_of_the_median_are_beyond_the_budget():
    runs = [line("her", "chick", s, sampled) for s, sampled in enumerate([12, 9999, 24, 9999, 36])]
    assert report.solve_cell(runs, None).endswith("<br>36 (0 .. > 600)")
    assert report.solve_cell(runs[:2], None).endswith("<br>12 (0 .. > 600)")
    assert report.solve_cell(runs[1:4], None).endswith("<br>> 600")
    few = [line("her", "chick", s, 1200 + s, budget=2400) for s in range(3)]
    assert report.solve_cell(few, None).endswith("<br>1,201 (0 .. > 2,400)")


def test_means_are_over_pictures_that_count_the_same():
    runs = [line("her", "chick", s, 12, seconds=1.0) for s in range(3)]
    runs += [line("her", "lines", 0, 12, seconds=3.0, held_out_after=0.875)]
    runs += [line("slow", p, 0, 12, seconds=4.0) for p in PICTURES]
    columns = ("seconds", "held_out_after", "pass_at_8")
    text = report.render(runs, SHOWN._replace(columns=columns), ORIGIN)
    assert tables(text)[1] == [
        ["", "seconds", "held-out pass@8 after", "pass at 8"],
        ["her (2 of 3 pictures)", "2.00", "0.88", "–"],
        ["twin", *["not run"] * 3],
        ["slow", "4.00", "–", "–"],
        ["fast", *["not run"] * 3],
        ["new", *["not run"] * 3],
    ]
    assert "1 to 3 seeds a cell" in text
    assert len(tables(report.render(runs, SHOWN._replace(columns=()), ORIGIN))) == 1
    assert [report.number(v) for v in (0.5, 12.34, 123.4, 12345.6)] == [
        "0.50", "12.3", "123", "12,346",
    ]  # fmt: skip


def test_many_pictures_become_the_rows():
    pictures = tuple(f"p{i}" for i in range(8))
    shown = SHOWN._replace(rows=("her", "a|b"), pictures=pictures, baseline=None)
    text = report.render([line("her", "p3", 0, 12)], shown, ORIGIN)
    grid, _ = tables(text)
    assert grid[0] == ["", "her", r"a\|b"]
    assert [row[0] for row in grid[1:]] == list(pictures)
    assert grid[4][1].startswith("1/1")
    assert "orrected" not in text


def test_samples_of_fixed_weights_have_a_cell_of_their_own():
    counts = [{"samples": 65536, "correct": 0}, {"samples": 256, "correct": 1}]
    runs = [line("her", "chick", 0, 12, **counts[0]), line("her", "lines", 0, 12, **counts[1])]
    shown = SHOWN._replace(baseline=None, cell=report.CORRECT)
    text = report.render(runs, shown, ORIGIN)
    # Wilson's: 1.96^2 / (65,536 + 1.96^2) = 0.0059 %.
    assert tables(text)[0][1][2:] == ["0/65,536<br>0 .. 0.0059 %", "1/256<br>0.069 .. 2.2 %"]
    assert report.CORRECT.legend in text
    assert report.SOLVES.legend not in text


def test_what_cannot_be_is_rejected_and_what_is_left_out_is_told(lines):
    with pytest.raises(ValueError, match=r"'her', 'chick'\): a seed twice among \[0, 0, 1"):
        report.render([*lines, line("her", "chick", 0, 24)], SHOWN, ORIGIN)
    with pytest.raises(ValueError, match="baseline best is none of the rows"):
        report.render(lines, SHOWN._replace(baseline="best"), ORIGIN)
    others = [line("old", "chick", 0, 12), line("her", "moon", 0, 12)]
    strange = line("older", "sun", 0, 12, table="weaker")
    text = report.render([*lines, *others, strange], SHOWN, ORIGIN)
    assert text.endswith(" 2 runs of others are not shown: old, moon.\n")
    assert tables(text) == tables(report.render(lines, SHOWN, ORIGIN))


def test_a_table_without_any_run_can_be_shown(tmp_path):
    text = report.render([], SHOWN, ORIGIN)
    assert {cell for row in tables(text)[0][1:] for cell in row[1:]} == {"not run"}
    for figure in (figures.share_solved([], SHOWN), figures.draws_over_epochs([], SHOWN, ["her"])):
        figures.save(figure, tmp_path / "empty.svg")


# ---- Figures ------------------------------------------------------------------------------------


def drawn(figure, picture):
    """Of the panel of a picture."""
    return next(axes for axes in figure.axes if axes.get_title() == picture)


def test_shares_are_those_solved_until_then(lines):
    figure = figures.share_solved(lines, SHOWN)
    axes = drawn(figure, "chick")
    curves = dict(zip(("her", "twin", "slow", "fast"), axes.lines))
    assert list(curves["her"].get_xdata()) == [6, *range(120, 205, 12), 600]
    assert curves["her"].get_ydata() == pytest.approx([*np.arange(9) / 8, 1])
    assert list(curves["slow"].get_xdata()) == [6, 600]
    assert list(curves["slow"].get_ydata()) == [0, 0]
    for curve, band in zip(axes.lines, axes.collections):
        heights = band.get_paths()[0].vertices[:, 1]
        assert heights.min() <= curve.get_ydata().min()
        assert heights.max() >= curve.get_ydata().max()
    # None or all of 8 solved: 1 - 0.025^(1/8) = 0.369.
    assert axes.collections[2].get_paths()[0].vertices[:, 1].max() == pytest.approx(0.369, abs=1e-3)
    assert not drawn(figure, "lines").lines  # not run
    numbers = [text.get_text() for text in axes.get_xticklabels() if text.get_position()[0] >= 6]
    assert numbers[:4] == ["10", "30", "100", "300"]
    some = drawn(figures.share_solved(lines, SHOWN, rows=["slow", "her"]), "chick")
    assert [text.get_text() for text in some.texts] == ["slow", "her"]


def test_every_row_has_a_name_at_its_end_and_a_look_of_its_own(lines):
    # Half of these are solved sooner than any of the baseline's, and the others not at all.
    half = [line("new", "chick", seed, 12 if seed < 4 else 9999) for seed in range(8)]
    axes = drawn(figures.share_solved([*lines, *half], SHOWN), "chick")
    names = {text.get_text(): text for text in axes.texts}
    # From below; of those that solve all, the faster is above.
    order = sorted(names, key=lambda name: names[name].get_position()[1])
    assert order == ["slow", "new", "her", "twin", "fast"]
    heights = np.sort([text.get_position()[1] for text in names.values()])
    assert np.diff(heights).min() >= figures.LABEL_HEIGHT - 1e-9
    looks = figures.looks(SHOWN._replace(rows=tuple(map(str, range(24))), baseline="5"))
    assert len({(look.color, str(look.linestyle)) for look in looks.values()}) == 24
    assert looks["5"].linewidth > looks["0"].linewidth
    assert names["slow"].get_color() == figures.looks(SHOWN)["slow"].color


def linear(colour):
    """Linear RGB [3] of a colour."""
    rgb = np.array(to_rgb(colour))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def test_colours_can_be_read_on_white():
    for colour in (*figures.COLOURS, figures.INK):
        luminance = linear(colour) @ [0.2126, 0.7152, 0.0722]
        assert 1.05 / (luminance + 0.05) >= 4.5, colour  # as WCAG 2 asks of text


# No long, middle or short cones: Machado et al., 2009, table 1, severity 1.
BLINDNESS = (
    [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.052],
    ],
    [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.01182, 0.04294, 0.968881],
    ],
    [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.3039],
    ],
)


@pytest.mark.parametrize("matrix", BLINDNESS)
def test_colours_differ_for_the_colour_blind(matrix):
    seen = np.clip([matrix @ linear(colour) for colour in figures.COLOURS], 0, 1)
    rgb = np.where(seen <= 0.0031308, seen * 12.92, 1.055 * seen ** (1 / 2.4) - 0.055)
    lab = rgb2lab(rgb[None])[0]
    apart = np.linalg.norm(lab[:, None] - lab, axis=-1) + 99 * np.eye(len(lab))
    assert apart.min() > 10


@pytest.mark.parametrize(
    ("heights", "expected"),
    [
        ([], []),
        ([0.5], [0.5]),
        ([0.0, 0.5, 1.0], [0.0, 0.5, 1.0]),
        ([1.0, 1.0, 1.0], [0.8, 0.9, 1.0]),
        ([0.0, 0.0], [0.0, 0.1]),
        ([0.5, 0.5, 0.9], [0.45, 0.55, 0.9]),
        ([0.5] * 21, np.linspace(0, 1, 21)),
    ],
)
def test_names_are_moved_apart_within_the_panel(heights, expected):
    assert figures.apart(heights, 0.1) == pytest.approx(expected)


def test_draws_are_means_while_most_runs_go_on():
    lengths = [[2, 4, 6], [4, 8], [6], [0, 0, 0, 9]]
    # All four, three, and then two, which are no more than half.
    assert figures.mean_while_most_go_on(lengths).tolist() == [3, 4]
    assert figures.mean_while_most_go_on([[7]]).tolist() == [7]
    runs = [
        line("her", "chick", s, 12, length=[float(v) for v in values])
        for s, values in enumerate(lengths)
    ]
    axes = drawn(figures.draws_over_epochs(runs, SHOWN, ["her", "new"]), "chick")
    *each, mean, end = axes.lines
    assert [list(thin.get_ydata()) for thin in each] == lengths
    assert (list(mean.get_xdata()), list(mean.get_ydata())) == ([1, 2], [3, 4])
    assert [text.get_text() for text in axes.texts] == ["her"]


def test_ridges_stand_beside_each_other():
    rng = np.random.default_rng(0)
    ours, rival = rng.uniform(0.2, 0.4, (30, 8)), rng.uniform(0.6, 0.8, (100, 5))
    figure = figures.ridges(ours, rival, ("hindsight", "grpo"))
    left, right = figure.axes
    assert [axes.get_title() for axes in figure.axes] == [
        "hindsight, 30 epochs",
        "grpo, 100 epochs",
    ]
    assert left.get_ylim() == right.get_ylim()
    ticks = [int(text.get_text()) for text in left.get_yticklabels()]
    assert {1, 30, 100} <= {*ticks}  # the first, and the last of both
    assert len(ticks) <= figures.MOST_RIDGES
    assert len(left.collections) == sum(epoch <= 30 for epoch in ticks)
    assert len(right.collections) == len(ticks)
    for axes, (low, high) in zip(figure.axes, ((20, 40), (60, 80))):
        x, y = axes.lines[0].get_data()
        assert low - 3 < x[np.argmax(y)] < high + 3
    assert len(figures.ridges(ours[:3], rival[:2], ("a", "b")).axes[0].collections) == 3


def test_files_repeat_and_are_opaque(lines, tmp_path):
    makers = (
        lambda: figures.share_solved(lines, SHOWN),
        lambda: figures.draws_over_epochs(lines, SHOWN, ["her", "slow"]),
        lambda: figures.ridges(*np.full((2, 3, 4), 0.5), ("a", "b")),
    )
    for make in makers:
        written = []
        for name in ("a.svg", "b.svg"):
            figure = make()
            assert isinstance(figure, Figure)
            figures.save(figure, tmp_path / name)
            written.append((tmp_path / name).read_text())
        assert written[0] == written[1]
        assert "<dc:date>" not in written[0]
        background = re.search(r'<g id="patch_1">\s*<path d="[^"]+" style="([^"]+)"', written[0])
        assert background[1] == "fill: #ffffff"
