"""The settings of an adaptation."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array

from herjax.dsl.canonical import Rewrite, canonical_program
from herjax.learning.optimizers import Optimizer, clipped_adam
from herjax.learning.selection import (
    Distinct,
    Order,
    Selection,
    keep_shortest,
    order_sorted,
    select_all,
    select_best,
)
from herjax.runtime.config import MOST, check_types, told
from herjax.tasks.augmentation import Augmentation, random_augmentation
from herjax.tasks.task import Task

MAX_TEMPERATURE = 1000  # from a million times that on, what is illegal would be sampled


@dataclasses.dataclass(frozen=True)
class AdaptConfig:
    """One adaptation. The defaults are the ones found best over seeds (BUILD_NOTES.md).

    G programs are sampled an epoch; A is how many there are with the kept ones and the children.

    Attributes:
      programs: how many are sampled an epoch, at each temperature.
      temperatures: of sampling, one for each number of ``programs``.
      min_distinct: after an epoch in which fewer than this share of the sampled programs draw
        different pictures, the temperatures rise by a tenth.
      greedy: also write one program an epoch of the best token everywhere.
      partners: how many other programs' draws each program is offered, all if there are fewer; 0:
        no recombination.
      keep: how many of the best programs so far are recombined in every epoch.
      rewrite: each program to another of the same picture, a function such as
        ``canonical_program``: records int32 [N, 6], canvas [R, C], height and width to records.
      distinct: of programs of the same picture, which to keep, a function such as
        ``keep_shortest``: hashes uint32 [A, 2], draws int32 [A], which count bool [A] to bool [A].
      select: which new pictures to train on, a function such as ``select_best``: accuracies float32
        [A], candidates bool [A] and how many at most to bool [A]. Of what one of your own chooses,
        the best ``fraction`` is taken.
      fraction: of all programs of an epoch, the most that are trained on, in whole ones (rounded);
        without effect on ``select_all``.
      order: in which order to train, a function such as ``order_sorted``: PRNG key and accuracies
        float32 [A] to ranks float32 [A], the lowest first.
      novelty: leave out pictures trained on in an earlier epoch.
      passes: over the pairs that are trained on, in every epoch.
      minibatch: pairs of a picture and its program in an optimiser step.
      fresh: random pretraining tasks added to each minibatch.
      learning_rate: constant; 0: search without learning, whatever the learner.
      clip: the most global norm of the gradient, which is scaled down to it.
      optimizer: a function such as ``clipped_adam``: these settings to an optax transformation. Its
        state is what a learner keeps from epoch to epoch beside the weights.
      symmetries: turn and mirror, at random, the target of each epoch and every pair.
      colour_permutations: permute, at random, the colours of the target and of every pair.
      max_epochs: after so many an adaptation gives up. Its history has room for all of them.
      max_draws: of a program; 0: two for every five cells of the picture, but for a small one as
        many as it has cells, from 5 up to 10.
    """

    programs: tuple[int, ...] = (12,)
    temperatures: tuple[float, ...] = (0.9,)
    min_distinct: float = 0.9
    greedy: bool = False
    partners: int = 15
    keep: int = 4
    rewrite: Rewrite = canonical_program
    distinct: Distinct = keep_shortest
    select: Selection = select_best
    fraction: float = 0.25
    order: Order = order_sorted
    novelty: bool = True
    passes: int = 1
    minibatch: int = 4
    fresh: int = 0
    learning_rate: float = 2e-3
    clip: float = 1.0
    optimizer: Optimizer = clipped_adam
    symmetries: bool = True
    colour_permutations: bool = True
    max_epochs: int = 500
    max_draws: int = 0

    def __post_init__(self) -> None:
        check_types(self)
        self._at_least(1, ("passes", "minibatch", "max_epochs"))
        self._at_least(0, ("fresh", "max_draws", "partners", "keep"))
        self._check_sampling()
        self._check_learning()

    def _at_least(self, least: int, names: Sequence[str]) -> None:
        for name in names:
            if getattr(self, name) < least:
                bound = f"at least {least}" if least else "0 or more"
                raise ValueError(f"{name} must be {bound}, got {getattr(self, name)}")

    def _check_sampling(self) -> None:
        if not self.programs or any(count < 1 for count in self.programs):
            raise ValueError(f"programs must be at least 1, got {self.programs}")
        if len(self.programs) != len(self.temperatures):
            raise ValueError(
                f"programs {self.programs} and temperatures {self.temperatures} must pair up"
            )
        if any(not 0 < t <= MAX_TEMPERATURE for t in self.temperatures):
            raise ValueError(
                f"temperatures must be above 0 and at most {MAX_TEMPERATURE}, got"
                f" {self.temperatures}; for the best token everywhere there is greedy"
            )
        if not 0 <= self.min_distinct <= 1:
            raise ValueError(f"min_distinct must be 0 .. 1, got {self.min_distinct}")
        if self.partners and not self.others:
            raise ValueError("partners must be 0: one program an epoch and keep 0 leave no others")

    def _check_learning(self) -> None:
        if not 0 <= self.learning_rate < math.inf:
            raise ValueError(
                f"learning_rate must be positive, or 0 for none, got {self.learning_rate}"
            )
        if not 0 < self.clip < math.inf:
            raise ValueError(f"clip must be positive, got {self.clip}")
        if not 0 < self.fraction <= 1:
            raise ValueError(f"fraction must be above 0 and at most 1, got {self.fraction}")
        if self.steps > MOST:
            raise ValueError(f"passes {self.passes} make {self.steps} steps an epoch, above {MOST}")

    @classmethod
    def plain(cls, **changes: Any) -> "AdaptConfig":
        """Plain HER: without recombination, with the settings that were best without it."""
        settings: dict[str, Any] = {
            "partners": 0,
            "programs": (32,),
            "learning_rate": 6e-4,
            "symmetries": False,
            "max_epochs": 200,
        }
        return cls(**{**settings, **changes})

    @property
    def epoch_temperatures(self) -> tuple[float, ...]:
        """The temperature of each of the G programs of an epoch; 0 is greedy."""
        each = zip(self.programs, self.temperatures)
        return (0.0,) * self.greedy + sum(((t,) * count for count, t in each), ())

    @property
    def sampled(self) -> int:
        """G, programs sampled an epoch."""
        return sum(self.programs) + self.greedy

    @property
    def others(self) -> int:
        """The partners of each parent: no more than there are other parents."""
        return min(self.partners, self.sampled + self.keep - 1)

    @property
    def kept(self) -> int:
        """E, programs kept from epoch to epoch."""
        return self.keep if self.partners else 0

    @property
    def programs_an_epoch(self) -> int:
        """A: G sampled, then E kept, then a child of each; plain HER has the first alone."""
        return 2 * (self.sampled + self.kept) if self.partners else self.sampled

    @property
    def pairs(self) -> int:
        """K, the most pairs trained on in an epoch."""
        share = 1.0 if self.select is select_all else self.fraction
        return max(round(share * self.programs_an_epoch), 1)

    @property
    def steps(self) -> int:
        """The most optimiser steps of an epoch."""
        return self.passes * math.ceil(self.pairs / self.minibatch)

    @property
    def augments(self) -> bool:
        """Is there any augmentation?"""
        return self.symmetries or self.colour_permutations

    def random_augmentation(self, key: Array, task: Task) -> Augmentation:
        """One of those asked for, for a task."""
        return random_augmentation(key, task, self.symmetries, self.colour_permutations)

    def draws(self, cells: int) -> int:
        """N, the most draws of a program for a canvas of so many cells."""
        return self.max_draws or max(2 * cells // 5, min(max(cells, 5), 10))

    def draw_limit(self, task: Task) -> Array:
        """Likewise for the picture of a task, which may be smaller than its canvas: int32 []."""
        if self.max_draws:
            return jnp.int32(self.max_draws)
        cells = task.height * task.width
        return jnp.maximum(2 * cells // 5, jnp.clip(cells, 5, 10))


def check_config(config: AdaptConfig | None) -> AdaptConfig:
    """The settings that were given, or the default ones.

    Raises:
      ValueError: if they are something else.
    """
    if config is not None and not isinstance(config, AdaptConfig):
        raise ValueError(f"config must be an AdaptConfig, got {told(config)}")
    return config or AdaptConfig()
