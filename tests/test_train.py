from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from herjax.decoder.model import Decoder, Logits
from herjax.dsl.grammar import FIRST_CELL, FIRST_COLOUR, SLOTS, encode
from herjax.dsl.ops import END, RECORD_SIZE
from herjax.learning import train
from herjax.learning.pretraining import random_batch
from herjax.learning.train import (
    TrainState,
    apply_gradients,
    bucketed_gradients,
    program_gradients,
    program_loss,
    token_log_probs,
)
from herjax.tasks.random import TaskConfig
from herjax.tasks.task import Task

CONFIG = TaskConfig(max_side=5, max_draws=3)
SIZES = np.array([(3, 5), (5, 4)])


def test_token_log_probs_against_loops():
    rng = np.random.default_rng(0)
    logits = Logits(
        *(
            rng.normal(size=s).astype(np.float32)
            for s in ((2, 3, 6), (2, 2, 10), (2, 2, 20), (2, 2, 20))
        )
    )
    programs = np.array([[[2, 3, 1, 2, 3, 4], [5, 9, 0, 1, 0, 0]], [[3, 0, 2, 0, 0, 0], [0] * 6]])
    tokens = np.asarray(encode(programs, np.array([5, 5])))
    log_probs, held = token_log_probs(logits, tokens)
    expected, places = np.zeros((2, 3, 4)), np.zeros((2, 3, 4), bool)
    log_softmax = lambda x: x - np.log(np.exp(x).sum())  # noqa: E731
    for b in range(2):
        for n in range(3):
            op = tokens[b, n, 0] if n < 2 else END
            expected[b, n, 0], places[b, n, 0] = log_softmax(logits.op[b, n])[op], True
            if op == END:
                break
            for slot, (scores, first) in enumerate(
                [
                    (logits.colour, FIRST_COLOUR),
                    (logits.point1, FIRST_CELL),
                    (logits.point2, FIRST_CELL),
                ],
                start=1,
            ):
                if tokens[b, n, slot] >= 0:
                    expected[b, n, slot] = log_softmax(scores[b, n])[tokens[b, n, slot] - first]
                    places[b, n, slot] = True
    assert np.array_equal(held, places)
    assert np.allclose(log_probs, expected, atol=1e-5)


@partial(jax.jit, static_argnames="model")
def loss_of(model, params, task, program, weight):
    return program_loss(model, params, task, program, weight, 25)


def losses(tiny, task, program, weight):
    return loss_of(tiny.model, tiny.params, task, program, jnp.asarray(weight))


@partial(jax.jit, static_argnames="count")
def batch(seed, count):
    return random_batch(jax.random.key(seed), SIZES, CONFIG, count)


def test_loss_is_the_mean_over_the_tokens_of_the_weighted_programs(tiny):
    task, program = batch(0, 12)
    tokens = encode(program, task.width)

    @jax.jit
    def score(params):
        prefix = tiny.model.apply(params, task, 25, method=Decoder.encode)
        return token_log_probs(tiny.model.apply(params, prefix, tokens, task.width), tokens)

    log_probs, held = score(tiny.params)
    loss, metrics = losses(tiny, task, program, [1.0, 0.0] * 6)
    expected = -log_probs[::2].sum() / held[::2].sum()
    assert np.allclose(loss, expected, rtol=1e-5)
    slots = (held[::2] * -log_probs[::2]).sum((0, 1)) / held[::2].sum((0, 1))
    names = ("loss_op", "loss_colour", "loss_point1", "loss_point2")
    assert np.allclose([metrics[name] for name in names], slots, rtol=1e-5)


def test_loss_does_not_depend_on_programs_of_weight_zero_or_on_padding(tiny):
    task, program = batch(1, 4)
    loss, _ = losses(tiny, task, program, [1.0, 1.0, 0.0, 0.0])
    first = jax.tree.map(lambda leaf: leaf[:2], (task, jnp.pad(program, ((0, 0), (0, 4), (0, 0)))))
    assert np.allclose(losses(tiny, *first, [1.0, 1.0])[0], loss, rtol=1e-5)
    nothing, _ = losses(tiny, task, program, [0.0] * 4)
    assert nothing == 0


@pytest.mark.parametrize("sizes", [(25,), (15, 25)])
def test_microbatches_give_the_gradient_of_the_whole_batch(tiny, sizes):
    task, program = batch(4, 12)
    assert np.sum(task.height * task.width == 15) == 5, "a microbatch of small ones, one of both"

    @jax.jit
    def both(params):
        whole = jax.grad(
            lambda params: program_loss(tiny.model, params, task, program, jnp.ones(12), 25),
            has_aux=True,
        )
        return whole(params), program_gradients(tiny.model, params, task, program, sizes, 4)

    (grads, metrics), (summed, summed_metrics) = both(tiny.params)
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(grads)) > 0.01
    chex.assert_trees_all_close(summed, grads, atol=1e-6, rtol=1e-4)
    chex.assert_trees_all_close(summed_metrics, metrics, rtol=1e-5)


def test_small_canvases_do_not_pay_for_large_ones(monkeypatch):
    def places(model, params, task, program, weight, size):
        return 0.0 * params["x"], (jnp.full(SLOTS, float(size)), jnp.ones(SLOTS))

    monkeypatch.setattr(train, "_summed_losses", places)
    blank = jnp.zeros((6, 5, 5), jnp.int8)
    sizes = jnp.array([(5, 2), (3, 4), (5, 5), (5, 1), (2, 5), (4, 5)])
    task = Task(blank, blank, *sizes.T)
    params, program = {"x": jnp.float32(0.0)}, jnp.zeros((6, 1, RECORD_SIZE), jnp.int32)
    _, metrics = program_gradients(None, params, task, program, (10, 20, 25), 2)
    assert metrics["loss_op"] == np.mean([10, 20, 25])


def test_training_on_one_batch_learns_it(tiny):
    task, program = batch(2, 8)
    optimizer = optax.adam(3e-3)
    state = TrainState(jnp.int32(0), tiny.params, optimizer.init(tiny.params))

    @jax.jit
    def step(state):
        def loss(params):
            return program_loss(tiny.model, params, task, program, jnp.ones(8), 25)

        grads, metrics = jax.grad(loss, has_aux=True)(state.params)
        return apply_gradients(state, grads, optimizer), metrics["loss"]

    first = None
    for _ in range(150):
        state, loss = step(state)
        first = loss if first is None else first
    assert loss < 0.1 < 1.0 < first
    assert int(state.step) == 150


def test_bucketed_gradients_are_those_of_the_whole_length(tiny):
    """Whichever bucket holds the programs; a bucket too short would lose draws."""
    task, programs = batch(2, 4)
    assert int(jnp.max(jnp.sum(programs[..., 0] > 0, axis=1))) == 3
    weight = jnp.array([1.0, 0.0, 1.0, 1.0])
    longer = jnp.pad(programs, ((0, 0), (0, 3), (0, 0)))  # 3 of 6 places are empty

    @partial(jax.jit, static_argnums=0)
    def gradients(lengths):
        arrays = (tiny.params, task, longer, weight, 25)
        return bucketed_gradients(tiny.model, *arrays, lengths)

    expected, metrics = gradients((6,))
    assert float(jnp.abs(jax.tree.leaves(expected)[0]).max()) > 0
    for lengths in ((3, 6), (2, 6), (1, 4, 6)):
        found, others = gradients(lengths)
        chex.assert_trees_all_close(found, expected, atol=1e-5)
        chex.assert_trees_all_close(others, metrics, atol=1e-5)
