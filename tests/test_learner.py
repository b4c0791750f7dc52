import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import herjax
from herjax.dsl.grammar import encode
from herjax.dsl.ops import LINE, PIXEL, ROW
from herjax.learning import epoch
from herjax.learning.epoch import attempt_all, init_adaptation
from herjax.runtime import program_cache
from herjax.runtime.sharding import make_mesh
from herjax.tasks.task import pad_task
from tests.settings import CONFIG


def reinforce(model, train, task, attempts, config, key):
    """REINFORCE with the mean reward as baseline (Williams, 1992), as in the tutorial."""
    advantage = attempts.reward - attempts.reward.mean()

    def loss(params):
        log_probs = herjax.program_log_probs(model, params, attempts.seen, attempts.tokens)
        said = jnp.sum(log_probs * attempts.said, axis=(1, 2))
        return -jnp.mean(advantage * said)

    value, grads = jax.value_and_grad(loss)(train.params)
    train = herjax.apply_gradients(train, grads, herjax.make_optimizer(config))
    return herjax.Update(train, value, trained=attempts.sampled)


@pytest.fixture(scope="module", params=["as it is", "augmented", "small"])
def attempted(request, tiny, target):
    """The attempts of an epoch, some of them as long as they may be."""
    small = request.param == "small"  # its own limit is 5 draws, its canvas has room for 40
    task = pad_task(herjax.make_task(target[:2, :2] if small else target), 10)
    config = herjax.AdaptConfig(
        programs=(12, 4),
        temperatures=(1.5, 0.5),
        max_draws=0 if small else 2,
        colour_permutations=request.param == "augmented",
    )
    state = init_adaptation(tiny.params, config, jax.random.key(0), task.target.shape)
    attempts, _, _ = jax.jit(
        lambda state, task: attempt_all(tiny.model, state, task, config, jax.random.key(1))
    )(state, task)
    return task, attempts


def log_probs_of(tiny, params, attempts):
    return herjax.program_log_probs(tiny.model, params, attempts.seen, attempts.tokens)


def test_log_probs_are_those_of_the_sampler(tiny, attempted):
    """For the canvas that was seen, which with augmentation is not the task."""
    task, attempts = attempted
    log_probs = log_probs_of(tiny, tiny.params, attempts)
    assert np.allclose(log_probs * attempts.said, attempts.log_probs, atol=1e-4)
    draws = (np.asarray(attempts.tokens)[..., 0] > 0).sum(axis=1)
    limit = min(attempts.tokens.shape[1], 5)
    assert draws.max() == limit > draws.min()  # cut off, and ended
    told = np.asarray(attempts.log_probs) != 0
    assert np.array_equal(told, attempts.said)
    assert (told[:, :, 0].sum(axis=1) == np.minimum(draws + 1, limit)).all()
    assert (np.asarray(attempts.log_probs)[told] < 0).all()


def test_attempts_tell_which_were_sampled_and_how_right_they_are(attempted):
    task, attempts = attempted
    assert attempts.sampled.tolist() == [True] * 16 + [False] * 24
    assert attempts.reward.shape == (16,)
    most = np.float32(41 / 42)  # all but one
    accuracy = attempts.pairs.accuracy
    for best, solved in ((most, False), (1.0, True)):
        pairs = attempts.pairs.replace(accuracy=accuracy.at[3].set(best))
        assert attempts.replace(pairs=pairs).solved == solved
    own = jax.vmap(herjax.pixel_accuracy, (0, None))(attempts.pairs.picture, task.target)
    assert np.array_equal(attempts.reward, own[:16])
    assert not attempts.solved


def test_a_learner_of_ones_own_changes_the_weights_its_way(tiny, target):
    result = herjax.adapt(target, params=tiny, config=CONFIG, learner=reinforce)
    usual = herjax.adapt(target, params=tiny, config=CONFIG)
    assert np.array_equal(result.history[0].accuracy, usual.history[0].accuracy)
    assert not np.array_equal(result.history[1].accuracy, usual.history[1].accuracy)
    assert [int(metrics.trained) for metrics in result.history] == [16] * 6
    losses = [float(metrics.loss) for metrics in result.history]
    assert np.isfinite(losses).all()
    assert any(losses)
    mesh = make_mesh({"data": 1, "model": 1})  # over more devices XLA sums in another order
    (member,) = herjax.adapt_population(
        [target], [0], params=tiny, config=CONFIG, learner=reinforce, mesh=mesh
    )
    assert np.array_equal(member.program, result.program)
    for a, b in zip(jax.tree.leaves(member.params), jax.tree.leaves(result.params)):
        assert np.allclose(a, b, atol=1e-6)


def test_it_makes_what_was_better_than_average_likelier(tiny, attempted):
    task, attempts = attempted
    config = herjax.AdaptConfig(learning_rate=1e-3)
    state = init_adaptation(tiny.params, config, jax.random.key(0), task.target.shape)
    learn = jax.jit(
        lambda train: reinforce(tiny.model, train, task, attempts, config, jax.random.key(0)).train
    )
    train = state.train
    for _ in range(5):
        train = learn(train)
    after = log_probs_of(tiny, train.params, attempts)
    gain = (after - attempts.log_probs).sum(axis=(1, 2))
    assert jnp.sum(gain * (attempts.reward - attempts.reward.mean())) > 0.01


