"""Intervals: coverage by simulation on scores with a known mean, extremes, and bad input."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollouts.errors import ConfigError
from rollouts.stats import Interval, mean_interval

Draw = Callable[[np.random.Generator, int], np.ndarray]
unit = st.floats(0, 1, allow_subnormal=False)


def _f1_like(rng: np.random.Generator, n: int) -> np.ndarray:
    u = rng.random(n)
    return np.where(u < 0.4, 1.0, np.where(u < 0.6, 0.0, rng.beta(2, 2, n)))


CONTINUOUS: dict[str, tuple[Draw, float]] = {
    "uniform": (lambda rng, n: rng.random(n), 0.5),
    "arcsine": (lambda rng, n: rng.beta(0.5, 0.5, n), 0.5),
    "skewed": (lambda rng, n: rng.beta(8, 1, n), 8 / 9),
    "f1": (_f1_like, 0.6),
    "narrow": (lambda rng, n: rng.beta(40, 40, n), 0.5),
    "likert": (lambda rng, n: rng.choice([0, 0.25, 0.5, 0.75, 1], n, p=[0.05, 0.05, 0.1, 0.3, 0.5]), 0.7875),
}


def _coverage(draws: int, interval: Callable[[], Interval], truth: float) -> float:
    hits = 0
    for _ in range(draws):
        found = interval()
        hits += found.low <= truth <= found.high
    return hits / draws


@pytest.mark.parametrize("n", [20, 60, 150, 300])
@pytest.mark.parametrize("name", CONTINUOUS)
def test_coverage_of_the_mean_of_continuous_scores(name: str, n: int) -> None:
    draw, truth = CONTINUOUS[name]
    rng = np.random.default_rng(n)
    assert 0.93 <= _coverage(2000, lambda: mean_interval(draw(rng, n)), truth) <= 0.99


@pytest.mark.parametrize("n", [20, 60, 150, 300])
@pytest.mark.parametrize("p", [0.05, 0.3, 0.5, 0.9])
def test_coverage_of_the_mean_of_binary_scores(n: int, p: float) -> None:
    """Exactly, by summing over all counts: Wilson's coverage swings about the nominal, with dips at the ends."""
    covered = 0.0
    for wins in range(n + 1):
        found = mean_interval([1.0] * wins + [0.0] * (n - wins))
        if found.low <= p <= found.high:
            covered += math.comb(n, wins) * p**wins * (1 - p) ** (n - wins)
    assert 0.92 <= covered <= 0.985


def test_wilson_worked_by_hand() -> None:
    found = mean_interval([1] * 8 + [0] * 2)
    assert (found.mean, found.n) == (0.8, 10)
    assert (found.low, found.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_constant_scores_leave_room_for_what_was_not_met(value: float) -> None:
    few, many = mean_interval([value] * 10), mean_interval([value] * 1000)
    assert 0 <= few.low <= value <= few.high <= 1
    assert few.high - few.low > 0.2
    assert many.high - many.low < 0.01


def test_constant_extremes_are_wilson() -> None:
    assert mean_interval([0.0] * 20).high == pytest.approx(1.959964**2 / (20 + 1.959964**2), abs=1e-6)


def test_no_and_one_value() -> None:
    nothing = mean_interval([])
    assert math.isnan(nothing.mean)
    assert (nothing.low, nothing.high, nothing.n) == (-math.inf, math.inf, 0)
    assert nothing.to_json() == {"mean": None, "low": None, "high": None, "n": 0}
    for value in (0.0, 0.4, 1.0, -3.0, 7.0):
        one = mean_interval([value])
        assert one.low <= value <= one.high
        assert one.high - one.low > 0.5


def test_a_few_scores_get_students_t() -> None:
    # mean 0.316, standard deviation 0.0518, t of 4 degrees of freedom 2.776
    found = mean_interval([0.31, 0.33, 0.23, 0.35, 0.36])
    assert (found.low, found.high) == (pytest.approx(0.2516, abs=1e-3), pytest.approx(0.3804, abs=1e-3))


@given(st.lists(unit, min_size=1, max_size=40))
def test_mean_interval_holds_its_mean_and_stays_in_range(scores: list[float]) -> None:
    found = mean_interval(scores)
    assert 0 <= found.low <= found.mean + 1e-12
    assert found.mean - 1e-12 <= found.high <= 1
    assert found.n == len(scores)


@lru_cache
def _scores() -> tuple[float, ...]:
    return tuple(np.random.default_rng(0).random(50))


@given(st.floats(0.5, 0.98), st.floats(0.005, 0.0199))
def test_more_confidence_is_wider(confidence: float, more: float) -> None:
    narrow, wide = mean_interval(_scores(), confidence), mean_interval(_scores(), confidence + more)
    assert wide.low < narrow.low < narrow.high < wide.high


def test_scores_of_any_scale_are_not_clipped() -> None:
    found = mean_interval([90, 95, 99, 100, 97])
    assert 85 < found.low < found.mean < found.high < 110
    assert found.high > 1


@pytest.mark.parametrize("confidence", [0, 1, 95, -0.5, math.nan])
def test_confidence_must_be_a_share(confidence: float) -> None:
    with pytest.raises(ConfigError, match=r"for example 0\.95"):
        mean_interval([0, 1], confidence)


def test_bad_scores_are_refused() -> None:
    with pytest.raises(ConfigError, match="finite"):
        mean_interval([0.5, math.nan])
