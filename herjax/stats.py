"""Honest statistics of success."""

import math

import numpy as np


def pass_at_k(samples: np.ndarray | int, correct: np.ndarray | int, k: int) -> np.ndarray:
    """Unbiased probability that at least one of k samples is correct (Chen et al., 2021, eq. 1).

    Args:
      samples: n, samples drawn for each task, int or int [...]; for fixed weights only.
      correct: c of these that were correct, same shape.
      k: at most the smallest n.

    Returns:
      1 - C(n - c, k) / C(n, k) for each task, float64, as a product for accuracy.

    Raises:
      ValueError: if k is not in 1 .. n.
    """
    samples, correct = np.broadcast_arrays(np.asarray(samples), np.asarray(correct))
    if k < 1 or np.any(samples < k):
        raise ValueError(f"k = {k} must be at least 1 and at most the samples, {samples.min()}")
    i = np.arange(k)
    ratios = 1.0 - correct[..., None] / (samples[..., None] - i)
    return 1.0 - np.prod(np.maximum(ratios, 0.0), axis=-1)


def wilson_interval(successes: int, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson score interval of a success rate, 95 % by default (Wilson, 1927).

    Raises:
      ValueError: unless 0 <= successes <= trials and trials >= 1.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes of {trials} trials")
    rate, scale = successes / trials, 1 + z * z / trials
    centre = (rate + z * z / (2 * trials)) / scale
    spread = z / scale * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    return max(0.0, centre - spread), min(1.0, centre + spread)


def percent(fraction: float) -> str:
    """In words, rounded down: only what is right in every pixel is 100 %."""
    return f"{math.floor(1000 * fraction + 1e-3) / 10:.1f} %"
