"""The decoder: a prefix-LM transformer that looks at a canvas and writes a drawing program.

The cells of the canvas are a bidirectional prefix; the program is generated causally after it.
Three choices make it cheap and let it write programs longer than any it was trained on:

* **No draw index.** A program token knows its slot within the draw and *everything already said
  of this draw* (the embeddings of its fields are summed up along the draw), but not how many
  draws came before. It attends to the prefix, to its own draw, and to the last token of every
  earlier draw, which by the summing up stands for the whole draw.
* **Points are pointers.** A point is chosen among the cells of the prefix by a dot product with
  their hidden states (pointer networks, Vinyals et al., 2015), not from a coordinate vocabulary.
* **The program enters late.** Program tokens run through the last ``program_layers`` blocks only,
  and the last block computes keys and values alone for the prefix.

Letters: B batch, G programs, P prefix cells, N draws, T = 4 N + 1 program positions, D width,
H heads, K width of a head.
"""

import dataclasses
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jax import Array

from herjax.decoder.embedding import Cells, Embedding, ModelConfig, canvas_cells
from herjax.decoder.layers import Dense, FilledHead, Norm, attend
from herjax.dsl.grammar import (
    OP_SLOT,
    SLOTS,
    legal_points,
)
from herjax.dsl.ops import COLOURS
from herjax.tasks.task import Task

MASKED = -1e9  # logit of what must not be chosen or seen


@struct.dataclass
class Prefix:
    """What program tokens need of an encoded canvas.

    Attributes:
      cells: of the canvases.
      keys: one [B, H, P, K] for each program layer.
      values: likewise.
      pointers: [B, P, D].
    """

    cells: Cells
    keys: tuple[Array, ...]
    values: tuple[Array, ...]
    pointers: Array


@struct.dataclass
class DecodePrefix:
    """A prefix for ``decode``, B = 1: what queries are multiplied by stands as products read it.

    XLA:CPU would turn it for every token.

    Attributes:
      cells: of the canvas.
      keys: one [H, K, P] for each program layer.
      values: one [H, P, K] for each.
      pointers: [B, D, P].
    """

    cells: Cells
    keys: tuple[Array, ...]
    values: tuple[Array, ...]
    pointers: Array

    @classmethod
    def of(cls, prefix: Prefix) -> "DecodePrefix":
        """From the prefix of one canvas."""
        keys = tuple(key[0].swapaxes(1, 2) for key in prefix.keys)
        values = tuple(value[0] for value in prefix.values)
        return cls(prefix.cells, keys, values, prefix.pointers.swapaxes(1, 2))


@struct.dataclass
class Logits:
    """Unnormalised log-probabilities of the next token, by slot; illegal ones are MASKED.

    Attributes:
      op: [B, N + 1, 1 + ops], the last one after N draws.
      colour: [B, N, COLOURS].
      point1: [B, N, P].
      point2: [B, N, P].
    """

    op: Array
    colour: Array
    point1: Array
    point2: Array


@struct.dataclass
class Cache:
    """Keys and values of what G programs have said, for each program layer.

    The start token, then each finished draw has one entry. After ``count`` of them, the token in
    slot s of the next draw has entry count + 3 - s: the last ends where its draw belongs, and the
    draw after it overwrites the others before it may see them.

    Attributes:
      keys: [H, G, N + 4, K].
      values: likewise.
      count: int32 [], finished draws and the start token.
    """

    keys: tuple[Array, ...]
    values: tuple[Array, ...]
    count: Array

    def with_room(self, draws: int) -> "Cache":
        """For programs of up to so many draws, at least as many as before."""

        def grow(entries: Array) -> Array:
            more = draws + SLOTS - entries.shape[2]
            return jnp.pad(entries, ((0, 0), (0, 0), (0, more), (0, 0)))

        keys, values = jax.tree.map(grow, (self.keys, self.values))
        return dataclasses.replace(self, keys=keys, values=values)


def program_mask(draws: int) -> Array:
    """bool [T, T]: may program position i see position j. Position 0 counts as a finished draw."""
    position = jnp.arange(SLOTS * draws + 1) - 1
    draw, slot = position // SLOTS, position % SLOTS
    same = (draw[:, None] == draw[None, :]) & (slot[:, None] >= slot[None, :])
    return same | ((draw[:, None] > draw[None, :]) & (slot[None, :] == SLOTS - 1))


