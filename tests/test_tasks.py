import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import herjax
from herjax.dsl.executor import OUTSIDE
from herjax.dsl.ops import COLUMN, OPS, PIXEL, RECTANGLE, ROW
from herjax.learning.presets import PretrainConfig
from herjax.learning.pretraining import bucket_of_step, random_batch
from herjax.tasks.metrics import least_draws
from herjax.tasks.random import (
    TaskConfig,
    random_program,
    random_task,
    random_task_within,
    size_buckets,
)
from tests import referee

CONFIG = TaskConfig()
SIZES = np.concatenate(size_buckets(CONFIG, (100,)))


@pytest.fixture(scope="module")
def batch():
    run = jax.jit(lambda key: random_batch(key, SIZES, CONFIG, 4000))
    return jax.tree.map(np.asarray, run(jax.random.key(0)))


def crop(canvas, task, i):
    return canvas[i, : task.height[i], : task.width[i]]


def test_programs_draw_their_targets_over_blank_inputs_and_change_them(batch):
    task, programs = batch
    for i in range(0, 4000, 7):
        input, target = crop(task.input, task, i), crop(task.target, task, i)
        assert len(np.unique(input)) == 1
        assert np.array_equal(referee.execute(programs[i], input), target)
        assert not np.array_equal(input, target)
    outside = np.ones(task.input.shape, bool)
    for i in range(4000):
        outside[i, : task.height[i], : task.width[i]] = False
    assert ((task.target == OUTSIDE) == outside).all()
    assert ((task.input == OUTSIDE) == outside).all()


def test_a_share_of_inputs_is_drawn_and_no_draw_is_needless_over_them():
    config = TaskConfig(max_draws=3, drawn_inputs=0.5)
    run = jax.jit(lambda key: random_batch(key, SIZES, config, 1000))
    task, programs = jax.tree.map(np.asarray, run(jax.random.key(5)))
    drawn = 0
    for i in range(1000):
        input, target = crop(task.input, task, i), crop(task.target, task, i)
        drawn += len(np.unique(input)) > 1
        program = [draw for draw in programs[i] if draw[0]]
        assert np.array_equal(referee.execute(program, input), target)
        for j in range(len(program)):
            without = program[:j] + program[j + 1 :]
            assert not np.array_equal(referee.execute(without, input), target)
    assert 400 < drawn < 520  # a few inputs are drawn in the colour that they had
    with pytest.raises(ValueError, match="drawn_inputs must be 0 .. 1, got 2"):
        TaskConfig(drawn_inputs=2)
    wrong = (("max_draws", 0), ("ops", 0), ("ops", len(OPS) + 1), ("min_side", 0), ("max_side", 2))
    for name, value in wrong:
        with pytest.raises(ValueError, match=f"{name}.*{value}"):
            TaskConfig(**{name: value})


def test_sizes_and_colours_are_uniform(batch):
    task, _ = batch
    cells = np.bincount(task.height * 8 + task.width - 27, minlength=64)
    assert len(cells) == 64
    # 64 cells of 62.5 expected: the chi-square statistic has mean 63, deviation 11.
    assert ((cells - 62.5) ** 2 / 62.5).sum() < 63 + 5 * 11
    colours = np.bincount(task.input[:, 0, 0], minlength=10)
    assert ((colours - 400) ** 2 / 400).sum() < 9 + 5 * 4.3


def test_raw_programs_are_uniform_in_count_op_colour_and_place():
    run = jax.jit(jax.vmap(lambda key: random_program(key, jnp.int32(4), jnp.int32(7), 5)))
    programs = np.asarray(run(jax.random.split(jax.random.key(1), 6000)))
    counts = np.bincount((programs[..., 0] > 0).sum(1), minlength=6)
    assert counts[0] == 0
    assert np.allclose(counts[1:] / 6000, 0.2, atol=0.03)
    drawn = programs[programs[..., 0] > 0]
    assert np.allclose(np.bincount(drawn[:, 0])[1:] / len(drawn), 0.2, atol=0.02)
    assert np.allclose(np.bincount(drawn[:, 1]) / len(drawn), 0.1, atol=0.02)
    boxes = drawn[drawn[:, 0] == RECTANGLE]
    for column, side in ((2, 4), (3, 7), (4, 4), (5, 7)):
        shares = np.bincount(boxes[:, column], minlength=side) / len(boxes)
        assert len(shares) == side
        assert np.allclose(shares, 1 / side, atol=0.04)
    unused = {ROW: [3, 4, 5], COLUMN: [2, 4, 5], PIXEL: [4, 5]}
    for op, columns in unused.items():
        assert (drawn[drawn[:, 0] == op][:, columns] == 0).all()


def test_lengths_match_a_numpy_generator(batch):
    """Draws left after pruning, against brute force: rejection and pruning together."""
    rng = np.random.default_rng(2)
    lengths = []
    while len(lengths) < 1500:
        height, width = rng.integers(3, 11, 2)
        program = list(referee.random_program(rng, rng.integers(1, 6), height, width))
        input = np.full((height, width), rng.integers(10))
        picture = referee.execute(program, input)
        if np.array_equal(picture, input):
            continue
        i = 0
        while i < len(program):
            without = program[:i] + program[i + 1 :]
            if np.array_equal(referee.execute(without, input), picture):
                program = without
            else:
                i += 1
        lengths.append(len(program))
    mine = (batch[1][..., 0] > 0).sum(1)
    shares = np.bincount(lengths, minlength=6) / len(lengths)
    assert np.allclose(np.bincount(mine, minlength=6) / 4000, shares, atol=0.05)


