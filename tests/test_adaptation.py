import dataclasses

import chex
import jax
import numpy as np
import pytest

import herjax
from herjax import stats
from herjax.learning import adaptation
from herjax.learning.attempts import attempt
from herjax.learning.config import AdaptConfig
from tests import referee
from tests.settings import CONFIG


def run(tiny, target, config, seed=0):
    kept = []
    result = herjax.adapt(
        target, params=tiny, seed=seed, config=config, on_epoch=lambda s, m: kept.append(m)
    )
    return result, kept


def test_adapt_repeats_for_a_seed_and_differs_between_seeds(tiny, target):
    one, again, other = (run(tiny, target, CONFIG, seed)[0] for seed in (0, 0, 1))
    for a, b in zip(one.history, again.history):
        assert all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)))
    assert np.array_equal(one.program, again.program)
    assert not np.array_equal(one.history[0].accuracy, other.history[0].accuracy)


def test_a_result_shows_itself_in_a_line(tiny, target):
    result, kept = run(tiny, target, CONFIG)
    shown = f"solved={result.solved}, {len(result.program)} draws, {len(kept)} epochs, Pretrained("
    assert shown in repr(result)
    assert "\n" not in repr(result)
    assert str(tiny.model.config) in repr(tiny)


def test_a_result_holds_the_epochs_that_were_run_and_no_more(tiny, target):
    config = dataclasses.replace(CONFIG, max_epochs=50)
    result = herjax.adapt(target, params=tiny, config=config, on_epoch=stop)
    assert len(result.history) == 1
    rows = result.history[0].program
    assert rows.base.nbytes == rows.nbytes


def stop(*_):
    raise StopIteration


def test_results_are_runs_to_compare(tiny, target):
    result = herjax.adapt(target, params=tiny, config=CONFIG)
    assert result.programs_sampled == 16 * len(result.history) == 96
    rows = [{"programs_sampled": 7, "solved": True, "seed": 0}]
    assert stats.Runs.of(rows) == stats.Runs.of({4: rows[0]}) == ([7], [True])
    runs = stats.Runs.of(
        [result, dataclasses.replace(result, solved=True, history=result.history[:2])]
    )
    assert (runs.sampled, runs.solved) == ([96, 32], [False, True])
    assert stats.median_to_solve(runs).value == 32


def test_adapt_stops_at_a_solution_without_training(tiny):
    """A picture the untrained decoder draws by chance: one of its own samples."""
    target = np.zeros((6, 7), np.int64)
    task = herjax.make_task(target)
    draw = jax.jit(lambda key: attempt(tiny.model, tiny.params, task, CONFIG, key))
    attempts = draw(jax.random.key(9))
    drawn = np.asarray(attempts.program)
    target = referee.execute(
        min(drawn, key=lambda p: (p[:, 0] == 0).all() * 99 + (p[:, 0] > 0).sum()), target
    )
    result, _ = run(tiny, target, AdaptConfig.plain(programs=(256,), max_epochs=20, max_draws=4))
    assert result.solved
    assert bool(result.history[-1].solved)
    assert result.history[-1].trained == 0
    assert not any(bool(epoch.solved) for epoch in result.history[:-1])
    assert np.array_equal(referee.execute(result.program, np.zeros((6, 7), int)), target)


@pytest.mark.parametrize(
    ("target", "input", "message"),
    [
        (np.zeros((2, 2, 2), int), None, "rows, columns"),
        (np.zeros((0, 3), int), None, "rows, columns"),
        (np.full((3, 3), 10), None, "target has colours 10 .. 10"),
        (np.full((3, 3), 2**32 + 1), None, "target has colours 4294967297"),
        (np.full((3, 3), -1), None, "allowed are 0 .. 9"),
        (np.zeros((3, 3)), None, "must hold integers"),
        (np.zeros((3, 3), int), np.zeros((3, 4), int), "they must be equal"),
        (np.zeros((3, 3), int), np.full((3, 3), 11), "input has colours"),
        (np.zeros((3, 12), int), None, "3x12 is larger than the model's canvas, 10x10"),
    ],
)
def test_bad_pictures_are_refused(tiny, target, input, message):
    with pytest.raises(ValueError, match=message):
        herjax.adapt(target, input=input, params=tiny)


def test_a_picture_may_be_what_becomes_an_array(target):
    class Image:
        def __array__(self, dtype=None, copy=None):
            return target

    assert np.array_equal(herjax.make_task(Image()).target, target)