class Block(nn.Module):
    """Pre-norm transformer block, in pieces, so that each caller attends to what it must.

    Tokens are flattened to [B * T, D] for the dense layers, which is a third faster on CPUs.
    """

    config: ModelConfig

    def setup(self) -> None:
        width, dtype = self.config.width, self.config.dtype
        self.attention_norm, self.mlp_norm = Norm(), Norm()
        self.query, self.key, self.value = (Dense(width, dtype) for _ in range(3))
        self.out = Dense(width, dtype, scale=0.1)
        self.up = Dense(self.config.mlp_ratio * width, dtype)
        self.down = Dense(width, dtype, scale=0.1, turned=True)

    def project(self, x: Array) -> tuple[Array, Array, Array]:
        """Scaled queries, keys and values [B, H, T, K] of tokens x [B, T, D]."""
        flat = self.attention_norm(x.reshape(-1, x.shape[-1]))

        def heads(y: Array) -> Array:
            return y.reshape(*x.shape[:2], self.config.heads, -1).swapaxes(1, 2)

        scale = (self.config.width // self.config.heads) ** -0.5
        return heads(self.query(flat) * scale), heads(self.key(flat)), heads(self.value(flat))

    def finish(self, x: Array, attended: Array) -> Array:
        """Add attention output [B, H, T, K] to x [B, T, D], then the MLP."""
        flat = attended.swapaxes(1, 2).reshape(-1, x.shape[-1])
        flat = x.reshape(flat.shape) + self.out(flat)
        flat = flat + self.down(nn.relu(self.up(self.mlp_norm(flat))))
        return flat.reshape(x.shape)


class Decoder(Embedding):
    """The parameters and the passes over them; use through ``Decoder(config).apply``."""

    if TYPE_CHECKING:  # what flax says of it allows for changed variables beside the result

        def apply(self, *args: Any, **kwargs: Any) -> Any: ...

    def setup(self) -> None:
        super().setup()
        config = self.config
        self.blocks = [Block(config) for _ in range(config.layers)]
        self.program_blocks = self.blocks[config.layers - config.program_layers :]
        self.final_norm, self.pointer_norm = Norm(), Norm()
        self.pointer_query = Dense(config.width, config.dtype)
        self.pointer_key = Dense(config.width, config.dtype)
        head = Dense if self.on_cpu else FilledHead
        self.op_head = head(1 + config.ops, config.dtype)
        self.colour_head = head(COLOURS, config.dtype)

    def encode(self, task: Task, size: int) -> Prefix:
        """Encode a batch of tasks; ``size`` places for cells, at least the largest area."""
        cells = canvas_cells(task, size)
        x = self.embed_cells(cells)
        bias = jnp.where(cells.valid, 0.0, MASKED)[:, None, None, :]
        keys, values = [], []
        for block in self.blocks:
            query, key, value = block.project(x)
            keys.append(key)
            values.append(value)
            if len(keys) < self.config.layers:  # the last block serves the program alone
                x = block.finish(x, attend(query, key, value, bias))
        first = self.config.layers - self.config.program_layers
        pointers = self.pointer_key(self.pointer_norm(x)) * self.config.width**-0.5
        return Prefix(cells, tuple(keys[first:]), tuple(values[first:]), pointers)

    def __call__(self, prefix: Prefix, tokens: Array, width: Array) -> Logits:
        """Logits at every position of given programs, tokens [B, N, 4], canvas width [B]."""
        x = self.embed_program(tokens, width)
        programs, length, _ = x.shape
        cells = jnp.repeat(prefix.cells.valid[:, None], length, axis=1)
        said = jnp.repeat(program_mask(tokens.shape[1])[None], programs, axis=0)
        bias = jnp.where(jnp.concatenate([cells, said], axis=2), 0.0, MASKED)[:, None]
        for block, cell_key, cell_value in zip(self.program_blocks, prefix.keys, prefix.values):
            query, key, value = block.project(x)
            key, value = (jnp.concatenate(y, 2) for y in ((cell_key, key), (cell_value, value)))
            x = block.finish(x, attend(query, key, value, bias))
        x = self.final_norm(x)

        def foretelling(slot: int) -> Array:
            rows = x[:, slot::SLOTS]
            # As an array of its own: XLA:GPU finds no tiles for a product of every fourth row.
            return rows if self.on_cpu else jax.lax.optimization_barrier(rows)

        op = tokens[..., OP_SLOT]
        legal = jax.vmap(jax.vmap(legal_points, (0, None, None, None)))(
            op, prefix.cells.row, prefix.cells.col, prefix.cells.valid
        )
        pointers = prefix.pointers.swapaxes(1, 2)
        return Logits(
            op=self.op_head(foretelling(0)).astype(jnp.float32),
            colour=self.colour_head(foretelling(1)).astype(jnp.float32),
            point1=self.point_to(pointers, foretelling(2), legal),
            point2=self.point_to(pointers, foretelling(3), prefix.cells.valid[:, None, :]),
        )

    def point_to(self, pointers: Array, x: Array, legal: Array) -> Array:
        """Logits [B, T, P] over the cells.

        Args:
          pointers: of the cells, [B, D, P].
          x: normed hidden states [B, T, D].
          legal: bool [B, T, P]; the others are MASKED.
        """
        scores = jnp.einsum("btd,bdp->btp", self.pointer_query(x), pointers)
        return jnp.where(legal, scores.astype(jnp.float32), MASKED)

    def empty_cache(self, programs: int, draws: int) -> Cache:
        """A cache for G ``programs`` of up to N ``draws``; the start token counts as one more."""
        heads, size = self.config.heads, self.config.width // self.config.heads

        def empty(entries: int) -> tuple[Array, ...]:
            blank = jnp.zeros((heads, programs, entries, size), self.hidden_dtype)
            return tuple(blank for _ in self.program_blocks)

        return Cache(empty(draws + SLOTS), empty(draws + SLOTS), jnp.int32(0))

    def decode(
        self, prefix: DecodePrefix, cache: Cache, slot: Array, x: Array
    ) -> tuple[Array, Cache]:
        """Pass one token of each of G programs for one task through the program's blocks.

        Args:
          prefix: of that task.
          cache: the programs so far.
          slot: the token's within its draw, int32 []; the last one finishes the draw.
          x: the token's input [1, G, D].

        Returns:
          Normed hidden state [1, G, D], and the cache with this token.
        """
        no_cell = jnp.where(prefix.cells.valid[0], 0.0, MASKED)
        entry = jnp.arange(cache.keys[0].shape[2])
        last = cache.count + SLOTS - 1
        place = last - slot
        # The start token, which counts as a draw, has none of its own beside it.
        own = (entry >= place) & (entry <= jnp.where(cache.count > 0, last, place))
        no_entry = jnp.where((entry < cache.count) | own, 0.0, MASKED)
        said = []
        for i, block in enumerate(self.program_blocks):
            query, key, value = (y[0] for y in block.project(x))  # [H, G, K]
            # The new arrays are read: XLA would copy the old ones, all of them, to keep them.
            keys = _put(cache.keys[i], key, place)
            values = _put(cache.values[i], value, place)
            said.append((keys, values))
            scores = [
                jnp.einsum("hgk,hkp->hgp", query, prefix.keys[i]) + no_cell,
                jnp.einsum("hgk,hgnk->hgn", query, keys) + no_entry,
            ]
            # A softmax over both, without putting them into one array: 1.5 times faster.
            scores = [x.astype(jnp.float32) for x in scores]
            highest = jnp.maximum(*[jnp.max(x, axis=-1) for x in scores])
            on_cells, on_said = (jnp.exp(x - highest[..., None]) for x in scores)
            total = jnp.sum(on_cells, -1) + jnp.sum(on_said, -1)
            on_cells, on_said = (x.astype(value.dtype) for x in (on_cells, on_said))
            attended = jnp.einsum("hgp,hpk->hgk", on_cells, prefix.values[i])
            attended += jnp.einsum("hgn,hgnk->hgk", on_said, values)
            attended = (attended / total[..., None]).astype(value.dtype)
            x = block.finish(x, attended[None])
        count = cache.count + (slot == SLOTS - 1)
        said_keys, said_values = zip(*said)
        return self.final_norm(x), Cache(said_keys, said_values, count)


def _put(entries: Array, new: Array, place: Array) -> Array:
    """Entries [H, G, S, K] with a new one [H, G, K] in a place."""
    return jax.lax.dynamic_update_slice_in_dim(entries, new[:, :, None], place, axis=2)
