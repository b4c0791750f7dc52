import dataclasses
import itertools
import types
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import herjax
from herjax import rivals
from herjax.commands.flags import FUNCTIONS
from herjax.dsl.grammar import decode
from herjax.learning.epoch import attempt_all, init_adaptation
from herjax.learning.train import TrainState
from herjax.tasks.augmentation import augment_program, inverse
from herjax.tasks.task import pad_task
from tests import referee

ADVANTAGES = [
    rivals.grpo_advantage,
    rivals.rloo_advantage,
    rivals.entropic_advantage,
    rivals.max_at_k_advantage,
]
GRADIENTS = ["grpo", "rloo", "entropic", "max-at-k"]
# 4 sampled, 2 kept, 6 children: 4 pairs in 2 minibatches for hindsight, 2 of 6 for the others.
CONFIG = herjax.AdaptConfig(
    programs=(4,), temperatures=(1.4,), keep=2, partners=3, fraction=0.34, minibatch=2, max_draws=6
)


@pytest.fixture(scope="module")
def rewards():
    return np.random.default_rng(7).permutation(12).astype(np.float32) / 15


@pytest.fixture(scope="module")
def attempted(tiny, target):
    """The attempts of a second epoch, so that the kept programs are there."""
    task = pad_task(herjax.make_task(target), 10)
    state = init_adaptation(tiny.params, CONFIG, jax.random.key(0), task.target.shape)
    run = jax.jit(lambda state, key: attempt_all(tiny.model, state, task, CONFIG, key)[0])
    first = run(state, jax.random.key(1))
    kept = first.pairs.program[np.any(first.pairs.program, axis=(1, 2))][:2]
    return task, state.train, run(state.replace(kept=kept), jax.random.key(2))


def test_sampled_programs_stand_in_for_kept_ones_that_are_not_there(tiny, target):
    task = pad_task(herjax.make_task(target), 10)
    state = init_adaptation(tiny.params, CONFIG, jax.random.key(0), task.target.shape)
    attempts = jax.jit(lambda s, key: attempt_all(tiny.model, s, task, CONFIG, key)[0])(
        state, jax.random.key(1)
    )
    tokens, temperature, held, reward = map(np.asarray, jax.jit(rivals.group_of)(task, attempts))
    assert not np.any(attempts.pairs.program[4:6])
    for part in (tokens, temperature, held, reward):
        assert np.array_equal(part[4:6], part[:2])
    assert np.array_equal(reward[6:], attempts.pairs.accuracy[6:])  # the children are there


def learn(tiny, attempted, name, config=CONFIG):
    task, train, attempts = attempted
    learner = FUNCTIONS["learner"][name]
    return _learn(tiny.model, train, task, attempts, config, learner)


@partial(jax.jit, static_argnums=(0, 4, 5))
def _learn(model, train, task, attempts, config, learner):
    return learner(model, train, task, attempts, config, KEY)


def most_slow(names, fast):
    """Parameters of which few are compiled in every run of the tests."""
    return [name if name in fast else pytest.param(name, marks=pytest.mark.slow) for name in names]


KEY = jax.random.key(3)


# ---- Advantages ----------------------------------------------------------------------------------


@pytest.mark.parametrize("advantage", ADVANTAGES)
@pytest.mark.parametrize("value", [0.0, 0.37, 1.0])
def test_a_group_without_variance_has_no_advantage(advantage, value):
    """Exactly: Adam makes a whole step of any rounding error."""
    for count in (12, 2, 1):
        assert not np.any(advantage(jnp.full(count, value, jnp.float32)))


@pytest.mark.parametrize("advantage", ADVANTAGES)
def test_advantages_follow_the_programs_and_their_rewards(advantage, rewards):
    found = np.asarray(advantage(jnp.asarray(rewards)))
    assert np.all(np.diff(found[np.argsort(rewards)]) >= 0)
    assert found[np.argmax(rewards)] > 0
    assert np.allclose(advantage(jnp.asarray(rewards[::-1])), found[::-1], atol=1e-5)


def test_grpo_and_rloo_against_numpy(rewards):
    expected = (rewards - rewards.mean()) / (rewards.std(ddof=1) + 1e-4)
    assert np.allclose(rivals.grpo_advantage(jnp.asarray(rewards)), expected, atol=1e-5)
    others = [np.delete(rewards, i).mean() for i in range(12)]
    assert np.allclose(rivals.rloo_advantage(jnp.asarray(rewards)), rewards - others, atol=1e-6)


