"""Effect sizes: published values, symmetry, coverage."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rollouts.errors import ConfigError
from rollouts.stats import bootstrap_difference, cohens_d, hodges_lehmann, rank_biserial

# Hollander, Wolfe & Chicken (2014), example 3.1: depression factor of nine patients, before and after.
DEPRESSION = [-0.952, 0.147, -1.022, -0.430, -0.620, -0.590, -0.490, 0.080, -0.010]
MOVED = st.lists(st.floats(-1, 1).map(lambda x: round(x, 3)), min_size=3, max_size=25)


def test_hodges_lehmann_of_the_textbook() -> None:
    found = hodges_lehmann(DEPRESSION, 0.96)
    assert found.mean == pytest.approx(-0.46, abs=1e-9)
    assert (found.low, found.high) == pytest.approx((-0.786, -0.010), abs=1e-9)


def test_few_differences_have_no_interval() -> None:
    assert math.isinf(hodges_lehmann([0.1] * 5).low)
    assert hodges_lehmann([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]).low == 0.1
    assert hodges_lehmann([]).n == bootstrap_difference([]).n == 0
    assert math.isnan(cohens_d([0.1, 0.3]).mean)
    assert math.isinf(bootstrap_difference([0.1]).high)


@pytest.mark.parametrize("strata", [None, "ab" * 6, "a" * 12])
def test_equal_differences_say_nothing_about_the_noise(strata: str | None) -> None:
    levels = [0.1] * 12 if strata is None else [{"a": 0.1, "b": 0.3}[stratum] for stratum in strata]
    found = bootstrap_difference(levels, strata=strata)
    assert (found.low, found.high) == (-math.inf, math.inf)
    assert found.mean == pytest.approx(np.mean(levels))


def test_few_differences_get_students_t() -> None:
    """The example of Student (1908), "The probable error of a mean": the gain in sleep of ten patients, here nine."""
    moved = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0]
    found, by_hand = bootstrap_difference(moved), stats.ttest_1samp(moved, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((by_hand.low, by_hand.high))
    ten = bootstrap_difference([*moved, 2.0])
    assert min(moved) <= ten.low < ten.high <= max(moved)


def test_the_variance_is_pooled_over_strata_and_single_ones_share_it() -> None:
    # Sums of squares 0.02 and 0.08 within tasks of 2, with 2 degrees of freedom.
    moved, strata = [0.1, 0.3, 1.0, 1.4, 5.0], "aabbc"
    half = stats.t.ppf(0.975, 2) * math.sqrt(0.1 / 2 / 5)
    found = bootstrap_difference(moved, strata=strata)
    assert (found.low, found.high) == pytest.approx((np.mean(moved) - half, np.mean(moved) + half))
    assert bootstrap_difference(moved, strata="abcde") == bootstrap_difference(moved)


@given(MOVED)
def test_exchanging_the_methods_turns_every_effect_round(moved: list[float]) -> None:
    turned = [-x for x in moved]
    for effect in (hodges_lehmann, cohens_d):
        here, there = effect(moved), effect(turned)
        assert (here.mean, here.low, here.high) == pytest.approx((-there.mean, -there.high, -there.low), abs=1e-6)
    assert rank_biserial(turned) == -rank_biserial(moved)
    assert -1 <= rank_biserial(moved) <= 1
    assert bootstrap_difference(moved, resamples=99) == bootstrap_difference(moved[::-1], resamples=99)


def test_cohens_d_inverts_the_noncentral_t() -> None:
    moved = np.array([0.9, 1.4, -0.3, 2.2, 0.5, 1.1, 0.2, 1.9])
    found = cohens_d(moved)
    t, free = statistics.fmean(moved) / statistics.stdev(moved) * math.sqrt(8), 7
    assert stats.nct.cdf(t, free, found.low * math.sqrt(8)) == pytest.approx(0.975, abs=1e-6)
    assert stats.nct.cdf(t, free, found.high * math.sqrt(8)) == pytest.approx(0.025, abs=1e-6)
    assert found.mean == pytest.approx(t / math.sqrt(8) * (1 - 3 / (4 * free - 1)), rel=2e-3)


def test_the_extremes_of_rank_biserial() -> None:
    assert (rank_biserial([1, 2, 3]), rank_biserial([0, 0]), rank_biserial([-1])) == (1.0, 0.0, -1.0)
    assert rank_biserial(DEPRESSION) == pytest.approx((5 - 40) / 45)


@pytest.mark.parametrize("strata", [None, list("aaaaabbbbbccccc")])
def test_the_bootstrap_covers_with_few_runs(strata: list[str] | None) -> None:
    rng = np.random.default_rng(11)
    # With strata their own levels differ widely, and the mean over just these is what is asked for.
    level = 0.1 if strata is None else np.repeat([0.5, 0.0, -0.2], 5)
    truth = float(np.mean(level))
    held = 0
    for run in range(600):
        found = bootstrap_difference(level + rng.normal(0, 0.05, 15), strata=strata, resamples=499, seed=run)
        held += found.low <= truth <= found.high
        assert strata is None or found.high - found.low < 0.12
    assert held / 600 >= 0.92


@pytest.mark.parametrize("strata", ["aaa", "aaaaa", "aaaaaaaa", "aabbcc", "aaabcdef", "aaaaabbbbb", "aabbccddeeff"])
def test_the_interval_of_few_runs_covers(strata: str) -> None:
    rng, n = np.random.default_rng(3), len(strata)
    level = np.array([ord(stratum) / 10 for stratum in strata])
    found = [bootstrap_difference(level + rng.normal(0, 1, n), strata=strata, resamples=999) for _ in range(800)]
    assert np.mean([one.low <= level.mean() <= one.high for one in found]) >= 0.93


@pytest.mark.parametrize("draw", [lambda rng: rng.normal(0.3, 1, 12), lambda rng: 0.3 + rng.standard_t(2, 12)])
def test_the_shift_covers(draw) -> None:
    rng = np.random.default_rng(2)
    found = [hodges_lehmann(draw(rng)) for _ in range(500)]
    assert np.mean([one.low <= 0.3 <= one.high for one in found]) >= 0.93


def test_cohens_d_covers() -> None:
    rng = np.random.default_rng(4)
    found = [cohens_d(rng.normal(0.8, 1, 8)) for _ in range(400)]
    assert 0.92 <= np.mean([one.low <= 0.8 <= one.high for one in found]) <= 0.98


def test_strata_must_fit() -> None:
    with pytest.raises(ConfigError, match="one stratum for each"):
        bootstrap_difference([1.0, 2.0], strata=["a"])