def test_stream_does_not_depend_on_the_batch():
    key = jax.random.key(3)
    make = jax.jit(lambda key, count: random_batch(key, SIZES, CONFIG, count), static_argnums=1)
    small, large = make(key, 2), make(key, 5)
    for a, b in zip(jax.tree.leaves(small), jax.tree.leaves(large)):
        assert np.array_equal(a, b[:2])


@pytest.mark.parametrize("devices", [2, 4])
def test_stream_does_not_depend_on_the_device_count(devices):
    run = lambda key: random_batch(key, SIZES, CONFIG, 8)  # noqa: E731
    mesh = jax.make_mesh((devices,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    alone = jax.jit(run)(jax.random.key(4))
    together = jax.jit(run, out_shardings=sharding)(jax.random.key(4))
    for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(together)):
        assert len(b.sharding.device_set) == devices
        assert np.array_equal(a, b)


def test_shape_of_the_canvas_arrays():
    make = jax.jit(lambda key: random_task(key, jnp.array([(3, 4)]), CONFIG, (5, 6)))
    task, _ = make(jax.random.key(0))
    assert task.target.shape == (5, 6)


def test_sizes_are_by_default_all_that_the_distribution_has():
    config = TaskConfig(min_side=3, max_side=5)
    sizes = [(height, width) for height in (3, 4, 5) for width in (3, 4, 5)]
    for key in jax.random.split(jax.random.key(0), 4):
        found, expected = random_task(key, config=config), random_task(key, sizes, config)
        assert jax.tree.all(jax.tree.map(np.array_equal, found, expected))


def test_a_task_within_a_canvas_has_any_size_up_to_it(monkeypatch):
    monkeypatch.setattr("herjax.tasks.random._task_of_size", lambda key, *size: size[:2])
    run = jax.vmap(random_task_within, (0, None, None, None, None))
    height, width = run(jax.random.split(jax.random.key(0), 64), 5, 2, CONFIG, (6, 6))
    assert set(height.tolist()) == {3, 4, 5}
    assert set(width.tolist()) == {2}  # less than min_side


def test_sizes_that_do_not_fit_are_refused():
    for sizes in ([(6, 3)], [(0, 3)], [3, 4], [(3.9, 3.9)]):
        with pytest.raises(ValueError, match=r"sizes must be integers \[S, 2\], from 1x1 to 5x6"):
            random_task(jax.random.key(0), sizes, CONFIG, (5, 6))


def test_size_buckets_hold_every_size_once_by_area():
    buckets = size_buckets(CONFIG, (18, 30, 100))
    pairs = [tuple(pair) for bucket in buckets for pair in bucket]
    assert sorted(pairs) == [(h, w) for h in range(3, 11) for w in range(3, 11)]
    assert max(h * w for h, w in buckets[0]) <= 18 < min(h * w for h, w in buckets[1])
    for limits, message in (((18, 99), "100 cells"), ((50, 10, 100), "grow"), ((5, 100), "of 5")):
        with pytest.raises(ValueError, match=message):
            size_buckets(CONFIG, limits)


def test_bucket_of_step_follows_the_shares():
    config = PretrainConfig()
    counts = np.bincount([bucket_of_step(config, step) for step in range(3000)])
    shares = [len(b) / 64 for b in size_buckets(config.tasks, config.size_limits)]
    assert np.allclose(counts / 3000, shares, atol=0.03)
    config = dataclasses.replace(config, size_limits=(50, 100), size_shares=(3, 1))
    assert np.mean([bucket_of_step(config, step) for step in range(3000)]) == pytest.approx(
        0.25, abs=0.03
    )
    for wrong in ((1,), (0, 0), (1, -1), (1, float("nan"))):
        with pytest.raises(ValueError, match="size_shares must be 2 numbers from 0"):
            dataclasses.replace(config, size_shares=tuple(map(float, wrong)))


def test_bucket_of_step_follows_from_the_seed_too():
    configs = [PretrainConfig(seed=seed) for seed in range(2)]
    first, second = ([bucket_of_step(config, i) for i in range(50)] for config in configs)
    assert first != second


def test_an_odd_change_along_a_line_takes_a_whole_draw():
    target = np.array([[1, 2, 1, 2]])
    assert least_draws(target, np.zeros_like(target)) == 3


def test_tasks_on_one_canvas_can_be_stacked():
    small, large = (herjax.make_task(np.full(shape, 3)) for shape in ((2, 3), (4, 1)))
    padded = [herjax.pad_task(task, 5) for task in (small, large)]
    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), *padded)
    assert both.target.shape == (2, 5, 5)
    assert [(both.target[i] == 3).sum() for i in range(2)] == [6, 4]
    assert (both.target == OUTSIDE).sum() == 50 - 10
    assert both.height.tolist() == [2, 4]
    with pytest.raises(ValueError, match="task of 4x1 is larger than the canvas, 3x3"):
        herjax.pad_task(large, 3)
    with pytest.raises(ValueError, match="side must be an integer"):
        herjax.pad_task(large, 5.0)