def test_the_entropic_weights_are_ln_2_from_uniform(rewards):
    """By another search for beta, on a grid."""

    def distance(beta):
        share = np.exp(beta * rewards.astype(float))
        share /= share.sum()
        return np.sum(share * np.log(share * len(rewards)))

    betas = np.linspace(0, 40, 400_001)
    beta = betas[np.searchsorted([distance(b) for b in betas[::100]], np.log(2)) * 100]
    fine = np.linspace(beta - 0.02, beta + 0.02, 2001)
    beta = fine[np.argmin([abs(distance(b) - np.log(2)) for b in fine])]
    weight = np.exp(beta * rewards.astype(float))
    expected = [weight[i] / np.delete(weight, i).mean() - 1 for i in range(12)]
    assert np.allclose(rivals.entropic_advantage(jnp.asarray(rewards)), expected, rtol=2e-3)
    # Where more than half are best, no beta is far enough: these share all the weight.
    crowd = rivals.entropic_advantage(jnp.array([1.0] * 8 + [0.5] * 4))
    assert np.allclose(crowd, [11 / 7 - 1] * 8 + [-1] * 4, atol=1e-4)
    assert rivals.entropic_advantage(jnp.array([1.0, 0.0])) == pytest.approx([999, -1])  # bounded


@pytest.mark.parametrize("k", [2, 3, 8, 12])
@pytest.mark.parametrize("ties", [False, True])
def test_max_at_k_against_all_sets(rewards, k, ties):
    rewards = np.round(rewards * 4) / 4 if ties else rewards
    expected = np.zeros(12)
    for i in range(12):
        sets = itertools.combinations(np.delete(rewards, i), k - 1)
        expected[i] = k / 12 * np.mean([max(rewards[i] - max(best), 0) for best in sets])
    found = rivals.max_at_k_advantage(jnp.asarray(rewards), k)
    assert np.allclose(found, expected, atol=1e-6)
    alone = rivals.max_at_k_advantage(jnp.asarray(rewards), 1)  # the expected reward of one
    assert np.allclose(alone, rivals.rloo_advantage(jnp.asarray(rewards)) / 12, atol=1e-6)


# ---- Objectives ----------------------------------------------------------------------------------


def test_gradients_of_the_objectives_against_numpy():
    rng = np.random.default_rng(0)
    held = (rng.random((5, 4, 4)) < 0.6).astype(np.float32)
    advantage = rng.normal(size=5).astype(np.float32)
    ratio = np.exp(rng.normal(scale=0.3, size=held.shape)).astype(np.float32)
    each = advantage[:, None, None] * ratio / 5

    def gradient(objective):
        return jax.grad(lambda log_ratio: objective(jnp.exp(log_ratio), held, advantage))(
            jnp.log(ratio)
        )

    assert np.allclose(gradient(rivals.token_objective), each * held, atol=1e-6)
    # GRPO stops at 0.8 and 1.2, where the token is already where its advantage wants it.
    far = np.where(advantage[:, None, None] > 0, ratio > 1.2, ratio < 0.8)
    assert 10 < (far * held).sum() < held.sum() - 10
    tokens = held.sum(axis=(1, 2), keepdims=True)
    expected = each * held * ~far / tokens
    assert np.allclose(gradient(rivals.clipped_objective), expected, atol=1e-6)


def test_the_group_is_all_programs_as_said_or_as_one_would_say_them(attempted):
    task, _, attempts = attempted
    tokens, temperature, held, reward = rivals.group_of(task, attempts)
    assert np.array_equal(tokens[:4], attempts.tokens)
    assert temperature.tolist() == pytest.approx([1.4] * 4 + [1.0] * 8)
    assert np.array_equal(held[:4], attempts.log_probs != 0)
    assert np.array_equal(reward, attempts.pairs.accuracy)
    assert not np.array_equal(attempts.seen.target, task.target)  # other colours
    back = inverse(attempts.augmentation)
    said = decode(tokens, jnp.full(12, task.width))
    found = jax.vmap(augment_program, (None, 0, None))(back, said, task)
    assert np.array_equal(found[4:], attempts.pairs.program[4:])
    for program, picture in zip(found, attempts.pairs.picture):
        drawn = referee.execute(np.asarray(program), np.asarray(task.input[:6, :7]))
        assert np.array_equal(drawn, picture[:6, :7])


def test_a_token_that_was_certain_is_in_its_programs_mean(tiny):
    task = herjax.make_task([[3]])  # whose points have one cell to choose
    state = init_adaptation(tiny.params, CONFIG, jax.random.key(0), (1, 1))
    run = jax.jit(lambda state, key: attempt_all(tiny.model, state, task, CONFIG, key)[0])
    attempts = run(state, jax.random.key(2))
    _, _, held, _ = rivals.group_of(task, attempts)
    points = np.asarray(attempts.tokens[..., 2:] >= 0)
    assert points.any()
    assert not np.any(attempts.log_probs[:, :-1, 2:])
    assert np.array_equal(held[:4, :-1, 2:], points)


