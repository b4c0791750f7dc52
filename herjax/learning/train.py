"""The one training step that pretraining and test-time training share."""

from collections.abc import Callable
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax import Array

from herjax.decoder.embedding import Cells
from herjax.decoder.model import Decoder, Logits, Prefix
from herjax.dsl.executor import draw_count
from herjax.dsl.grammar import (
    COLOUR_SLOT,
    FIRST_CELL,
    FIRST_COLOUR,
    OP_SLOT,
    POINT1_SLOT,
    POINT2_SLOT,
    SLOTS,
    encode,
    held_tokens,
)
from herjax.dsl.ops import END, RECORD_SIZE
from herjax.runtime.jax_settings import as_written
from herjax.tasks.task import Task

_Gradients = tuple[dict[str, Any], tuple[Array, Array]]  # by parameter; losses and counts by slot
_Encoded = tuple[tuple[Array, ...], tuple[Array, ...], Array]  # keys, values, pointers of cells


def token_log_probs(logits: Logits, tokens: Array) -> tuple[Array, Array]:
    """Log-probability of every token of given programs, and which places hold a token.

    Args:
      logits: of those programs.
      tokens: int32 [B, N, 4] as from ``grammar.encode``.

    Returns:
      float32 [B, N + 1, 4] and bool [B, N + 1, 4]. The last row holds the END after N draws.
    """

    def pick(scores: Array, chosen: Array) -> Array:
        # Not by ``take_along_axis``, whose gradient is a scatter: see ``layers.lookup``.
        there = jnp.arange(scores.shape[-1]) == jnp.maximum(chosen, 0)[..., None]
        return jnp.sum(jnp.where(there, jax.nn.log_softmax(scores), 0.0), axis=-1)

    op = jnp.pad(tokens[..., OP_SLOT], ((0, 0), (0, 1)), constant_values=END)
    fields = [
        pick(logits.colour, tokens[..., COLOUR_SLOT] - FIRST_COLOUR),
        pick(logits.point1, tokens[..., POINT1_SLOT] - FIRST_CELL),
        pick(logits.point2, tokens[..., POINT2_SLOT] - FIRST_CELL),
    ]
    fields = [jnp.pad(field, ((0, 0), (0, 1))) for field in fields]
    log_probs = jnp.stack([pick(logits.op, op), *fields], axis=-1)
    held = held_tokens(tokens)
    return jnp.where(held, log_probs, 0.0), held


def _summed_losses(
    model: Decoder,
    params: dict[str, Any],
    task: Task,
    program: Array,
    weight: Array,
    size: int,
) -> tuple[Array, tuple[Array, Array]]:
    """Negative log-likelihood summed over tokens: all [], and by slot [4] with token counts [4]."""
    chex.assert_rank([task.target, task.width], [3, 1])
    prefix = model.apply(params, task, size, method=Decoder.encode)
    by_slot, counts = _loss_sums(model, params, prefix, task.width, program, weight)
    return jnp.sum(by_slot), (by_slot, counts)


def _loss_sums(
    model: Decoder,
    params: dict[str, Any],
    prefix: Prefix,
    width: Array,
    program: Array,
    weight: Array,
) -> tuple[Array, Array]:
    """Negative log-likelihood summed over tokens by slot [4], and token counts [4]."""
    chex.assert_shape(program, (len(weight), None, RECORD_SIZE))
    tokens = encode(program, width)
    logits = model.apply(params, prefix, tokens, width)
    log_probs, held = token_log_probs(logits, tokens)
    by_slot = -jnp.sum(log_probs * weight[:, None, None], (0, 1))
    return by_slot, jnp.sum(held * weight[:, None, None], (0, 1))


def _metrics(by_slot: Array, counts: Array) -> dict[str, Array]:
    """Mean losses per token."""
    names = ("loss_op", "loss_colour", "loss_point1", "loss_point2")
    means = by_slot / jnp.maximum(counts, 1.0)
    loss = jnp.sum(by_slot) / jnp.maximum(jnp.sum(counts), 1.0)
    return {"loss": loss, **dict(zip(names, means))}


def program_loss(
    model: Decoder,
    params: dict[str, Any],
    task: Task,
    program: Array,
    weight: Array,
    size: int,
) -> tuple[Array, dict[str, Array]]:
    """Weighted mean negative log-likelihood per token of canonical programs, in nats.

    Args:
      model: the decoder.
      params: its parameters.
      task: batch of B tasks.
      program: records [B, N, 6].
      weight: float32 [B]; 0 leaves a pair out.
      size: places for cells, at least the largest area of the batch.
    """
    _, sums = _summed_losses(model, params, task, program, weight, size)
    metrics = _metrics(*sums)
    return metrics["loss"], metrics


