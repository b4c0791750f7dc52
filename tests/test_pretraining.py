import dataclasses
import json
import types

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import herjax
from herjax.decoder.embedding import ModelConfig
from herjax.decoder.model import Decoder
from herjax.decoder.sampler import sample
from herjax.decoder.weights import Pretrained, save_weights
from herjax.dsl.ops import PIXEL
from herjax.learning import pretraining
from herjax.learning.presets import PRESETS
from herjax.learning.pretraining import (
    bucket_of_step,
    compile_ahead,
    cpu_devices_of,
    evaluate,
    init_params,
    init_state,
    learning_rates,
    places_of,
    pretrain,
    pretrain_step,
    random_batch,
)
from herjax.learning.train import TrainState, program_loss
from herjax.runtime import program_cache
from herjax.runtime.config import from_dict
from herjax.tasks.random import size_buckets

TINY = PRESETS["tiny"]
LONG = dataclasses.replace(
    TINY, steps=120, muon_lr=0.03, model=dataclasses.replace(TINY.model, layers=1)
)


def test_the_shape_of_a_model_survives_json():
    config = dataclasses.replace(TINY.model, layers=7, dtype="bfloat16")
    text = json.dumps(dataclasses.asdict(config))
    assert from_dict(ModelConfig(), json.loads(text)) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"batch_size": -2}, "batch_size must be at least 1"),
        ({"microbatch": 5}, "microbatch must divide batch_size"),
        ({"seed": -1}, "seed must be 0"),
        ({"seed": pretraining.HELD_OUT_SEED}, "seed must be 0"),
        ({"size_limits": (16,)}, "must hold 36 cells"),
        ({"tasks": pretraining.TaskConfig(max_side=9)}, "tasks.max_side 9"),
        (
            {"tasks": pretraining.TaskConfig(max_side=6, ops=6)},
            "tasks.ops 6 must be 1",
        ),
    ],
)
def test_bad_configs_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TINY, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"steps": 1, "batch_size": 1, "seed": pretraining.HELD_OUT_SEED - 1},
        {"tasks": pretraining.TaskConfig(min_side=1, max_side=6, ops=1)},
        {"tasks": pretraining.TaskConfig(min_side=6, max_side=6), "size_limits": (36,)},
        {"microbatch": TINY.batch_size},
    ],
)
def test_the_ends_of_what_is_allowed_are_allowed(changes):
    assert dataclasses.replace(TINY, **changes) != TINY


def test_rates_rise_to_their_peaks_and_fall_to_0():
    config = dataclasses.replace(TINY, steps=25, warmup_steps=5, muon_lr=0.02, adam_lr=0.002)
    rates = learning_rates(config)
    for name, peak in (("muon", 0.02), ("adam", 0.002)):
        found = [float(rates[name](step)) for step in (0, 1, 5, 15, 25)]
        assert found == pytest.approx([0, peak / 5, peak, peak / 2, 0])


@pytest.mark.parametrize("name", ["loss", "grad_norm", "param_norm"])
def test_a_metric_that_is_not_finite_ends_the_training(monkeypatch, name):
    metrics = {"loss": 1.0, "grad_norm": 1.0, "param_norm": 1.0} | {name: np.inf}
    monkeypatch.setattr(pretraining, "init_state", lambda *_: TrainState(0, {}, ()))
    monkeypatch.setattr(pretraining, "pretrain_step", lambda state, *_: (state, metrics))
    with pytest.raises(FloatingPointError, match="at step 5: lower the rates"):
        pretrain(TINY)


def test_steps_repeat_exactly_and_learn():
    losses = []
    for steps in (12, 4):
        state, run = init_state(LONG), []
        for step in range(steps):
            state, metrics = pretrain_step(state, LONG, bucket_of_step(LONG, step))
            run.append(float(metrics["loss"]))
        losses.append(run)
    assert losses[0][:4] == losses[1]
    assert np.mean(losses[0][-3:]) < np.mean(losses[0][:3]) - 0.2


