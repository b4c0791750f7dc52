import dataclasses
import types
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import herjax
from herjax.dsl.canonical import canonical_program, program_as_said
from herjax.dsl.executor import draw_count
from herjax.learning import hindsight
from herjax.learning.adaptation import _start
from herjax.learning.attempts import Pairs, attempt
from herjax.learning.epoch import compiled_epochs, init_adaptation
from herjax.learning.hindsight import augment_pair, choose_pairs, fresh_pairs, minibatch, train_on
from herjax.learning.result import epoch_metrics
from herjax.learning.train import TrainState, program_loss
from herjax.runtime.program_cache import call_kept
from herjax.tasks.task import pad_task
from tests import referee
from tests.settings import CONFIG, PLAIN


@pytest.mark.parametrize(("config", "pairs"), [(PLAIN, 8), (CONFIG, 10)])
def test_nothing_is_trained_twice_with_novelty(tiny, target, config, pairs):
    task = pad_task(herjax.make_task(target), 10)
    key = jax.random.key(0)
    state = call_kept(_start, tiny.params, key, config=config, shape=(10, 10))
    for _ in range(4):
        state = compiled_epochs(tiny.model, state, task, config, 1)
        metrics = epoch_metrics(jax.device_get(state.history), int(state.epoch) - 1, target.shape)
        assert int(metrics.trained) <= config.pairs == pairs
        assert int(metrics.trained) <= int(metrics.new) <= int(metrics.distinct)
        assert int(state.train.step) <= -(-pairs // 4) * int(state.epoch)
    memory = [tuple(h) for h in np.asarray(state.memory).tolist() if any(h)]
    assert len(memory) == len(set(memory)) == int(state.remembered) > 8


def test_training_makes_own_picture_to_program_likelier(tiny, target):
    """The hindsight label: (input, the program's own picture) -> program, not the real target."""
    task = herjax.make_task(target)
    config = dataclasses.replace(CONFIG, learning_rate=1e-3, colour_permutations=False)
    pairs = jax.jit(lambda key: attempt(tiny.model, tiny.params, task, config, key))(
        jax.random.key(1)
    )
    kept = np.flatnonzero(np.asarray(pairs.program[:, 0, 0]) > 0)[:12]
    pairs = jax.tree.map(lambda leaf: leaf[kept], pairs)
    count = len(kept) - 2  # the last two are not to be trained on
    train = init_adaptation(tiny.params, config, jax.random.key(0), target.shape).train
    # Twenty passes, so that a pass in which nothing was learned cannot hide in noise.
    step = jax.jit(
        lambda train: train_on(tiny.model, train, task, pairs, count, config, jax.random.key(0))
    )
    for _ in range(20):
        train, _ = step(train)
    assert int(train.step) == 20 * -(-count // config.minibatch)

    @jax.jit
    def loss(params, pictures):
        many = len(pictures)
        batch = herjax.Task(
            jnp.broadcast_to(task.input, pictures.shape),
            pictures,
            jnp.full(many, task.height),
            jnp.full(many, task.width),
        )
        weight = (jnp.arange(many) < count).astype(jnp.float32)
        return program_loss(tiny.model, params, batch, pairs.program, weight, target.size)[0]

    own, real = pairs.picture, jnp.broadcast_to(task.target, pairs.picture.shape)
    gain_own = loss(tiny.params, own) - loss(train.params, own)
    gain_real = loss(tiny.params, real) - loss(train.params, real)
    assert gain_own > 0.3
    assert gain_own > gain_real


@pytest.mark.parametrize("rewrite", [program_as_said, canonical_program])
def test_augmented_programs_are_rewritten_as_the_settings_say(target, rewrite):
    config = dataclasses.replace(CONFIG, rewrite=rewrite)
    assert config.symmetries
    task = pad_task(herjax.make_task(target), 10)
    hidden = np.array([[2, 3, 0, 0, 1, 1], [5, 1, 0, 0, 0, 0], [2, 4, 0, 0, 2, 2], [0] * 6])
    run = jax.jit(lambda key: augment_pair(key, task, hidden, config)[1])
    kept = {int(draw_count(run(jax.random.key(seed)))) for seed in range(4)}
    assert kept == ({3} if rewrite is program_as_said else {1})


def awkward(key, accuracy):
    return jnp.array([jnp.nan, jnp.inf, -jnp.inf, 1.0])[jnp.arange(len(accuracy)) % 4]


def test_the_chosen_come_first_in_whatever_order():
    config = dataclasses.replace(PLAIN, order=awkward, fraction=0.9)
    many = len(config.epoch_temperatures)
    numbers = np.arange(many)
    pairs = Pairs(program=numbers, picture=numbers, accuracy=jnp.linspace(0, 1, many))
    new = numbers % 5 > 0
    attempts = types.SimpleNamespace(pairs=pairs, new=new, solved=jnp.bool_(False))
    handed, chosen = choose_pairs(attempts, config, jax.random.key(2))
    assert np.array_equal(chosen, new)
    assert set(handed.program[: new.sum()].tolist()) == set(numbers[new].tolist())


def stepped(monkeypatch, config, count):
    """Which minibatches were trained on, in order, and the loss, with numbers for minibatches."""

    def note(state, which, _):
        return state.replace(step=state.step + 1, params=state.params.at[state.step].set(which))

    def take(model, task, pairs, count, config, which, key):
        return which, None, None

    def gradients(model, params, which, *_):
        return which, {"loss": 1.0 * which}

    monkeypatch.setattr(hindsight, "minibatch", take)
    monkeypatch.setattr(hindsight, "bucketed_gradients", gradients)
    monkeypatch.setattr(hindsight, "apply_gradients", note)
    state = TrainState(jnp.int32(0), jnp.full(9, -1), None)
    pairs = Pairs(jnp.zeros((12, 4, 6)), None, None)
    task = herjax.make_task([[1]])
    state, loss = train_on(None, state, task, pairs, jnp.int32(count), config, jax.random.key(0))
    return state.params[: state.step].tolist(), float(loss)


@pytest.mark.parametrize("passes", [1, 2])
def test_every_pass_takes_every_minibatch(monkeypatch, passes):
    config = dataclasses.replace(CONFIG, passes=passes)
    assert stepped(monkeypatch, config, 10) == ([0, 1, 2] * passes, 1.0)
    assert stepped(monkeypatch, config, 0) == ([], 0.0)
    assert config.steps == 3 * passes  # of at most 10 pairs


def test_a_minibatch_weighs_what_was_chosen_and_what_is_fresh():
    pairs = Pairs(jnp.zeros((12, 4, 6), jnp.int32), jnp.zeros((12, 3, 3), jnp.int8), jnp.zeros(12))
    config = dataclasses.replace(CONFIG, symmetries=False, colour_permutations=False)
    model, task = herjax.Decoder(herjax.ModelConfig()), herjax.make_task(np.zeros((3, 3), int))

    @partial(jax.jit, static_argnums=0)
    def weights(fresh):
        now = dataclasses.replace(config, fresh=fresh)
        return minibatch(model, task, pairs, 10, now, 2, jax.random.key(0))[-1]

    assert weights(0).tolist() == [1, 1, 0, 0]
    assert weights(3).tolist() == [1, 1, 0, 0, 1, 1, 1]


@pytest.mark.parametrize(("draws", "ops"), [(3, 5), (8, 2)])
def test_fresh_pairs_are_exact_tasks_within_the_picture(target, draws, ops):
    task = pad_task(herjax.make_task(target), 9)
    make = jax.jit(fresh_pairs, static_argnums=(2, 3, 4))
    tasks, programs = make(jax.random.key(0), task, 40, draws, ops)
    assert programs.shape == (40, draws, 6)
    assert tasks.target.shape == (40, 9, 9)
    sizes = set()
    for i in range(40):
        height, width = int(tasks.height[i]), int(tasks.width[i])
        sizes.add((height, width))
        canvas = np.asarray(tasks.input[i])[:height, :width]
        expected = np.asarray(tasks.target[i])[:height, :width]
        assert np.array_equal(referee.execute(np.asarray(programs[i]), canvas), expected)
    assert all(3 <= h <= 6 and 3 <= w <= 7 for h, w in sizes)
    assert len(sizes) > 8
    drawn = set(np.unique(programs[..., 0])) - {0}
    # The canonical form may write a straight line or a narrow rectangle as a row, column or pixel.
    assert len(drawn) == 5
    tiny = pad_task(herjax.make_task(target[:2, :1]), 9)
    tasks, _ = make(jax.random.key(0), tiny, 40, draws, ops)
    assert set(tasks.height.tolist()) == {2}
    assert set(tasks.width.tolist()) == {1}
