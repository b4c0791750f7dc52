"""What a program that imports herjax has set for its own code changes nothing."""

import contextlib
import dataclasses
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

import herjax
from herjax.decoder import sampler
from herjax.learning import epoch, recombination, shortening
from herjax.learning import learner as learner_module
from herjax.learning.presets import PRESETS
from herjax.learning.pretraining import compiled_step, initial_state
from herjax.runtime.program_cache import call_kept
from herjax.runtime.sharding import make_mesh
from herjax.tasks import random as tasks_random
from herjax.tasks.random import random_program
from tests.settings import CONFIG

TARGET = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]])
SQUARES = np.array([[2, 1 + i, i, i, i + 1, i + 1] for i in range(4)])  # of a program
SEARCH = dataclasses.replace(CONFIG, partners=0, learning_rate=0.0)  # soon compiled
KEYS = jax.random.split(jax.random.key(0))


@contextlib.contextmanager
def other_settings():
    with (
        jax.enable_x64(True),
        jax.numpy_dtype_promotion("strict"),
        jax.numpy_rank_promotion("raise"),
        jax.default_prng_impl("rbg"),
        jax.threefry_partitionable(False),
    ):
        yield


def adapt(params, config=CONFIG, **options):
    result = herjax.adapt(TARGET, params=params, config=config, **options)
    return result.program, result.history, result.adapted.params


def adapt_population(params, keys=KEYS, config=CONFIG):
    """One member after the other, in one slot."""
    tasks = [herjax.make_task(TARGET), herjax.make_task(TARGET.T)]
    mesh = make_mesh({"data": 1, "model": 1})
    results = herjax.adapt_population(tasks, keys, params=params, config=config, mesh=mesh, slots=1)
    return [(result.program, result.history) for result in results]


