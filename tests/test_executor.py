import jax
import jax.numpy as jnp
import numpy as np
import pytest

import herjax
from herjax.dsl import executor
from herjax.dsl.executor import (
    OUTSIDE,
    draw_count,
    draw_masks,
    execute,
    keep_draws,
    prune,
    top_draw,
)
from herjax.dsl.ops import LINE, PIXEL
from tests import referee


def random_cases(seed, count, draws, sides, size):
    """Programs [B, N, 6] and padded canvases [B, size, size], every side of ``sides``."""
    rng = np.random.default_rng(seed)
    shapes = [(h, w) for h in sides for w in sides]
    programs, inputs = [], np.full((count, size, size), OUTSIDE, np.int8)
    for i in range(count):
        height, width = shapes[i % len(shapes)]
        programs.append(referee.random_program(rng, draws, height, width))
        inputs[i, :height, :width] = rng.integers(0, 10, (height, width))
    return np.stack(programs), inputs


def crop(canvas):
    inside = canvas != OUTSIDE
    return canvas[: inside.any(1).sum(), : inside.any(0).sum()]


def test_execute_equals_scikit_image_on_20000_programs_of_all_sizes():
    programs, inputs = random_cases(0, 20_480, 5, range(1, 33), 32)
    run = jax.jit(jax.vmap(execute))
    chunks = [slice(i, i + 1024) for i in range(0, 20_480, 1024)]
    outputs = np.concatenate([run(programs[chunk], inputs[chunk]) for chunk in chunks])
    differences = 0
    for program, input, output in zip(programs, inputs, outputs):
        expected = np.full_like(output, OUTSIDE)
        painted = referee.execute(program, crop(input))
        expected[: painted.shape[0], : painted.shape[1]] = painted
        differences += not np.array_equal(output, expected)
    assert differences == 0


def test_every_line_up_to_9x9_equals_scikit_image():
    ends = np.stack(np.meshgrid(*[np.arange(9)] * 4, indexing="ij"), -1).reshape(-1, 4)
    records = np.concatenate([np.tile([LINE, 7], (len(ends), 1)), ends], axis=1)
    masks = np.asarray(jax.jit(draw_masks, static_argnums=(1, 2))(records, 9, 9))
    for record, mask in zip(records, masks):
        assert np.array_equal(mask, referee.cells(record, (9, 9))), record


@pytest.mark.parametrize("shape", [(1, 1), (3, 17), (40, 2)])
def test_public_execute_takes_any_shape_and_keeps_the_dtype(shape):
    rng = np.random.default_rng(1)
    program = referee.random_program(rng, 6, *shape)
    input = rng.integers(0, 10, shape).astype(np.int32)
    output = herjax.execute(program, input)
    assert output.dtype == jnp.int32
    assert np.array_equal(output, referee.execute(program, input))


def test_lines_on_a_canvas_larger_than_100_equal_scikit_image():
    program = referee.random_program(np.random.default_rng(2), 20, 200, 200, ops=1)
    masks = draw_masks(program, 200, 200)
    for record, mask in zip(program, masks):
        assert np.array_equal(mask, referee.cells(record, (200, 200))), record


def test_execute_of_no_draws_is_the_input():
    input = np.arange(6).reshape(2, 3)
    assert np.array_equal(execute(np.zeros((0, 6), np.int32), input), input)
    assert np.array_equal(execute(np.zeros((4, 6), np.int32), input), input)


def test_top_draw_is_the_last_that_covers():
    masks = np.zeros((3, 2, 2), bool)
    masks[0], masks[1, 0], masks[2, 0, 0] = True, True, True
    assert np.array_equal(top_draw(masks), [[2, 1], [0, 0]])
    assert np.array_equal(top_draw(masks & False), [[-1, -1], [-1, -1]])


@pytest.fixture(scope="module")
def pruned():
    # Few cells and colours, so that hidden draws, repeats and same-colour overlaps abound.
    programs, inputs = random_cases(2, 600, 7, (2, 3, 4), 4)
    programs[:, :, 1] %= 3
    inputs = np.where(inputs == OUTSIDE, OUTSIDE, inputs % 3).astype(np.int8)
    return programs, inputs, np.asarray(jax.jit(jax.vmap(prune))(programs, inputs))


def test_prune_keeps_the_picture(pruned):
    for program, input, kept in zip(*pruned):
        before = referee.execute(program, crop(input))
        assert np.array_equal(referee.execute(kept, crop(input)), before)


def test_prune_leaves_no_draw_that_could_go(pruned):
    removed = 0
    for program, input, kept in zip(*pruned):
        picture = referee.execute(program, crop(input))
        count = int((kept[:, 0] != 0).sum())
        removed += len(program) - count
        assert (kept[count:] == 0).all()
        for i in range(count):
            without = np.delete(kept, i, axis=0)
            assert not np.array_equal(referee.execute(without, crop(input)), picture)
    assert removed > 1000  # the cases were hard enough


def test_prune_keeps_one_of_two_equal_draws():
    twice = np.array([[PIXEL, 5, 1, 1, 0, 0]] * 2, np.int32)
    kept = prune(twice, jnp.zeros((3, 3), jnp.int8))
    assert int(draw_count(kept)) == 1


def test_keep_draws_keeps_the_order():
    program = np.arange(1, 25).reshape(4, 6)
    kept = keep_draws(program, np.array([False, True, False, True]))
    assert np.array_equal(kept, [program[1], program[3], [0] * 6, [0] * 6])


@pytest.mark.parametrize(
    "use",
    [
        lambda program: herjax.execute(program, np.zeros((2, 2), int)),
        lambda program: herjax.prune(program, np.zeros((2, 2), int)),
        lambda program: herjax.shorten(program, np.zeros((2, 2), int)),
        herjax.format_program,
        lambda program: herjax.encode_programs([program], 2, 2),
    ],
)
@pytest.mark.parametrize(
    ("program", "told"),
    [
        ("def task(img): ...", "got str"),
        (np.zeros((2, 5), int), r"got shape \[2, 5\]"),
        (np.zeros((3, 2, 6), int), r"got shape \[3, 2, 6\]"),
        ([[1, 2], [3]], "got list"),
        (3, "got int"),
    ],
)
def test_what_is_no_program_is_told(use, program, told):
    with pytest.raises(ValueError, match=rf"program must be records \[N, 6\], {told}"):
        use(program)


def test_a_batch_of_canvases_is_told():
    with pytest.raises(ValueError, match=r"input must be a canvas \[R, C\], got shape \[1, 2, 2\]"):
        herjax.execute(np.zeros((1, 6), int), np.zeros((1, 2, 2), int))


def test_programs_of_up_to_16_draws_share_a_compiled_one():
    canvas, program = np.zeros((3, 5), np.int8), np.ones((16, 6), int)
    before = executor._execute._cache_size()
    for draws in range(1, 17):
        herjax.execute(program[:draws], canvas)
    assert executor._execute._cache_size() == before + 1
