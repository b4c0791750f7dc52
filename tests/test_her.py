import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import herjax
from herjax.decoder.sampler import Samples
from herjax.dsl.ops import PIXEL
from herjax.learning import her
from herjax.learning.adaptation import epoch_metrics
from herjax.learning.config import AdaptConfig
from herjax.learning.train import program_loss
from tests import referee


@pytest.fixture(scope="module")
def pictures_and_lengths():
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, 10, (9, 5, 4))
    which = rng.integers(0, 9, 60)
    return kinds[which], rng.integers(0, 5, 60)


def hash_all(pictures):
    return jax.vmap(her.picture_hash)(jnp.asarray(pictures, jnp.int8))


def test_picture_hash_tells_pictures_apart():
    rng = np.random.default_rng(1)
    pictures = rng.integers(0, 10, (2000, 3, 4))
    near = np.repeat(pictures[:1], 12, axis=0)
    near.reshape(12, 12)[np.arange(12), np.arange(12)] += 1
    swapped = np.array([[[1, 2], [3, 4]], [[2, 1], [3, 4]], [[1, 3], [2, 4]]])
    for group in (np.unique(pictures, axis=0), near, swapped):
        hashes = {tuple(h) for h in np.asarray(hash_all(group)).tolist()}
        assert len(hashes) == len(group)
    assert (np.asarray(hash_all(pictures[:5])) == np.asarray(hash_all(pictures[:5].copy()))).all()


def test_keep_shortest_against_a_loop(pictures_and_lengths):
    pictures, lengths = pictures_and_lengths
    kept = np.asarray(her.keep_shortest(hash_all(pictures), jnp.asarray(lengths), lengths > 0))
    best = {}
    for i, (picture, length) in enumerate(zip(pictures, lengths)):
        name = picture.tobytes()
        if length > 0 and (name not in best or length < lengths[best[name]]):
            best[name] = i
    assert set(np.flatnonzero(kept)) == set(best.values())
    assert len(best) > 5


def test_memory_against_a_set():
    rng = np.random.default_rng(2)
    memory, count, known = jnp.zeros((12, 2), jnp.uint32), jnp.int32(0), []
    for _ in range(6):
        hashes = rng.integers(1, 30, (5, 2)).astype(np.uint32)
        chosen = rng.random(5) < 0.7
        memory, count = her.remember(memory, count, jnp.asarray(hashes), jnp.asarray(chosen))
        known += [tuple(h) for h in hashes[chosen]]
        probe = rng.integers(1, 30, (40, 2)).astype(np.uint32)
        probe[:5] = hashes
        expected = [tuple(h) in set(known[-12:]) for h in probe]
        assert np.array_equal(her.is_remembered(jnp.asarray(probe), memory), expected)
    assert int(count) == len(known) > 12  # the buffer went round


def test_selections_against_sorting():
    rng = np.random.default_rng(3)
    accuracy = rng.permutation(20) / 20
    candidate = rng.random(20) < 0.6
    ranked = sorted(np.flatnonzero(candidate), key=lambda i: -accuracy[i])
    for name, expected in (
        ("all", ranked),
        ("best", ranked[:5]),
        ("diverse", ranked[:3] + ranked[-2:]),
    ):
        chosen = her.SELECT[name](jnp.asarray(accuracy), jnp.asarray(candidate), 5)
        assert set(np.flatnonzero(chosen)) == set(expected)
    few = her.SELECT["best"](jnp.asarray(accuracy), jnp.asarray(candidate), 100)
    assert np.array_equal(few, candidate)


def test_orders():
    accuracy = jnp.array([0.5, 0.1, 0.9])
    key = jax.random.key(0)
    assert np.argsort(her.ORDER["sorted"](key, accuracy)).tolist() == [1, 0, 2]
    assert np.argsort(her.ORDER["reversed"](key, accuracy)).tolist() == [2, 0, 1]
    seen = {
        tuple(np.argsort(her.ORDER["shuffled"](jax.random.key(i), accuracy))) for i in range(40)
    }
    assert len(seen) == 6


CONFIG = AdaptConfig(
    programs=(12, 4), temperatures=(1.0, 0.5), minibatch=4, max_epochs=6, max_draws=6
)
PLAIN = AdaptConfig.plain(
    programs=(24, 8), temperatures=(1.0, 0.5), minibatch=4, max_epochs=6, max_draws=6
)


@pytest.fixture(scope="module")
def target():
    return np.random.default_rng(5).integers(0, 10, (6, 7))


def run(tiny, target, config, seed=0):
    kept = []
    result = herjax.adapt(
        target, params=tiny, seed=seed, config=config, on_epoch=lambda s, m: kept.append(m)
    )
    return result, kept


