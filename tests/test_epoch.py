import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import herjax
from herjax.learning import epoch
from herjax.learning.adaptation import _start
from herjax.learning.epoch import adjust_heat, compiled_epochs, worth_of
from herjax.learning.result import epoch_metrics
from herjax.learning.selection import order_reversed, order_shuffled, select_all, select_diverse
from herjax.runtime.program_cache import call_kept
from herjax.tasks.task import pad_task
from tests import referee
from tests.settings import CONFIG, PLAIN


def epochs_of(tiny, target, config, seed=0):
    """The state after each epoch, as NumPy arrays."""
    task = pad_task(herjax.make_task(target), 10)
    state = start(tiny, config, seed)
    states = []
    while state.running:
        state = compiled_epochs(tiny.model, state, task, config, 1)
        states.append(jax.device_get(state.replace(key=None)))
    return states


def start(tiny, config, seed=0):
    """A state on a canvas of 10x10, by the programs that ``adapt`` uses."""
    key = jax.random.key(seed)
    return call_kept(_start, tiny.params, key, config=config, shape=(10, 10))


@pytest.mark.parametrize("side", [1, 10, 30, 128])
def test_no_number_of_draws_outweighs_a_pixel(side):
    """Of the largest canvases that a decoder may have, too."""
    cells = side * side
    most = herjax.AdaptConfig().draws(cells)
    right = np.array([cells, cells - 1, cells - 1, 0])
    accuracy = jnp.where(right == cells, 1.0, jnp.float32(right / cells))
    worth = np.asarray(worth_of(accuracy, np.array([most, 0, most, 0]), most, cells))
    assert worth[0] > worth[1] > worth[2] > -1
    assert side == 1 or worth[2] > worth[3]
    if side <= 30:  # and one draw less is told
        assert np.all(np.diff(worth_of(jnp.ones(most), np.arange(most), most, cells)) < 0)


def test_an_epoch_holds_attempts_kept_programs_and_a_child_of_each(tiny, target):
    blank, parents = np.zeros_like(target), CONFIG.sampled + CONFIG.kept
    assert (CONFIG.sampled, CONFIG.kept, CONFIG.programs_an_epoch) == (16, 4, 40)
    kept, better = np.zeros((4, 6, 6), int), 0
    for state in epochs_of(tiny, target, CONFIG):
        metrics = epoch_metrics(state.history, int(state.epoch) - 1, target.shape)
        pictures = [referee.execute(program, blank) for program in metrics.program]
        right = np.array([(picture == target).mean() for picture in pictures])
        assert np.allclose(metrics.accuracy, right, atol=1e-6)
        assert np.array_equal(metrics.program[16:20], kept)
        assert (right[parents:] >= right[:parents]).all()
        better += (right[parents:] > right[:parents]).sum()
        # An offer is one run more; none is made to a program without room.
        draws = (metrics.program[..., 0] > 0).sum(axis=1)
        assert metrics.run >= CONFIG.programs_an_epoch - CONFIG.kept + draws[parents:].sum()
        assert metrics.distinct == len({p.tobytes() for p, n in zip(pictures, draws) if n})
        # The best of different pictures are kept.
        kept = state.kept
        different = {p.tobytes(): r for p, r, n in zip(pictures, right, draws) if n}
        ranked = sorted(different.values(), reverse=True)
        assert [(referee.execute(p, blank) == target).mean() for p in kept] == ranked[:4]
        assert len({referee.execute(p, blank).tobytes() for p in kept}) == 4
    assert better > 20


def mark_all(model, train, task, attempts, config, key):
    return herjax.Update(train, jnp.float32(0), jnp.ones_like(attempts.new))


def test_a_learner_may_train_on_all_programs_of_every_epoch(tiny):
    """What it trained on is remembered to the end, though hindsight trains on fewer."""
    config = dataclasses.replace(PLAIN, max_epochs=12, max_draws=2, fraction=0.1)
    target = np.array([[1, 2], [3, 4]])
    result = herjax.adapt(target, params=tiny, config=config, learner=mark_all)
    known = set()
    for metrics in result.history:
        drawn = [p for p in metrics.program if np.any(p)]
        pictures = {referee.execute(p, np.zeros((2, 2), int)).tobytes() for p in drawn}
        assert metrics.new == len(pictures - known)
        known |= pictures
    assert len(result.history) == 12
    assert len(known) > config.pairs * 12


def test_plain_her_has_attempts_alone(tiny, target):
    assert PLAIN.kept == 0
    for state in epochs_of(tiny, target, PLAIN):
        metrics = epoch_metrics(state.history, int(state.epoch) - 1, target.shape)
        assert metrics.program.shape == (32, 6, 6)
        assert metrics.run == 32


def test_learning_rate_0_searches_without_learning(tiny, target):
    last = epochs_of(tiny, target, dataclasses.replace(CONFIG, learning_rate=0.0))[-1]
    assert int(last.train.step) == 0
    assert int(last.epoch) == 6
    for leaf, before in zip(jax.tree.leaves(last.train.params), jax.tree.leaves(tiny.params)):
        assert np.array_equal(leaf, before)


