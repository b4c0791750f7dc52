import jax
import jax.numpy as jnp
import numpy as np
import pytest

import herjax
from herjax.decoder.sampler import Samples
from herjax.dsl.ops import PIXEL
from herjax.learning import attempts as attempts_module
from herjax.learning.attempts import attempt, is_remembered, picture_hash, remember
from herjax.learning.config import AdaptConfig
from herjax.learning.selection import keep_all, keep_first, keep_shortest
from herjax.tasks.task import pad_task
from tests import referee
from tests.settings import CONFIG


@pytest.fixture(scope="module")
def pictures_and_lengths():
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, 10, (9, 5, 4))
    which = rng.integers(0, 9, 60)
    return kinds[which], rng.integers(0, 5, 60)


def hash_all(pictures):
    return jax.vmap(picture_hash)(jnp.asarray(pictures, jnp.int8))


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


def test_kept_programs_of_each_picture_against_a_loop(pictures_and_lengths):
    pictures, lengths = pictures_and_lengths
    arguments = hash_all(pictures), jnp.asarray(lengths), lengths > 0
    best, first = {}, {}
    for i, (picture, length) in enumerate(zip(pictures, lengths)):
        name = picture.tobytes()
        if length > 0 and (name not in best or length < lengths[best[name]]):
            best[name] = i
        if length > 0:
            first.setdefault(name, i)
    assert set(np.flatnonzero(keep_shortest(*arguments))) == set(best.values())
    assert set(np.flatnonzero(keep_first(*arguments))) == set(first.values())
    assert np.array_equal(keep_all(*arguments), lengths > 0)
    assert 5 < len(best) < np.sum(lengths > 0)
    assert best != first


def test_memory_against_a_set():
    rng = np.random.default_rng(2)
    memory, count, known = jnp.zeros((12, 2), jnp.uint32), jnp.int32(0), []
    for _ in range(6):
        hashes = rng.integers(1, 30, (5, 2)).astype(np.uint32)
        chosen = rng.random(5) < 0.7
        memory, count = remember(memory, count, jnp.asarray(hashes), jnp.asarray(chosen))
        known += [tuple(h) for h in hashes[chosen]]
        probe = rng.integers(1, 30, (40, 2)).astype(np.uint32)
        probe[:5] = hashes
        expected = [tuple(h) in set(known[-12:]) for h in probe]
        assert np.array_equal(is_remembered(jnp.asarray(probe), memory), expected)
    assert int(count) == len(known) > 12  # the buffer went round


def test_attempts_in_hindsight_draw_their_own_pictures(tiny, target):
    task = herjax.make_task(target)
    attempts = jax.jit(lambda key: attempt(tiny.model, tiny.params, task, CONFIG, key))(
        jax.random.key(0)
    )
    blank = np.zeros_like(target)
    rows = zip(*map(np.asarray, (attempts.program, attempts.picture, attempts.accuracy)))
    for program, picture, accuracy in rows:
        assert np.array_equal(referee.execute(program, blank), picture)
        assert accuracy == pytest.approx((picture == target).mean())
        count = int((program[:, 0] > 0).sum())
        for i in range(count):  # pruned
            assert not np.array_equal(
                referee.execute(np.delete(program, i, axis=0), blank), picture
            )


@pytest.mark.parametrize("side", [0, 6])
@pytest.mark.parametrize("shape", [(4, 4), (3, 5)])
def test_attempts_at_an_augmented_target_are_moved_back(tiny, monkeypatch, shape, side):
    """With a stand-in for the decoder that always draws what it sees: one pixel."""

    def draw_what_is_seen(model, params, task, key, temperature, draws, size, limit):
        row, col = jnp.divmod(jnp.argmax(task.target != task.input), task.target.shape[1])
        pixel = jnp.array([PIXEL, task.target[row, col], row, col, 0, 0])
        seen.append(task.target)
        program = jnp.zeros((len(temperature), draws, 6), jnp.int32).at[:, 0].set(pixel)
        return Samples(program, None, None, None)

    seen = []
    monkeypatch.setattr(attempts_module, "sample", draw_what_is_seen)
    config = AdaptConfig.plain(programs=(2,), symmetries=True, colour_permutations=True)
    target = np.full(shape, 7)
    target[0, 1] = 4
    task = herjax.make_task(target, input=np.full(shape, 7))
    task = pad_task(task, side) if side else task
    draw = jax.jit(lambda key: (attempt(tiny.model, None, task, config, key), seen.pop()))
    drawn = [draw(jax.random.key(seed)) for seed in range(8)]
    assert all(attempts.accuracy.tolist() == [1, 1] for attempts, _ in drawn)
    assert len({str(picture) for _, picture in drawn}) == 8