def test_attempts_in_hindsight_draw_their_own_pictures(tiny, target):
    task = herjax.make_task(target)
    attempts = jax.jit(lambda key: her.attempt(tiny.model, tiny.params, task, CONFIG, key))(
        jax.random.key(0)
    )
    blank = np.zeros_like(target)
    for program, picture, accuracy in zip(*map(np.asarray, attempts)):
        assert np.array_equal(referee.execute(program, blank), picture)
        assert accuracy == pytest.approx((picture == target).mean())
        count = int((program[:, 0] > 0).sum())
        for i in range(count):  # pruned
            assert not np.array_equal(
                referee.execute(np.delete(program, i, axis=0), blank), picture
            )


@pytest.mark.parametrize(("config", "pairs"), [(PLAIN, 8), (CONFIG, 10)])
def test_nothing_is_trained_twice_with_novelty(tiny, target, config, pairs):
    task = herjax.make_task(target)
    state = her.init_adaptation(tiny.params, config, jax.random.key(0), target.shape)
    for _ in range(4):
        state = her.compiled_epochs(tiny.model, state, task, config, 1)
        metrics = epoch_metrics(state.history, int(state.epoch) - 1)
        assert int(metrics.trained) <= config.pairs == pairs
        assert int(metrics.trained) <= int(metrics.new) <= int(metrics.distinct)
        assert int(state.train.step) <= -(-pairs // 4) * int(state.epoch)
    memory = [tuple(h) for h in np.asarray(state.memory).tolist() if any(h)]
    assert len(memory) == len(set(memory)) == int(state.remembered) > 8


def test_training_makes_own_picture_to_program_likelier(tiny, target):
    """The hindsight label: (input, the program's own picture) -> program, not the real target."""
    task = herjax.make_task(target)
    config = dataclasses.replace(CONFIG, learning_rate=1e-3, colour_permutations=False)
    pairs = her.attempt(tiny.model, tiny.params, task, config, jax.random.key(1))
    kept = np.flatnonzero(np.asarray(pairs.program[:, 0, 0]) > 0)[:12]
    pairs = jax.tree.map(lambda leaf: leaf[kept], pairs)
    count = len(kept) - 2  # the last two are not to be trained on
    train = her.init_adaptation(tiny.params, config, jax.random.key(0), target.shape).train
    # Twenty passes, so that a pass in which nothing was learned cannot hide in noise.
    step = jax.jit(
        lambda train: her.train_on(tiny.model, train, task, pairs, count, config, jax.random.key(0))
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


def epochs_of(tiny, target, config, seed=0):
    """The state after each epoch, as NumPy arrays."""
    task = herjax.make_task(target)
    state = her.init_adaptation(tiny.params, config, jax.random.key(seed), target.shape)
    states = []
    while state.running:
        state = her.compiled_epochs(tiny.model, state, task, config, 1)
        states.append(jax.device_get(state.replace(key=None)))
    return states


def test_an_epoch_holds_attempts_kept_programs_and_a_child_of_each(tiny, target):
    blank, parents = np.zeros_like(target), CONFIG.sampled + CONFIG.kept
    assert (CONFIG.sampled, CONFIG.kept, CONFIG.programs_an_epoch) == (16, 4, 40)
    kept, better = np.zeros((4, 6, 6), int), 0
    for state in epochs_of(tiny, target, CONFIG):
        metrics = epoch_metrics(state.history, int(state.epoch) - 1)
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


def test_plain_her_has_attempts_alone(tiny, target):
    assert PLAIN.kept == 0
    for state in epochs_of(tiny, target, PLAIN):
        metrics = epoch_metrics(state.history, int(state.epoch) - 1)
        assert metrics.program.shape == (32, 6, 6)
        assert metrics.run == 32


def test_learning_rate_0_searches_without_learning(tiny, target):
    last = epochs_of(tiny, target, dataclasses.replace(CONFIG, learning_rate=0.0))[-1]
    assert int(last.train.step) == 0
    assert int(last.epoch) == 6
    for leaf, before in zip(jax.tree.leaves(last.train.params), jax.tree.leaves(tiny.params)):
        assert np.array_equal(leaf, before)


def test_adapt_repeats_for_a_seed_and_differs_between_seeds(tiny, target):
    one, again, other = (run(tiny, target, CONFIG, seed)[0] for seed in (0, 0, 1))
    for a, b in zip(one.history, again.history):
        assert all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)))
    assert np.array_equal(one.program, again.program)
    assert not np.array_equal(one.history[0].accuracy, other.history[0].accuracy)


def test_adapt_stops_at_a_solution_without_training(tiny):
    """A picture the untrained decoder draws by chance: one of its own samples."""
    target = np.zeros((6, 7), np.int64)
    attempts = her.attempt(
        tiny.model, tiny.params, herjax.make_task(target), CONFIG, jax.random.key(9)
    )
    drawn = np.asarray(attempts.program)
    target = referee.execute(
        min(drawn, key=lambda p: (p[:, 0] == 0).all() * 99 + (p[:, 0] > 0).sum()), target
    )
    result, _ = run(tiny, target, AdaptConfig(programs=(512,), max_epochs=20, max_draws=4))
    assert result.solved
    assert bool(result.history[-1].solved)
    assert result.history[-1].trained == 0
    assert not any(bool(epoch.solved) for epoch in result.history[:-1])
    assert np.array_equal(referee.execute(result.program, np.zeros((6, 7), int)), target)


