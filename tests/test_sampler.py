"""The two loops that sample: turn by turn, as on CPUs, and some draws at a time."""

import collections
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import herjax
from herjax.decoder import sampler
from herjax.decoder.model import Decoder
from herjax.decoder.sampler import sample
from herjax.dsl.grammar import SLOTS
from herjax.tasks.task import make_task, pad_task

DRAWS, SIDE = 11, 6  # no multiple of DRAWS_AT_ONCE


def sampled(tiny, platform, limits, keys):
    """Samples of one batch of members, each with its own limit of draws."""
    model = Decoder(tiny.model.config, platform)
    grid = np.random.default_rng(3).integers(0, 10, (4, 5))
    task, heat = pad_task(make_task(grid), SIDE), jnp.array([0.0, 0.7, 1.0, 2.0])

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(None, 0, 0))
    def run(params, key, limit):
        return sample(model, params, task, key, heat, DRAWS, SIDE * SIDE, limit=limit)

    return jax.device_get(run(tiny.params, keys, limits))


@pytest.mark.slow
def test_both_loops_say_the_same(tiny):
    """Programs that end early or are cut off, and limits inside a turn of the loop.

    The choices are the same bit for bit, their log-probabilities but for rounding: slots that are
    spelt out are fused with what is around them.
    """
    limits, keys = jnp.array([11, 8, 3, 1]), jax.random.split(jax.random.key(0), 4)
    expected = sampled(tiny, "cpu", limits, keys)
    used = [row.any(axis=(0, 2)).sum() for row in expected.log_probs != 0]
    assert len({*used}) > 2
    assert max(used) > sampler.DRAWS_AT_ONCE
    found = sampled(tiny, "tpu", limits, keys)
    assert np.array_equal(found.program, expected.program)
    assert np.array_equal(found.tokens, expected.tokens)
    assert np.array_equal(found.said, expected.said)
    assert np.array_equal(found.log_probs != 0, expected.said)
    assert np.allclose(found.log_probs, expected.log_probs, rtol=1e-5, atol=1e-5)


def test_many_programs_say_the_same_as_few(tiny, monkeypatch):
    """Half of their draws with half of a cache; limits before, at and after the middle."""
    limits, keys = jnp.array([11, 6, 5, 1]), jax.random.split(jax.random.key(0), 4)
    expected = sampled(tiny, "cpu", limits, keys)
    assert max(row.any(axis=(0, 2)).sum() for row in expected.log_probs != 0) > DRAWS // 2 + 1
    monkeypatch.setattr(sampler, "MANY", 4)
    found = sampled(tiny, "cpu", limits, keys)
    assert np.array_equal(found.program, expected.program)
    assert np.allclose(found.log_probs, expected.log_probs, rtol=1e-5, atol=1e-5)
    for row, limit in zip(found.log_probs, limits):
        assert row[:, :limit].any()
        assert not row[:, limit:].any()
    assert np.array_equal(found.said, found.log_probs != 0)


@pytest.mark.parametrize(("many", "sizes"), [(4, [DRAWS]), (3, [DRAWS // 2, DRAWS])])
def test_no_turn_copies_what_has_been_said(tiny, monkeypatch, many, sizes):
    """Half of the time of long programs went there, while the cache was read as it was before."""
    monkeypatch.setattr(sampler, "MANY", many)
    task, heat, model = (
        make_task(np.ones((5, 7), int)),
        jnp.ones(3),
        Decoder(tiny.model.config, "cpu"),
    )
    run = jax.jit(lambda params, key: sample(model, params, task, key, heat, DRAWS, 35))
    lines = run.lower(tiny.params, jax.random.key(0)).compile().as_text().splitlines()
    config = tiny.model.config
    size = config.width // config.heads
    for draws in sizes:
        cache = f" = f32[{config.heads},{len(heat)},{draws + SLOTS},{size}]"
        ops, computation = collections.Counter(), ""
        for line in lines:
            if line.endswith("{") and not line.startswith(" "):
                computation = line.split()[0]
            elif cache in line:
                ops[computation == "ENTRY", line.split("} ")[1].split("(")[0]] += 1
        # Of the loop:
        assert ops[False, "get-tuple-element"] or ops[False, "dynamic-update-slice"]
        assert not ops[False, "copy"]


def test_without_a_size_all_of_the_canvas_has_places(tiny, target):
    task, heat = herjax.make_task(target), jnp.ones(4)
    first, other = (
        herjax.sample(tiny.model, tiny.params, task, jax.random.key(0), heat, 3, *size)
        for size in ((), (target.size,))
    )
    assert np.array_equal(first.tokens, other.tokens)
    with pytest.raises(ValueError, match=r"\[R, C\] and \[G\], got \[6, 7\] and \[\]"):
        herjax.sample(tiny.model, tiny.params, task, jax.random.key(0), 0.9, 3)
    for draws in (0, 2.0, None):
        with pytest.raises(ValueError, match=f"draws must be an integer, 1 .. .*, got {draws}"):
            herjax.sample(tiny.model, tiny.params, task, jax.random.key(0), heat, draws)
    batch = jax.tree.map(lambda leaf: leaf[None], task)
    with pytest.raises(ValueError, match=r"got \[1, 6, 7\] and \[4\]"):
        herjax.sample(tiny.model, tiny.params, batch, jax.random.key(0), heat, 3)
    task = herjax.make_task(np.zeros((11, 2), int))
    with pytest.raises(ValueError, match="picture of 11x2 is larger than the model's canvas"):
        herjax.sample(tiny.model, tiny.params, task, jax.random.key(0), heat, 3)