def test_every_program_can_be_compiled_ahead():
    state = init_state(LONG)
    compile_ahead(state, LONG)
    programs = len(program_cache._calls)
    assert any(function is pretraining._start for function, *_ in program_cache._calls)
    init_state(LONG)
    for bucket in range(len(LONG.size_limits)):
        state, _ = pretrain_step(state, LONG, bucket)
    evaluate(Pretrained(Decoder(LONG.model), state.params, {}), LONG, tasks=4)
    assert len(program_cache._calls) == programs


def test_the_first_parameters_follow_from_the_seed(monkeypatch):
    fresh = lambda config, key: {"bias": jax.random.uniform(key)}  # noqa: E731
    monkeypatch.setattr(pretraining, "init_params", fresh)
    configs = [dataclasses.replace(TINY, seed=seed) for seed in (0, 1, 1)]
    found = [float(pretraining.initial_state(config).params["bias"]) for config in configs]
    assert found[0] != found[1] == found[2]


def test_init_starts_from_the_given_weights(tmp_path):
    before = init_state(dataclasses.replace(TINY, seed=7))
    save_weights(tmp_path, Pretrained(Decoder(TINY.model), before.params, {}))
    state = init_state(dataclasses.replace(TINY, init=str(tmp_path)))
    chex.assert_trees_all_equal(state.params, before.params)
    # On larger canvases: the new rows and columns come after the given ones.
    model = dataclasses.replace(TINY.model, max_side=8)
    larger = init_state(dataclasses.replace(TINY, init=str(tmp_path), model=model))
    for leaf, given in zip(jax.tree.leaves(larger.params), jax.tree.leaves(before.params)):
        assert np.array_equal(leaf[: len(given)], given)
    assert larger.params["params"]["row_embed"]["embedding"].shape == (8, 32)
    with pytest.raises(ValueError, match="is another model"):
        init_state(dataclasses.replace(config_of_width(64), init=str(tmp_path)))


def config_of_width(width):
    return dataclasses.replace(TINY, model=dataclasses.replace(TINY.model, width=width))


@jax.jit
def programs_of_six_ops(key):
    """Of random tasks, and sampled by an untrained decoder."""
    model = dataclasses.replace(TINY.model, ops=6)
    tasks = dataclasses.replace(TINY.tasks, ops=6)
    task, drawn = random_batch(key, np.array([[6, 6]]), tasks, 64)
    task = jax.tree.map(lambda leaf: leaf[0], task)
    sampled = sample(Decoder(model), init_params(model, key), task, key, jnp.ones(64), 3, 36)
    return drawn, sampled.program


def test_a_call_that_the_source_lacks_is_used_only_when_asked_for():
    for programs in programs_of_six_ops(jax.random.key(0)):
        assert set(np.unique(programs[..., 0])) == set(range(7))
    run = jax.jit(lambda key: random_batch(key, np.array([[6, 6]]), TINY.tasks, 256)[1])
    assert np.max(run(jax.random.key(0))[..., 0]) == 5


def test_evaluate_counts_programs_that_draw_the_task(monkeypatch):
    """With a stand-in for sampling: task i of a bucket has i % 3 of 4 right programs."""

    def solved(params, config, bucket, start, samples, temperature, mesh):
        tasks = start + np.arange(pretraining.EVAL_CHUNK)
        return np.arange(samples) < tasks[:, None] % 3

    monkeypatch.setattr(pretraining, "_solved", solved)
    result = pretraining.evaluate(Pretrained(Decoder(TINY.model), {}, {}), TINY, 32, samples=4)
    # Sizes 3 .. 6: 9 of 16 in the first bucket (18 tasks), 7 of 16 in the second (14 tasks).
    right = np.concatenate([np.arange(18) % 3, np.arange(14) % 3])
    assert result == {
        "pass@1": pytest.approx(np.mean(right / 4)),
        "pass@4": pytest.approx(np.mean(right > 0)),
        "tasks": 32,
    }


