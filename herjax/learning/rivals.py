"""What else could change the weights in an epoch: the rivals of hindsight, as learners.

They share sampler, executor, recombination, optimiser and training step with ``hindsight``, sample
as many programs, and take as many optimiser steps (``AdaptConfig.steps``).

The supervised ones train on (input, picture) -> program as hindsight does, with other pairs. The
policy gradients make a program likelier by its advantage, which is a function of the rewards of its
group: here the programs of an epoch are the group, since there is one task. With recombination the
kept programs and the children are in it, although no weights sampled them.

Letters: G programs sampled an epoch, A all of them, P those of a group, N draws, K pairs.
"""

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from herjax.decoder.model import Decoder
from herjax.dsl.executor import draw_count
from herjax.dsl.grammar import OP_SLOT, encode, held_tokens
from herjax.dsl.ops import END
from herjax.learning.attempts import Attempts, in_hindsight
from herjax.learning.config import AdaptConfig
from herjax.learning.hindsight import choose_pairs, train_on
from herjax.learning.learner import Update, make_optimizer, program_log_probs
from herjax.learning.train import TrainState, apply_gradients
from herjax.runtime.sharding import left_to_compiler
from herjax.tasks.augmentation import augment_program
from herjax.tasks.random import random_program
from herjax.tasks.task import Task

DREAM_DRAWS = (6, 30)
CLIP = 0.2
MAX_AT = 8

# ---- Supervised ----------------------------------------------------------------------------------


def best_of_n(
    model: Decoder,
    train: TrainState,
    task: Task,
    attempts: Attempts,
    config: AdaptConfig,
    key: Array,
) -> Update:
    """No learning: as many samples as there are, and the best of them."""
    return Update(train, jnp.float32(0.0), jnp.zeros_like(attempts.new))


def self_training(
    model: Decoder,
    train: TrainState,
    task: Task,
    attempts: Attempts,
    config: AdaptConfig,
    key: Array,
) -> Update:
    """The pairs of hindsight with the real target for a label (PLAD's ST, Jones et al., 2022)."""
    own = jnp.zeros(config.pairs, bool)
    return _relabelled(model, train, task, attempts, config, key, own)


def hindsight_and_self_training(
    model: Decoder,
    train: TrainState,
    task: Task,
    attempts: Attempts,
    config: AdaptConfig,
    key: Array,
) -> Update:
    """Every other pair has the real target for a label (PLAD's LEST + ST, Jones et al., 2022)."""
    own = jnp.arange(config.pairs) % 2 == 0
    return _relabelled(model, train, task, attempts, config, key, own)


def _relabelled(
    model: Decoder,
    train: TrainState,
    task: Task,
    attempts: Attempts,
    config: AdaptConfig,
    key: Array,
    own: Array,
) -> Update:
    """Hindsight whose pairs keep their own picture or not, bool [K]: the others get the target."""
    pairs, chosen = choose_pairs(attempts, config, key)
    picture = jnp.where(own[:, None, None], pairs.picture, task.target)
    pairs = dataclasses.replace(pairs, picture=picture)
    train, loss = train_on(model, train, task, pairs, jnp.sum(chosen), config, key)
    return Update(train, loss, chosen)


def longer_dream(
    model: Decoder,
    train: TrainState,
    task: Task,
    attempts: Attempts,
    config: AdaptConfig,
    key: Array,
) -> Update:
    """Random programs of 6 .. 30 draws on the task's input, no matter what was attempted.

    They have pretraining's distribution but for the number of draws (the sleep phase of wake-sleep,
    Hinton et al., 1995).
    """
    draws = attempts.pairs.program.shape[1]
    least, most = (min(bound, draws) for bound in DREAM_DRAWS)
    dream = partial(random_program, max_draws=most, ops=model.config.ops, min_draws=least)
    keys = jax.random.split(jax.random.fold_in(key, config.steps), config.pairs)
    programs = jax.vmap(lambda key: dream(key, task.height, task.width))(keys)
    programs = jnp.pad(programs, ((0, 0), (0, draws - most), (0, 0)))
    count = jnp.where(attempts.solved, 0, config.pairs)
    train, loss = train_on(
        model, train, task, in_hindsight(programs, task, config), count, config, key
    )
    return Update(train, loss, jnp.zeros_like(attempts.new))


# ---- Policy gradients ----------------------------------------------------------------------------


def grpo_advantage(reward: Array) -> Array:
    """Deviation from the mean reward [P], in standard deviations (GRPO, 2402.03300)."""
    reward = reward - reward[0]  # equal ones are exactly 0: Adam makes a step of any rounding error
    return (reward - jnp.mean(reward)) / (jnp.std(reward, ddof=min(len(reward) - 1, 1)) + 1e-4)


def rloo_advantage(reward: Array) -> Array:
    """Reward [P] less the mean of the others' (RLOO, 2402.14740)."""
    reward = reward - reward[0]  # as in ``grpo_advantage``
    return (reward - jnp.mean(reward)) * len(reward) / max(len(reward) - 1, 1)