def test_a_learner_that_is_not_of_herjax_is_not_kept_between_runs(tmp_path, monkeypatch):
    """It may be another one tomorrow, under the same name."""
    monkeypatch.setattr(program_cache, "_folder", tmp_path)
    options = {"model": 1, "config": CONFIG}
    with pytest.raises(ValueError, match="reinforce.* is not one of herjax"):
        program_cache._told({**options, "learner": reinforce}["learner"])
    assert "hindsight" in program_cache._told(epoch.hindsight)
    shown = str(program_cache._told((CONFIG, herjax.hindsight)))
    assert "herjax.learning.selection.select_best" in shown
    assert "0x" not in shown


def descent_and_steps(config):
    """Gradient descent, and a state of one's own beside it: how many steps were taken."""
    count = optax.GradientTransformation(
        lambda params: jnp.int32(0), lambda updates, steps, params=None: (updates, steps + 1)
    )
    return optax.chain(optax.sgd(config.learning_rate), count)


def downhill(model, train, task, attempts, config, key):
    """As if all gradients were 1; the loss is the state of the optimiser."""
    ones = jax.tree.map(jnp.ones_like, train.params)
    train = herjax.apply_gradients(train, ones, herjax.make_optimizer(config))
    steps = train.opt_state[1][1].astype(jnp.float32)
    return herjax.Update(train, steps, attempts.new)


def test_an_optimiser_of_ones_own_changes_the_weights_and_keeps_its_state(tiny, target):
    config = dataclasses.replace(CONFIG, optimizer=descent_and_steps, max_epochs=3)
    result = herjax.adapt(target, params=tiny, config=config, learner=downhill)
    assert [float(epoch.loss) for epoch in result.history] == [1, 2, 3]
    lower = jax.tree.map(lambda leaf: leaf - 3 * config.learning_rate, tiny.params)
    chex.assert_trees_all_close(result.params, lower, atol=1e-6)
    broken = dataclasses.replace(config, optimizer=lambda config: "adam")
    with pytest.raises(ValueError, match="optimizer must make an optax.Gradient.*, got 'adam'"):
        herjax.adapt(target, params=tiny, config=broken)


class Unhashable:
    __hash__ = None

    def __call__(self, *arguments):
        return herjax.hindsight(*arguments)


def trained_on(rows):
    return lambda model, train, *_: herjax.Update(train, jnp.float32(0), rows)


@pytest.mark.parametrize(
    ("learner", "message"),
    [
        (lambda *_: None, "the learner must return an Update, got None"),
        (Unhashable(), "learner must be hashable, and <.*Unhashable.* is not"),
        (
            lambda model, train, task, attempts, *_: herjax.Update(train, None, attempts.new),
            r"Update.loss must be float32 \[\], got NoneType \[\]",
        ),
        (
            lambda model, train, task, attempts, *_: herjax.Update(
                train.params, jnp.float32(0), attempts.new
            ),
            "Update.train must be a TrainState like the one that it got",
        ),
        (trained_on(jnp.ones(3, bool)), r"Update.trained must be bool \[40\], got bool \[3\]"),
        (trained_on(jnp.ones(40)), r"Update.trained must be bool \[40\], got float32 \[40\]"),
    ],
)
def test_what_is_no_learner_is_told(tiny, learner, message):
    with pytest.raises(ValueError, match=message):
        herjax.adapt(np.eye(3, dtype=int), params=tiny, config=CONFIG, learner=learner)


def test_an_epoch_tells_of_what_is_no_learner(tiny, target):
    task = herjax.make_task(target)
    state = herjax.init_adaptation(tiny.params, CONFIG, jax.random.key(0), target.shape)
    with pytest.raises(ValueError, match="learner must be hashable"):
        herjax.adapt_epoch(tiny.model, state, task, CONFIG, Unhashable())
    with pytest.raises(ValueError, match="learner must be hashable"):
        herjax.adapt_epochs(tiny.model, state, task, CONFIG, 2, Unhashable())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"select": lambda accuracy, new, count: jnp.argsort(accuracy)[:count]},
            r"select's result must be bool \[40\], got int32 \[10\]",
        ),
        (
            {"rewrite": lambda program, *_: program[:1]},
            r"rewrite's results must be int32 \[40, 6, 6\], got int32 \[40, 1, 6\]",
        ),
        (
            {"distinct": lambda hashes, draws, valid: draws},
            r"distinct's result must be bool \[40\], got int32 \[40\]",
        ),
        (
            {"order": lambda key, accuracy: accuracy[:, None]},
            r"order's result must be float32 or int32 \[40\], got float32 \[40, 1\]",
        ),
    ],
)
def test_what_does_not_select_or_order_is_told(tiny, changes, message):
    config = dataclasses.replace(CONFIG, **changes)
    with pytest.raises(ValueError, match=message):
        herjax.adapt(np.eye(3, dtype=int), params=tiny, config=config)


