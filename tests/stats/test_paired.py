"""Paired differences: coverage, a published example, and what must not change them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from rollouts.errors import ConfigError
from rollouts.stats import Interval, paired_difference, paired_test

Draw = Callable[[np.random.Generator, int], np.ndarray]
unit = st.floats(0, 1, allow_subnormal=False)
binary = st.lists(st.tuples(st.sampled_from([0.0, 1.0]), st.sampled_from([0.0, 1.0])), min_size=1, max_size=60)
graded = st.lists(st.tuples(unit, unit), min_size=1, max_size=30)
either = st.one_of(binary, graded)


def of_counts(wins: int, losses: int, ties: int) -> Interval:
    before = [0] * wins + [1] * losses + [1] * ties
    return paired_difference(before, [1] * wins + [0] * losses + [1] * ties)


@pytest.mark.parametrize("n", [20, 60])
@pytest.mark.parametrize(("gain", "loss"), [(0.2, 0.1), (0.1, 0.05), (0.05, 0.05), (0.3, 0.3), (0.01, 0.01)])
def test_coverage_on_binary_scores(n: int, gain: float, loss: float) -> None:
    """Exactly, by summing over all counts."""
    too_high = too_low = 0.0
    unequal = int(binom.ppf(1 - 1e-5, n, gain + loss))
    for wins, losses in itertools.product(range(unequal + 1), repeat=2):
        if wins + losses > unequal:
            continue
        chance = binom.pmf(wins + losses, n, gain + loss) * binom.pmf(wins, wins + losses, gain / (gain + loss))
        if chance > 1e-7:
            found = of_counts(wins, losses, n - wins - losses)
            too_high += chance * (found.low > gain - loss)
            too_low += chance * (found.high < gain - loss)
    assert max(too_high, too_low) <= 0.031


GRADED: dict[str, tuple[Draw, float]] = {
    "thirds": (lambda rng, n: rng.choice([-1 / 3, 0, 1 / 3, 2 / 3], n, p=[1 / 6, 1 / 2, 1 / 6, 1 / 6]), 1 / 9),
    "dense": (lambda rng, n: np.clip(rng.normal(0.05, 0.2, n), -0.85, 0.95), 0.05),
    "some move": (lambda rng, n: rng.random(n) * rng.choice([1, -1, 0], n, p=[0.18, 0.12, 0.7]), 0.03),
    "few move": (lambda rng, n: rng.random(n) * rng.choice([1, -1, 0], n, p=[0.05, 0.05, 0.9]), 0.0),
}
SKEWED: dict[str, tuple[Draw, float]] = {
    "many small gains, few large losses": (lambda rng, n: rng.choice([0.1, -0.5], n, p=[5 / 6, 1 / 6]), 0.0),
    "the same, rarer": (lambda rng, n: rng.choice([0.1, -0.5, 0], n, p=[0.25, 0.05, 0.7]), 0.0),
}


def misses(draw: Draw, truth: float, n: int, runs: int) -> tuple[float, float]:
    """How often the interval lies above and below the truth."""
    rng = np.random.default_rng(n)
    found = [paired_difference(np.zeros(n), draw(rng, n)) for _ in range(runs)]
    return sum(f.low > truth for f in found) / runs, sum(f.high < truth for f in found) / runs


@pytest.mark.parametrize("name", GRADED)
def test_coverage_on_few_graded_scores(name: str) -> None:
    above, below = misses(*GRADED[name], 20, 600)
    assert above + below <= 0.08


@pytest.mark.slow
@pytest.mark.parametrize("n", [60, 200])
@pytest.mark.parametrize("name", GRADED)
def test_coverage_on_graded_scores(name: str, n: int) -> None:
    above, below = misses(*GRADED[name], n, 1000)
    assert above + below <= 0.07
    assert above <= 0.035


@pytest.mark.slow
@pytest.mark.parametrize("name", SKEWED)
def test_the_bootstrap_follows_skewness(name: str) -> None:
    """The Wald bound alone lies above the truth 3.5 to 4 % of the time here, instead of 2.5 %."""
    above, below = misses(*SKEWED[name], 200, 1500)
    assert above <= 0.035
    assert below <= 0.035


def test_a_published_example() -> None:
    # Fagerland, Lydersen & Laake (2014), airway hyper-responsiveness before and after: 7 and 1 unequal of 21.
    found = of_counts(7, 1, 13)
    assert (found.low, found.high) == pytest.approx((0.026, 0.517), abs=5e-4)


def test_no_sample_unequal_lengths_and_bad_scores() -> None:
    assert math.isnan(paired_difference([], []).mean)
    with pytest.raises(ConfigError, match="not 1 and 2"):
        paired_difference([1], [1, 0])
    with pytest.raises(ConfigError, match="finite"):
        paired_difference([1, math.nan], [1, 0])
    with pytest.raises(ConfigError, match="finite"):
        paired_test([math.inf])


@pytest.mark.parametrize("n", [1, 5, 40])
def test_identical_scores_have_an_interval_about_zero(n: int) -> None:
    found = paired_difference([0.3] * n, [0.3] * n)
    assert found.mean == 0
    assert found.low == pytest.approx(-found.high)
    assert found.high == pytest.approx(1.96**2 / (n + 1.96**2), abs=1e-3)


@given(either)
def test_exchanging_the_prompts_turns_the_interval_round(pairs: list[tuple[float, float]]) -> None:
    before, after = np.array(pairs).T
    found, turned = paired_difference(before, after), paired_difference(after, before)
    assert -1 <= found.low <= found.mean <= found.high <= 1
    assert (turned.low, turned.high) == (-found.high, -found.low)
    assert paired_test(after - before) == paired_test(before - after)


@given(either, st.randoms(use_true_random=False))
def test_the_order_of_samples_does_not_matter(pairs: list[tuple[float, float]], random: object) -> None:
    mixed = list(pairs)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    found, again = paired_difference(*np.array(pairs).T), paired_difference(*np.array(mixed).T)
    assert (again.low, again.high) == pytest.approx((found.low, found.high), abs=1e-12)


@given(either, st.integers(1, 200))
def test_ties_narrow_the_interval_and_are_no_evidence(pairs: list[tuple[float, float]], ties: int) -> None:
    before, after = np.array(pairs).T
    more = [np.concatenate([scores, np.full(ties, 0.5)]) for scores in (before, after)]
    assert paired_test(more[1] - more[0]) == paired_test(after - before)
    few, many = paired_difference(before, after), paired_difference(*more)
    assert many.high - many.low < (few.high - few.low) * 1.05


@given(binary, st.floats(0.01, 1))
def test_binary_scores_of_another_size_scale(pairs: list[tuple[float, float]], size: float) -> None:
    before, after = np.array(pairs).T
    if (before != after).any():
        whole, part = paired_difference(before, after), paired_difference(before * size, after * size)
        assert (part.low, part.high) == pytest.approx((whole.low * size, whole.high * size), abs=1e-9)


@given(graded)
def test_the_same_scores_and_seed_give_the_same_interval(pairs: list[tuple[float, float]]) -> None:
    before, after = np.array(pairs).T
    assert paired_difference(before, after, seed=3) == paired_difference(before, after, seed=3)


def test_thousands_of_samples_are_resampled_in_blocks() -> None:
    moved = np.random.default_rng(0).normal(0.02, 0.2, 5000)
    found = paired_difference(np.zeros(5000), moved)
    error = moved.std() / math.sqrt(5000)
    assert (found.low, found.high) == pytest.approx(
        (moved.mean() - 1.96 * error, moved.mean() + 1.96 * error), abs=6e-4
    )