def test_log_probs_at_a_temperature_are_those_of_the_divided_scores(tiny, attempted):
    task, train, attempts = attempted
    run = herjax.program_log_probs
    arguments = tiny.model, train.params, attempts.seen, attempts.tokens
    assert np.array_equal(run(*arguments, jnp.zeros(4)), run(*arguments))  # greedy: as they are
    assert np.array_equal(run(*arguments, jnp.ones(4)), run(*arguments))
    cold, hot = (np.asarray(run(*arguments, jnp.full(4, t))) for t in (0.02, 1e6))
    said = np.asarray(attempts.log_probs) != 0
    # Hot: all that is legal is equally likely. Cold: the best token is certain.
    colours, points = (np.exp(hot[..., slot][said[..., slot]]) for slot in (1, 2))
    assert np.allclose(colours, 1 / 10, rtol=1e-3)
    rows, cols = int(task.height), int(task.width)
    assert set(np.round(1 / points).astype(int)) <= {rows, cols, rows * cols}
    assert np.exp(cold[said]).min() < 1e-3 < 0.99 < np.exp(cold[said]).max()


@pytest.mark.parametrize("name", most_slow(GRADIENTS, {"grpo"}))
def test_a_step_follows_the_sum_of_advantages_times_gradients(tiny, attempted, name):
    """The whole group in one minibatch, against a loop over the programs."""
    task, train, attempts = attempted
    config = dataclasses.replace(CONFIG, minibatch=4)
    tokens, temperature, held, reward = rivals.group_of(task, attempts)
    advantage = np.asarray(dict(zip(GRADIENTS, ADVANTAGES))[name](reward))
    held = np.asarray(held)
    run = jax.jit(
        lambda params: herjax.program_log_probs(
            tiny.model, params, attempts.seen, tokens, temperature
        )
    )
    held = held * (np.asarray(run(train.params)) != 0)
    share = advantage / 12
    if name == "grpo":
        share = share / np.maximum(held.sum(axis=(1, 2)), 1)
    _, pull_back = jax.vjp(run, train.params)
    (grads,) = pull_back(jnp.asarray(-share[:, None, None] * held, jnp.float32))
    expected = herjax.apply_gradients(train, grads, herjax.make_optimizer(config))
    found = learn(tiny, attempted, name, config).train
    assert int(found.step) == 1
    moved = jax.tree.map(lambda a, b: np.asarray(a - b).ravel(), expected.params, train.params)
    moved = np.concatenate(jax.tree.leaves(moved))
    other = jax.tree.map(lambda a, b: np.asarray(a - b).ravel(), found.params, train.params)
    other = np.concatenate(jax.tree.leaves(other))
    assert np.mean(np.abs(moved) > 1e-4) > 0.3
    # Adam's first step is the sign of the gradient: where this is nearly 0, rounding decides.
    assert np.mean(np.abs(moved - other) > 1e-5) < 0.01


@pytest.fixture
def one_pass(monkeypatch):
    """One over 12 programs of 1 .. 3 tokens, with stand-ins for decoder and optimiser.

    The probability of its tokens is a program's only parameter; step i moves it 10**i as far.
    """
    held = np.zeros((12, 11, 4), np.float32)
    for i in range(12):
        held[i, 0, : i % 3 + 1] = 1.0

    def log_probs(model, params, seen, said, own):
        shape = (len(said), said.shape[1] + 1, 4)
        return jnp.broadcast_to(params[own.astype(int)][:, None, None], shape)

    monkeypatch.setattr(rivals, "program_log_probs", log_probs)
    optimizer = optax.sgd(lambda step: 10.0**step)
    monkeypatch.setattr(rivals, "make_optimizer", lambda config: optimizer)

    def run(rewards):
        group = (jnp.zeros((12, 10, 4), int), jnp.arange(12.0), jnp.asarray(held), rewards)
        monkeypatch.setattr(rivals, "group_of", lambda *_: group)
        params = jnp.zeros(12)
        train = TrainState(jnp.int32(0), params, optimizer.init(params))
        attempts = types.SimpleNamespace(solved=False, seen=None, new=jnp.zeros(12, bool))
        update = rivals.rloo(None, train, None, attempts, CONFIG, KEY)
        return update, rivals.rloo_advantage(rewards) * held.sum(axis=(1, 2))

    return run


def test_a_pass_takes_every_program_once_in_random_order(one_pass, rewards):
    update, gains = one_pass(jnp.asarray(rewards))
    steps = np.log10(update.train.params / (gains / 6))  # in which a program was
    assert np.allclose(np.sort(steps), [0] * 6 + [1] * 6, atol=1e-3)
    assert not np.allclose(np.sort(steps), steps, atol=0.5)
    assert np.isclose(update.loss, -np.mean(gains), rtol=1e-4)  # the mean over both steps
    assert update.trained.tolist() == [True] * 12


