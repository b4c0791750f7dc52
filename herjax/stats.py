"""Honest statistics of success.

SciPy is imported where it is needed: scipy.stats takes longer to import than all of herjax.
"""

import functools
import itertools
import math
import operator
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike


def pass_at_k(samples: ArrayLike, correct: ArrayLike, k: int) -> np.ndarray:
    """Unbiased probability that at least one of k samples is correct (Chen et al., 2021, eq. 1).

    Args:
      samples: n, samples drawn for each task, int or int [...]; for fixed weights only.
      correct: c of these that were correct, same shape.
      k: at most the smallest n.

    Returns:
      1 - C(n - c, k) / C(n, k) for each task, float64, as a product for accuracy.

    Raises:
      ValueError: if k is no integer in 1 .. n, or c none in 0 .. n.
    """
    samples, correct = np.broadcast_arrays(np.asarray(samples), np.asarray(correct))
    if samples.dtype.kind not in "iu" or correct.dtype.kind not in "iu":
        raise ValueError(f"samples and correct must be integers, got {samples} and {correct}")
    if np.any((correct < 0) | (correct > samples)):
        raise ValueError("correct must be at least 0 and at most the samples")
    whole = hasattr(k, "__index__") and np.ndim(k) == 0
    if not whole or (k := operator.index(k)) < 1 or np.any(samples < k):
        raise ValueError(f"k = {k} must be an integer, 1 .. the samples, {samples.min()}")
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
    low, high = centre - spread, centre + spread
    return 0.0 if successes == 0 else low, 1.0 if successes == trials else high  # not rounded


def percent(fraction: float) -> str:
    """In words, rounded down: only what is right in every pixel is 100 %."""
    return f"{math.floor(1000 * fraction + 1e-3) / 10:.1f} %"


MOST_RUNS, MOST_SPLITS, RANDOM_SPLITS = 200, 200_000, 100_000  # of ``log_rank``


# ---- How long it takes, with runs that ended at their budget unsolved ---------------------------


class Runs(NamedTuple):
    """Runs of one kind. Those not solved are right censored at their budget.

    Attributes:
      sampled: [n] programs sampled until solved, or the whole budget.
      solved: bool [n].
    """

    sampled: ArrayLike
    solved: ArrayLike

    @classmethod
    def of(cls, results: Sequence[Any] | Mapping[Any, Any]) -> "Runs":
        """Of results of ``adapt`` and ``adapt_population``, or lines of ``results.jsonl``.

        A dict of results by index will do, too.
        """
        results = list(results.values()) if isinstance(results, Mapping) else results
        names = ("programs_sampled", "solved")
        rows = [[r[n] if isinstance(r, dict) else getattr(r, n) for n in names] for r in results]
        return cls([sampled for sampled, _ in rows], [solved for _, solved in rows])


class Unsolved(NamedTuple):
    """The share of runs still unsolved, a step function: each share holds from its time on.

    Attributes:
      times: float64 [T], rising; 0, then all times at which a run ended.
      share: float64 [T], falling from 1.
      low: float64 [T], 95 % limits of each share by itself.
      high: float64 [T].
    """

    times: np.ndarray
    share: np.ndarray
    low: np.ndarray
    high: np.ndarray


class Median(NamedTuple):
    """Of the programs to solve, with its 95 % interval; None is "not reached"."""

    value: float | None
    low: float | None
    high: float | None


class LogRank(NamedTuple):
    """What ``log_rank`` found.

    Attributes:
      z: above 0 if the first sample is the faster; its square is the chi-square.
      p: two-sided.
    """

    z: float
    p: float


def unsolved_share(runs: Runs) -> Unsolved:
    """Kaplan-Meier estimate with limits from Greenwood's variance of log(-log(share)).

    Where the share is 1 or 0 that variance is not defined; there the limits are exact binomial
    ones (Clopper and Pearson, 1934), of the runs that went on so long, and of the
    d that were solved.

    Kaplan and Meier (1958); Kalbfleisch and Prentice (1980), section 1.4.
    """
    from scipy import stats

    sampled, solved = check_runs(runs)
    curve = stats.ecdf(stats.CensoredData.right_censored(sampled, ~solved)).sf
    with warnings.catch_warnings():  # of the shares 0 and 1
        warnings.simplefilter("ignore", RuntimeWarning)
        limits = curve.confidence_interval(method="log-log")
    share = curve.probabilities
    low, high = limits.low.probabilities, limits.high.probabilities
    ends = curve.quantiles
    at_risk = [np.sum(sampled >= end) for end in (*ends, ends[-1])]
    begin_low, *none_solved = 0.025 ** (1 / np.array(at_risk))
    low, high = np.where(share >= 1, none_solved, low), np.where(share >= 1, 1, high)
    if share[-1] <= 0:
        low[-1], high[-1] = 0, 1 - 0.025 ** (1 / solved.sum())
    begin = ([0], [1], [begin_low], [1])
    parts = (ends, share, low, high)
    return Unsolved(*(np.concatenate(pair).astype(float) for pair in zip(begin, parts)))