def program_gradients(
    model: Decoder,
    params: dict[str, Any],
    task: Task,
    program: Array,
    sizes: tuple[int, ...],
    microbatch: int,
    together: int = 1,
    axis: str | None = None,
) -> tuple[dict[str, Any], dict[str, Array]]:
    """Gradient and metrics of ``program_loss`` with weights 1, ``microbatch`` programs at a time.

    On a CPU a few programs at a time stay in its cache, and two microbatches ``together`` run side
    by side; elsewhere they would only take memory. Under ``shard_map`` they are those of all
    devices on ``axis``, each of which has B of the programs: devices exchange sums once.

    Args:
      model, params, task, program: as of ``program_loss``; B is a multiple of ``microbatch``.
      sizes: places for cells, ascending, the last as of ``program_loss``. If there are several,
        programs are sorted by the areas of their canvases, and each microbatch takes the first that
        holds its own. The gradients are compiled for each. Only one where the compiler spreads B
        over devices: sorted, programs would change theirs.
      microbatch: programs at a time.
      together: microbatches side by side.
      axis: see above.
    """
    weight = jnp.ones(microbatch)

    def gradients(size: int) -> Callable[[Task, Array], _Gradients]:
        compute = jax.grad(partial(_summed_losses, model), has_aux=True)
        return lambda task, program: compute(params, task, program, weight, size)

    def add(total: _Gradients, pairs: tuple[Task, Array]) -> tuple[_Gradients, None]:
        area = jnp.max(pairs[0].height * pairs[0].width)
        which = sum(area > size for size in sizes[:-1])
        branches = [gradients(size) for size in sizes]
        return jax.tree.map(jnp.add, total, jax.lax.switch(which, branches, *pairs)), None

    def split(x: Array) -> Array:  # each microbatch has a share of all devices, if B is spread
        return x.reshape(microbatch, -1, *x.shape[1:]).swapaxes(0, 1)

    if len(sizes) > 1:
        order = jnp.argsort(task.height * task.width).reshape(-1, microbatch)
        pairs = jax.tree.map(lambda x: x[order], (task, program))
    else:
        pairs = jax.tree.map(split, (task, program))
    zeros = (jax.tree.map(jnp.zeros_like, params), (jnp.zeros(SLOTS), jnp.zeros(SLOTS)))
    (grads, sums), _ = jax.lax.scan(add, zeros, pairs, unroll=together)
    if axis is not None:
        grads, sums = jax.lax.psum((grads, sums), axis)
    tokens = jnp.maximum(jnp.sum(sums[1]), 1.0)
    return jax.tree.map(lambda x: x / tokens, grads), _metrics(*sums)


def bucketed_gradients(
    model: Decoder,
    params: dict[str, Any],
    task: Task,
    program: Array,
    weight: Array,
    size: int,
    lengths: tuple[int, ...],
) -> tuple[dict[str, Any], dict[str, Array]]:
    """Gradient and metrics of ``program_loss``; CPUs do not pay for draws that no program has.

    The pass over the programs is compiled for each length, that over the cells once.

    Args:
      model, params, task, program, weight, size: as of ``program_loss``.
      lengths: ascending, the last is N; the first that holds the programs is taken.
    """

    if len(lengths) == 1:
        loss = partial(program_loss, model)
        return jax.grad(loss, has_aux=True)(params, task, program, weight, size)

    def encode_cells(params: dict[str, Any]) -> tuple[_Encoded, Cells]:
        prefix = model.apply(params, task, size, method=Decoder.encode)
        return (prefix.keys, prefix.values, prefix.pointers), prefix.cells

    encoded, pull_back, cells = jax.vjp(encode_cells, params, has_aux=True)

    def gradients(length: int) -> Callable:
        def loss(params: dict[str, Any], encoded: _Encoded) -> tuple[Array, dict[str, Array]]:
            prefix = Prefix(cells, *encoded)
            sums = _loss_sums(model, params, prefix, task.width, program[:, :length], weight)
            metrics = _metrics(*sums)
            return metrics["loss"], metrics

        return jax.grad(loss, argnums=(0, 1), has_aux=True)

    def by_length(*operands: Any) -> Any:
        longest = jnp.max(draw_count(program))
        bucket = sum(longest > length for length in lengths[:-1])
        return jax.lax.switch(bucket, [gradients(length) for length in lengths], *operands)

    # Elsewhere members are one batch, for which a switch runs every branch.
    (grads, on_encoded), metrics = jax.lax.platform_dependent(
        params, encoded, cpu=by_length, default=gradients(lengths[-1])
    )
    return jax.tree.map(jnp.add, grads, pull_back(on_encoded)[0]), metrics


@struct.dataclass
class TrainState:
    """Everything a training run needs to go on.

    Attributes:
      step: int32 [], optimiser steps done.
      params: of the decoder.
      opt_state: of the optimiser.
    """

    step: Array
    params: dict[str, Any]
    opt_state: optax.OptState


@as_written()
def apply_gradients(
    state: TrainState, grads: dict[str, Any], optimizer: optax.GradientTransformation
) -> TrainState:
    """One optimiser step."""
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    return TrainState(state.step + 1, optax.apply_updates(state.params, updates), opt_state)
