"""Sample programs: the canvas is encoded once, its G programs are decoded together.

All programs stand at the same slot of their draw at the same time. A turn of the loop chooses one
token of every program, through the small head of its slot, and passes it through the decoder, which
stands in the compiled program only once (twice from MANY programs). The cache holds one entry a
draw. The loop stops when every program has ended.

So it goes on CPUs. On a GPU the host must look whether to go on, and through which head, and
members in one batch must compute all heads and copy all they hold, in each turn. So on accelerators
a turn of the loop writes DRAWS_AT_ONCE draws, each slot spelt out. The programs are the same, their
log-probabilities but for rounding.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array

from herjax.decoder.model import MASKED, Cache, DecodePrefix, Decoder
from herjax.dsl.grammar import (
    COLOUR_SLOT,
    FIRST_CELL,
    FIRST_COLOUR,
    NO_TOKEN,
    OP_SLOT,
    POINT1_SLOT,
    SLOTS,
    decode,
    held_tokens,
    legal_points,
    slots_used,
)
from herjax.dsl.ops import COLOURS, END
from herjax.runtime.config import check_integer, told
from herjax.runtime.jax_settings import as_written
from herjax.runtime.threefry import unrolled
from herjax.tasks.task import Task, check_size

DRAWS_AT_ONCE = 8  # on accelerators, between two looks at whether all programs have ended
# From so many programs, on CPUs, the first half of the draws has a loop of its own with half of the
# cache, which takes longer to compile: 8 % more programs/s.
MANY = 256


@struct.dataclass
class Samples:
    """Programs sampled for one task.

    Attributes:
      program: int32 records [G, N, 6], in painting order.
      tokens: int32 [G, N, 4], as written.
      said: bool [G, N + 1, 4], where a token was sampled: not the END of a program that was cut
        off, by a limit or after all N draws.
      log_probs: float32 [G, N + 1, 4], at temperature 1, 0 where no token was sampled.
    """

    program: Array
    tokens: Array
    said: Array
    log_probs: Array


@struct.dataclass
class _Loop:
    """After ``turn`` turns; the first, of the start token, is the last slot of draw -1."""

    turn: Array  # int32 []
    key: Array
    x: Array  # [1, G, D] hidden state that foretells the next token
    said: Array  # [1, G, D] sum of the embeddings of the draw so far
    cache: Cache
    running: Array  # bool [G]
    tokens: Array
    log_probs: Array


def _choose(key: Array, logits: Array, temperature: Array) -> tuple[Array, Array]:
    """Sample from logits [G, V] at temperatures [G] (0: the best); -> choice, log-prob [G]."""
    safe = jnp.where(temperature > 0, temperature, 1.0)[:, None]
    noise = jnp.where(temperature[:, None] > 0, jax.random.gumbel(key, logits.shape), 0.0)
    choice = _first_best(logits / safe + noise)
    log_probs = jax.nn.log_softmax(logits)
    return choice, jnp.take_along_axis(log_probs, choice[:, None], axis=-1)[:, 0]


def _first_best(scores: Array) -> Array:
    """argmax of scores [G, V] over V, for which XLA:CPU compares pair by pair: ten times slower."""
    places = jnp.arange(scores.shape[-1])
    best = jnp.max(scores, axis=-1, keepdims=True)
    return jnp.min(jnp.where(scores == best, places, places[-1]), axis=-1)


@as_written()
def sample(
    model: Decoder,
    params: dict[str, Any],
    task: Task,
    key: Array,
    temperature: Array | np.ndarray,
    draws: int,
    size: int | None = None,
    min_draws: int = 0,
    limit: Array | None = None,
) -> Samples:
    """Sample one program for each temperature, for one task.

    Args:
      model: the decoder.
      params: its parameters.
      task: unbatched.
      key: PRNG key.
      temperature: float [G], far below 1e9; 0 is greedy.
      draws: N, the most draws of a program.
      size: places for cells, at least height * width of the task; all of its canvas if None.
      min_draws: no program ends before it has so many.
      limit: int32 [], stop after so many draws already; N if None.

    Raises:
      ValueError: for a batch of tasks, a canvas that is too large for the model, a temperature that
        is none for each program, or ``draws`` that are no integer from 1.
    """
    if not isinstance(task, Task):
        raise ValueError(f"task must be a Task, as from make_task, got {told(task)}")
    temperature, draws = jnp.asarray(temperature, jnp.float32), check_integer("draws", draws, 1)
    if task.target.ndim != 2 or temperature.ndim != 1:
        got = f"{[*task.target.shape]} and {[*temperature.shape]}"
        raise ValueError(f"target and temperature must be [R, C] and [G], got {got}")
    check_size(task.target.shape, model.config.max_side)
    size = task.target.size if size is None else size
    halves = model.on_cpu and len(temperature) >= MANY and draws > 1
    phases = (draws // 2, draws) if halves else (draws,)
    return _sample(params, task, key, temperature, limit, model, phases, size, min_draws)


@partial(jax.jit, static_argnames=("model", "phases", "size", "min_draws"), inline=True)
def _sample(
    params: dict[str, Any],
    task: Task,
    key: Array,
    temperature: Array,
    limit: Array | None,
    model: Decoder,
    phases: tuple[int, ...],
    size: int,
    min_draws: int,
) -> Samples:
    """See ``sample``; ``phases``: up to how many draws with a cache of that size, the last is N."""
    batch = jax.tree.map(lambda leaf: leaf[None], task)
    prefix = DecodePrefix.of(model.apply(params, batch, size, method=Decoder.encode))
    programs, draws = len(temperature), phases[-1]
    cut = draws if limit is None else limit
    turns = SLOTS * cut
    write = partial(_write_token, model, params, prefix, task.width, temperature, min_draws)
    cache = model.apply(params, programs, phases[0], method=Decoder.empty_cache)
    loop = _begin(model, key, cache, programs, draws)

    def write_up_to(most: int, loop: _Loop) -> _Loop:
        last = jnp.minimum(turns, SLOTS * most)
        return jax.lax.while_loop(
            lambda loop: jnp.any(loop.running) & (loop.turn <= last),
            partial(write, None) if model.on_cpu else partial(_write_draws, write, last),
            dataclasses.replace(loop, cache=loop.cache.with_room(most)),
        )

    for most in phases:
        loop = write_up_to(most, loop)
    tokens = jnp.moveaxis(loop.tokens[1:-1], -1, 0)
    log_probs = jnp.moveaxis(loop.log_probs[1:], -1, 0)
    said = held_tokens(tokens) & (jnp.arange(draws + 1) < cut)[:, None]
    return Samples(decode(tokens, task.width), tokens, said, log_probs)


def _begin(model: Decoder, key: Array, cache: Cache, programs: int, draws: int) -> _Loop:
    """Before the first turn of G programs of up to N draws."""
    hidden = jnp.zeros((1, programs, model.config.width), model.hidden_dtype)
    # A row in front for the start token, and one at the end for END after N draws.
    blank = jnp.full((draws + 2, SLOTS, programs), NO_TOKEN, jnp.int32).at[:, OP_SLOT].set(END)
    return _Loop(
        turn=jnp.int32(0),
        key=unrolled(key) if model.on_cpu else key,
        x=hidden,
        said=hidden,
        cache=cache,
        running=jnp.ones(programs, bool),
        tokens=blank,
        log_probs=jnp.zeros(blank.shape),
    )


def _write_draws(write: Callable[[int, _Loop], _Loop], turns: Array | int, loop: _Loop) -> _Loop:
    """Four turns for each of DRAWS_AT_ONCE draws; those beyond ``turns`` write nothing."""

    def write_draw(_: Array, loop: _Loop) -> _Loop:
        for slot in (SLOTS - 1, *range(SLOTS - 1)):  # the turn before a draw finishes the last one
            running = loop.running & (loop.turn <= turns)
            loop = write(slot, dataclasses.replace(loop, running=running))
        return loop

    return jax.lax.fori_loop(0, DRAWS_AT_ONCE, write_draw, loop)


def _write_token(
    model: Decoder,
    params: dict[str, Any],
    prefix: DecodePrefix,
    width: Array,
    temperature: Array,
    min_draws: int,
    known: int | None,
    loop: _Loop,
) -> _Loop:
    """One more token of every program that has not ended; in a ``known`` slot, or the turn's."""
    draw, place = jnp.divmod(loop.turn + SLOTS - 1, SLOTS)  # row 0 is that of the start token
    slot: Array | int = place if known is None else known
    key = jax.random.fold_in(loop.key, loop.turn)
    op = loop.tokens[draw, OP_SLOT]
    first, logits = _slot_logits(model, params, prefix, slot, loop.x, op)
    if min_draws:
        too_early = (jnp.arange(logits.shape[-1]) == END) & (slot == OP_SLOT) & (draw <= min_draws)
        logits = jnp.where(too_early, MASKED, logits)
    choice, log_prob = _choose(key, logits, temperature)
    says_op = slot == OP_SLOT
    used = loop.running & (says_op | slots_used(op)[:, slot]) & (loop.turn > 0)
    token = jnp.where(used, first + choice, jnp.where(says_op, END, NO_TOKEN))
    running = loop.running & ~(used & says_op & (token == END))

    said = jnp.where(says_op, 0.0, loop.said)
    said += _embed_slot(model, params, slot, token, width)[None]
    position = model.apply(params, jnp.int32(slot), method=Decoder.slot_position)
    x, cache = model.apply(params, prefix, loop.cache, slot, said + position, method=Decoder.decode)
    return _Loop(
        loop.turn + 1,
        loop.key,
        x,
        said,
        cache,
        running,
        loop.tokens.at[draw, slot].set(token),
        loop.log_probs.at[draw, slot].set(jnp.where(used, log_prob, 0.0)),
    )


