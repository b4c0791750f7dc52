"""The attempts of an epoch: sampled, run, rewritten; and which of their pictures are new.

Letters: G programs sampled an epoch, A all programs of an epoch, N draws, R rows, C columns,
M pictures remembered.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array

from herjax.decoder.model import Decoder
from herjax.decoder.sampler import Samples, sample
from herjax.dsl.executor import execute
from herjax.learning.config import AdaptConfig
from herjax.runtime.config import check_array
from herjax.tasks.augmentation import (
    Augmentation,
    augment_program,
    augment_task,
    inverse,
    random_augmentation,
)
from herjax.tasks.metrics import pixel_accuracy
from herjax.tasks.task import Task


@struct.dataclass
class Pairs:
    """Programs in hindsight: each with the picture it draws.

    Attributes:
      program: int32 [A, N, 6], rewritten: canonical by default.
      picture: int8 [A, R, C].
      accuracy: float32 [A], fraction of pixels right of the real target.
    """

    program: Array
    picture: Array
    accuracy: Array


@struct.dataclass
class Attempts:
    """All that a learner may learn from in an epoch.

    Rows are the G sampled programs, then (unless in plain HER) the E kept ones, then a child of
    each of these. What was sampled is here as the decoder said it, for the canvas that it saw.

    Attributes:
      pairs: of all A.
      distinct: bool [A], the shortest program of each different picture.
      new: bool [A], of these the ones not trained on before.
      seen: unbatched: the task as the decoder saw it, augmented.
      augmentation: by which; ``augment_program`` moves any program there.
      temperature: float32 [G], of each sampled program; 0 for the greedy one.
      tokens: int32 [G, N, 4], of the sampled programs, see ``herjax.dsl.grammar``.
      said: bool [G, N + 1, 4], where they have a token: no END where a program was cut off.
      log_probs: float32 [G, N + 1, 4], of each at temperature 1; 0 where there is none.
    """

    pairs: Pairs
    distinct: Array
    new: Array
    seen: Task
    augmentation: Augmentation
    temperature: Array
    tokens: Array
    said: Array
    log_probs: Array

    @property
    def sampled(self) -> Array:
        """bool [A]: which rows the decoder sampled in this epoch, the first G."""
        return jnp.arange(len(self.new)) < len(self.tokens)

    @property
    def solved(self) -> Array:
        """bool []: does any program draw the target."""
        return jnp.any(self.pairs.accuracy == 1.0)

    @property
    def reward(self) -> Array:
        """float32 [G], fraction of pixels right of each sampled program."""
        return self.pairs.accuracy[: len(self.tokens)]


def sample_programs(
    model: Decoder,
    params: dict[str, Any],
    task: Task,
    config: AdaptConfig,
    key: Array,
    temperature: Array,
) -> tuple[Array, Samples, Augmentation]:
    """Sample G programs for a task, at temperatures [G].

    With augmentation, the decoder sees the target augmented, and its programs are moved back.

    Returns:
      Records int32 [G, N, 6] for the task, the samples as they were said, and the augmentation.
    """
    cells, seen = task.target.size, task
    augmentation = random_augmentation(key, task, symmetries=False, colours=False)  # none
    if config.augments:
        key, augmentation_key = jax.random.split(key)
        augmentation = config.random_augmentation(augmentation_key, task)
        seen = augment_task(augmentation, task)
    limit = config.draw_limit(task)
    samples = sample(model, params, seen, key, temperature, config.draws(cells), cells, limit=limit)
    programs = samples.program
    if config.augments:
        back = inverse(augmentation)
        programs = jax.vmap(lambda program: augment_program(back, program, task))(programs)
    return programs, samples, augmentation


def in_hindsight(programs: Array, task: Task, config: AdaptConfig) -> Pairs:
    """Rewrite records [A, N, 6], by default in canonical form, and run them."""
    program = jax.vmap(config.rewrite, (0, None, None, None))(
        programs, task.input, task.height, task.width
    )
    check_array("rewrite's results", program, programs.shape, "int32")
    picture = jax.vmap(execute, (0, None))(program, task.input)
    return Pairs(program, picture, pixel_accuracy(picture, task.target))


def attempt(
    model: Decoder,
    params: dict[str, Any],
    task: Task,
    config: AdaptConfig,
    key: Array,
    heat: Array | float = 1.0,
) -> Pairs:
    """Sample G programs, rewrite them and run them."""
    temperature = jnp.array(config.epoch_temperatures) * heat
    programs, *_ = sample_programs(model, params, task, config, key, temperature)
    return in_hindsight(programs, task, config)


# ---- Which pictures are new ----------------------------------------------------------------------


def picture_hash(picture: Array) -> Array:
    """64 bits of a canvas [R, C] as uint32 [2]: two sums of odd random multiples, mixed.

    Two different pictures collide with a chance of about 2^-50 or less.
    """
    cells = picture.reshape(-1).astype(jnp.uint32) + 1
    weights = np.random.default_rng(0).integers(2**32, size=(2, cells.size), dtype=np.uint32) | 1
    sums = jnp.sum(weights * (cells * (cells + jnp.uint32(0x9E3779B9))), axis=1, dtype=jnp.uint32)
    sums ^= sums >> 15
    sums *= jnp.uint32(0x85EBCA6B)
    return sums ^ (sums >> 13)


def is_remembered(hashes: Array, memory: Array) -> Array:
    """bool [A]: which hashes [A, 2] are in memory [M, 2]."""
    return jnp.any(jnp.all(hashes[:, None] == memory[None, :], axis=-1), axis=1)


def remember(memory: Array, remembered: Array, hashes: Array, chosen: Array) -> tuple[Array, Array]:
    """Write the chosen (bool [A]) hashes [A, 2] into the ring buffer."""
    index = jnp.arange(len(chosen))
    before = jnp.sum(chosen & (index < index[:, None]), axis=1)
    place = (remembered + before) % len(memory)
    place = jnp.where(chosen, place, len(memory))  # out of bounds: dropped
    return memory.at[place].set(hashes, mode="drop"), remembered + jnp.sum(chosen)
