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

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jax import Array

from herjax.executor import OUTSIDE
from herjax.grammar import (
    COLOUR_SLOT,
    FIRST_CELL,
    FIRST_COLOUR,
    OP_SLOT,
    POINT1_SLOT,
    POINT2_SLOT,
    SLOTS,
    legal_points,
)
from herjax.ops import COLOURS, OPS
from herjax.tasks import Task

MASKED = -1e9  # logit of what must not be chosen or seen


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Shape of the decoder."""

    width: int = 128  # D
    layers: int = 4
    program_layers: int = 2  # the last ones, which program tokens run through
    heads: int = 4
    max_side: int = 10  # largest height and width of a canvas, cells

    def __post_init__(self):
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        if not 1 <= self.program_layers <= self.layers:
            raise ValueError(
                f"program_layers {self.program_layers} must be 1 .. layers ({self.layers})"
            )


@struct.dataclass
class Cells:
    """The cells of canvases in reading order, without the padding between rows."""

    row: Array  # int32 [B, P]
    col: Array  # int32 [B, P]
    valid: Array  # bool [B, P], false past height * width
    target: Array  # int32 [B, P], colours
    input: Array  # int32 [B, P], colours
    edges: Array  # float32 [B, P, 17], see `canvas_cells`


@struct.dataclass
class Prefix:
    """What program tokens need of an encoded canvas."""

    cells: Cells
    keys: tuple[Array, ...]  # one [B, H, P, K] for each program layer
    values: tuple[Array, ...]  # likewise
    pointers: Array  # [B, P, D]


@struct.dataclass
class Logits:
    """Unnormalised log-probabilities of the next token, by the slot it fills; illegal ones masked."""

    op: Array  # [B, N + 1, 1 + ops], the last one after N draws
    colour: Array  # [B, N, COLOURS]
    point1: Array  # [B, N, P]
    point2: Array  # [B, N, P]


NEIGHBOURS = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))


def canvas_cells(task: Task, size: int) -> Cells:
    """Cells of a batch of tasks, in ``size`` places (the largest height * width of the batch).

    ``edges`` holds for each of the 8 neighbours whether it has this cell's target colour and
    whether it lies outside, and whether the target is as the input here.
    """
    index = jnp.arange(size)[None, :]
    height, width = task.height[:, None], task.width[:, None]
    row, col = index // width, index % width
    valid = index < height * width
    padded = jnp.pad(task.target, ((0, 0), (1, 1), (1, 1)), constant_values=OUTSIDE)
    rows, cols = task.target.shape[1:]

    def at(canvas, down, right):
        stride = canvas.shape[2]
        place = jnp.where(valid, (row + down) * stride + col + right, 0)
        return jnp.take_along_axis(canvas.reshape(canvas.shape[0], -1), place, axis=1)

    target = at(padded, 1, 1)
    around = jnp.stack([at(padded, 1 + down, 1 + right) for down, right in NEIGHBOURS], axis=-1)
    input = at(task.input, 0, 0)
    edges = [around == target[..., None], around == OUTSIDE, (target == input)[..., None]]
    return Cells(
        row=jnp.where(valid, row, 0),
        col=jnp.where(valid, col, 0),
        valid=valid,
        target=target.astype(jnp.int32),
        input=input.astype(jnp.int32),
        edges=jnp.concatenate(edges, axis=-1).astype(jnp.float32),
    )


def program_mask(draws: int) -> Array:
    """bool [T, T]: may program position i see position j. Position 0 counts as a finished draw."""
    position = jnp.arange(SLOTS * draws + 1) - 1
    draw, slot = position // SLOTS, position % SLOTS
    same = (draw[:, None] == draw[None, :]) & (slot[:, None] >= slot[None, :])
    return same | ((draw[:, None] > draw[None, :]) & (slot[None, :] == SLOTS - 1))


def _dense(features: int, name: str | None = None, scale: float = 1.0) -> nn.Dense:
    init = nn.initializers.variance_scaling(scale, "fan_in", "normal")
    return nn.Dense(features, use_bias=False, kernel_init=init, name=name)


class Block(nn.Module):
    """Pre-norm transformer block, in pieces, so that each caller attends to what it must."""

    config: ModelConfig

    def setup(self):
        width = self.config.width
        self.attention_norm, self.mlp_norm = nn.RMSNorm(), nn.RMSNorm()
        self.query, self.key, self.value = _dense(width), _dense(width), _dense(width)
        self.out = _dense(width, scale=0.1)
        self.up, self.down = _dense(4 * width), _dense(width, scale=0.1)

    def _heads(self, x):
        """[B, T, D] -> [B, H, T, K]."""
        return x.reshape(*x.shape[:-1], self.config.heads, -1).swapaxes(1, 2)

    def key_value(self, x):
        """Keys and values [B, H, T, K] of tokens x [B, T, D]."""
        x = self.attention_norm(x)
        return self._heads(self.key(x)), self._heads(self.value(x))

    def queries(self, x):
        """Scaled queries [B, H, T, K]."""
        return self._heads(self.query(self.attention_norm(x))) * (x.shape[-1] // self.config.heads) ** -0.5

    def finish(self, x, attended):
        """Add attention output [B, H, T, K] to x [B, T, D], then the MLP."""
        x = x + self.out(attended.swapaxes(1, 2).reshape(x.shape))
        return x + self.down(nn.relu(self.up(self.mlp_norm(x))))


class Decoder(nn.Module):
    """The parameters and the passes over them; use through ``Decoder(config).apply``."""

    config: ModelConfig

    def setup(self):
        config = self.config
        embed = lambda size: nn.Embed(size, config.width, embedding_init=nn.initializers.normal(0.3))
        self.row_embed, self.col_embed = embed(config.max_side), embed(config.max_side)
        self.target_embed, self.input_embed = embed(OUTSIDE + 1), embed(OUTSIDE + 1)
        self.edges_embed = _dense(config.width)
        self.op_embed, self.slot_embed = embed(1 + len(OPS)), embed(SLOTS)
        self.point1_embed, self.point2_embed = _dense(config.width), _dense(config.width)
        self.blocks = [Block(config) for _ in range(config.layers)]
        self.final_norm, self.pointer_norm = nn.RMSNorm(), nn.RMSNorm()
        self.pointer_query, self.pointer_key = _dense(config.width), _dense(config.width)
        self.op_head, self.colour_head = _dense(1 + len(OPS)), _dense(COLOURS)

    def encode(self, task: Task, size: int) -> Prefix:
        """Encode a batch of tasks; ``size`` places for cells, at least the largest area."""
        cells = canvas_cells(task, size)
        x = self.row_embed(cells.row) + self.col_embed(cells.col) + self.edges_embed(cells.edges)
        x = x + self.target_embed(cells.target) + self.input_embed(cells.input)
        bias = jnp.where(cells.valid, 0.0, MASKED)[:, None, None, :]
        keys, values = [], []
        for block in self.blocks:
            key, value = block.key_value(x)
            keys.append(key)
            values.append(value)
            if len(keys) < self.config.layers:  # the last block serves the program alone
                scores = jnp.einsum("bhtk,bhpk->bhtp", block.queries(x), key) + bias
                attended = jnp.einsum("bhtp,bhpk->bhtk", jax.nn.softmax(scores), value)
                x = block.finish(x, attended)
        first = self.config.layers - self.config.program_layers
        pointers = self.pointer_key(self.pointer_norm(x)) * self.config.width**-0.5
        return Prefix(cells, tuple(keys[first:]), tuple(values[first:]), pointers)

    def embed_tokens(self, tokens: Array, width: Array) -> Array:
        """Input of every program position: tokens [B, N, 4], canvas width [B] -> [B, T, D]."""
        cell = jnp.maximum(tokens - FIRST_CELL, 0)
        width = width[:, None, None]
        points = self.row_embed(cell // width) + self.col_embed(cell % width)
        said = jnp.stack(
            [
                self.op_embed(jnp.maximum(tokens[..., OP_SLOT], 0)),
                self.target_embed(jnp.maximum(tokens[..., COLOUR_SLOT] - FIRST_COLOUR, 0)),
                self.point1_embed(points[..., POINT1_SLOT, :]),
                self.point2_embed(points[..., POINT2_SLOT, :]),
            ],
            axis=2,
        )
        said = jnp.cumsum(jnp.where(tokens[..., None] >= 0, said, 0.0), axis=2)
        said = said + self.slot_embed(jnp.arange(SLOTS))
        said = said.reshape(said.shape[0], -1, said.shape[-1])
        start = jnp.broadcast_to(self.slot_embed(jnp.array([SLOTS - 1])), (len(said), 1, said.shape[-1]))
        return jnp.concatenate([start, said], axis=1)

    def __call__(self, prefix: Prefix, tokens: Array, width: Array) -> Logits:
        """Logits at every position of given programs, tokens [B, N, 4]."""
        x = self.embed_tokens(tokens, width)
        draws = tokens.shape[1]
        seen = jnp.where(program_mask(draws), 0.0, MASKED)
        bias = jnp.where(prefix.cells.valid, 0.0, MASKED)[:, None, None, :]
        first = self.config.layers - self.config.program_layers
        for i, block in enumerate(self.blocks[first:]):
            query = block.queries(x)
            key, value = block.key_value(x)
            on_cells = jnp.einsum("bhtk,bhpk->bhtp", query, prefix.keys[i]) + bias
            on_program = jnp.einsum("bhtk,bhsk->bhts", query, key) + seen
            weights = jax.nn.softmax(jnp.concatenate([on_cells, on_program], axis=-1))
            size = on_cells.shape[-1]
            attended = jnp.einsum("bhtp,bhpk->bhtk", weights[..., :size], prefix.values[i])
            attended += jnp.einsum("bhts,bhsk->bhtk", weights[..., size:], value)
            x = block.finish(x, attended)
        x = self.final_norm(x)
        return self.logits(prefix, tokens[..., OP_SLOT], x)

    def logits(self, prefix: Prefix, op: Array, x: Array) -> Logits:
        cells = prefix.cells
        point_x = jnp.stack([x[:, 2::SLOTS], x[:, 3::SLOTS]], axis=1)  # [B, 2, N, D]
        points = jnp.einsum("bind,bpd->binp", self.pointer_query(point_x), prefix.pointers)
        legal = jax.vmap(jax.vmap(legal_points, (0, None, None, None)))(
            jnp.maximum(op, 0), cells.row, cells.col, cells.valid
        )
        return Logits(
            op=self.op_head(x[:, 0::SLOTS]),
            colour=self.colour_head(x[:, 1::SLOTS]),
            point1=jnp.where(legal, points[:, 0], MASKED),
            point2=jnp.where(cells.valid[:, None, :], points[:, 1], MASKED),
        )
