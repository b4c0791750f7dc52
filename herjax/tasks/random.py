"""Random drawing tasks for pretraining: the distribution of the source experiment, on the device.

Height and width uniform, a blank input of a random colour (or one that such a program has drawn),
a uniform number of draws, each a uniform op with uniform parameters inside the canvas; draws
without effect are removed, programs that change nothing rejected.
"""

import dataclasses
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike

from herjax.dsl.canonical import canonical_program
from herjax.dsl.executor import OUTSIDE, execute
from herjax.dsl.ops import COLOURS, END, OP, OPS, RECORD_SIZE, SOURCE_OPS, uses
from herjax.runtime.config import check_types
from herjax.runtime.jax_settings import as_written
from herjax.tasks.task import Task


@as_written()
def random_program(
    key: Array,
    height: Array,
    width: Array,
    max_draws: int,
    ops: int = SOURCE_OPS,
    min_draws: int = 1,
) -> Array:
    """Records [max_draws, 6]: min_draws .. max_draws uniform draws inside the canvas, as drawn."""
    count_key, op_key, colour_key, row_key, col_key = jax.random.split(key, 5)
    n = (max_draws,)
    count = jax.random.randint(count_key, (), min_draws, max_draws + 1)
    op = jax.random.randint(op_key, n, 1, ops + 1)
    op = jnp.where(jnp.arange(max_draws) < count, op, 0)
    colour = jax.random.randint(colour_key, n, 0, COLOURS)
    rows = jax.random.randint(row_key, (2, max_draws), 0, height)
    cols = jax.random.randint(col_key, (2, max_draws), 0, width)
    fields = [op, colour, rows[0], cols[0], rows[1], cols[1]]
    return jnp.where(uses(op), jnp.stack(fields, axis=-1), 0)


RandomProgram = Callable[[Array, Array, Array, int, int], Array]  # see ``TaskConfig.program``


@dataclasses.dataclass(frozen=True)
class TaskConfig:
    """Distribution of the random tasks.

    Attributes:
      min_side: least height and width of a canvas, cells.
      max_side: largest height and width of a canvas, cells.
      max_draws: of a program, before those without effect are removed.
      ops: the drawing calls used, the first so many of the table.
      drawn_inputs: share of the tasks, 0 .. 1, whose input a random program has painted.
      program: draws a program, a function such as ``random_program``: of a key, height and width
        (int32 []), max_draws and ops, to integer records [max_draws, 6], END where there are fewer.
    """

    min_side: int = 3
    max_side: int = 10
    max_draws: int = 5
    ops: int = SOURCE_OPS
    drawn_inputs: float = 0.0
    program: RandomProgram = random_program

    def __post_init__(self) -> None:
        check_types(self)
        if not 1 <= self.min_side <= self.max_side:
            raise ValueError(
                f"min_side {self.min_side} must be at least 1, and at most max_side {self.max_side}"
            )
        if self.max_draws < 1:
            raise ValueError(f"max_draws must be at least 1, got {self.max_draws}")
        if not 1 <= self.ops <= len(OPS):
            raise ValueError(f"ops must be 1 .. {len(OPS)}, got {self.ops}")
        if not 0 <= self.drawn_inputs <= 1:
            raise ValueError(f"drawn_inputs must be 0 .. 1, got {self.drawn_inputs}")


def inside(height: Array, width: Array, rows: int, cols: int) -> Array:
    """bool [rows, cols]: the cells of a height x width canvas in the top left corner."""
    return (jnp.arange(rows)[:, None] < height) & (jnp.arange(cols)[None, :] < width)


@as_written()
def random_task(
    key: Array,
    sizes: ArrayLike | None = None,
    config: TaskConfig = TaskConfig(),
    shape: tuple[int, int] | None = None,
) -> tuple[Task, Array]:
    """One random task and a canonical program that solves it.

    Args:
      key: PRNG key.
      sizes: int [S, 2], the (height, width) pairs to choose from, uniformly, whatever sides
        ``config`` has; all that it has if None.
      config: the distribution.
      shape: (R, C) of the canvas arrays; config.max_side square if None.

    Returns:
      The task, canvases [R, C], and records [max_draws, 6].

    Raises:
      ValueError: if a size that is known when this is traced is less than 1x1 or above ``shape``.
    """
    shape = shape or (config.max_side, config.max_side)
    if sizes is None:
        (sizes,) = size_buckets(config, (config.max_side**2,))
    if not isinstance(sizes, jax.core.Tracer):
        found = np.asarray(sizes)
        whole = found.ndim == 2 and found.dtype.kind in "iu"
        if not whole or np.any((found < 1) | (found > shape)):
            raise ValueError(f"sizes must be integers [S, 2], from 1x1 to {shape[0]}x{shape[1]}")
    return _random_task(key, jnp.asarray(sizes, jnp.int32), config, tuple(shape))


@partial(jax.jit, static_argnames=("config", "shape"), inline=True)
def _random_task(
    key: Array, sizes: Array, config: TaskConfig, shape: tuple[int, int]
) -> tuple[Task, Array]:
    size_key, program_key = jax.random.split(key)
    height, width = sizes[jax.random.randint(size_key, (), 0, len(sizes))]
    return _task_of_size(program_key, height, width, config, shape)


