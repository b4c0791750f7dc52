"""The study: what its tables declare, and how their runs are made and resumed."""

import dataclasses
import json
import os
import pathlib

import pytest

import herjax
from experiments.study import pages
from experiments.study.run import Study, settings_hash
from experiments.study.tables import (
    LEARNERS,
    RATES,
    SCALES,
    TUNING,
    Block,
    Row,
    Table,
    changed,
    tables,
)
from herjax.commands.flags import FUNCTIONS
from herjax.learning.config import AdaptConfig
from herjax.tasks.suite import pictures, tuning_pictures
from tests.command_line import run_quickly, start

PLAIN = AdaptConfig.plain(programs=(4,), minibatch=2, max_draws=4)
METHODS = pathlib.Path(__file__).parents[1] / "docs/study/methods.md"


@pytest.fixture
def study(tmp_path):
    return Study(tmp_path / "lines", lambda *_: None)


@pytest.mark.parametrize("scale", SCALES)
def test_every_table_can_be_run_with_equal_programs_for_every_row(study, scale):
    for table in tables(scale).values():
        names = [row.name for row in table.rows]
        assert len(set(names)) == len(names)
        assert table.baseline is None or table.baseline in names
        shown = [picture for block in table.blocks for picture in block.pictures]
        assert len(set(shown)) == len(shown)
        for row in table.rows:
            assert row.learner in FUNCTIONS["learner"]
            for block in table.blocks:
                config = study.settled(row._replace(trials=None), block)
                assert config.max_epochs * config.sampled == block.budget


def test_the_defaults_are_as_the_methods_tell():
    text = " ".join(METHODS.read_text().split())
    default, plain = AdaptConfig(), AdaptConfig.plain()
    rates = [f"{c.learning_rate:.0e}".replace("e-0", "e-") for c in (plain, default)]
    memory = f"{default.partners} partners, {default.keep} kept"
    for told in (
        f"{plain.programs[0]} programs an epoch",
        f"{default.programs[0]} programs, {default.keep} kept, {default.partners} partners",
        f"minibatches of {default.minibatch}, the rates {rates[0]} and {rates[1]},",
        f"temperature {default.temperatures[0]}, {memory}",
    ):
        assert told in text


@pytest.mark.parametrize("scale", SCALES)
def test_learning_rates_are_tried_alike_and_on_no_picture_of_another_table(scale):
    assert not {*TUNING} & {*pictures()}
    assert {*TUNING} <= {*tuning_pictures()}
    for table in tables(scale).values():
        shown = {picture for block in table.blocks for picture in block.pictures}
        if table.name.startswith("trials"):
            assert shown <= {*TUNING}
            tried = [(row.learner, row.config.learning_rate) for row in table.rows]
            assert sorted(tried) == sorted((name, rate) for name in LEARNERS for rate in RATES)
        else:
            assert shown <= {*pictures()}
            known = tables(scale)
            assert all(row.trials == known[row.trials.name] for row in table.rows if row.trials)


def test_claims_have_twenty_seeds_or_ten_of_large_pictures():
    """The table of reach, with all fifteen pictures, has ten, and five of the largest."""
    largest = {"196-squares", "225-squares"}
    large = largest | {f"{n}-squares" for n in (36, 49, 64, 81, 100)}
    for table in tables("small").values():
        for block in table.blocks:
            shown = {*block.pictures}
            if table.name == "reach":
                assert block.seeds >= (5 if shown <= largest else 10)
            elif table.baseline is not None or table.name == "her":
                assert block.seeds >= (10 if large & shown else 20)


def test_a_run_is_made_again_for_the_figures_with_the_same_model(study, monkeypatch):
    block, row = Block(("chick",), 1, 8), Row("a", PLAIN, model="base-weak-1")
    table = Table("t", "?", (row,), (block,))
    monkeypatch.setattr(herjax, "adapt", lambda *_, **given: given)
    given = pages.adapt_again(study, table, row, "chick", 3)
    assert given["params"].info == herjax.load_pretrained("base-weak-1").info
    assert (given["seed"], given["config"]) == (3, study.settled(row, block))


def test_changed_changes_what_it_says_alone():
    config = changed(PLAIN, learning_rate=0.5)
    assert config == dataclasses.replace(PLAIN, learning_rate=0.5)


def read(study, name):
    return [json.loads(line) for line in (study.folder / f"{name}.jsonl").read_text().splitlines()]


