"""What a learner is: the function by which an epoch changes the weights.

``herjax.adapt(..., learner=...)`` and ``adapt_population`` take any function of this signature;
``herjax.hindsight`` is the default. It is traced once, inside the compiled epoch.
"""

from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from herjax.decoder.model import Decoder
from herjax.dsl.grammar import SLOTS, legal_tokens
from herjax.learning.attempts import Attempts
from herjax.learning.config import AdaptConfig
from herjax.learning.optimizers import gathered
from herjax.learning.train import TrainState, token_log_probs
from herjax.runtime.config import told
from herjax.runtime.jax_settings import as_written
from herjax.tasks.task import Task, check_size


class Update(NamedTuple):
    """What a learner returns.

    Attributes:
      train: after its optimiser steps.
      loss: float32 [], reported; if it is not finite, the adaptation ends with an error.
      trained: bool [A], the programs it trained on; their pictures will not be new again.
    """

    train: TrainState
    loss: Array
    trained: Array


class Learner(Protocol):
    """Any function from the attempts of an epoch to new weights."""

    def __call__(
        self,
        model: Decoder,
        train: TrainState,
        task: Task,
        attempts: Attempts,
        config: AdaptConfig,
        key: Array,
        /,
    ) -> Update:
        """Learn from an epoch.

        Args:
          model: the decoder.
          train: weights, and the state of ``make_optimizer(config)``.
          task: unbatched, canvases [R, C].
          attempts: of this epoch.
          config: static.
          key: PRNG key, of this epoch's learning.
        """
        ...


def make_optimizer(config: AdaptConfig) -> optax.GradientTransformation:
    """That of the settings, whole on every device.

    Raises:
      ValueError: if ``config.optimizer`` makes none.
    """
    made = config.optimizer(config)
    if not isinstance(made, optax.GradientTransformation):
        raise ValueError(f"optimizer must make an optax.GradientTransformation, got {told(made)}")
    return optax.chain(gathered, made, gathered)


@as_written()
def program_log_probs(
    model: Decoder,
    params: dict[str, Any],
    task: Task,
    tokens: Array | np.ndarray,
    temperature: Array | np.ndarray | None = None,
) -> Array:
    """Log-probabilities of every token of G programs for one task, whose canvas is encoded once.

    Args:
      model: the decoder.
      params: its parameters, which the result may be differentiated for.
      task: unbatched; for sampled programs the one that was seen, ``Attempts.seen``.
      tokens: int32 [G, N, 4], such as ``Attempts.tokens``, or from ``encode_programs``.
      temperature: float [G], of the distributions that the tokens were sampled from, such as
        ``Attempts.temperature``; 1 if None, and where it is 0.

    Returns:
      float32 [G, N + 1, 4], 0 where there is no token, and -inf for one that may not stand where it
      does: a point outside the canvas, an op that the decoder lacks. The END after all N draws does
      not count. Times ``Attempts.said`` they are, for the weights that sampled and at temperature
      1, ``Attempts.log_probs``: an END after fewer draws, where the picture's limit cut a program
      off, was not sampled either.

    Raises:
      ValueError: if an argument is of another shape or type, as records are, or the canvas is too
        large for the model.
    """
    if not isinstance(task, Task):
        raise ValueError(f"task must be a Task, as from make_task, got {told(task)}")
    tokens = jnp.asarray(tokens)
    if tokens.ndim != 3 or tokens.shape[-1] != SLOTS or tokens.dtype.kind not in "iu":
        raise ValueError(
            f"tokens must be integers [G, N, {SLOTS}], got {tokens.dtype} {[*tokens.shape]};"
            " encode_programs makes them"
        )
    if temperature is not None and jnp.shape(temperature) != (len(tokens),):
        raise ValueError(
            f"temperature must be [G], here [{len(tokens)}], got {[*jnp.shape(temperature)]}"
        )
    temperature = None if temperature is None else jnp.asarray(temperature, jnp.float32)
    check_size(task.target.shape, model.config.max_side)
    if not len(tokens):
        return jnp.zeros((0, tokens.shape[1] + 1, SLOTS))
    return _log_probs(params, task, tokens, temperature, model)


@partial(jax.jit, static_argnames="model", inline=True)
def _log_probs(
    params: dict[str, Any], task: Task, tokens: Array, temperature: Array | None, model: Decoder
) -> Array:
    batch = jax.tree.map(lambda leaf: leaf[None], task)
    prefix = model.apply(params, batch, task.target.size, method=Decoder.encode)
    prefix = jax.tree.map(lambda leaf: jnp.repeat(leaf, len(tokens), axis=0), prefix)
    logits = model.apply(params, prefix, tokens, jnp.repeat(batch.width, len(tokens)))
    if temperature is not None:
        safe = jnp.where(temperature > 0, temperature, 1.0)[:, None, None]
        logits = jax.tree.map(lambda scores: scores / safe, logits)
    log_probs = token_log_probs(logits, tokens)[0][:, :-1]
    legal = legal_tokens(tokens, task.height, task.width, model.config.ops)
    return jnp.pad(jnp.where(legal, log_probs, -jnp.inf), ((0, 0), (0, 1), (0, 0)))
