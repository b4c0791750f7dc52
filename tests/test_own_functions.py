"""Functions of the user's own, by module:function on the command line, and a ``tasks.program``."""

import dataclasses
import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import herjax
from herjax.dsl.ops import COLUMN
from herjax.learning.presets import PRESETS
from herjax.tasks.random import TaskConfig, check_program, random_task
from tests.command_line import run_quickly, without_times

MODULE = """
import jax.numpy as jnp
import herjax
from herjax.tasks.random import random_program

def learner(*arguments):
    return herjax.hindsight(*arguments)

def select(*arguments):
    return herjax.select_best(*arguments)

def fails(*arguments):
    raise ValueError("nothing learnt")

def program(key, height, width, max_draws, ops):
    return random_program(key, height, width, max_draws, ops)

def turned(key, height, width, max_draws, ops):
    return random_program(key, width, height, max_draws, ops)

def deep(*arguments):
    return deep(*arguments)

number = 3
table = jnp.arange(number)  # JAX has begun
"""
ADAPT = ["her_adapt", "--task=12-squares", "--plain", "--max_epochs=2", "--max_draws=6"]
PRETRAIN = ["pretrain", "--preset=tiny", "--size_limits=36", "--snapshots=", "--log_every=1"]
PRETRAIN += ["--eval_tasks=4", "--final_eval_tasks=4", "--model.layers=1", "--steps=4"]
PRETRAIN += ["--mesh=data:2"]


@pytest.fixture
def own(tmp_path):
    """A folder to run commands in, with a module of one's own."""
    (tmp_path / "own.py").write_text(MODULE)
    return tmp_path


def test_they_run_like_those_of_herjax(own, tiny_weights):
    command = [*ADAPT, f"--checkpoint={tiny_weights}"]
    code, _, err = run_quickly(*command, "--workdir=known", where=own)
    assert code == 0, err
    mine = ["--learner=own:learner", "--select=own:select", "--workdir=mine"]
    code, _, err = run_quickly(*command, *mine, where=own)
    assert code == 0, err
    (known,), (found,) = (without_times(own / name / "result.json") for name in ("known", "mine"))
    assert (found.pop("learner"), found["config"].pop("select")) == ("own:learner", "own:select")
    assert (known.pop("learner"), known["config"].pop("select")) == ("hindsight", "best")
    assert found == known

    # The results of other code are not taken for those of this one.
    assert run_quickly(*command, *mine, where=own)[0] == 0
    (own / "own.py").write_text(MODULE + "\nnumber = 4\n")
    code, _, err = run_quickly(*command, *mine, where=own)
    assert (code, err.count("\n")) == (2, 1)
    assert "holds another run (different modules_sha256.own)" in err


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("--learner=own:lerner", "own.py has no function lerner"),
        ("--learner=own:number", "--learner must be a function, got 3"),
        ("--learner=owm:learner", "there is no module owm"),
        ("--learner=own.deep:learner", "there is no module own.deep"),
        ("--learner=.own:learner", "value should be one of <hindsight|"),
        ("--learner=builtins:print", "builtins has no file"),
        ("--learner=own", "value should be one of <hindsight|"),
        ("--learner=own:", "|MODULE:FUNCTION>"),
        ("--select=bets", "(did you mean 'best'?)"),
        ("--order=own:order", "own.py has no function order"),
    ],
)
def test_a_wrong_name_is_one_line(own, option, told):
    code, out, err = run_quickly(*ADAPT, option, "--workdir=run", where=own)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert told in err
    assert not (own / "run").exists()


def test_what_fails_in_them_tells_where(own, tiny_weights):
    options = ["--learner=own:fails", f"--checkpoint={tiny_weights}", "--workdir=run"]
    code, _, err = run_quickly(*ADAPT, *options, where=own)
    assert code == 1
    assert 'own.py", line 13, in fails' in err
    assert "ValueError: nothing learnt" in err
    deep = ["--learner=own:deep", options[1], "--workdir=deep"]
    code, _, err = run_quickly(*ADAPT, *deep, where=own)
    assert code == 1
    assert "RecursionError: maximum recursion depth" in err
    for line, told in (
        ("import nowhere", "No module named 'nowhere'"),
        ("int('x')", "ValueError: invalid literal"),
    ):
        (own / "own.py").write_text(f"{line}\n")
        code, _, err = run_quickly(*ADAPT, *options, where=own)
        assert code == 1
        assert 'own.py", line 1' in err
        assert told in err
    # Mended: nothing was done in the folder, so it is free.
    mended = MODULE.replace('raise ValueError("nothing learnt")', "return learner(*arguments)")
    (own / "own.py").write_text(mended)
    code, _, err = run_quickly(*ADAPT, *options, where=own)
    assert code == 0, err


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """The folder of a pretraining on programs of herjax."""
    workdir = tmp_path_factory.mktemp("known") / "run"
    code, _, err = run_quickly(*PRETRAIN, f"--workdir={workdir}")
    assert code == 0, err
    return workdir


@pytest.mark.slow
def test_pretraining_on_programs_of_ones_own(own, pretrained):
    mine = ["--tasks.program=own:program", "--workdir=mine"]
    code, _, err = run_quickly(*PRETRAIN, *mine, where=own)
    assert code == 0, err
    known, found = (herjax.load_pretrained(run / "model") for run in (pretrained, own / "mine"))
    assert found.info["pretraining"]["tasks"]["program"] == "own:program"
    chex.assert_trees_all_equal(found.params, known.params)


def test_programs_that_leave_the_canvas_are_refused_at_the_door(own):
    code, _, err = run_quickly(
        *PRETRAIN, "--tasks.program=own:turned", "--workdir=turned", where=own
    )
    assert (code, err.count("\n")) == (2, 1)
    assert "must be 0 .. 2 on a canvas of 3x4, got 3" in err
    assert not (own / "turned").exists()