@pytest.mark.parametrize(
    ("config", "changes"),
    [
        (PLAIN, {"select": select_all, "novelty": False, "order": order_reversed}),
        pytest.param(
            PLAIN,
            {
                "select": select_diverse,
                "order": order_shuffled,
                "fresh": 3,
                "greedy": True,
                "symmetries": True,
            },
            marks=pytest.mark.slow,
        ),
    ],
)
def test_options_run(tiny, target, config, changes):
    config = dataclasses.replace(config, max_epochs=2, **changes)
    last = epochs_of(tiny, target, config)[-1]
    epochs = [epoch_metrics(last.history, epoch, target.shape) for epoch in range(2)]
    if changes["select"] is select_all:
        assert epochs[0].trained == epochs[0].distinct == epochs[0].new
    assert all(np.isfinite(epoch.loss) for epoch in epochs)


CHOOSING = herjax.AdaptConfig(programs=(3,), keep=1, max_draws=5, max_epochs=9, min_distinct=1.0)


def after_an_epoch(best, weight=1.0, loss=0.5, same=False):
    """The next state, where the best before had so many pixels of 100 right.

    A: 3 sampled, 1 kept, 4 children. The best has the fewest draws of its accuracy, and is none of
    the distinct ones, of which the fifth is better than the second by its draws.
    """
    accuracy = jnp.float32([0.5, 0.75, 0.75, 0.25, 0.75, 0.5, 0.2, 0.1])
    draws = jnp.array([1, 4, 2, 1, 3, 5, 1, 1])
    distinct = jnp.arange(8) != 2
    place = jnp.arange(5)[None, :, None]
    program = jnp.where(place < draws[:, None, None], 1 + jnp.arange(8)[:, None, None], 0)
    program = jnp.broadcast_to(program, (8, 5, 6))
    params = {"params": {"x": jnp.zeros(3)}}
    state = herjax.init_adaptation(params, CHOOSING, jax.random.key(0), (10, 10))
    state = state.replace(best_accuracy=jnp.float32(best), heat=jnp.float32(1.2))
    pairs = herjax.Pairs(program, jnp.zeros((8, 10, 10), jnp.int8), accuracy)
    unused = dict.fromkeys(("seen", "augmentation", "temperature", "said", "log_probs"))
    attempts = herjax.Attempts(pairs, distinct, distinct, tokens=jnp.zeros((3, 5, 4)), **unused)
    train = state.train.replace(params={"params": {"x": jnp.full(3, weight)}})
    update = herjax.Update(train, jnp.float32(loss), distinct)
    hashes = jnp.arange(8, dtype=jnp.uint32).at[1].set(0 if same else 1)
    hashes = jnp.stack([hashes, hashes], axis=1)
    choose = jax.jit(epoch._next_state, static_argnums=1)
    return choose(state, CHOOSING, attempts, hashes, update, jnp.int32(77))


@pytest.mark.parametrize(("best", "program"), [(0.74, 3), (0.75, 0), (0.9, 0)])
def test_the_best_is_the_first_of_most_pixels_and_fewest_draws(best, program):
    state = after_an_epoch(best)
    assert np.unique(state.best_program[0]).tolist() == [program]
    assert state.best_accuracy == pytest.approx(max(best, 0.75))
    assert np.unique(state.kept[0, :3]).tolist() == [5]


def test_an_epoch_is_told_of_what_was_sampled_in_it():
    one, other = after_an_epoch(0.9), after_an_epoch(0.9, same=True)
    assert one.history.draws[0] == pytest.approx((1 + 4 + 2) / 3)
    assert one.history.run[0] == 77
    # Three different pictures of three, which is what is asked for, and two.
    assert one.heat == pytest.approx(1.2 / 1.1)
    assert other.heat == pytest.approx(1.2 * 1.1)


def test_each_epoch_recombines_in_an_order_of_its_own(tiny, target, monkeypatch):
    def stand_in(parents, task, partners, key, limit):
        return parents, jax.random.randint(key, (), 0, 10**6)

    monkeypatch.setattr(epoch, "recombine", stand_in)
    task = herjax.make_task(target)
    state = herjax.init_adaptation(tiny.params, CONFIG, jax.random.key(0), target.shape)
    run = jax.jit(lambda key: epoch.attempt_all(tiny.model, state, task, CONFIG, key)[2])
    keys = [jax.random.key(1), jax.random.key(2)]
    offered = [jax.random.randint(jax.random.split(key)[1], (), 0, 10**6) for key in keys]
    assert offered[0] != offered[1]
    # 16 sampled, and 20 children.
    assert [int(run(key)) - 36 for key in keys] == [int(count) for count in offered]


def test_heat_rises_while_too_few_pictures_differ_and_falls_back():
    heat = jnp.float32(1.0)
    for _ in range(5):
        heat = adjust_heat(heat, jnp.int32(7), 10, 0.8)
    assert heat == pytest.approx(1.1**5)
    assert adjust_heat(heat, jnp.int32(8), 10, 0.8) == pytest.approx(1.1**4)
    assert adjust_heat(jnp.float32(1.0), jnp.int32(8), 10, 0.8) == 1.0
    assert adjust_heat(jnp.float32(2.95), jnp.int32(0), 10, 0.8) == 3.0
    assert adjust_heat(jnp.float32(1.0), jnp.int32(0), 10, 0.0) == 1.0


def test_the_key_outlives_a_state_that_is_donated(tiny):
    key = jax.random.key(0)
    herjax.init_adaptation(tiny.params, CONFIG, key, (3, 3)).key.delete()  # as donation does
    assert not key.is_deleted()
