import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import herjax
from herjax.decoder.embedding import ModelConfig, canvas_cells
from herjax.decoder.model import MASKED, Decoder, program_mask
from herjax.decoder.sampler import sample
from herjax.dsl.executor import draw_count
from herjax.dsl.grammar import encode
from herjax.learning.train import program_loss, token_log_probs
from herjax.tasks.random import TaskConfig, random_task

SIZES = jnp.array([(3, 10), (9, 7), (10, 10)])


@pytest.fixture(scope="module")
def batch():
    """Three tasks of different sizes, and their programs."""
    run = jax.vmap(lambda key: random_task(key, SIZES, TaskConfig()))
    return jax.jit(run)(jax.random.split(jax.random.key(4), 3))


def full_pass(deep, task, tokens, size=100):
    @jax.jit
    def run(params):
        prefix = deep.model.apply(params, task, size, method=Decoder.encode)
        return deep.model.apply(params, prefix, tokens, task.width)

    return run(deep.params)


@pytest.fixture(scope="module")
def samples(deep, batch):
    """Programs of 0 .. 7 draws: 3 tasks x 8 temperatures."""
    temperature = jnp.array([0.3, 0.5, 0.7, 0.9, 1.1, 1.3, 2.0, 3.0])

    def run(task, key):
        return sample(deep.model, deep.params, task, key, temperature, 7, 100)

    return jax.jit(jax.vmap(run))(batch[0], jax.random.split(jax.random.key(5), 3))


def test_cached_decoding_equals_the_full_pass_at_every_position(deep, batch, samples):
    compare = jax.jit(lambda tokens: token_log_probs(full_pass(deep, batch[0], tokens), tokens))
    lengths = set()
    for program in range(8):
        tokens = samples.tokens[:, program]
        expected, held = compare(tokens)
        # A program that fills all draws was cut off: its END was not sampled.
        expected, held = expected.at[:, -1].set(0.0), held.at[:, -1].set(False)
        found = samples.log_probs[:, program]
        assert np.array_equal(found != 0, held & (found != 0))
        assert float(jnp.abs(found - expected).max()) < 1e-4
        lengths |= set(np.asarray((tokens[..., 0] > 0).sum(1)).tolist())
    assert len(lengths) >= 4  # unequal rows
    assert 7 in lengths


@pytest.mark.parametrize(
    ("platform", "hidden", "least", "most"),
    [("cpu", "float32", 0, 1e-3), ("gpu", "bfloat16", 1e-4, 0.2)],
)
def test_bfloat16_computes_nearly_the_same(tiny, batch, platform, hidden, least, most):
    """And cached decoding as the full pass: but for sums, where hidden states are float32."""
    task, program = batch
    weight = jnp.ones(3)

    def run(dtype):
        model = Decoder(dataclasses.replace(tiny.model.config, dtype=dtype), platform)

        @jax.jit
        def losses_and_samples(params):
            loss = jax.value_and_grad(
                lambda params: program_loss(model, params, task, program, weight, 100), has_aux=True
            )
            first = jax.tree.map(lambda leaf: leaf[0], task)
            found = sample(model, params, first, jax.random.key(0), jnp.ones(4), 5, 100)
            # The same programs through the full pass.
            prefix = model.apply(params, jax.tree.map(lambda x: x[:1], task), 100, method="encode")
            again = jax.tree.map(lambda x: jnp.repeat(x, 4, axis=0), prefix)
            logits = model.apply(params, again, found.tokens, jnp.repeat(task.width[:1], 4))
            full, held = token_log_probs(logits, found.tokens)
            held = held.at[:, -1].set(False)
            return loss(params), (held * (found.log_probs - full))[:, :-1], prefix.keys[0]

        return losses_and_samples(tiny.params)

    ((loss, _), grads), error, keys = run("bfloat16")
    ((exact, _), exact_grads), exact_error, exact_keys = run("float32")
    assert (keys.dtype, exact_keys.dtype) == (hidden, jnp.float32)
    assert 0 < abs(loss - exact) < 0.02 * exact
    flat, exact_flat = (
        jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(tree)])
        for tree in (grads, exact_grads)
    )
    assert flat.dtype == jnp.float32
    cosine = flat @ exact_flat / jnp.linalg.norm(flat) / jnp.linalg.norm(exact_flat)
    assert 0.98 < cosine < 1
    assert jnp.abs(exact_error).max() < 1e-4
    assert least <= jnp.abs(error).max() < most


def test_sampled_programs_are_legal_and_run(batch, samples):
    task = batch[0]
    ops = set()
    for i in range(3):
        height, width = int(task.height[i]), int(task.width[i])
        for program in np.asarray(samples.program[i]):
            source = herjax.format_program(program)
            herjax.parse_program(source, height, width)  # raises if out of the canvas
            ops |= set(program[:, 0].tolist())
    assert ops == {0, 1, 2, 3, 4, 5}


def test_samples_repeat_for_the_key_and_differ_between_keys(deep, batch):
    task = jax.tree.map(lambda leaf: leaf[1], batch[0])
    run = jax.jit(lambda key: sample(deep.model, deep.params, task, key, jnp.ones(6), 4, 63).tokens)
    one, again, other = run(jax.random.key(0)), run(jax.random.key(0)), run(jax.random.key(1))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    assert len({row.tobytes() for row in np.asarray(one)}) > 1


