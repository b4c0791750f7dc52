"""Sample programs: the canvas is encoded once, its G programs are decoded together.

All programs stand at the same slot at the same time, so a loop turn writes one whole draw (four
tokens) of every program, each slot through its own small head, and the cache holds one entry a
draw. The loop stops when every program has ended.
"""

import chex
import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from herjax.grammar import (
    COLOUR_SLOT,
    FIRST_CELL,
    FIRST_COLOUR,
    NO_TOKEN,
    OP_SLOT,
    POINT1_SLOT,
    SLOTS,
    decode,
    legal_points,
    slots_used,
)
from herjax.model import MASKED, Cache, Decoder, Prefix
from herjax.ops import END
from herjax.tasks import Task


@struct.dataclass
class Samples:
    """Programs sampled for one task."""

    program: Array  # int32 records [G, N, 6], in painting order
    tokens: Array  # int32 [G, N, 4], as written
    # float32 [G, N + 1, 4], at temperature 1, 0 where no token was sampled. The last row is 0:
    # a program that fills all N draws is cut off, not ended.
    log_probs: Array


@struct.dataclass
class _Loop:
    key: Array
    x: Array  # [1, G, D] hidden state that foretells the next op
    cache: Cache
    running: Array  # bool [G]
    tokens: Array
    log_probs: Array


def _choose(key: Array, logits: Array, temperature: Array) -> tuple[Array, Array]:
    """Sample from logits [G, V] at temperatures [G] (0: the best); -> choice, log-prob [G]."""
    safe = jnp.where(temperature > 0, temperature, 1.0)[:, None]
    noise = jnp.where(temperature[:, None] > 0, jax.random.gumbel(key, logits.shape), 0.0)
    choice = jnp.argmax(logits / safe + noise, axis=-1)
    log_probs = jax.nn.log_softmax(logits)
    return choice, jnp.take_along_axis(log_probs, choice[:, None], axis=-1)[:, 0]


def sample(
    model: Decoder,
    params,
    task: Task,
    key: Array,
    temperature: Array,
    draws: int,
    size: int,
    min_draws: int = 0,
) -> Samples:
    """Sample one program for each temperature, for one task.

    Args:
      model: the decoder.
      params: its parameters.
      task: unbatched.
      key: PRNG key.
      temperature: float [G]; 0 is greedy.
      draws: N, the most draws of a program.
      size: places for cells, at least height * width of the task.
      min_draws: no program ends before it has so many.
    """
    chex.assert_rank([task.target, temperature], [2, 1])
    batch = jax.tree.map(lambda leaf: leaf[None], task)
    prefix = model.apply(params, batch, size, method=Decoder.encode)
    programs = temperature.shape[0]
    x, cache = model.apply(params, prefix, programs, draws, method=Decoder.start_decoding)
    blank = jnp.full((programs, draws, SLOTS), NO_TOKEN, jnp.int32).at[..., OP_SLOT].set(END)
    log_probs = jnp.zeros((programs, draws + 1, SLOTS))
    loop = jax.lax.while_loop(
        lambda loop: jnp.any(loop.running) & (loop.cache.count <= draws),
        lambda loop: _write_draw(model, params, prefix, task.width, temperature, min_draws, loop),
        _Loop(key, x, cache, jnp.ones(programs, bool), blank, log_probs),
    )
    return Samples(decode(loop.tokens, task.width), loop.tokens, loop.log_probs)


def _write_draw(
    model: Decoder,
    params,
    prefix: Prefix,
    width: Array,
    temperature: Array,
    min_draws: int,
    loop: _Loop,
) -> _Loop:
    """One more draw, slot by slot, of every program that has not ended."""
    place = loop.cache.count - 1
    key, *slot_keys = jax.random.split(loop.key, 1 + SLOTS)
    running, x, own = loop.running, loop.x, ()
    said = jnp.zeros_like(x)
    tokens, log_probs = [], []
    for slot in range(SLOTS):
        op = tokens[OP_SLOT] if tokens else None
        first, logits = _slot_logits(model, params, prefix, slot, x, op)
        if slot == OP_SLOT and min_draws:
            too_early = (jnp.arange(logits.shape[-1]) == END) & (place < min_draws)
            logits = jnp.where(too_early, MASKED, logits)
        choice, log_prob = _choose(slot_keys[slot], logits, temperature)
        if slot == OP_SLOT:
            used, token = running, jnp.where(running, choice, END)
            running = running & (choice != END)
        else:
            used = running & slots_used(op)[:, slot]
            token = jnp.where(used, first + choice, NO_TOKEN)
        tokens.append(token)
        log_probs.append(jnp.where(used, log_prob, 0.0))
        said += model.apply(params, slot, token, width, method=Decoder.embed_slot)[None]
        position = params["params"]["slot_embed"]["embedding"][slot].astype(said.dtype)
        x, own = model.apply(
            params, prefix, loop.cache, own, said + position, method=Decoder.decode
        )
    return _Loop(
        key,
        x,
        loop.cache.append(own),
        running,
        loop.tokens.at[:, place].set(jnp.stack(tokens, axis=-1)),
        loop.log_probs.at[:, place].set(jnp.stack(log_probs, axis=-1)),
    )


def _slot_logits(
    model: Decoder, params, prefix: Prefix, slot: int, x: Array, op: Array | None
) -> tuple[int, Array]:
    """First token id of a slot, and logits [G, V] over its tokens after hidden states [1, G, D]."""

    def head(decoder, name):
        return getattr(decoder, name)(x)[0].astype(jnp.float32)

    def point(decoder, legal):
        return decoder.point_to(prefix, x, legal[None])[0]

    if slot == OP_SLOT:
        return 0, model.apply(params, "op_head", method=head)
    if slot == COLOUR_SLOT:
        return FIRST_COLOUR, model.apply(params, "colour_head", method=head)
    cells = prefix.cells
    legal = jnp.broadcast_to(cells.valid, (x.shape[1], cells.valid.shape[1]))
    if slot == POINT1_SLOT:
        legal = jax.vmap(legal_points, (0, None, None, None))(
            op, cells.row[0], cells.col[0], cells.valid[0]
        )
    return FIRST_CELL, model.apply(params, legal, method=point)
