"""The gallery shows what runs have left, and nothing else."""

import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from experiments import gallery
from experiments.make_emoji import EMOJI
from herjax.dsl.source import format_script
from herjax.runtime.checkpoint import CheckpointError
from herjax.tasks.palette import PALETTE
from herjax.tasks.suite import emoji_grids, emoji_task, from_runs
from tests.command_line import run_quickly

MAX_STRIP = 300_000  # bytes


def save(folder, name, side, seed=0, left_out=0, task=None, **changes):
    """What her_adapt leaves of an emoji; without its last draws it is not solved."""
    picture = from_runs(emoji_grids(side)[name])
    program = picture.program[: len(picture.program) - left_out]
    missing = sum(abs(draw[5] - draw[3]) + 1 for draw in picture.program[len(program) :])
    best = 1 - float(missing) / side**2
    result = {
        "task": task or emoji_task(name, side),
        "seed": seed,
        "solved": best == 1,
        "epochs": 2,
        "programs_sampled": 2400,
        "programs_run": 9999,
        "best_accuracy": [0.5, best],
        "best_attempt": [0.5, best],
        "mean_attempt": [0.5, 0.5],
        "draws": len(program),
        "least_draws": 3,
        "colours": 3,
        "seconds_run": 4.25,
        "seconds_compile": 30.0,
        "weights_sha256": "0",
        "config": {},
        "versions": {"jax": "0.10.2"},
        "device": "cpu",
    }
    member = folder / f"{result['task']}-seed{seed}"
    member.mkdir(parents=True)
    (member / "solution.py").write_text(format_script(program, picture.input))
    (member / "result.json").write_text(json.dumps(result | changes))
    return member


@pytest.fixture
def runs(tmp_path):
    save(tmp_path / "a", "rocket", 16)
    save(tmp_path / "a", "rocket", 16, seed=1, programs_sampled=7)
    save(tmp_path / "b", "warning", 16, programs_sampled=12, seconds_run=0.04)
    save(tmp_path / "b", "magnet", 30, left_out=1)
    save(tmp_path / "b", "magnet", 20, task="chick")  # no emoji
    (tmp_path / "b" / "star-seed0").mkdir()  # still running
    return tmp_path


def test_the_command_writes_page_pictures_and_strip(runs):
    docs = runs / "docs"
    code, out, err = run_quickly("gallery", f"--docs={docs}", runs / "a", runs / "b")
    assert (code, out, err) == (0, f"{docs}/gallery.md has 3 drawings\n", "")
    page = (docs / "gallery.md").read_text()
    rows = dict(re.findall(r"^\| ([\w-]+) \| (.*) \|$", page, re.M))
    assert set(EMOJI) < set(rows)
    draws = len(from_runs(emoji_grids(16)["rocket"]).program)
    assert rows["rocket"] == (
        f"![rocket, 16x16](gallery/rocket-16x16.png)<br>{draws} draws, 2,400 programs, 4.2 s"
        " | not run yet | not run yet"
    )
    assert "not solved: 99.2 % right after 2,400 programs" in rows["magnet"].split(" | ")[2]
    assert rows["star"] == "not run yet | not run yet | not run yet"
    assert rows["16x16"].startswith("2 of 2 | 0.34 .. 1.00 | 1,206 (12 .. 2,400) | ")
    assert rows["16x16"].endswith(" | 2.1 (0.0 .. 4.2) | 98")
    assert rows["20x20"] == " |  |  |  |  | 100"
    assert rows["30x30"] == "0 of 1 | 0.00 .. 0.79 |  |  |  | 99"
    assert {path.name for path in (docs / "gallery").iterdir()} == {
        "rocket-16x16.png",
        "warning-16x16.png",
        "magnet-30x30.png",
    }
    with Image.open(docs / "gallery" / "rocket-16x16.png") as image:
        pixels = np.asarray(image.convert("RGB"))[2::5, 2::5]
    palette = np.array([list(bytes.fromhex(colour[1:])) for colour in PALETTE])
    assert np.array_equal(pixels, palette[emoji_grids(16)["rocket"]])


def test_the_strip_shows_what_was_drawn_and_how(runs):
    drawings = gallery.find_drawings([runs])
    data = gallery.make_strip(drawings)
    assert len(data) < MAX_STRIP
    with Image.open(io.BytesIO(data)) as strip:
        assert strip.size == (2 * 16 * 5 + gallery.GAP, 16 * 5)  # the solved ones alone
        first = np.asarray(strip.convert("RGB"))[2::5, 2 : 16 * 5 : 5]
        strip.seek(1)
        assert strip.n_frames > 10
        assert not np.asarray(strip.convert("RGB"))[:, : 16 * 5].any()  # the blank canvas
    palette = np.array([list(bytes.fromhex(colour[1:])) for colour in PALETTE])
    assert np.array_equal(first, palette[emoji_grids(16)["rocket"]])
    assert gallery.make_strip({("magnet", 30): drawings["magnet", 30]}) is None


def test_what_does_not_fit_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="empty has no emoji"):
        gallery.find_drawings([tmp_path / "empty"])
    member = save(tmp_path / "a", "rocket", 16)
    solution = member / "solution.py"
    lines = solution.read_text().splitlines(keepends=True)
    solution.write_text("".join(line for line in lines if not line.startswith("    draw_line(")))
    with pytest.raises(CheckpointError, match="is of another rocket-16x16 than that of today"):
        gallery.find_drawings([tmp_path / "a"])
    solution.write_bytes(b"\xff")
    with pytest.raises(CheckpointError, match="damaged .*rocket-16x16-seed0: "):
        gallery.find_drawings([tmp_path / "a"])