def _embed_slot(
    model: Decoder, params: dict[str, Any], slot: Array | int, token: Array, width: Array
) -> Array:
    """``Decoder.embed_slot`` for a slot that may be known only when it runs (int32 [])."""

    def embed(slot: int) -> Callable[[Array], Array]:
        return lambda token: model.apply(params, slot, token, width, method=Decoder.embed_slot)

    return _switch(slot, [embed(slot) for slot in range(SLOTS)], token)


def _switch(index: Array | int, branches: list[Callable], *operands: Any) -> Any:
    """``jax.lax.switch``; the branch alone where it is known."""
    if isinstance(index, int):
        return branches[index](*operands)
    return jax.lax.switch(index, branches, *operands)


def _slot_logits(
    model: Decoder,
    params: dict[str, Any],
    prefix: DecodePrefix,
    slot: Array | int,
    x: Array,
    op: Array,
) -> tuple[Array, Array]:
    """First token id of a slot, and logits [G, V] over its tokens after hidden states [1, G, D].

    V is that of the slot with most; what the others lack is MASKED.
    """
    cells = prefix.cells
    heads = {OP_SLOT: "op_head", COLOUR_SLOT: "colour_head"}
    most = max(cells.valid.shape[1], 1 + model.config.ops, COLOURS)

    def head(decoder: Decoder, name: str, x: Array) -> Array:
        return getattr(decoder, name)(x)[0].astype(jnp.float32)

    def point(decoder: Decoder, x: Array, legal: Array) -> Array:
        return decoder.point_to(prefix.pointers, x, legal[None])[0]

    def logits_of(slot: int) -> Callable[[Array, Array], Array]:
        def logits(x: Array, op: Array) -> Array:
            if slot in heads:
                scores = model.apply(params, heads[slot], x, method=head)
            else:
                legal = jnp.broadcast_to(cells.valid, (x.shape[1], cells.valid.shape[1]))
                if slot == POINT1_SLOT:
                    legal = jax.vmap(legal_points, (0, None, None, None))(
                        op, cells.row[0], cells.col[0], cells.valid[0]
                    )
                scores = model.apply(params, x, legal, method=point)
            padding = ((0, 0), (0, most - scores.shape[1]))
            return jnp.pad(scores, padding, constant_values=MASKED)

        return logits

    first = jnp.array([0, FIRST_COLOUR, FIRST_CELL, FIRST_CELL])[slot]
    return first, _switch(slot, [logits_of(slot) for slot in range(SLOTS)], x, op)
