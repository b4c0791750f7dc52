"""Optimisers of an adaptation: functions for ``AdaptConfig.optimizer``."""

from collections.abc import Callable
from typing import Any

import optax

from herjax.runtime.sharding import whole

Optimizer = Callable[[Any], optax.GradientTransformation]  # of an AdaptConfig

# What devices whose members end at different times do not exchange pieces of.
gathered = optax.stateless(lambda updates, _: whole(updates))


def clipped_adam(config: Any) -> optax.GradientTransformation:
    """Adam with a constant ``learning_rate``, gradients clipped to ``clip`` (source iteration 5).

    On one flat array of all parameters: three kernels to compile instead of three for each.
    """
    adam = optax.adam(config.learning_rate)
    clip = optax.clip_by_global_norm(config.clip)
    return optax.flatten(optax.chain(gathered, clip, adam, gathered))