def test_a_picture_or_a_task_has_its_input_with_it(target):
    picture = herjax.pictures()["overlapping-squares"]
    task = herjax.make_task(target, input=target // 2)
    given = [(picture, picture), (task, task), (herjax.pad_task(task, 9), task)]
    for drawn, expected in given:
        made = herjax.make_task(drawn)
        chex.assert_trees_all_equal((made.input, made.target), (expected.input, expected.target))
    with pytest.raises(ValueError, match="input is given beside a Task, which has its own"):
        herjax.make_task(task, input=target)
    with pytest.raises(ValueError, match=r"target: a picture must be \[rows, columns\]"):
        herjax.make_task(jax.tree.map(lambda leaf: leaf[None], task))
    with pytest.raises(ValueError, match="target has colours 3 .. 77"):
        herjax.make_task(task.replace(target=np.array([[3, 77]])))


def test_results_are_compared_by_identity(tiny, target):
    one, other = (herjax.adapt(target, params=tiny, config=CONFIG) for _ in range(2))
    assert one == one
    assert one != other
    assert [other, one].index(one) == 1


def test_a_state_belongs_to_its_canvas(tiny, target):
    state = herjax.init_adaptation(tiny.params, CONFIG, jax.random.key(0), target.shape)
    task = herjax.make_task(target[:2])
    with pytest.raises(ValueError, match=r"task has a canvas \[2, 7\], the state \[6, 7\]"):
        herjax.adapt_epoch(tiny.model, state, task, CONFIG)


def test_a_result_can_be_adapted_again(tiny, target):
    first = herjax.adapt(target, params=tiny, config=CONFIG)
    assert first.adapted.info == {"adapted_from": "untrained"}
    assert np.array_equal(first.task.target, target)
    assert first.config == CONFIG
    assert first.adapted.model == tiny.model
    assert first.adapted.params is first.params
    again = herjax.adapt(target[::-1], params=first.adapted, config=CONFIG)
    assert again.adapted.info == {"adapted_from": "untrained"}
    fresh = herjax.adapt(target[::-1], params=tiny, config=CONFIG)
    assert not np.array_equal(again.history[0].accuracy, fresh.history[0].accuracy)


def test_a_state_that_was_handed_out_stays(tiny, target):
    states = []
    herjax.adapt(target, params=tiny, config=CONFIG, on_epoch=lambda s, m: states.append(s))
    assert [int(state.epoch) for state in states] == [1, 2, 3, 4, 5, 6]
    steps = [int(state.train.step) for state in states]
    assert steps == sorted(steps)
    assert len(set(steps)) > 3


def test_a_callback_stops_an_adaptation_and_the_result_so_far_is_given(tiny, target):
    def stop(state, metrics):
        if state.epoch == 3:
            raise StopIteration

    result = herjax.adapt(target, params=tiny, config=CONFIG, on_epoch=stop)
    whole, _ = run(tiny, target, CONFIG)
    assert len(result.history) == 3 < len(whole.history)
    for a, b in zip(result.history, whole.history):
        assert all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)))
    assert not result.solved


@pytest.mark.parametrize("given_away", [False, True])
def test_ctrl_c_without_a_callback_carries_the_result_so_far(tiny, target, monkeypatch, given_away):
    def interrupted(model, state, *arguments):
        if state.epoch:
            if given_away:  # to epochs that did not end
                jax.tree.map(lambda leaf: leaf.delete(), state)
            raise KeyboardInterrupt
        return compiled_epochs(model, state, *arguments)

    compiled_epochs = adaptation.compiled_epochs
    monkeypatch.setattr(adaptation, "CHUNK", 2)
    monkeypatch.setattr(adaptation, "compiled_epochs", interrupted)
    with pytest.raises(KeyboardInterrupt) as caught:
        herjax.adapt(target, params=tiny, config=CONFIG)
    assert hasattr(caught.value, "result") != given_away
    if not given_away:
        assert len(caught.value.result.history) == 2


@pytest.mark.parametrize("kind", [ZeroDivisionError, KeyboardInterrupt])
def test_an_exception_of_a_callback_carries_the_result_so_far(tiny, target, kind):
    def fail(state, metrics):
        if state.epoch == 2:
            raise kind("mine")

    with pytest.raises(kind, match="mine") as caught:
        herjax.adapt(target, params=tiny, config=CONFIG, on_epoch=fail)
    assert len(caught.value.result.history) == 2
    assert "attribute `result`" in caught.value.__notes__[0]
    again = herjax.adapt(target, params=caught.value.result.adapted, config=CONFIG)
    assert again.history  # its weights are whole, and can be adapted further


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config": {"programs": 3}}, "config must be an AdaptConfig, got {'programs': 3}"),
        ({"seed": -1}, "seed must be an integer, 0 .. 4294967295, got -1"),
        ({"seed": 2**32}, "seed must be an integer, 0 .. 4294967295, got 4294967296"),
        ({"on_epoch": 3}, "on_epoch must be a function, got 3"),
        ({"learner": "grpo"}, "learner must be a function, got 'grpo'"),
        # Heads leave no trace in parameters alone.
        (
            {"params": {"params": {}}},
            "params must be a Pretrained, such as Result.adapted, .* dict",
        ),
        ({"params": 3}, "params must be a Pretrained, .*, a name or folder .* got int"),
    ],
)
def test_other_things_are_refused(tiny, target, changes, message):
    with pytest.raises(ValueError, match=message):
        herjax.adapt(target, **{"params": tiny, **changes})


def test_a_decoder_may_be_named(target):
    with pytest.raises(herjax.CheckpointError, match="no model 'nosuch'"):
        herjax.adapt(target, params="nosuch")


def test_a_small_picture_is_adapted_to_on_a_padded_canvas(tiny, target):
    """The metrics and the program are those of the picture itself, and a row reaches its edge."""
    result, epochs = run(tiny, target, CONFIG)
    assert max(target.shape) < 10 == tiny.model.config.max_side
    blank = np.zeros_like(target)
    for metrics in epochs:
        best = np.argmax(metrics.accuracy - 1e-6 * (metrics.program[..., 0] > 0).sum(axis=1))
        picture = referee.execute(metrics.program[best], blank)
        assert np.array_equal(metrics.best_picture, picture)
        assert metrics.accuracy[best] == pytest.approx((picture == target).mean())
    drawn = referee.execute(result.program, blank)
    assert (drawn == target).mean() == pytest.approx(max(e.accuracy.max() for e in epochs))


def test_small_pictures_keep_their_limit_of_draws(tiny):
    config = AdaptConfig(programs=(24,), temperatures=(1.5,), max_epochs=4)
    result, _ = run(tiny, np.random.default_rng(0).integers(0, 10, (4, 6)), config)
    lengths = [(epoch.program[..., 0] > 0).sum(axis=1).max() for epoch in result.history]
    assert result.history[0].program.shape == (56, 40, 6)
    assert max(lengths) == 10  # as many as a small picture may have
