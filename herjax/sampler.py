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
from herjax.model import Cache, Decoder
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
    model: Decoder, params, task: Task, key: Array, temperature: Array, draws: int, size: int
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
    """
    chex.assert_rank([task.target, temperature], [2, 1])
    batch = jax.tree.map(lambda leaf: leaf[None], task)
    prefix = model.apply(params, batch, size, method=Decoder.encode)
    cells = prefix.cells
    programs = temperature.shape[0]

    def head(decoder, name, x):
        return getattr(decoder, name)(x)[0]

    def point(decoder, x, legal):
        return decoder.point_to(prefix, x, legal[None])[0]

    def write_draw(loop: _Loop) -> _Loop:
        key, *slot_keys = jax.random.split(loop.key, 1 + SLOTS)
        running, x, own = loop.running, loop.x, ()
        said = jnp.zeros((1, programs, model.config.width))
        tokens, log_probs = [], []
        for slot in range(SLOTS):
            if slot == OP_SLOT:
                first, logits = 0, model.apply(params, "op_head", x, method=head)
            elif slot == COLOUR_SLOT:
                first, logits = FIRST_COLOUR, model.apply(params, "colour_head", x, method=head)
            else:
                legal = jnp.broadcast_to(cells.valid, (programs, size))
                if slot == POINT1_SLOT:
                    legal = jax.vmap(legal_points, (0, None, None, None))(
                        tokens[OP_SLOT], cells.row[0], cells.col[0], cells.valid[0]
                    )
                first, logits = FIRST_CELL, model.apply(params, x, legal, method=point)
            choice, log_prob = _choose(slot_keys[slot], logits, temperature)
            used = running
            if slot == OP_SLOT:
                token = jnp.where(used, choice, END)
                running = running & (choice != END)
            else:
                used = running & slots_used(tokens[OP_SLOT])[:, slot]
                token = jnp.where(used, first + choice, NO_TOKEN)
            tokens.append(token)
            log_probs.append(jnp.where(used, log_prob, 0.0))
            embedded = model.apply(params, slot, token, task.width, method=Decoder.embed_slot)
            said = said + embedded[None]
            position = params["params"]["slot_embed"]["embedding"][slot]
            x, own = model.apply(
                params, prefix, loop.cache, own, said + position, method=Decoder.decode
            )
        place = loop.cache.count - 1
        return _Loop(
            key,
            x,
            loop.cache.append(own),
            running,
            loop.tokens.at[:, place].set(jnp.stack(tokens, axis=-1)),
            loop.log_probs.at[:, place].set(jnp.stack(log_probs, axis=-1)),
        )

    x, cache = model.apply(params, prefix, programs, draws, method=Decoder.start_decoding)
    blank = jnp.full((programs, draws, SLOTS), NO_TOKEN, jnp.int32).at[..., OP_SLOT].set(END)
    loop = jax.lax.while_loop(
        lambda loop: jnp.any(loop.running) & (loop.cache.count <= draws),
        write_draw,
        _Loop(
            key,
            x,
            cache,
            jnp.ones(programs, bool),
            blank,
            jnp.zeros((programs, draws + 1, SLOTS)),
        ),
    )
    return Samples(decode(loop.tokens, task.width), loop.tokens, loop.log_probs)