def entropic_advantage(reward: Array) -> Array:
    """exp(beta r) [P] against the mean of the others', less 1 (TTT-Discover, 2601.16175).

    beta is such that the softmax of beta r is ln 2 nats from uniform, if there is one: 0 where all
    are equal. No advantage exceeds 1,000, which two programs alone would.
    """
    if len(reward) == 1:
        return jnp.zeros_like(reward)
    count, reward = len(reward), reward - jnp.max(reward)

    def distance(beta: Array) -> Array:
        log_share = jax.nn.log_softmax(beta * reward)
        return jnp.sum(jnp.exp(log_share) * log_share) + jnp.log(count)

    def halve(_: int, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = (low + high) / 2
        far = distance(middle) > jnp.log(2.0)
        return jnp.where(far, low, middle), jnp.where(far, middle, high)

    spread = jnp.max(reward) - jnp.min(reward)
    most = jnp.where(spread > 0, 1e4, 0.0)
    beta, _ = jax.lax.fori_loop(0, 40, halve, (jnp.float32(0.0), most))
    weight = jnp.exp(beta * reward)
    others = (jnp.sum(weight) - weight) / (count - 1)
    return weight / jnp.maximum(others, 1e-3) - 1.0


def max_at_k_advantage(reward: Array, k: int = MAX_AT) -> Array:
    """What a program adds to the best of k, the mean over all k - 1 others (2505.15201).

    The unbiased gradient of the expected best reward of k samples, with the best of the k - 1
    others for a baseline: k / P times the mean of max(r_i - the best of k - 1 others, 0).
    """
    count = len(reward)
    k = min(k, count)
    if k == 1:  # there are no k - 1 others: the mean of all others is the baseline
        return rloo_advantage(reward) / count
    order = jnp.argsort(reward)
    ranked = reward[order]
    gain = jnp.maximum(ranked[:, None] - ranked[None, :], 0.0)
    # Of the sets of k - 1 others, the share whose best has j programs below it.
    share = np.array([_binomial(j, k - 2) for j in range(count)]) / _binomial(count - 1, k - 1)
    below = np.tril(np.broadcast_to(share, (count, count)), -1)
    added = jnp.sum(gain * below, axis=1) * k / count
    return jnp.zeros_like(reward).at[order].set(added)


def _binomial(n: int, k: int) -> float:
    """n choose k."""
    return float(np.prod((n - np.arange(k)) / (np.arange(k) + 1))) if k >= 0 else 0.0


def group_of(task: Task, attempts: Attempts) -> tuple[Array, Array, Array, Array]:
    """What the policy gradients learn from: all A programs of an epoch, as said or as one would.

    In the first epoch none are kept yet: sampled ones stand in for those that are not there.

    Returns:
      Tokens int32 [P, N, 4] for ``attempts.seen``; temperatures float32 [P], 1 for what was not
      sampled; 1 or 0 for each token, float32 [P, N + 1, 4], 0 for the END of a program that was
      cut off; and rewards float32 [P], the share of pixels right.
    """
    sampled = len(attempts.tokens)
    others = attempts.pairs.program[sampled:]
    moved = jax.vmap(partial(augment_program, attempts.augmentation), (0, None))(others, task)
    width = jnp.broadcast_to(attempts.seen.width, len(others))
    place = jnp.arange(len(others))
    kept = (len(others) - sampled) // 2  # behind them stands a child of each
    absent, stand_in = (draw_count(others) == 0) & (place < kept), place % sampled

    def whole(said: Array, own: Array | float) -> Array:
        shape = (len(others), *said.shape[1:])
        missing = absent.reshape(-1, *(1,) * (said.ndim - 1))
        others_are = jnp.where(missing, said[stand_in], jnp.broadcast_to(own, shape))
        return jnp.concatenate([said, others_are])

    reward = attempts.pairs.accuracy
    encoded = encode(moved, width)
    return (
        whole(attempts.tokens, encoded),
        whole(attempts.temperature, 1.0),
        whole(attempts.said, held_tokens(encoded).at[:, -1].set(False)).astype(jnp.float32),
        whole(reward[:sampled], reward[sampled:]),
    )


def token_objective(ratio: Array, held: Array, advantage: Array) -> Array:
    """Mean over programs of the advantage times the sum of the tokens' ratios (REINFORCE).

    Args:
      ratio: float32 [P, N + 1, 4], of the probability of each token now to that when it was said.
      held: likewise, 1 where there is a token.
      advantage: float32 [P].
    """
    return jnp.mean(advantage * jnp.sum(ratio * held, axis=(1, 2)))


def clipped_objective(ratio: Array, held: Array, advantage: Array) -> Array:
    """GRPO's: clipped ratios, their mean over a program's tokens, the mean over programs.

    Arguments as of ``token_objective``.
    """
    advantage = advantage[:, None, None]
    least = jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - CLIP, 1 + CLIP) * advantage)
    means = jnp.sum(least * held, axis=(1, 2)) / jnp.maximum(jnp.sum(held, axis=(1, 2)), 1.0)
    return jnp.mean(means)