def shorten(_):
    """On one device, whatever mesh there is."""

    def call(function, *arrays, **static):
        leaves = [leaf for leaf in jax.tree.leaves(arrays) if isinstance(leaf, jax.Array)]
        assert {len(leaf.devices()) for leaf in leaves} == {1}
        return call_kept(function, *arrays, **static)

    target = np.array(herjax.execute(SQUARES.astype(np.int32), np.zeros((5, 5), np.int8)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shortening, "call_kept", call)
        patch.setattr(shortening, "STEPS", 40)
        found = herjax.shorten(SQUARES, target, epochs=1)
    return found.program, found.draws


@pytest.mark.parametrize("run", [adapt, adapt_population, shorten])
def test_results_are_the_same(run, tiny):
    expected = run(tiny)
    mesh = jax.make_mesh((jax.device_count(),), ("mine",), axis_types=(AxisType.Explicit,))
    with other_settings(), jax.set_mesh(mesh):
        found = run(tiny)
    chex.assert_trees_all_equal(found, expected, strict=True)


def test_a_callback_computes_as_its_program_does(tiny):
    seen = []
    with other_settings():
        adapt(tiny, on_epoch=lambda *_: seen.append(jnp.arange(2).dtype))
        assert set(seen) == {jnp.arange(2).dtype}


def test_members_may_have_keys_of_another_kind(tiny):
    keys = jax.random.split(jax.random.key(0, impl="rbg"))
    (_, first), (_, second) = adapt_population(tiny, keys, SEARCH)
    assert not np.array_equal(first[0].program, second[0].program)


# ---- What a program of its own may trace ---------------------------------------------------------


SEAMS = {
    "random_program": lambda key, _: random_program(key, jnp.int32(3), jnp.int32(4), 5),
    "random_task": lambda key, _: herjax.random_task(
        key, jnp.array([[3, 3], [2, 3]]), herjax.TaskConfig()
    ),
    "sample": lambda key, p: herjax.sample(p.model, p.params, task(), key, jnp.ones(4), 3, 9),
    "prune": lambda *_: herjax.prune(SQUARES.astype(np.int32), task().input),
    "prune for a target": lambda *_: herjax.prune(
        SQUARES.astype(np.int32), task().input, target=task().target
    ),
    "accuracy": lambda *_: herjax.pixel_accuracy(task().input, task().target),
    "recombine": lambda key, _: herjax.recombine(
        jnp.array([SQUARES[:2]] * 4, jnp.int32), task(), 2, key, 4
    ),
    "init_adaptation": lambda key, p: herjax.init_adaptation(p.params, CONFIG, key, (3, 3)),
    "adapt_epoch": lambda key, p: herjax.adapt_epoch(p.model, state(key, p), task(), CONFIG),
    "adapt_epochs": lambda key, p: herjax.adapt_epochs(p.model, state(key, p), task(), CONFIG, 2),
    "gradient": lambda _, p: step(p.params, p),
    "program_log_probs": lambda _, p: herjax.program_log_probs(
        p.model, p.params, task(), jnp.zeros((2, 3, 4), jnp.int32)
    ),
}


def task():
    return herjax.make_task(TARGET)


def step(params, pretrained):
    """Of a training loop of one's own."""
    optimizer = herjax.make_optimizer(CONFIG)
    start = herjax.TrainState(jnp.int32(0), params, optimizer.init(params))
    tokens = jnp.zeros((2, 3, 4), jnp.int32)

    def loss(params):
        return herjax.program_log_probs(pretrained.model, params, task(), tokens).mean()

    return herjax.apply_gradients(start, jax.grad(loss)(params), optimizer)


def state(key, pretrained):
    return herjax.init_adaptation(pretrained.params, CONFIG, key, TARGET.shape)


@pytest.mark.parametrize("name", SEAMS)
def test_a_seam_returns_the_same_types(name, tiny):
    expected = jax.eval_shape(lambda key: SEAMS[name](key, tiny), KEYS[0])
    with other_settings():
        found = jax.eval_shape(lambda key: SEAMS[name](key, tiny), KEYS[0])
    assert jax.tree.leaves(found) == jax.tree.leaves(expected)


def test_programs_become_the_same_tokens():
    expected = herjax.encode_programs([SQUARES, SQUARES[:2]], 5, 5)
    with other_settings():
        found = herjax.encode_programs([SQUARES, SQUARES[:2]], 5, 5)
    assert found.dtype == expected.dtype
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("name", ["random_program", "random_task", "sample", "recombine"])
def test_a_seam_draws_the_same_numbers(name, tiny):
    expected = jax.jit(lambda key: SEAMS[name](key, tiny))(KEYS[0])
    with other_settings():
        found = jax.jit(lambda key: SEAMS[name](key, tiny))(KEYS[0])
    chex.assert_trees_all_equal(found, expected, strict=True)


@pytest.mark.parametrize(
    ("name", "program"),
    [
        ("random_task", tasks_random._random_task),
        ("sample", sampler._sample),
        ("recombine", recombination._recombine),
        ("init_adaptation", epoch._init_adaptation),
        ("program_log_probs", learner_module._log_probs),
    ],
)
def test_a_seam_called_as_it_is_compiles_once(name, program, tiny):
    program.clear_cache()
    chex.assert_trees_all_equal(SEAMS[name](KEYS[0], tiny), SEAMS[name](KEYS[0], tiny))
    assert program._cache_size() == 1


def test_an_epoch_called_as_it_is_compiles_once(tiny):
    first = herjax.init_adaptation(tiny.params, SEARCH, KEYS[0], TARGET.shape)
    program = epoch._adapt_epoch
    program.clear_cache()
    state = herjax.adapt_epoch(tiny.model, first, task(), SEARCH)
    state = herjax.adapt_epoch(tiny.model, state, task(), SEARCH)
    assert program._cache_size() == 1
    both = herjax.adapt_epochs(tiny.model, first, task(), SEARCH, 2)
    assert state.epoch == both.epoch == 2
    chex.assert_trees_all_equal(both.history, state.history)


# ---- Keys ----------------------------------------------------------------------------------------


def uses_a_key_twice(trace):
    with jax.debug_key_reuse(True):
        try:
            trace()
        except jax.errors.KeyReuseError:
            return True
    return False


def test_a_key_that_is_used_twice_is_seen():
    def draw(key):
        return jax.random.bits(key) + jax.random.bits(key)

    assert uses_a_key_twice(lambda: jax.eval_shape(lambda: draw(jax.random.key(0))))
    assert uses_a_key_twice(lambda: jax.jit(draw).lower(jax.random.key(0)))


@pytest.mark.parametrize("learner", [herjax.hindsight, herjax.rivals.grpo])
@pytest.mark.parametrize("augmented", [False, True])
def test_no_key_of_an_epoch_is_used_twice(learner, augmented, tiny):
    config = CONFIG
    if augmented:
        config = dataclasses.replace(CONFIG, symmetries=True, colour_permutations=True, fresh=2)

    def epoch():
        state = herjax.init_adaptation(tiny.params, config, jax.random.key(0), TARGET.shape)
        return herjax.adapt_epoch(tiny.model, state, task(), config, learner)

    assert not uses_a_key_twice(lambda: jax.eval_shape(epoch))


def test_no_key_of_a_pretraining_step_is_used_twice():
    config = PRESETS["tiny"]
    state = jax.eval_shape(lambda: initial_state(config))
    step = partial(compiled_step.lower, state, config=config, bucket=0, mesh=None)
    assert not uses_a_key_twice(step)