def random_task_within(
    key: Array, height: Array, width: Array, config: TaskConfig, shape: tuple[int, int]
) -> tuple[Task, Array]:
    """Like ``random_task``, but no larger than height x width; its arrays have ``shape`` (R, C)."""
    size_key, program_key = jax.random.split(key)
    most = jnp.stack([height, width])
    sides = jax.random.randint(size_key, (2,), jnp.minimum(config.min_side, most), most + 1)
    return _task_of_size(program_key, sides[0], sides[1], config, shape)


_Attempt = tuple[Array, Array, Array, Array]  # key, canvas, program, the picture that it paints


def _task_of_size(
    key: Array, height: Array, width: Array, config: TaskConfig, shape: tuple[int, int]
) -> tuple[Task, Array]:
    mask = inside(height, width, *shape)

    def draw(key: Array) -> Array:
        program = config.program(key, height, width, config.max_draws, config.ops)
        return jnp.asarray(program, jnp.int32)

    def attempt(state: _Attempt) -> _Attempt:
        attempt_key, *_ = state
        attempt_key, colour_key, draws_key = jax.random.split(attempt_key, 3)
        colour = jax.random.randint(colour_key, (), 0, COLOURS)
        canvas = jnp.where(mask, colour, OUTSIDE).astype(jnp.int8)
        if config.drawn_inputs:
            # The same keys as two inside of ``draw``, as JAX makes them: its number of draws and
            # whether the input is drawn on depend on one another, by no more than can be measured.
            # Another split would be another distribution than that of the shipped models.
            input_key, drawn_key = jax.random.split(jax.random.fold_in(draws_key, 0))
            under = draw(input_key)
            drawn = jax.random.bernoulli(drawn_key, config.drawn_inputs)
            canvas = execute(jnp.where(drawn, under, 0), canvas)
        program = draw(draws_key)
        return attempt_key, canvas, program, execute(program, canvas)

    def unchanged(state: _Attempt) -> Array:
        _, canvas, _, target = state
        return jnp.all(canvas == target)

    blank = jnp.full(mask.shape, OUTSIDE, jnp.int8)
    nothing = jnp.zeros((config.max_draws, RECORD_SIZE), jnp.int32)
    start = (key, blank, nothing, blank)
    _, canvas, program, target = jax.lax.while_loop(unchanged, attempt, start)
    program = canonical_program(program, canvas, height, width)
    return Task(canvas, target, height, width), program


def size_buckets(config: TaskConfig, limits: tuple[int, ...]) -> list[np.ndarray]:
    """All (height, width) pairs, grouped by area: int [S, 2] for each limit (largest area, cells).

    Raises:
      ValueError: if the limits do not grow, the last does not hold the largest canvas, or one
        has no sizes.
    """
    if list(limits) != sorted(set(limits)):
        raise ValueError(f"size_limits {limits} must grow")
    if not limits or limits[-1] < config.max_side**2:
        raise ValueError(f"the last of size_limits {limits} must hold {config.max_side**2} cells")
    sides = np.arange(config.min_side, config.max_side + 1)
    pairs = np.stack(np.meshgrid(sides, sides, indexing="ij"), -1).reshape(-1, 2)
    bucket = np.searchsorted(limits, pairs.prod(axis=1))
    buckets = [pairs[bucket == i] for i in range(len(limits))]
    for limit, sizes in zip(limits, buckets):
        if not len(sizes):
            raise ValueError(f"size_limits {limits}: no canvas belongs to the one of {limit} cells")
    return buckets


def check_program(config: TaskConfig, count: int = 64) -> None:
    """Try a ``config.program`` of one's own, so many times on a canvas of every size.

    Raises:
      ValueError: if it does not return such records, a draw leaves the canvas, or there is none.
    """
    if config.program is random_program:
        return

    def make(key: Array, size: Array) -> Array:
        return config.program(key, size[0], size[1], config.max_draws, config.ops)

    keys = jax.random.split(jax.random.key(0), count)
    sizes = np.concatenate(size_buckets(config, (config.max_side**2,)))
    run = jax.jit(jax.vmap(jax.vmap(make, (0, None)), (None, 0)))
    programs = np.asarray(run(keys, jnp.asarray(sizes, jnp.int32)))  # [S, count, max_draws, 6]
    wanted = [config.max_draws, RECORD_SIZE]
    if [*programs.shape[2:]] != wanted or not np.issubdtype(programs.dtype, np.integer):
        got = f"{programs.dtype} {[*programs.shape[2:]]}"
        raise ValueError(f"tasks.program must return integers {wanted}, got {got}")
    ends = np.array([[config.ops + 1, COLOURS, h, w, h, w] for h, w in sizes])[:, None, None]
    used = np.array(uses(jnp.clip(programs[..., OP], END, len(OPS))))
    used[..., OP] = True
    for *place, column in np.argwhere(used & ((programs < 0) | (programs >= ends)))[:1]:
        name = ("op", "colour", "r1", "c1", "r2", "c2")[column]
        height, width = sizes[place[0]]
        raise ValueError(
            f"tasks.program: {name} must be 0 .. {ends[place[0], 0, 0, column] - 1} on a canvas of"
            f" {height}x{width}, got {programs[*place, column]}"
        )
    for height, width in sizes[(programs[..., OP] == END).all(axis=(1, 2))][:1]:
        raise ValueError(
            f"tasks.program: {count} programs on a canvas of {height}x{width} draw nothing"
        )
