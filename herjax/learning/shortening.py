"""Shorter programs for a picture that a program draws already.

A chain holds a program that draws the target. It is offered random draws, many times. An offered
draw goes as late in painting order as it may: to where all that stays visible of it is right. Then
every draw that is needless now is taken away, and unless more draws are left than before, this is
the chain's program. So the picture never changes, and no chain grows. Programs of equal length are
taken: the next shorter one is found on a walk among these.

What is offered is a draw of the chain's own with its points moved a little or with points of two
draws, a line or a rectangle between two cells of one colour, or (recombination) a draw of another
chain. After each epoch the longer half of the chains go on from the shorter half.

Nothing is sampled from a decoder, and nothing is executed for an offer: as in ``recombination``,
cells are bits of 32-bit words.

Letters: P chains, N draws, K draws offered at a time, R rows, C columns, W words of 32 cells.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike

from herjax.dsl.canonical import canonical_program
from herjax.dsl.executor import OUTSIDE, draw_count, draw_masks, execute
from herjax.dsl.grammar import check_records
from herjax.dsl.ops import (
    COLOUR,
    COLOURS,
    COLUMN,
    END,
    LINE,
    OP,
    PIXEL,
    R1,
    RECTANGLE,
    ROW,
)
from herjax.learning.adaptation import MAX_SEED
from herjax.learning.recombination import lay, pack_cells
from herjax.runtime.config import check_function, check_integer
from herjax.runtime.jax_settings import on_its_own
from herjax.runtime.program_cache import call_kept
from herjax.tasks.suite import Picture
from herjax.tasks.task import Task, canvas_side, make_task, pad_task

CHAINS = 64
STEPS = 500  # offers to each chain in an epoch
TOGETHER = 2  # draws of an offer
NEAR, POINTS, CELLS = 0.3, 0.6, 0.85  # shares of what is offered, added up; the rest are others'
DICE = 12  # random numbers for each draw that is offered


@dataclasses.dataclass(frozen=True, eq=False)
class Shortened:
    """What a search for a shorter program found.

    Attributes:
      program: int32 records [N, 6], canonical; of the same picture.
      draws: of the shortest program, before and after each epoch.
    """

    program: np.ndarray
    draws: list[int]


class Chain(NamedTuple):
    """A program that draws the target, and its cells. Empty draws stand at the end."""

    record: Array  # int32 [N, 6], of ops with two points
    mask: Array  # uint32 [N, W], the cells that each draw paints
    hit: Array  # uint32 [N, W], those of them that it paints rightly


class Cells(NamedTuple):
    """The cells of a target, sorted by colour."""

    order: Array  # int32 [R * C], those outside the picture last
    first: Array  # int32 [10], the place in ``order`` of the first one of each colour
    number: Array  # int32 [10], how many have each colour


def shorten(
    program: ArrayLike,
    target: ArrayLike | Picture,
    *,
    input: ArrayLike | None = None,
    epochs: int = 20,
    seed: int = 0,
    on_epoch: Callable[[int, int], object] | None = None,
) -> Shortened:
    """Look for a program of fewer draws for a picture that a program draws already.

    It is a search: no decoder takes part. An epoch makes 32,000 offers of two draws: lines and
    rectangles, and draws that the program has already, moved. Another call, such as an outline, is
    offered only if the program has it.

    Args:
      program: integer records [N, 6] that draw the target, such as ``Result.program``.
      target: integer array [R, C], colours 0 .. 9; or a ``Picture`` or ``Task``, with its input.
      input: canvas to draw on, likewise; blank of colour 0 if None.
      epochs: of the search; with 0 the program is written in canonical form, and that is all.
      seed: of everything random, 0 .. 2**32 - 1.
      on_epoch: called after each epoch with its number, from 1, and the draws of the shortest
        program so far. It stops the search by raising ``StopIteration``; whatever else it raises
        comes out of ``shorten``.

    Raises:
      ValueError: if the program does not draw the target, or another argument is of the wrong kind
        or out of range.
    """
    epochs, seed = check_integer("epochs", epochs, 0), check_integer("seed", seed, 0, MAX_SEED)
    if on_epoch is not None:
        check_function("on_epoch", on_epoch)
    small = make_task(target, input=input)
    first = check_program(program, small)
    room = -(-(len(first) + TOGETHER) // 32) * 32  # so that lengths share a compiled program
    padded = np.pad(first, ((0, room - len(first)), (0, 0)))
    with on_its_own():
        task = pad_task(small, canvas_side(small.target.shape))
        records = jnp.repeat(with_points(padded, task)[None], CHAINS, axis=0)
        key = jax.random.key(seed)
    best = _canonical(padded, task)
    draws = [len(best)]
    for epoch in range(1, epochs + 1):
        records = call_kept(_epoch, records, task, key, np.int32(epoch), steps=STEPS)
        found = _canonical(np.asarray(records)[0], task)
        best = found if len(found) < len(best) else best
        draws.append(len(best))
        if on_epoch is not None:
            try:
                on_epoch(epoch, len(best))
            except StopIteration:
                break
    return Shortened(best, draws)


def check_program(program: ArrayLike, task: Task) -> np.ndarray:
    """Records int32 [N, 6] without empty ones.

    Raises:
      ValueError: unless they are records inside the canvas that draw the target.
    """
    rows, cols = task.target.shape
    records = check_records(program, rows, cols)
    differ = int(np.sum(np.asarray(execute(records, task.input)) != np.asarray(task.target)))
    if differ:
        raise ValueError(
            f"program does not draw the target: {differ} of {rows * cols} cells differ"
        )
    return records


def with_points(program: Array | np.ndarray, task: Task) -> Array:
    """Records [N, 6] with pixels, rows and columns written as lines from point to point."""
    op, colour, r1, c1, r2, c2 = jnp.moveaxis(program, -1, 0)
    pixel, row, column = op == PIXEL, op == ROW, op == COLUMN
    r2 = jnp.where(pixel | row, r1, jnp.where(column, task.height - 1, r2))
    c2 = jnp.where(pixel | column, c1, jnp.where(row, task.width - 1, c2))
    op = jnp.where(pixel | row | column, LINE, op)
    return jnp.stack([op, colour, r1, c1, r2, c2], axis=-1)


def _canonical(record: np.ndarray, task: Task) -> np.ndarray:
    """The program of a chain, [N, 6], canonical and without empty draws."""
    program = np.asarray(call_kept(_rewrite, record, task))
    return program[program[:, OP] != END]


@jax.jit
def _rewrite(record: Array, task: Task) -> Array:
    return canonical_program(record, task.input, task.height, task.width)


@partial(jax.jit, static_argnames="steps")
def _epoch(records: Array, task: Task, key: Array, epoch: Array, steps: int) -> Array:
    """Records [P, N, 6] of the chains after an epoch, the shortest first."""
    key = jax.random.fold_in(key, epoch)
    colours = jnp.arange(COLOURS, dtype=task.target.dtype)[:, None, None]
    right = pack_cells(task.target == colours)  # [10, W]
    blank = pack_cells(task.input == task.target)
    cells = sort_cells(task.target)
    chains = jax.vmap(partial(_with_cells, task=task, right=right))(records)

    def step(chains: Chain, key: Array) -> tuple[Chain, None]:
        ring_key, dice_key = jax.random.split(key)
        others = chains.record[jax.random.permutation(ring_key, len(records))]
        dice = jax.random.uniform(dice_key, (len(records), TOGETHER, DICE))
        propose_all = jax.vmap(propose, (0, None, None, None, None))
        draws = jax.vmap(propose_all, (0, 0, 0, None, None))(
            dice, chains.record, others, cells, task
        )
        offers = jax.vmap(partial(_with_cells, task=task, right=right))(draws)
        return jax.vmap(offer, (0, 0, None))(chains, offers, blank), None

    chains, _ = jax.lax.scan(step, chains, jax.random.split(key, steps))
    order = jnp.argsort(draw_count(chains.record), stable=True)
    half = len(records) // 2
    return chains.record[jnp.concatenate([order[:half], order[: len(records) - half]])]


def _with_cells(record: Array, task: Task, right: Array) -> Chain:
    """Records [N, 6] with the cells that they paint; ``right`` is uint32 [10, W], by colour."""
    mask = pack_cells(draw_masks(record, *task.target.shape) & (task.input != OUTSIDE))
    return Chain(record, mask, mask & right[record[:, COLOUR]])


def sort_cells(target: Array) -> Cells:
    """The cells of a canvas [R, C] by colour."""
    flat = target.reshape(-1).astype(jnp.int32)
    count = jnp.bincount(flat, length=COLOURS + 1)[:COLOURS]
    return Cells(jnp.argsort(flat, stable=True), jnp.cumsum(count) - count, count)


def propose(dice: Array, mine: Array, other: Array, cells: Cells, task: Task) -> Array:
    """A draw to offer.

    Args:
      dice: float32 [12], uniform in 0 .. 1.
      mine: int32 [N, 6], records of the chain that it is offered to.
      other: int32 [N, 6], those of another chain.
      cells: of the target.
      task: unbatched.

    Returns:
      A record int32 [6] of an op with two points.
    """
    kind, *rest = dice
    cols = task.target.shape[1]
    limits = jnp.stack([task.height, task.width, task.height, task.width])
    first, second = (mine[_place(each, draw_count(mine))] for each in rest[:2])
    shape = jnp.where(rest[2] < 0.5, LINE, RECTANGLE)
    each = jnp.stack(rest[4:8])  # a number a coordinate

    moved = first[R1:] + jnp.where(each < 0.5, 0, jnp.floor(10 * each - 7)).astype(jnp.int32)
    op = jnp.where(rest[3] < 0.2, shape, first[OP])
    near = _record(op, first[COLOUR], jnp.clip(moved, 0, limits - 1))
    points = _record(shape, first[COLOUR], jnp.where(each < 0.5, first[R1:], second[R1:]))

    one = cells.order[_place(rest[8], jnp.sum(cells.number))]
    colour = task.target.reshape(-1)[one].astype(jnp.int32)
    two = cells.order[cells.first[colour] + _place(rest[9], cells.number[colour])]
    ends = jnp.stack([one // cols, one % cols, two // cols, two % cols])
    between = _record(shape, colour, ends)

    others = other[_place(rest[10], draw_count(other))]
    choice = jnp.searchsorted(jnp.array([NEAR, POINTS, CELLS]), kind)
    return jnp.stack([near, points, between, others])[choice]


def _place(die: Array, count: Array) -> Array:
    """A random place below ``count``, 0 if that is 0: int32 []."""
    return jnp.clip((die * count).astype(jnp.int32), 0, jnp.maximum(count - 1, 0))


def _record(op: Array, colour: Array, points: Array) -> Array:
    return jnp.concatenate([jnp.stack([op, colour]), points])


def offer(chain: Chain, draws: Chain, blank: Array) -> Chain:
    """The chain with the offered draws, if without the needless ones it is no longer than before.

    Args:
      chain: of N draws, K at least of them empty.
      draws: K.
      blank: uint32 [W], which cells of the input are right.
    """
    new = chain
    for place in range(len(draws.record)):
        new = _insert(new, jax.tree.map(lambda leaf, place=place: leaf[place], draws))
    needed = find_needed(new, blank)
    fits = jnp.sum(needed) <= draw_count(chain.record)
    order = jnp.argsort(~needed, stable=True)
    kept = needed[order][:, None]
    new = jax.tree.map(lambda leaf: jnp.where(kept, leaf[order], 0), new)
    return jax.tree.map(partial(jnp.where, fits), new, chain)


def _insert(chain: Chain, draw: Chain) -> Chain:
    """Put a draw as late as it may stand; as it is if there is no such place."""
    wrong = draw.mask & ~draw.hit
    allowed = ~jnp.any(wrong & ~_covered_from(chain.mask), axis=-1)  # [N]; later, less is covered
    place = jnp.minimum(jnp.sum(allowed), draw_count(chain.record) + 1) - 1

    def insert(leaf: Array, one: Array) -> Array:
        index = jnp.arange(len(leaf))[:, None]
        later = jnp.where(index == place, one, jnp.roll(leaf, 1, axis=0))
        return jnp.where((index < place) | (place < 0), leaf, later)

    return jax.tree.map(insert, chain, draw)


def find_needed(chain: Chain, blank: Array) -> Array:
    """Which draws are needed, bool [N], from the bottom up as in ``prune``."""
    visible = chain.mask & ~_covered_after(chain.mask)

    def judge(right: Array, draw: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        mask, hit, seen = draw
        needed = jnp.any(seen & ~right)
        return jnp.where(needed, lay(right, mask, hit), right), needed

    return jax.lax.scan(judge, blank, (chain.mask, chain.hit, visible))[1]


def _covered_from(mask: Array) -> Array:
    """The cells that a draw or a later one paints: uint32 [N, W]."""
    return jax.lax.associative_scan(jnp.bitwise_or, mask, reverse=True)


def _covered_after(mask: Array) -> Array:
    """The cells that later draws paint: uint32 [N, W]."""
    return jnp.roll(_covered_from(mask), -1, axis=0).at[-1].set(0)