@pytest.mark.parametrize(
    "changes",
    [
        {"select": "all", "novelty": False, "order": "reversed"},
        {"select": "diverse", "order": "shuffled", "fresh": 3, "greedy": True, "symmetries": True},
    ],
)
def test_options_run(tiny, target, changes):
    config = dataclasses.replace(CONFIG, max_epochs=2, **changes)
    _, epochs = run(tiny, target, config)
    if changes["select"] == "all":
        assert epochs[0].trained == epochs[0].distinct == epochs[0].new
    assert all(np.isfinite(epoch.loss) for epoch in epochs)


@pytest.mark.parametrize("shape", [(4, 4), (3, 5)])
def test_attempts_at_an_augmented_target_are_moved_back(tiny, monkeypatch, shape):
    """With a stand-in for the decoder that always draws what it sees: one pixel."""

    def draw_what_is_seen(model, params, task, key, temperature, draws, size):
        row, col = jnp.divmod(jnp.argmax(task.target != task.input), shape[1])
        pixel = jnp.array([PIXEL, task.target[row, col], row, col, 0, 0])
        seen.append(task.target)
        program = jnp.zeros((len(temperature), draws, 6), jnp.int32).at[:, 0].set(pixel)
        return Samples(program, None, None)

    seen = []
    monkeypatch.setattr(her, "sample", draw_what_is_seen)
    config = AdaptConfig.plain(programs=(2,), symmetries=True, colour_permutations=True)
    target = np.full(shape, 7)
    target[0, 1] = 4
    task = herjax.make_task(target, np.full(shape, 7))
    for seed in range(8):
        attempts = her.attempt(tiny.model, None, task, config, jax.random.key(seed))
        assert attempts.accuracy.tolist() == [1, 1]
    assert len({str(picture) for picture in seen}) == 8


@pytest.mark.parametrize("draws", [3, 8])
def test_fresh_pairs_are_exact_tasks_on_the_canvas(target, draws):
    task = herjax.make_task(target)
    tasks, programs = her.fresh_pairs(jax.random.key(0), task, 40, draws)
    assert programs.shape == (40, draws, 6)
    sizes = set()
    for i in range(40):
        height, width = int(tasks.height[i]), int(tasks.width[i])
        sizes.add((height, width))
        input = np.asarray(tasks.input[i])[:height, :width]
        expected = np.asarray(tasks.target[i])[:height, :width]
        assert np.array_equal(referee.execute(np.asarray(programs[i]), input), expected)
    assert all(3 <= h <= 6 and 3 <= w <= 7 for h, w in sizes)
    assert len(sizes) > 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"programs": (0,)}, "programs must be at least 1"),
        ({"programs": (4, 4)}, "must pair up"),
        ({"temperatures": (-0.5,)}, "temperatures must be above 0"),
        ({"temperatures": (0.0,)}, "--greedy"),
        ({"temperatures": (float("nan"),)}, "temperatures must be above 0"),
        ({"minibatch": 0}, "minibatch must be at least 1, got 0"),
        ({"max_epochs": -1}, "max_epochs must be at least 1"),
        ({"fresh": -1}, "fresh must be 0 or more"),
        ({"learning_rate": -1.0}, "learning_rate must be positive, or 0 for none, got -1.0"),
        ({"partners": -1}, "partners must be 0 or more, got -1"),
        ({"partners": 16}, "partners must be at most 15, .*; got 16"),
        ({"programs": (3,), "keep": 0}, "partners must be at most 2, .*; got 15"),
        ({"fraction": 1.5}, "fraction must be"),
        ({"select": "worst"}, "select must be one of all, best, diverse, got 'worst'"),
        ({"order": "up"}, "order must be one of"),
    ],
)
def test_bad_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        AdaptConfig(**changes)


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
        herjax.adapt(target, input, params=tiny)


def test_heat_rises_while_too_few_pictures_differ_and_falls_back():
    heat = jnp.float32(1.0)
    for _ in range(5):
        heat = her.adjust_heat(heat, jnp.int32(7), 10, 0.8)
    assert heat == pytest.approx(1.1**5)
    assert her.adjust_heat(heat, jnp.int32(8), 10, 0.8) == pytest.approx(1.1**4)
    assert her.adjust_heat(jnp.float32(1.0), jnp.int32(8), 10, 0.8) == 1.0
    assert her.adjust_heat(jnp.float32(2.95), jnp.int32(0), 10, 0.8) == 3.0
    assert her.adjust_heat(jnp.float32(1.0), jnp.int32(0), 10, 0.0) == 1.0