def test_temperature_zero_takes_the_best_token_everywhere(deep, batch):
    found = jax.jit(
        lambda task: sample(deep.model, deep.params, task, jax.random.key(0), jnp.zeros(2), 4, 100)
    )(jax.tree.map(lambda leaf: leaf[2], batch[0]))
    assert np.array_equal(found.tokens[0], found.tokens[1])
    task = jax.tree.map(lambda leaf: leaf[2:], batch[0])
    logits = full_pass(deep, task, found.tokens[:1])
    log_probs, held = token_log_probs(logits, found.tokens[:1])
    slots = [logits.op, logits.colour, logits.point1, logits.point2]
    for slot, scores in enumerate(slots):
        best = jax.nn.log_softmax(scores).max(axis=-1)
        rows = scores.shape[1] if slot else found.tokens.shape[1]
        used = held[:, :rows, slot]
        assert np.allclose(log_probs[:, :rows, slot][used], best[:, :rows][used], atol=1e-5)


def test_no_program_ends_before_min_draws(deep, batch):
    task = jax.tree.map(lambda leaf: leaf[0], batch[0])

    @partial(jax.jit, static_argnums=0)
    def lengths(least):
        key, ones = jax.random.key(4), jnp.ones(200)
        found = sample(deep.model, deep.params, task, key, ones, 6, 30, least)
        return draw_count(found.program)

    assert lengths(0).min() < 4
    assert lengths(4).min() == 4
    assert lengths(6).min() == 6


def test_sampling_follows_the_model(deep, batch):
    """Frequencies of the first op over many programs against its probabilities."""
    task = jax.tree.map(lambda leaf: leaf[0], batch[0])
    heat = jnp.repeat(jnp.array([0.4, 1.0, 3.0]), 4000)
    found = jax.jit(
        lambda task: sample(deep.model, deep.params, task, jax.random.key(3), heat, 1, 30)
    )(task)
    one = jax.tree.map(lambda leaf: leaf[None], task)
    logits = full_pass(deep, one, found.tokens[:1], 30).op[0, 0]
    for temperature, ops in zip((0.4, 1.0, 3.0), found.tokens[:, 0, 0].reshape(3, 4000)):
        probabilities = jax.nn.softmax(logits / temperature)
        shares = np.bincount(ops, minlength=6) / 4000
        assert np.allclose(shares, probabilities, atol=4 * np.sqrt(0.25 / 4000))
    assert np.ptp(jax.nn.softmax(logits)) > 0.1


def test_a_position_does_not_see_what_is_written_after_it(deep, batch):
    """Changing the colour of a draw changes no probability before that token."""
    task, program = batch
    tokens = encode(program, task.width)
    decoder, params = deep.model, deep.params
    prefix = jax.jit(lambda: decoder.apply(params, task, 100, method=Decoder.encode))()
    draws = tokens.shape[1]

    @jax.jit
    def probabilities(tokens):
        return token_log_probs(decoder.apply(params, prefix, tokens, task.width), tokens)[0]

    base = probabilities(tokens)
    for draw in range(draws):
        changed = tokens.at[:, draw, 1].add(1).at[:, draw, 1].min(15)
        changed = jnp.where(tokens >= 0, changed, tokens)
        after = probabilities(changed)
        assert np.array_equal(base[:, :draw], after[:, :draw])
        assert np.array_equal(base[:, draw, 0], after[:, draw, 0])


def test_program_mask_sees_own_draw_and_ends_of_earlier_ones():
    mask = np.asarray(program_mask(2))
    assert mask.shape == (9, 9)
    expected = {
        0: [0],
        1: [0, 1],
        2: [0, 1, 2],
        4: [0, 1, 2, 3, 4],
        5: [0, 4, 5],
        7: [0, 4, 5, 6, 7],
    }
    for position, seen in expected.items():
        assert np.flatnonzero(mask[position]).tolist() == seen


def test_padding_of_cells_changes_nothing(deep, batch):
    task = jax.tree.map(lambda leaf: leaf[:1], batch[0])
    area = int(task.height[0] * task.width[0])
    tokens = encode(batch[1][:1], task.width)
    padded, exact = full_pass(deep, task, tokens, area + 40), full_pass(deep, task, tokens, area)
    assert np.allclose(padded.op, exact.op, atol=1e-5)
    assert np.allclose(padded.point1[..., :area], exact.point1, atol=1e-4)
    assert (padded.point1[..., area:] == MASKED).all()


def test_canvas_cells_against_loops(batch):
    task = batch[0]
    cells = canvas_cells(task, 100)
    steps = [(r, c) for r in (-1, 0, 1) for c in (-1, 0, 1) if r or c]
    for i in range(3):
        height, width = int(task.height[i]), int(task.width[i])
        target = np.asarray(task.target[i])[:height, :width]
        assert int(cells.valid[i].sum()) == height * width
        for r in range(height):
            for c in range(width):
                place = r * width + c
                assert (cells.row[i, place], cells.col[i, place]) == (r, c)
                assert cells.target[i, place] == target[r, c]
                around = [(r + a, c + b) for a, b in steps]
                inside = [0 <= a < height and 0 <= b < width for a, b in around]
                same = [k and target[p] == target[r, c] for k, p in zip(inside, around)]
                assert np.array_equal(cells.edges[i, place, :8], same)
                assert np.array_equal(cells.edges[i, place, 8:16], ~np.array(inside))
                assert cells.edges[i, place, 16] == (task.input[i, r, c] == target[r, c])


def test_impossible_shapes_are_refused():
    with pytest.raises(ValueError, match="width 10 is not a multiple of heads 4"):
        ModelConfig(width=10, heads=4)
    with pytest.raises(ValueError, match="program_layers 5"):
        ModelConfig(layers=4, program_layers=5)