def median_to_solve(runs: Runs) -> Median:
    """Kaplan-Meier median of the programs to solve: when half of the runs are solved.

    The interval holds the times at which a share of one half is within the limits of
    ``unsolved_share``: Brookmeyer and Crowley (1982), on the scale of log(-log(share)).
    """
    curve = unsolved_share(runs)
    reached = ((curve.times[part <= 0.5 + 1e-9]) for part in (curve.share, curve.low, curve.high))
    return Median(*(float(times[0]) if len(times) else None for times in reached))


def log_rank(one: Runs, other: Runs) -> LogRank:
    """Log-rank test that two samples take equally long (Mantel, 1966).

    Its p is the share of the splits of all runs into samples of these sizes under which they differ
    as much: of all splits if there are at most 200,000, as of 10 and 10 runs, else of 100,000, the
    same in each call. The usual one, of a chi-square, is too small with few runs: of 5 and 5 runs
    no p is below 2 / 252. Of more than 200 runs it is right, and taken.

    Samples that cannot differ, such as two in which nothing is solved, have z = 0 and p = 1.
    """
    from scipy import stats

    pairs = [check_runs(runs) for runs in (one, other)]
    samples = [stats.CensoredData.right_censored(sampled, ~solved) for sampled, solved in pairs]
    with np.errstate(invalid="ignore"):  # 0 / 0 where they cannot differ
        result = stats.logrank(*samples)
    if np.isnan(result.statistic):
        return LogRank(0.0, 1.0)
    sampled, solved = map(np.concatenate, zip(*pairs))
    if len(sampled) > MOST_RUNS:
        return LogRank(float(result.statistic), float(result.pvalue))
    first = len(pairs[0][0])
    smaller = min(first, len(sampled) - first)
    exact = math.comb(len(sampled), smaller) <= MOST_SPLITS
    # What a run adds to observed - expected, which has the same variance under every split.
    times, counts = np.unique(sampled[solved], return_counts=True)
    hazard = counts / np.sum(sampled >= times[:, None], axis=1)
    scores = solved - np.sum(hazard * (sampled[:, None] >= times), axis=1)
    splits = _splits(len(sampled), smaller, exact)
    sums = np.abs(np.sort(scores)[splits].sum(axis=1))  # all scores together sum up to 0
    as_far = np.sum(sums >= abs(scores[:first].sum()) - 1e-9)
    p = as_far / len(sums) if exact else (1 + as_far) / (1 + len(sums))
    return LogRank(float(result.statistic), float(p))


@functools.lru_cache(8)
def _splits(runs: int, of_one: int, exact: bool) -> np.ndarray:
    """Which runs are of one sample, uint8 [S, of_one]: in all splits, or in random ones."""
    if exact:
        return np.array([*itertools.combinations(range(runs), of_one)], np.uint8)
    rng = np.random.default_rng(0)
    return np.argsort(rng.random((RANDOM_SPLITS, runs)), axis=1)[:, :of_one].astype(np.uint8)


def check_runs(runs: Runs) -> tuple[np.ndarray, np.ndarray]:
    """float64 [n] and bool [n].

    Raises:
      ValueError: without runs, at unequal lengths, or if a run has sampled nothing.
    """
    sampled, solved = np.asarray(runs.sampled, float), np.asarray(runs.solved, bool)
    if sampled.ndim != 1 or sampled.shape != solved.shape or not len(sampled):
        raise ValueError(f"{sampled.shape} numbers of programs for {solved.shape} runs")
    if not np.all(sampled > 0):
        raise ValueError(f"{sampled.min()} programs sampled")
    return sampled, solved


# ---- Differences --------------------------------------------------------------------------------


def rate_difference(
    successes: int, trials: int, other_successes: int, other_trials: int, z: float = 1.959964
) -> tuple[float, float]:
    """Interval of the difference of two success rates, 95 % by default (Newcombe, 1998, method 10).

    Unlike a bootstrap it has a width where a rate is 0 or 1.

    Raises:
      ValueError: as ``wilson_interval``.
    """
    low, high = wilson_interval(successes, trials, z)
    other_low, other_high = wilson_interval(other_successes, other_trials, z)
    rate, other = successes / trials, other_successes / other_trials
    below = math.hypot(rate - low, other_high - other)
    above = math.hypot(high - rate, other - other_low)
    return rate - other - below, rate - other + above


def holm(p: Sequence[float]) -> np.ndarray:
    """P values corrected for their number, in the order given (Holm, 1979).

    The smallest of m is multiplied by m, the next by m - 1, and so on; none becomes smaller than
    the one before it, or larger than 1.

    Raises:
      ValueError: if one is not in 0 .. 1.
    """
    values = np.asarray(p, float)
    if not np.all((values >= 0) & (values <= 1)):
        raise ValueError(f"p values {values.tolist()}")
    order = np.argsort(values, kind="stable")
    raised = values[order] * np.arange(len(values), 0, -1)
    corrected = np.empty_like(values)
    corrected[order] = np.minimum(np.maximum.accumulate(raised), 1)
    return corrected