@pytest.fixture
def solved(monkeypatch):
    """Evaluates with stand-ins: sampled programs paint a target of noise cell by cell.

    At odds of the temperature, by the key, the first cell alone is wrong.
    """

    blank = herjax.make_task(np.zeros((6, 6), int))

    def noise(key, sizes, config):
        return dataclasses.replace(blank, target=jax.random.randint(key, (6, 6), 0, 10)), None

    def painted(model, params, task, key, temperature, draws, limit):
        assert draws == TINY.tasks.max_draws + 2
        cells = np.indices((6, 6)).reshape(2, 36)
        wrong = jax.random.bernoulli(key, temperature)[:, None] & (np.arange(36) == 0)
        colour = jnp.where(wrong, task.target[0, 0] + 1, task.target.reshape(36)) % 10
        fields = jnp.broadcast_arrays(PIXEL, colour, *cells, 0, 0)
        return types.SimpleNamespace(program=jnp.stack(fields, axis=-1))

    monkeypatch.setattr(pretraining, "random_task", noise)
    monkeypatch.setattr(pretraining, "sample", painted)

    def evaluate(seed, bucket):
        config = dataclasses.replace(TINY, seed=seed)
        chunk = pretraining.solve_chunk.__wrapped__
        return jax.jit(lambda start, heat: chunk(None, start, heat, config, bucket, 8, None))

    return evaluate


def test_a_held_out_task_is_one_of_its_place_and_bucket_for_every_seed(solved, monkeypatch):
    small = solved(seed=0, bucket=0)
    assert small(0, 0.0).all()
    assert not small(0, 1.0).any()
    found = small(0, 0.5)
    assert np.array_equal(solved(seed=1, bucket=0)(0, 0.5), found)
    others = [small(pretraining.EVAL_CHUNK, 0.5), solved(seed=0, bucket=1)(0, 0.5)]
    monkeypatch.setattr(pretraining, "HELD_OUT_SEED", 0)
    others.append(solved(seed=0, bucket=0)(0, 0.5))
    assert not any(np.array_equal(other, found) for other in others)


def test_a_trained_decoder_solves_more_than_a_fresh_one():
    state = init_state(LONG)

    def solved():
        """The share of the held-out tasks of the larger bucket that one of 8 programs draws."""
        return pretraining._solved(state.params, LONG, 1, 0, 8, 0.5, None).any(axis=1).mean()

    before = solved()
    for step in range(LONG.steps):
        state, _ = pretrain_step(state, LONG, bucket_of_step(LONG, step))
    assert solved() > before + 0.1
    assert jax.tree.leaves(state.params)[0].dtype == np.float32


@pytest.mark.parametrize(
    ("processors", "changes", "devices"),
    [
        (1, {}, 1),
        (6, {}, 4),
        (64, {}, 16),  # with 8 programs each
        (6, {"microbatch": 64}, 2),
        (6, {"batch_size": 5}, 1),
    ],
)
def test_on_a_cpu_a_step_is_shared_by_the_processors(processors, changes, devices):
    config = dataclasses.replace(PRESETS["base-10"], **changes)
    assert cpu_devices_of(config, processors) == devices


@pytest.mark.parametrize("bucket", [0, 1])
def test_a_step_sees_all_of_every_canvas(bucket):
    config = dataclasses.replace(TINY, seed=7)
    state, sizes = init_state(config), size_buckets(TINY.tasks, TINY.size_limits)[bucket]
    assert len(places_of(TINY, None, bucket)) == 2
    key = jax.random.fold_in(jax.random.key(7), 0)

    @jax.jit
    def loss(params):
        task, program = random_batch(key, sizes, TINY.tasks, TINY.batch_size)
        ones = jnp.ones(TINY.batch_size)
        return program_loss(Decoder(TINY.model), params, task, program, ones, 36)[0]

    expected = loss(state.params)
    assert np.isclose(pretrain_step(state, config, bucket)[1]["loss"], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("platform", "data", "model", "places"),
    [
        ("cpu", 1, 1, (48, 54, 56)),
        ("cpu", 8, 1, (50, 56)),  # two microbatches each
        ("cpu", 16, 1, (56,)),
        ("cpu", 2, 2, (56,)),
        ("gpu", 1, 1, (56,)),
    ],
)
def test_microbatches_choose_from_few_places(platform, data, model, places):
    chip = types.SimpleNamespace(platform=platform)
    mesh = types.SimpleNamespace(
        devices=np.array([chip]), shape={"data": data, "model": model}, size=data * model
    )
    assert places_of(PRESETS["base-10"], mesh, 3) == places
