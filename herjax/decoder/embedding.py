"""What tokens are and where they stand, as vectors: said here once, for cells and programs.

A cell is the sum of its position, its colours and its edges. A program token knows its slot within
the draw and *everything already said of this draw*: the vectors of its fields are summed up along
the draw. A point is said as the position of its cell. To change how positions are told, change
``Embedding.position`` and what ``setup`` makes for it.

Letters: B batch, P prefix cells, N draws, T = 4 N + 1 program positions, D width.
"""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import struct
from jax import Array

from herjax.decoder.layers import Dense, Embed
from herjax.dsl.executor import OUTSIDE
from herjax.dsl.grammar import COLOUR_SLOT, FIRST_CELL, FIRST_COLOUR, OP_SLOT, POINT1_SLOT, SLOTS
from herjax.dsl.ops import OPS, SOURCE_OPS
from herjax.runtime.config import check_types
from herjax.tasks.task import Task

DTYPES = ("float32", "bfloat16")
# What a decoder may have at most: a configuration that was made up must not take all memory.
MOST = {"width": 16_384, "layers": 512, "heads": 512, "mlp_ratio": 64, "max_side": 128}


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Shape of the decoder.

    Attributes:
      width: D, of the hidden states.
      layers: transformer blocks.
      program_layers: the last ones, which program tokens run through.
      heads: of attention, which divide the width.
      mlp_ratio: hidden width of the MLP, in widths.
      max_side: largest height and width of a canvas, cells.
      ops: the drawing calls it knows: the first so many of the table.
      dtype: "float32", or "bfloat16" for accelerators and for CPUs that multiply it faster: of the
        products of dense layers and, on accelerators alone, of hidden states.
    """

    width: int = 128
    layers: int = 4
    program_layers: int = 2
    heads: int = 4
    mlp_ratio: int = 4
    max_side: int = 10
    ops: int = SOURCE_OPS
    dtype: str = "float32"

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("width", "layers", "heads", "mlp_ratio", "max_side", "ops"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
            if getattr(self, name) > MOST.get(name, len(OPS)):
                most = MOST.get(name, len(OPS))
                raise ValueError(f"{name} must be at most {most}, got {getattr(self, name)}")
        if self.ops < SOURCE_OPS:
            raise ValueError(
                f"ops must be at least {SOURCE_OPS}, those of canonical programs, got {self.ops}"
            )
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype must be {' or '.join(DTYPES)}, got {self.dtype[:40]!r}")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        if not 1 <= self.program_layers <= self.layers:
            raise ValueError(
                f"program_layers {self.program_layers} must be 1 .. layers ({self.layers})"
            )


@struct.dataclass
class Cells:
    """The cells of canvases in reading order, without the padding between rows.

    Attributes:
      row: int32 [B, P].
      col: int32 [B, P].
      valid: bool [B, P], false past height * width.
      target: int32 [B, P], colours.
      input: int32 [B, P], colours.
      edges: float32 [B, P, 17], see `canvas_cells`.
    """

    row: Array
    col: Array
    valid: Array
    target: Array
    input: Array
    edges: Array


# Rows down and columns right to a cell itself, then to its 8 neighbours.
NEIGHBOURS = np.array(
    ((0, 0), (-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))
)


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
    cols = task.target.shape[2]

    def at(canvas: Array, stride: int, row: Array, col: Array, valid: Array) -> Array:
        # One gather: each is a kernel to compile.
        place = jnp.where(valid, row * stride + col, 0)
        flat = canvas.reshape(len(canvas), -1)
        found = jnp.take_along_axis(flat, place.reshape(len(canvas), -1), axis=1)
        return found.reshape(place.shape)

    down, right = 1 + NEIGHBOURS.T
    near = at(padded, cols + 2, row[..., None] + down, col[..., None] + right, valid[..., None])
    target, around = near[..., 0], near[..., 1:]
    under = at(task.input, cols, row, col, valid)
    edges = [around == target[..., None], around == OUTSIDE, (target == under)[..., None]]
    return Cells(
        row=jnp.where(valid, row, 0),
        col=jnp.where(valid, col, 0),
        valid=valid,
        target=target.astype(jnp.int32),
        input=under.astype(jnp.int32),
        edges=jnp.concatenate(edges, axis=-1).astype(jnp.float32),
    )


class Embedding(nn.Module):
    """The part of the decoder that makes vectors [..., D] of cells and tokens.

    ``platform`` is what to compile for, "cpu", "gpu" or "tpu"; empty: JAX's default.
    """

    config: ModelConfig
    platform: str = ""

    @property
    def on_cpu(self) -> bool:
        """Is it compiled for a CPU?"""
        return (self.platform or jax.default_backend()) == "cpu"

    @property
    def hidden_dtype(self) -> str:
        """Of hidden states, keys and values: on CPUs float32, whatever products are of."""
        return "float32" if self.on_cpu else self.config.dtype

    def setup(self) -> None:
        config = self.config

        def embed(values: int) -> Embed:
            return Embed(values, config.width, self.hidden_dtype)

        self.row_embed, self.col_embed = embed(config.max_side), embed(config.max_side)
        self.target_embed, self.input_embed = embed(OUTSIDE + 1), embed(OUTSIDE + 1)
        self.edges_embed = Dense(config.width, config.dtype, turned=True)
        self.op_embed, self.slot_embed = embed(1 + config.ops), embed(SLOTS)
        self.point1_embed = Dense(config.width, config.dtype)
        self.point2_embed = Dense(config.width, config.dtype)

    def position(self, row: Array, col: Array) -> Array:
        """Where a cell (int32 [...]) stands on the canvas: learned, rows and columns apart."""
        return self.row_embed(row) + self.col_embed(col)

    def slot_position(self, slot: Array) -> Array:
        """Where a token (int32 [...], its slot) stands in its draw."""
        return self.slot_embed(slot)

    def embed_cells(self, cells: Cells) -> Array:
        """Vectors [B, P, D] of the cells of canvases."""
        edges = self.edges_embed(cells.edges.astype(self.hidden_dtype))
        x = self.position(cells.row, cells.col) + edges
        return x + self.target_embed(cells.target) + self.input_embed(cells.input)

    def embed_slot(self, slot: int, token: Array, width: Array) -> Array:
        """Contribution [..., D] of the token (int32 [...]) in one slot to its draw's sum."""
        if slot == OP_SLOT:
            said = self.op_embed(jnp.maximum(token, 0))
        elif slot == COLOUR_SLOT:
            said = self.target_embed(jnp.maximum(token - FIRST_COLOUR, 0))
        else:
            cell = jnp.maximum(token - FIRST_CELL, 0)
            point = self.position(cell // width, cell % width)
            said = self.point1_embed(point) if slot == POINT1_SLOT else self.point2_embed(point)
        return jnp.where(token[..., None] >= 0, said, 0.0)

    def start_token(self) -> Array:
        """Input [D] of the first program position, which stands for "no draw yet"."""
        return self.slot_position(jnp.int32(SLOTS - 1))

    def embed_program(self, tokens: Array, width: Array) -> Array:
        """Input of every program position: tokens [B, N, 4], canvas width [B] -> [B, T, D]."""
        width = width[:, None]
        fields = [self.embed_slot(slot, tokens[..., slot], width) for slot in range(SLOTS)]
        sums = list(itertools.accumulate(fields))  # jnp.cumsum compiles to 200 functions
        said = jnp.stack(sums, axis=2) + self.slot_position(jnp.arange(SLOTS))
        said = said.reshape(said.shape[0], -1, said.shape[-1])
        start = jnp.broadcast_to(self.start_token(), (len(said), 1, said.shape[-1]))
        return jnp.concatenate([start, said], axis=1)
