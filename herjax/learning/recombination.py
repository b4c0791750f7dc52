"""Recombination: out of the draws of several programs, one that gets more of the target right.

A picture that no attempt of an epoch draws is in no relabelled pair, so hindsight alone cannot
teach it; yet its parts are often there, each in another attempt. Each parent is offered the draws
of other parents, one after the other, and takes each that makes more of its pixels right, painted
over what it has. This asks for the reward once an offer, far more often than plain HER does, which
asks once a program.

Nothing is executed for an offer: the cells are bits of 32-bit words, and what a draw would change
is counted in them.

Letters: P parents, N draws, D = partners * N offers to a parent, R rows, C columns, W words of 32
cells.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from herjax.dsl.executor import OUTSIDE, draw_count, draw_masks, prune
from herjax.dsl.ops import COLOUR, END, RECORD_SIZE
from herjax.runtime.config import check_integer
from herjax.runtime.jax_settings import as_written
from herjax.tasks.task import Task

WORD = 32  # cells
_Carry = tuple[Array, Array]  # right cells uint32 [P, W], and room int32 [P]


def pack_cells(cells: Array) -> Array:
    """bool [..., R, C] as bits: uint32 [..., W], the first cell of a word the lowest bit."""
    flat = cells.reshape(*cells.shape[:-2], -1)
    padding = [(0, 0)] * (flat.ndim - 1) + [(0, -flat.shape[-1] % WORD)]
    words = jnp.pad(flat, padding).reshape(*flat.shape[:-1], -1, WORD)
    return jnp.sum(words.astype(jnp.uint32) << jnp.arange(WORD, dtype=jnp.uint32), -1, jnp.uint32)


def count_bits(words: Array) -> Array:
    """How many bits of words uint32 [..., W] are set: int32 [...]."""
    return jnp.sum(jax.lax.population_count(words).astype(jnp.int32), axis=-1)


def lay(right: Array, mask: Array, hit: Array) -> Array:
    """Right cells, uint32 [..., W], after a draw that paints ``mask`` and rightly ``hit``."""
    return (right & ~mask) | hit


@as_written()
def recombine(
    programs: Array | np.ndarray, task: Task, partners: int, key: Array, limit: Array | None = None
) -> tuple[Array, Array]:
    """One child of each parent, at least as right as it.

    The parents stand in a ring, in a random order. Each is offered the draws of the ``partners``
    ones after it, nearest first, as long as it has room. At last draws are taken away from
    the child without which no fewer pixels are right, as by ``prune`` for the target: in one pass.

    Args:
      programs: records int32 [P, N, 6] of the parents.
      task: unbatched, canvases [R, C].
      partners: of each parent, 1 .. P - 1; static.
      key: PRNG key, of the order.
      limit: int32 [], a parent takes draws while it has fewer; N if None.

    Returns:
      Records int32 [P, N, 6], child i of parent i, and how often the reward was asked for,
      int32 []: once an offer, and once for each draw that might be taken away.

    Raises:
      ValueError: for programs of another shape, or so many partners.
    """
    if np.ndim(programs) != 3 or np.shape(programs)[-1] != RECORD_SIZE:
        raise ValueError(f"programs must be [P, N, {RECORD_SIZE}], got {[*np.shape(programs)]}")
    programs = jnp.asarray(programs)
    partners = check_integer("partners", partners, 1, len(programs) - 1)
    return _recombine(programs, task, key, limit, partners)


@partial(jax.jit, static_argnames="partners", inline=True)
def _recombine(
    programs: Array, task: Task, key: Array, limit: Array | None, partners: int
) -> tuple[Array, Array]:
    order = jax.random.permutation(key, len(programs))
    ring = programs[order]
    masks = jax.vmap(lambda program: draw_masks(program, *task.target.shape))(ring)
    masks &= task.input != OUTSIDE
    hits = masks & (task.target == ring[..., COLOUR, None, None].astype(task.target.dtype))
    blank = pack_cells(task.input == task.target)
    most = programs.shape[1] if limit is None else limit
    left, offered = _offer_all(
        blank, pack_cells(masks), pack_cells(hits), most - draw_count(ring), partners
    )
    children = jax.vmap(_with_taken, (0, 1, None))(jnp.arange(len(ring)), most - left, ring)
    offered += jnp.sum(draw_count(children))
    children = jax.vmap(lambda child: prune(child, task.input, target=task.target))(children)
    return children[jnp.argsort(order)], offered


def _offer_all(
    blank: Array, masks: Array, hits: Array, room: Array, partners: int
) -> tuple[Array, Array]:
    """How many draws the parents still have room for after each offer: one less if they take it.

    Args:
      blank: uint32 [W], which cells of the input are right.
      masks: uint32 [P, N, W], the cells that the draws of the ring paint.
      hits: likewise, those of them that they paint rightly.
      room: int32 [P], for so many draws before.
      partners: k, of each parent.

    Returns:
      int32 [k * N, P], and how many offers there were, int32 [].
    """
    parents, _, words = masks.shape
    by_draw = jax.tree.map(lambda x: x.swapaxes(0, 1), (masks, hits))  # [N, P, W]
    blank = jnp.broadcast_to(blank, (parents, words))
    right, _ = jax.lax.scan(lambda right, draw: (lay(right, *draw), None), blank, by_draw)

    def offer(carry: _Carry, draw: tuple[Array, Array]) -> tuple[_Carry, tuple[Array, Array]]:
        right, room = carry
        mask, hit = draw
        offered = jnp.any(mask > 0, axis=-1) & (room > 0)
        taken = offered & (count_bits(hit) > count_bits(mask & right))
        right = jnp.where(taken[:, None], lay(right, mask, hit), right)
        room = room - taken
        return (right, room), (room, jnp.sum(offered))

    def offer_next(carry: _Carry, distance: Array) -> tuple[_Carry, tuple[Array, Array]]:
        partner = jax.tree.map(lambda x: jnp.roll(x, -distance, axis=1), by_draw)
        return jax.lax.scan(offer, carry, partner)

    _, (left, offered) = jax.lax.scan(offer_next, (right, room), 1 + jnp.arange(partners))
    return left.reshape(-1, parents), jnp.sum(offered)


def _with_taken(parent: Array, length: Array, ring: Array) -> Array:
    """Records [N, 6] of a parent (int []), then of those of D offers that raised its length [D]."""
    parents, draws, _ = ring.shape
    place = jnp.arange(draws)
    offer = jnp.searchsorted(length, place + 1)  # the first one after which there are so many
    distance, draw = jnp.divmod(offer, draws)
    added = ring[(parent + 1 + distance) % parents, draw]
    added = jnp.where((offer < len(length))[:, None], added, END)
    return jnp.where((place >= draw_count(ring[parent]))[:, None], added, ring[parent])
