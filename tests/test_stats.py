import itertools
import math
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from herjax import stats
from herjax.dsl.executor import OUTSIDE
from herjax.dsl.ops import OPS, SOURCE_OPS
from herjax.stats import (
    LogRank,
    Runs,
    holm,
    log_rank,
    median_to_solve,
    pass_at_k,
    rate_difference,
    unsolved_share,
    wilson_interval,
)
from herjax.tasks.metrics import least_draws, pixel_accuracy
from herjax.tasks.task import make_task, pad_task
from tests import referee


@pytest.mark.parametrize(("n", "c", "k"), [(8, 0, 3), (8, 3, 2), (8, 7, 2), (6, 6, 6), (5, 1, 5)])
def test_pass_at_k_is_the_share_of_subsets_with_a_success(n, c, k):
    subsets = list(itertools.combinations([i < c for i in range(n)], k))
    assert pass_at_k(n, c, k) == pytest.approx(np.mean([any(s) for s in subsets]))


def test_pass_at_k_takes_arrays_and_rejects_k_out_of_range():
    assert np.allclose(pass_at_k(np.array([4, 4]), np.array([0, 2]), 1), [0, 0.5])
    for k in (0, 5, 1.5):
        with pytest.raises(ValueError, match=f"k = {k}"):
            pass_at_k(4, 2, k)
    assert pass_at_k(4, 2, jnp.int32(1)) == 0.5
    with pytest.raises(ValueError, match="samples and correct must be integers, got 4.5 and 2"):
        pass_at_k(4.5, 2, 1)
    for correct in (-1, 5):
        with pytest.raises(ValueError, match="correct must be"):
            pass_at_k(4, correct, 2)


def test_wilson_interval_solves_its_equation():
    # The bounds are the rates p with |s/n - p| = z * sqrt(p (1 - p) / n).
    for successes, trials in ((7, 10), (1, 30), (5, 5)):
        for p in wilson_interval(successes, trials):
            distance = abs(successes / trials - p)
            assert distance == pytest.approx(1.959964 * np.sqrt(p * (1 - p) / trials), abs=1e-9)
    assert wilson_interval(20, 20) == pytest.approx((0.8389, 1), abs=5e-5)
    for trials in range(1, 40):  # exactly, whatever rounding would make of it
        assert wilson_interval(0, trials)[0] == 0
        assert wilson_interval(trials, trials)[1] == 1
    with pytest.raises(ValueError, match="3 successes of 2"):
        wilson_interval(3, 2)


# Weeks of remission of 42 children with leukaemia (Freireich et al., 1963), as any textbook of
# survival analysis has them, such as Kleinbaum and Klein (2012), table 1.1.
TREATED = Runs(
    [6, 6, 6, 6, 7, 9, 10, 10, 11, 13, 16, 17, 19, 20, 22, 23, 25, 32, 32, 34, 35],
    [relapse == "1" for relapse in "111010100110001100000"],
)
PLACEBO = Runs([1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23], [True] * 21)


def test_kaplan_meier_as_published():
    # Kleinbaum and Klein, section 2.II: remissions of the treated and their survival.
    published = {6: 0.8571, 7: 0.8067, 10: 0.7529, 13: 0.6902, 16: 0.6275, 22: 0.5378, 23: 0.4482}
    curve = unsolved_share(TREATED)
    for week, share in published.items():
        assert curve.share[curve.times == week] == pytest.approx([share], abs=5e-5)
    assert curve.share[curve.times == 9] == curve.share[curve.times == 7]  # censored
    assert curve.share[-1] == curve.share[curve.times == 23]
    # By hand: log(-log(S)) +- z sqrt(sum d / (n (n - d))) / log(S) after the first three weeks.
    share, variance = 18 / 21, 3 / (21 * 18)
    spread = 1.959964 * np.sqrt(variance) / np.log(share)
    limits = [share ** np.exp(sign * spread) for sign in (-1, 1)]
    at = curve.times == 6
    assert [curve.low[at][0], curve.high[at][0]] == pytest.approx(limits, abs=1e-6)


def test_medians_as_published():
    # As SAS prints them (PROC LIFETEST, whose limits are on the scale of log(-log(share)), too).
    assert median_to_solve(TREATED) == (23, 13, None)
    assert median_to_solve(PLACEBO) == (8, 4, 11)


def test_log_rank_as_published():
    slower, faster = log_rank(TREATED, PLACEBO), log_rank(PLACEBO, TREATED)
    assert slower.z**2 == pytest.approx(16.79, abs=0.005)
    assert slower.z < 0 < faster.z
    # 4e-5 by the chi-square: of 100,000 splits some four.
    assert faster.p == slower.p < 2e-4