def test_runs_are_made_once_and_again_if_their_settings_change(study, tiny_weights):
    row = Row("search", PLAIN, "best-of-n", model=str(tiny_weights))
    table = Table("own", "?", (row,), (Block(("9-squares",), 2, 8),))
    study.make(table._replace(blocks=(Block(("9-squares",), 1, 8),)))
    first = read(study, "own")
    assert [line["seed"] for line in first] == [0]
    study.make(table)  # the second seed is missing
    lines = read(study, "own")
    assert lines[:1] == first
    assert [line["seed"] for line in lines] == [0, 1]
    for line in lines:
        assert (line["sampled"], line["epochs"], line["budget"]) == (8, 2, 8)
        assert line["run"] == 8
        assert len(line["best"]) == len(line["length"]) == 2
        assert line["best"][-1] == line["accuracy"] < 1
        assert 0 < line["distinct"] <= 1
    study.make(table)
    assert read(study, "own") == lines
    same = table._replace(name="other", rows=(row._replace(name="again"),))
    known = {"table": "other", "row": "again", "seconds": -1}  # not run again
    lines[0] |= {"seconds": -1}
    (study.folder / "own.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    study.make(same._replace(blocks=(Block(("9-squares",), 1, 8),)))
    assert read(study, "other") == [lines[0] | known]
    other = table._replace(rows=(row._replace(config=changed(PLAIN, passes=2)),))
    assert study.lines(other) == []
    assert len(study.lines(table)) == 2
    fewer = table._replace(blocks=(Block(("9-squares",), 1, 8),))
    assert [line["seed"] for line in study.lines(fewer)] == [0]


def test_the_learning_rate_is_that_of_the_fewest_programs_then_of_the_more_accurate(study):
    block = Block(("chick",), 2, 8)
    tried = [Row(f"rloo {rate:g}", changed(PLAIN, learning_rate=rate), "rloo") for rate in RATES]
    trials = Table("trials", "?", (*tried, Row("grpo", PLAIN, "grpo")), (block,))
    row = Row("rloo", PLAIN, "rloo", trials=trials)
    costs = {"rloo 0.0002": (90, 0.9), "rloo 0.0006": (80, 0.7), "rloo 0.002": (80, 0.8)}

    def write(trial, seed, **changes):
        sampled, accuracy = costs.get(trial.name, (85, 1.0))
        line = {"row": trial.name, "picture": "chick", "seed": seed, "sampled": sampled}
        line |= {
            "accuracy": accuracy,
            "settings": settings_hash(study.settled(trial, block), trial, block),
        }
        with (study.folder / "trials.jsonl").open("a") as file:
            file.write(json.dumps(line | changes) + "\n")

    for trial in tried:
        write(trial, seed=0)
    for trial in tried[1:]:
        write(trial, seed=1)
    write(tried[0], seed=1, settings="of another day", sampled=1)
    write(trials.rows[-1], seed=0, sampled=1)
    with pytest.raises(ValueError, match="rloo needs its trials first: --table=trials"):
        study.chosen_rate(row)
    assert study.lines(Table("own", "?", (row,), (block,))) == []
    write(tried[0], seed=1)
    assert study.chosen_rate(row) == 2e-3
    assert study.settled(row, Block(("chick",), 1, 8)).learning_rate == 2e-3


def test_all_that_a_run_depends_on_is_in_its_settings():
    block, row = Block(("chick",), 1, 8), Row("a", PLAIN)
    base = settings_hash(PLAIN, row, block)
    assert base == settings_hash(PLAIN, row._replace(name="b"), block._replace(seeds=9))
    others = [
        settings_hash(changed(PLAIN, order=FUNCTIONS["order"]["reversed"]), row, block),
        settings_hash(PLAIN, row._replace(learner="rloo"), block),
        settings_hash(PLAIN, row._replace(model="base-weak-1"), block),
        settings_hash(PLAIN, row, block._replace(budget=16)),
    ]
    assert len({base, *others}) == 5


def test_samples_of_the_unadapted_model_are_counted(study, tiny_weights):
    row = Row("T 1", changed(PLAIN, programs=(8,)), model=str(tiny_weights))
    table = Table("support", "?", (row,), (Block(("9-squares",), 1, 24),), samples=True)
    study.make(table)
    (line,) = read(study, "support")
    assert (line["samples"], line["first"], line["correct"]) == (24, 8, 0)
    assert 0 < line["mean_accuracy"] <= line["accuracy"] < 1
    assert line["best_of_first"] <= line["accuracy"]


def test_a_page_says_where_its_runs_are_and_what_is_missing(study, tiny_weights):
    row = Row("search", PLAIN, "best-of-n", model=str(tiny_weights))
    table = Table("own", "?", (row,), (Block(("9-squares",), 2, 8),))
    study.make(table._replace(blocks=(Block(("9-squares",), 1, 8),)))
    page = study.folder / "own.md"
    pages.write_page(study, table, "small", study.folder)
    text = page.read_text()
    assert (
        f"`python -m experiments.study --table=own --scale=small --workdir={study.folder}`" in text
    )
    assert "The runs: [own.jsonl](own.jsonl)." in text
    assert "**Unfinished: 1 of 2 runs.**" in text
    study.make(table)
    pages.write_page(study, table, "small", study.folder.parent)
    text = (study.folder.parent / "own.md").read_text()
    assert "--scale=small`" in text
    assert "[lines/own.jsonl](lines/own.jsonl)" in text
    assert "Unfinished" not in text


def test_pages_of_a_workdir_leave_the_published_ones_alone(tmp_path):
    published = pathlib.Path("docs/study/support.md")
    before = published.read_bytes()
    arguments = ["--table=support", "--render_only", f"--workdir={tmp_path}"]
    code, out, _ = run_quickly("study", *arguments)
    assert code == 0
    assert f"support: 0 runs, in {tmp_path / 'support.md'}" in out
    assert published.read_bytes() == before


@pytest.mark.parametrize(
    ("argument", "words"),
    [("--table=nosuch", "no table 'nosuch': choose from support, her,"), ("--scale=big", "small")],
)
def test_bad_input_is_one_line(argument, words, tmp_path):
    code, out, err = run_quickly("study", argument, f"--workdir={tmp_path / 'lines'}")
    assert code in (1, 2)
    assert words in out + err
    assert not (tmp_path / "lines").exists()


def test_without_matplotlib_the_study_says_what_it_needs(tmp_path):
    (tmp_path / "matplotlib.py").write_text("raise ModuleNotFoundError(name='matplotlib')\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    arguments = ["--table=her", "--render_only", f"--workdir={tmp_path / 'lines'}"]
    process = start("study", *arguments, environment=environment)
    _, err = process.communicate(timeout=100)
    assert process.returncode == 2
    assert err == "error: the study needs Matplotlib: pip install 'herjax[study]'\n"