def _ascend(
    model: Decoder,
    train: TrainState,
    task: Task,
    attempts: Attempts,
    config: AdaptConfig,
    key: Array,
    advantage_of: Callable[[Array], Array],
    objective: Callable[[Array, Array, Array], Array] = token_objective,
    reward_of: Callable[[Array], Array] = lambda accuracy: accuracy,
) -> Update:
    """One pass over the group, in equal minibatches, no more than hindsight takes steps at most.

    The first step is the policy gradient itself; those after it weigh each token by its ratio. A
    group of equal rewards teaches nothing: then no step is taken.
    """
    tokens, temperature, held, accuracy = group_of(task, attempts)
    advantage = advantage_of(reward_of(accuracy))
    steps = math.gcd(config.steps, len(tokens))
    order = jax.random.permutation(key, len(tokens)).reshape(steps, -1)
    optimizer, idle = make_optimizer(config), attempts.solved | ~jnp.any(advantage)

    def one_pass(length: int, train: TrainState) -> tuple[TrainState, Array]:
        def log_probs(params: dict[str, Any], which: Array) -> Array:
            said = tokens[which, :length]
            return program_log_probs(model, params, attempts.seen, said, temperature[which])

        before = log_probs(train.params, jnp.arange(len(tokens)))

        def loss(params: dict[str, Any], which: Array) -> Array:
            ratio = jnp.exp(log_probs(params, which) - before[which])
            return -objective(ratio, held[which, : length + 1], advantage[which])

        def step(i: Array, carry: tuple[TrainState, Array]) -> tuple[TrainState, Array]:
            state, total = carry
            value, grads = jax.value_and_grad(loss)(state.params, order[i])
            return apply_gradients(state, grads, optimizer), total + value / steps

        return jax.lax.fori_loop(0, jnp.where(idle, 0, steps), step, (train, jnp.float32(0.0)))

    train, loss = _by_length(tokens, one_pass, train)
    return Update(train, loss, jnp.broadcast_to(~idle, attempts.new.shape))


def _by_length(tokens: Array, one_pass: Callable, train: TrainState) -> tuple[TrainState, Array]:
    """``one_pass(length, train)``; CPUs do not pay for draws that no program has."""
    draws = tokens.shape[1]
    short, whole = partial(one_pass, 2 * draws // 5), partial(one_pass, draws)
    if left_to_compiler():  # devices that choose different branches must not communicate in them
        return whole(train)
    # A program as long as its place was cut off, so the longest must be shorter.
    fits = jnp.max(jnp.sum(tokens[..., OP_SLOT] != END, axis=1)) < 2 * draws // 5

    def choose(train: TrainState) -> tuple[TrainState, Array]:
        return jax.lax.cond(fits, short, whole, train)

    return jax.lax.platform_dependent(train, cpu=choose, default=whole)


def grpo(
    model: Decoder,
    train: TrainState,
    task: Task,
    attempts: Attempts,
    config: AdaptConfig,
    key: Array,
) -> Update:
    """Group-relative policy optimisation, without a KL term (Shao et al., 2402.03300)."""
    return _ascend(model, train, task, attempts, config, key, grpo_advantage, clipped_objective)


def grpo_solved(
    model: Decoder,
    train: TrainState,
    task: Task,
    attempts: Attempts,
    config: AdaptConfig,
    key: Array,
) -> Update:
    """GRPO with the reward 1 for the target and 0 for all else: of no use until it is solved."""
    solved = lambda accuracy: (accuracy == 1.0).astype(jnp.float32)  # noqa: E731
    return _ascend(
        model, train, task, attempts, config, key, grpo_advantage, clipped_objective, solved
    )


def rloo(
    model: Decoder,
    train: TrainState,
    task: Task,
    attempts: Attempts,
    config: AdaptConfig,
    key: Array,
) -> Update:
    """REINFORCE, leave one out (Ahmadian et al., 2402.14740).

    With one group Dr. GRPO (2503.20783) differs by the constant P / (P - 1): under Adam by nothing.
    """
    return _ascend(model, train, task, attempts, config, key, rloo_advantage)


def entropic(
    model: Decoder,
    train: TrainState,
    task: Task,
    attempts: Attempts,
    config: AdaptConfig,
    key: Array,
) -> Update:
    """The adaptive entropic objective of TTT-Discover (2601.16175)."""
    return _ascend(model, train, task, attempts, config, key, entropic_advantage)


def max_at_k(
    model: Decoder,
    train: TrainState,
    task: Task,
    attempts: Attempts,
    config: AdaptConfig,
    key: Array,
) -> Update:
    """Towards the best of 8 samples (PKPO, Walder and Karkhanis, 2505.15201)."""
    return _ascend(model, train, task, attempts, config, key, max_at_k_advantage)