def counted(one, other):
    """The share of splits in which observed - expected is as far from 0, by the definition."""

    def differs(mine):
        total = 0.0
        for time in set(sampled[solved]):
            dies = solved & (sampled == time)
            at_risk = sampled >= time
            total += np.sum(dies[mine]) - np.sum(dies) * np.mean(mine[at_risk])
        return abs(total)

    sampled = np.concatenate([one.sampled, other.sampled])
    solved = np.concatenate([one.solved, other.solved]).astype(bool)
    splits = []
    for chosen in itertools.combinations(range(len(sampled)), len(one.sampled)):
        mine = np.zeros(len(sampled), bool)
        mine[list(chosen)] = True
        splits.append(differs(mine))
    first = np.arange(len(sampled)) < len(one.sampled)
    return np.mean(np.array(splits) >= differs(first) - 1e-9)


def test_p_is_that_of_all_splits():
    rng = np.random.default_rng(0)
    for _ in range(20):
        sizes = rng.integers(1, 6, 2)
        one, other = (Runs(rng.integers(1, 6, n), rng.random(n) < 0.7) for n in sizes)
        test = log_rank(one, other)
        if test != LogRank(0, 1):
            assert test.p == pytest.approx(counted(one, other))
    # The least there is of 5 and 5 runs: the chi-square would say 0.002.
    apart = log_rank(Runs([1, 2, 3, 4, 5], [True] * 5), Runs([9] * 5, [False] * 5))
    assert apart.p == pytest.approx(2 / 252)


def test_p_of_random_splits_is_near_that_of_all(monkeypatch):
    one, other = Runs([12, 24, 24, 36, 48, 60], [True] * 6), Runs([24, 48, 60, 60, 72], [True] * 5)
    exact = log_rank(one, other).p
    monkeypatch.setattr(stats, "MOST_SPLITS", 0)
    near = log_rank(one, other).p
    assert near != exact
    assert near == pytest.approx(exact, abs=0.005)
    stats._splits.cache_clear()  # as in the next process
    assert log_rank(one, other).p == near


def test_of_ten_and_ten_runs_all_splits_are_counted():
    one, other = (Runs(np.arange(1, 11) + shift, [True] * 10) for shift in (0, 2.5))
    counted = log_rank(one, other).p * math.comb(20, 10)
    assert counted == pytest.approx(round(counted), abs=1e-6)


def test_no_p_of_random_splits_is_zero():
    apart = log_rank(Runs(range(1, 31), [True] * 30), Runs([99] * 30, [False] * 30))
    assert apart.p == 1 / 100_001


def test_p_of_many_runs_is_that_of_the_chi_square():
    rng = np.random.default_rng(0)
    one, other = (Runs(rng.integers(1, 60, n), rng.random(n) < 0.7) for n in (90, 110))
    splits = log_rank(one, other)
    more = log_rank(Runs([*one.sampled, 60], [*one.solved, False]), other)
    assert more.p == pytest.approx(math.erfc(abs(more.z) / math.sqrt(2)))
    assert splits.p == pytest.approx(math.erfc(abs(splits.z) / math.sqrt(2)), abs=0.01)  # at 200
    assert splits.p != math.erfc(abs(splits.z) / math.sqrt(2))


def test_log_rank_where_nothing_can_differ():
    same, none = Runs([12] * 5, [True] * 5), Runs([672] * 5, [False] * 5)
    assert log_rank(same, same) == log_rank(none, none) == LogRank(0, 1)
    assert log_rank(same, none).p < 0.01


def test_medians_of_runs_that_all_end_alike():
    # Exact: that none of 6 exceeds the median, or all do, has the probability 2 / 64 = 0.03.
    assert median_to_solve(Runs([12] * 6, [True] * 6)) == (12, 12, 12)
    assert median_to_solve(Runs([12] * 5, [True] * 5)) == (12, 0, None)
    assert median_to_solve(Runs([672] * 20, [False] * 20)) == (None, None, None)
    half = Runs([10, 20, 672, 672], [True, True, False, False])
    assert median_to_solve(half).value == 20  # half of the runs are solved by then


def test_limits_where_all_or_none_are_solved_are_binomial():
    curve = unsolved_share(Runs(np.arange(1, 21), [True] * 20))
    assert curve.low[0] == pytest.approx(1 - 0.1684, abs=1e-4)  # 0 of 20
    assert 1 - curve.high[-1] == pytest.approx(0.8316, abs=1e-4)  # 20 of 20, by Clopper-Pearson
    assert curve.low[-1] == 0
    late = unsolved_share(Runs([1, 1, 1, 9, 9], [False] * 3 + [True] * 2))
    assert late.high[-1] == pytest.approx(1 - 0.025 ** (1 / 2))  # 2 of 2 that went on
    # At 10 nine runs were stopped: of the one that went on nothing is known but that.
    stopped = unsolved_share(Runs([10] * 9 + [100], [False] * 10))
    assert stopped.low == pytest.approx([0.025 ** (1 / 10), 0.025, 0.025])
    never = unsolved_share(Runs([672] * 20, [False] * 20))
    assert (never.times.tolist(), never.share.tolist()) == ([0, 672], [1, 1])
    assert never.low[0] == never.low[1]
    assert (1 - never.low[-1], never.high[-1]) == (pytest.approx(0.1684, abs=1e-4), 1)