# ---- In Python -----------------------------------------------------------------------------------


def columns(key, height, width, max_draws, ops):
    """One draw alone: a column."""
    place, colour = jax.random.randint(key, (2,), 0, jnp.array([width, 10]))
    draw = jnp.array([COLUMN, colour, 0, place, 0, 0])
    return jnp.zeros((max_draws, 6), jnp.int32).at[0].set(draw)


def test_tasks_are_what_a_program_of_ones_own_draws():
    config = TaskConfig(max_side=5, drawn_inputs=0.5, program=columns)
    check_program(config)
    keys = jax.random.split(jax.random.key(0), 64)
    run = jax.jit(jax.vmap(lambda key: random_task(key, jnp.array([[4, 5]]), config)))
    task, program = run(keys)
    changed = np.asarray(task.input != task.target)
    assert np.all(changed.any(axis=1).sum(axis=1) == 1)  # a column of each
    assert np.all((np.asarray(program[..., 0]) > 0).sum(axis=1) == 1)
    inputs = np.asarray(task.input)[:, :4]
    assert np.all(inputs == inputs[:, :1])  # columns in them, too
    assert 10 < sum(len(np.unique(canvas[:, :5])) > 1 for canvas in inputs) < 50


def shifted(column, by):
    return lambda *arguments: columns(*arguments).at[0, column].add(by)


@pytest.mark.parametrize(
    ("program", "told"),
    [
        (lambda *a: columns(*a)[:3], r"must return integers \[5, 6\], got int32 \[3, 6\]"),
        (lambda *a: 1.0 * columns(*a), "got float32"),
        (lambda *a: columns(*a).at[0].set(0), "64 programs on a canvas of 3x3 draw nothing"),
        (shifted(0, 2), "op must be 0 .. 5 on a canvas of 3x3, got 6"),
        (shifted(0, -5), "op must be 0 .. 5 on a canvas of 3x3, got -1"),
        (shifted(1, 1), "colour must be 0 .. 9 on a canvas of 3x3, got 10"),
        (shifted(3, 1), "c1 must be 0 .. 2 on a canvas of 3x3, got 3"),
        (lambda k, h, w, *a: columns(k, w, h, *a), "c1 must be 0 .. 2 on a canvas of 4x3, got 3"),
    ],
)
def test_a_wrong_program_is_told(program, told):
    with pytest.raises(ValueError, match=f"tasks.program.*{told}"):
        check_program(TaskConfig(program=program))
    with pytest.raises(ValueError, match=told):
        herjax.pretrain(herjax.PretrainConfig(tasks=TaskConfig(program=program)))


def even(key, height, width, *rest):
    return jnp.where((height % 2 == 0) & (width % 2 == 0), columns(key, height, width, *rest), 0)


def test_a_size_without_a_draw_is_told():
    """Tasks of that size would be looked for without end."""
    check_program(TaskConfig(min_side=4, max_side=4, program=even))
    with pytest.raises(ValueError, match="64 programs on a canvas of 4x5 draw nothing"):
        check_program(TaskConfig(min_side=4, max_side=6, program=even))


def test_what_an_op_does_not_use_may_be_anything():
    check_program(TaskConfig(program=shifted(5, 99)))


TINY = dataclasses.replace(
    PRESETS["tiny"],
    model=dataclasses.replace(PRESETS["tiny"].model, layers=1),
    size_limits=(36,),
    steps=4,
    log_every=3,
)


def test_pretraining_in_python_is_that_of_the_command(pretrained):
    logged = []
    decoder = herjax.pretrain(TINY, on_log=lambda *told: logged.append(told))
    expected = herjax.load_pretrained(pretrained / "model")
    chex.assert_trees_all_equal(decoder.params, expected.params)
    assert decoder.model.config == expected.model.config
    lines = map(json.loads, (pretrained / "metrics.jsonl").read_text().splitlines())
    lines = [line for line in lines if "loss" in line and line["step"] > 2]
    assert [step for step, _, _ in logged] == [line["step"] for line in lines] == [3, 4]
    for (_, _, metrics), line in zip(logged, lines):
        assert metrics == {name: line[name] for name in metrics}
    chex.assert_trees_all_equal(logged[-1][1], decoder.params)
    leaves = (jax.tree.leaves(params) for _, params, _ in logged)
    assert any(not np.array_equal(*pair) for pair in zip(*leaves))  # copies, which stay
    assert all(leaf.devices() == {jax.devices()[0]} for leaf in jax.tree.leaves(decoder.params))


def test_pretraining_in_python_stops_when_asked():
    def stop(step, params, metrics):
        raise StopIteration

    seen = []
    stopped = herjax.pretrain(TINY, on_log=stop)
    herjax.pretrain(TINY, on_log=lambda step, params, _: seen.append(params))
    chex.assert_trees_all_equal(stopped.params, seen[0])


def test_pretraining_in_python_refuses():
    with pytest.raises(ValueError, match="config must be a PretrainConfig, got 'tiny'"):
        herjax.pretrain("tiny")
    with pytest.raises(ValueError, match="on_log must be a function, got 3"):
        herjax.pretrain(TINY, on_log=3)
    with pytest.raises(ValueError, match="batch_size 16 is not a multiple of 3"):
        herjax.pretrain(TINY, mesh=herjax.runtime.sharding.make_mesh({"data": 3, "model": 1}))
    with pytest.raises(FloatingPointError, match="loss nan at step 3: lower the rates"):
        herjax.pretrain(dataclasses.replace(TINY, adam_lr=1e30, warmup_steps=1))
