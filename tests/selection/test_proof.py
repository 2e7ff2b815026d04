"""When scores prove something: intervals of means, and the rule for stopping at a target."""

from __future__ import annotations

import random

import pytest

from rollouts.prompt_optimization.selection import Recommendation
from rollouts.prompt_optimization.selection.table import interval, reached

from .tables import space


def entry(mean: float, n: int, low: float) -> Recommendation:
    return Recommendation(candidate=(0,), estimate=mean, mean=mean, low=low, high=1.0, n=n)


@pytest.mark.parametrize(
    ("right", "n", "low", "high"), [(30, 30, 0.8865, 1.0), (0, 10, 0.0, 0.2775), (8, 10, 0.49, 0.9433)]
)
def test_scores_of_0_and_1_have_wilsons_interval(right: int, n: int, low: float, high: float) -> None:
    mean = right / n
    found = interval(mean, mean * (1 - mean), n, 10**9, 0.0, 1.0)
    assert found == pytest.approx((low, high), abs=1e-3)


def test_an_interval_stays_in_the_range_and_closes_at_the_last_sample() -> None:
    rng = random.Random(0)
    for n in range(41):
        scores = [rng.uniform(-2, 3) for _ in range(n)]
        mean = sum(scores) / n if n else 0.0
        variance = sum((score - mean) ** 2 for score in scores) / max(1, n)
        low, high = interval(mean, variance, n, 40, -2.0, 3.0)
        assert -2 - 1e-9 <= low <= mean + 1e-9
        assert mean - 1e-9 <= high <= 3 + 1e-9
        assert (low < high) == (n < 40)


def test_the_more_were_tried_the_more_it_takes_to_prove_a_target() -> None:
    def least(tried: int) -> int:
        where = space(4, samples=300)
        return next(n for n in range(1, 301) if reached(0.9, entry(0.95, n, low=0.92), where, tried=tried))

    assert 30 <= least(1) < least(10) < least(1000) < 300


def test_a_selector_that_is_unsure_has_reached_nothing() -> None:
    where = space(4, samples=300)
    assert reached(0.9, entry(1.0, 290, low=0.95), where)
    assert not reached(0.9, entry(1.0, 290, low=0.85), where)