@pytest.mark.parametrize(
    ("runs", "told"),
    [
        (Runs([], []), r"\(0,\) numbers"),
        (Runs([1, 2], [True]), r"\(2,\) numbers of programs for \(1,\)"),
        (Runs([4, 0], [True, True]), "0.0 programs"),
        (Runs([4, np.nan], [True, True]), "nan programs"),
    ],
)
def test_runs_that_cannot_be_are_rejected(runs, told):
    for function in (unsolved_share, median_to_solve, lambda r: log_rank(PLACEBO, r)):
        with pytest.raises(ValueError, match=told):
            function(runs)


def test_difference_of_rates_as_published():
    # Newcombe (1998), table II, method 10: (a) 56/70 - 48/80, (b) 9/10 - 3/10, (e) 5/56 - 0/29,
    # (h) 10/10 - 0/10.
    published = {
        (56, 70, 48, 80): (0.0524, 0.3339),
        (9, 10, 3, 10): (0.1705, 0.8090),
        (5, 56, 0, 29): (-0.0381, 0.1926),
        (10, 10, 0, 10): (0.6075, 1.0000),
    }
    for counts, interval in published.items():
        assert rate_difference(*counts) == pytest.approx(interval, abs=6e-5)
    with pytest.raises(ValueError, match="0 successes of 0"):
        rate_difference(3, 4, 0, 0)


def test_holm_by_hand():
    # In order 0.005 * 4, 0.01 * 3, 0.03 * 2, and 0.04 * 1, which is less than 0.06.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == pytest.approx([1, 1])
    assert len(holm([])) == 0
    for p in (-0.1, 1.1, np.nan):
        with pytest.raises(ValueError, match="p values"):
            holm([0.5, p])


def test_scipy_is_loaded_when_it_is_needed():
    code = "import sys, herjax; sys.exit('scipy.stats' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_right_picture_of_any_shape_has_accuracy_1():
    """Of many pictures at once, where XLA divides by multiplying."""
    accuracy = jax.jit(jax.vmap(pixel_accuracy, (0, None)))
    for rows, cols in itertools.combinations_with_replacement(range(1, 31), 2):
        target = pad_task(make_task(np.zeros((rows, cols), int)), 30).target
        wrong = target.at[0, 0].set(1)
        found = np.asarray(accuracy(jnp.stack([target, wrong]), target))
        assert found[0] == 1.0 > found[1], (rows, cols)


def test_pixel_accuracy_counts_only_the_canvas():
    target = np.array([[1, 2, OUTSIDE], [3, 4, OUTSIDE]])
    pictures = np.stack([target, target * 0, np.where(target == 4, 9, target)])
    assert np.allclose(pixel_accuracy(jnp.array(pictures), jnp.array(target)), [1, 0, 0.75])


def test_least_draws_is_a_bound_and_often_near():
    rng = np.random.default_rng(0)
    exact = 0
    for case in range(400):
        blank = np.full(rng.integers(1, 8, 2), rng.integers(10))
        program = referee.random_program(rng, case % 6, *blank.shape, ops=SOURCE_OPS)
        least = least_draws(referee.execute(program, blank), blank)
        assert least <= len(program)
        exact += least == len(program)
    assert exact > 100


def test_least_draws_counts_colours_and_changes_along_a_line():
    blank = np.zeros((1, 8), int)
    assert least_draws(blank, blank) == 0
    assert least_draws(np.array([[1, 0, 1, 0]]), np.array([[1, 2, 1, 3]])) == 1  # colour 0
    assert least_draws(np.arange(8)[None], blank) == 7
    assert least_draws(np.array([[0, 1, 0, 1, 0, 1, 0, 1]]), blank) == 4
    assert least_draws(np.array([[0, 1, 0, 1, 0, 1, 0, 1]]).T, blank.T) == 4
    assert least_draws(np.array([[1, 2, 1, 2, 1, 2, 1, 0]]), blank) == 4


def test_least_draws_of_more_calls_is_a_bound():
    rng = np.random.default_rng(0)
    lower = 0
    for case in range(200):
        blank = np.full(rng.integers(3, 8, 2), rng.integers(10))
        program = referee.random_program(rng, 1 + case % 3, *blank.shape)
        target = referee.execute(program, blank)
        assert least_draws(target, blank, len(OPS)) <= len(program)
        lower += least_draws(target, blank) > len(program)
    assert lower  # of outlines the bound for the source's calls is none