def test_a_selection_of_ones_own_is_cut_to_the_best_new_ones(tiny, target):
    """Not to the first in order, which are the worst."""
    few = dataclasses.replace(CONFIG, fraction=0.1, max_epochs=2)
    greedy = dataclasses.replace(few, select=lambda accuracy, new, count: accuracy >= 0)
    found, expected = (
        herjax.adapt(target, params=tiny, config=config).history for config in (greedy, few)
    )
    assert [int(epoch.trained) for epoch in found] == [4, 4]
    for one, other in zip(found, expected):
        assert np.array_equal(one.accuracy, other.accuracy)


# ---- Programs of someone's own -------------------------------------------------------------------


def test_programs_of_ones_own_have_log_probs(tiny, target):
    """Each with its END: the probabilities of all programs of no and of one draw are known."""
    rows, cols = 2, 3
    task = herjax.make_task(target[:rows, :cols])
    pixels = [[[PIXEL, 3, r, c, 0, 0]] for r in range(rows) for c in range(cols)]
    programs = [np.zeros((0, 6), int), *map(np.array, pixels)]
    none = herjax.encode_programs([], rows, cols)
    assert herjax.program_log_probs(tiny.model, tiny.params, task, none).shape == (0, 2, 4)
    tokens = herjax.encode_programs(programs, rows, cols)
    assert tokens.shape == (7, 2, 4)
    found = herjax.program_log_probs(tiny.model, tiny.params, task, tokens)
    heat = jnp.ones(1000)
    samples = herjax.sample(tiny.model, tiny.params, task, jax.random.key(0), heat, 1, rows * cols)
    ended = np.mean(np.asarray(samples.tokens)[:, 0, 0] == 0)
    assert abs(np.exp(found[0].sum()) - ended) < 4 * np.sqrt(ended * (1 - ended) / 1000)
    points = np.exp(found[1:, 0, 2])
    assert np.isclose(points.sum(), 1, atol=1e-5)  # of what is pointed at
    assert np.all(found[1:, 1, 0] < 0)  # END


@pytest.mark.parametrize(
    ("record", "place"),
    [
        ([PIXEL, 3, 0, 2, 0, 0], None),
        ([PIXEL, 3, 9, 9, 0, 0], 2),
        ([LINE, 3, 0, 0, 2, 1], 3),
        ([PIXEL, 11, 0, 0, 0, 0], 1),
        ([6, 3, 0, 0, 1, 1], 0),  # a call that this decoder lacks
        ([-2, 3, 0, 0, 1, 1], 0),
        ([ROW, 3, 1, 1, 0, 0], 2),  # a row is named by its column 0
        ([ROW, 3, 1, 0, 0, 0], None),
    ],
)
def test_what_a_decoder_cannot_say_is_impossible(tiny, target, record, place):
    task = pad_task(herjax.make_task(target[:2, :3]), 10)
    tokens = encode(jnp.array([[record], [[PIXEL, 1, 0, 0, 0, 0]]]), 3)
    found = np.asarray(herjax.program_log_probs(tiny.model, tiny.params, task, tokens))
    assert np.all(np.isfinite(found[1]))
    if place is None:
        assert np.all(np.isfinite(found))
    else:
        assert found[0, 0, place] == -np.inf


def test_a_missing_or_needless_token_is_impossible(tiny, target):
    task = herjax.make_task(target[:2, :3])
    tokens = np.asarray(encode(jnp.array([[[PIXEL, 3, 0, 2, 0, 0]]]), 3))
    for place, value in ((1, -1), (2, -1), (3, tokens[0, 0, 2])):
        changed = tokens.copy()
        changed[0, 0, place] = value
        found = herjax.program_log_probs(tiny.model, tiny.params, task, changed)
        assert found[0, 0, place] == -np.inf


def test_records_are_no_tokens(tiny, target):
    records = np.zeros((3, 5, 6), int)
    task = herjax.make_task(target)
    with pytest.raises(ValueError, match=r"\[G, N, 4\], got int32 \[3, 5, 6\]; encode_programs"):
        herjax.program_log_probs(tiny.model, tiny.params, task, records)
    with pytest.raises(ValueError, match=r"must be integers \[G, N, 4\], got float32 \[3, 5, 4\]"):
        herjax.program_log_probs(tiny.model, tiny.params, task, np.zeros((3, 5, 4), np.float32))
    with pytest.raises(ValueError, match="task must be a Task, as from make_task, got array"):
        herjax.program_log_probs(tiny.model, tiny.params, target, records)
    with pytest.raises(ValueError, match=r"temperature must be \[G\], here \[3\], got \[\]"):
        herjax.program_log_probs(tiny.model, tiny.params, task, np.full((3, 5, 4), -1), 1.0)
    tokens = herjax.encode_programs([records[0]], 11, 2)
    task = herjax.make_task(np.zeros((11, 2), int))
    with pytest.raises(ValueError, match="picture of 11x2 is larger than the model's canvas"):
        herjax.program_log_probs(tiny.model, tiny.params, task, tokens)