def test_a_pass_over_equal_rewards_trains_on_none(one_pass):
    update, _ = one_pass(jnp.full(12, 0.3))
    assert not update.train.params.any()
    assert not update.trained.any()


@pytest.mark.parametrize(("longest", "length"), [(3, 4), (4, 10), (10, 10)])
def test_on_a_cpu_a_pass_is_short_where_no_program_was_cut_off(longest, length):
    tokens = np.zeros((2, 10, 4), int)
    tokens[1, :longest] = 1
    with jax.default_device("cpu"):
        found = rivals._by_length(tokens, lambda draws, train: (train, jnp.int32(draws)), 0)
    assert found[1] == length


# ---- Learners ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    most_slow(FUNCTIONS["learner"], {"best-of-n", "grpo-solved"}),
)
def test_every_learner_takes_as_many_steps_and_only_until_the_task_is_solved(tiny, attempted, name):
    update = learn(tiny, attempted, name)
    learns = name not in ("best-of-n", "grpo-solved")
    assert int(update.train.step) == (CONFIG.steps if learns else 0)
    assert CONFIG.steps == 2
    assert np.isfinite(update.loss)
    assert update.trained.shape == attempted[2].new.shape
    changed = [
        not np.array_equal(a, b)
        for a, b in zip(jax.tree.leaves(update.train.params), jax.tree.leaves(attempted[1].params))
    ]
    # No program is right: a reward of solved or not tells nothing.
    assert any(changed) == learns
    task, train, attempts = attempted
    accuracy = attempts.pairs.accuracy.at[5].set(1.0)
    solved = attempts.replace(pairs=attempts.pairs.replace(accuracy=accuracy))
    assert int(learn(tiny, (task, train, solved), name).train.step) == 0


@pytest.fixture
def trained_on(monkeypatch, tiny, attempted):
    """What a supervised learner trains on: pairs, how many, and the programs it names."""

    def run(name, config=CONFIG):
        caught = []
        monkeypatch.setattr(
            rivals,
            "train_on",
            lambda model, train, task, pairs, count, *_: (
                caught.append((pairs, count)) or (train, jnp.float32(0.0))
            ),
        )

        @jax.jit
        def learn(task, train, attempts):
            learner = FUNCTIONS["learner"][name]
            trained = learner(tiny.model, train, task, attempts, config, KEY).trained
            return *caught[0], trained

        return learn(*attempted)

    return run


def test_self_training_labels_the_pairs_of_hindsight_with_the_target(trained_on, attempted):
    task, _, attempts = attempted
    best = sorted(np.asarray(attempts.pairs.accuracy)[np.asarray(attempts.new)])[-4:]
    for name, whose in (("self-training", [0, 0, 0, 0]), ("hindsight+self-training", [1, 0, 1, 0])):
        pairs, count, trained = trained_on(name)
        assert count == 4 == trained.sum()
        assert np.allclose(pairs.accuracy, best)
        for program, picture, own in zip(pairs.program, pairs.picture, whose):
            drawn = referee.execute(np.asarray(program), np.asarray(task.input[:6, :7]))
            expected = drawn if own else np.asarray(task.target[:6, :7])
            assert np.array_equal(picture[:6, :7], expected)


def test_a_longer_dream_is_of_its_own_pictures_and_not_of_the_target(trained_on, attempted):
    task, _, _ = attempted
    config = dataclasses.replace(CONFIG, fraction=1.0)
    pairs, count, trained = trained_on("longer-dream", config)
    assert count == 12
    assert not trained.any()
    for program, picture in zip(pairs.program, pairs.picture):
        drawn = referee.execute(np.asarray(program), np.asarray(task.input[:6, :7]))
        assert np.array_equal(picture[:6, :7], drawn)
    draws = (np.asarray(pairs.program)[..., 0] > 0).sum(axis=1)
    assert 3 < draws.mean() <= 6  # of 6, of which some have no effect
    assert len({p.tobytes() for p in np.asarray(pairs.picture)}) == 12


@pytest.mark.slow
@pytest.mark.parametrize("partners", [0, 15])
def test_every_learner_spends_the_same_programs(partners):
    """On a picture that none of them draws in so few epochs."""
    target = herjax.pictures()["100-squares"].target
    config = herjax.AdaptConfig(partners=partners, max_epochs=3)
    firsts = []
    for learner in FUNCTIONS["learner"].values():
        result = herjax.adapt(target, config=config, learner=learner)
        assert not result.solved
        assert [len(epoch.program) for epoch in result.history] == [config.programs_an_epoch] * 3
        firsts.append(result.history[0])
    for epoch in firsts:
        assert np.array_equal(epoch.program, firsts[0].program)
        assert epoch.run == firsts[0].run
