"""Bounds of percentiles and means, and the test that may look at any time: textbook values and coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollouts.errors import ConfigError
from rollouts.stats import mean_bound, percentile_bound, samples_for_bound, share_exceeds
from rollouts.testing.latency import log_normal, pareto


@pytest.mark.parametrize(
    ("q", "confidence", "n"), [(0.95, 0.95, 59), (0.95, 0.99, 90), (0.9, 0.95, 29), (0.99, 0.95, 299), (0.5, 0.9, 4)]
)
def test_the_sample_size_of_an_upper_bound_is_that_of_the_tables(q: float, confidence: float, n: int) -> None:
    # Hahn & Meeker (1991), "Statistical intervals", table A.17.
    assert samples_for_bound(q, confidence) == n
    assert math.isinf(percentile_bound(range(n - 1), q, confidence).high)
    assert percentile_bound(range(n), q, confidence).high == n - 1


def test_the_order_statistic_of_an_upper_bound_is_that_of_the_tables() -> None:
    # 93 values bear one above the bound at 95 %, 124 two (the next sizes after 59).
    for n, rank in ((59, 59), (92, 92), (93, 92), (123, 122), (124, 122)):
        assert percentile_bound(range(1, n + 1)).high == rank


@given(
    st.lists(st.floats(0, 100), max_size=200),
    st.floats(0.05, 0.99),
    st.floats(0.5, 0.99),
)
def test_bounds_hold_the_estimate_between_them(values: list[float], q: float, confidence: float) -> None:
    found = percentile_bound(values, q, confidence)
    assert found.n == len(values)
    if values:
        assert found.low <= found.estimate <= found.high
        assert sum(value <= found.estimate for value in values) >= q * len(values) - 1e-6
        stricter = percentile_bound(values, q, (1 + confidence) / 2)
        assert stricter.low <= found.low
        assert stricter.high >= found.high
    else:
        assert (found.low, found.high) == (-math.inf, math.inf)


@pytest.mark.parametrize("law", [log_normal(1.0, 0.5), log_normal(0.2, 1.5), pareto(0.1, 1.1), pareto(1.0, 3.0)])
@pytest.mark.parametrize("n", [59, 80, 200])
def test_bounds_of_heavy_tails_cover_as_often_as_they_say(law, n: int) -> None:
    rng, true = np.random.default_rng(n), law(0.95)
    runs = [percentile_bound([law(u) for u in rng.random(n)]) for _ in range(1500)]
    above = np.mean([found.high >= true for found in runs])
    below = np.mean([found.low <= true for found in runs])
    slack = 3 * math.sqrt(0.05 * 0.95 / 1500)
    assert above >= 0.95 - slack
    assert below >= 0.95 - slack


def test_cut_calls_are_longer_than_any_other() -> None:
    cut = [math.inf] * 2
    assert math.isinf(percentile_bound([0.1] * 58 + cut).high)
    assert percentile_bound([0.1] * 200 + cut).high == 0.1


@pytest.mark.parametrize("share", [0.05, 0.2])
def test_looking_at_every_call_errs_no_more_often_than_once(share: float) -> None:
    rng = np.random.default_rng(5)
    over = np.cumsum(rng.random((1500, 150)) < share, axis=1)
    verdicts = {(k, n): share_exceeds(k, n, share) for n in range(1, 151) for k in range(n + 1)}
    wrong = np.mean([any(verdicts[int(k), i + 1] for i, k in enumerate(run)) for run in over])
    assert wrong <= 0.05
    much = np.cumsum(rng.random((300, 150)) < share + 0.3, axis=1)
    assert np.mean([any(verdicts[int(k), i + 1] for i, k in enumerate(run)) for run in much]) > 0.95


@given(st.integers(1, 300), st.data())
def test_more_that_exceed_never_speak_for_fewer(n: int, data: st.DataObject) -> None:
    over = data.draw(st.integers(0, n))
    if share_exceeds(over, n):
        assert over / n > 0.05
        assert over == n or share_exceeds(over + 1, n)


def test_how_soon_too_many_are_told() -> None:
    assert [k for k, n in ((1, 1), (2, 3), (3, 10), (4, 10), (8, 50), (9, 50)) if share_exceeds(k, n)] == [2, 4, 9]


def test_a_mean_bound_is_students() -> None:
    # Student (1908): extra sleep under two drugs, differences of ten patients.
    sleep = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]
    found = mean_bound(sleep, 0.975)
    assert (found.low, found.high) == pytest.approx((0.7001142, 2.4598858), abs=1e-6)
    assert mean_bound(sleep, look=10).low < mean_bound(sleep, look=2).low < found.estimate
    assert (mean_bound([3.0] * 5).low, mean_bound([3.0] * 5).high) == (3.0, 3.0)
    assert math.isinf(mean_bound([3.0]).high)


@pytest.mark.parametrize(
    "call",
    [
        lambda: percentile_bound([1.0], 1.0),
        lambda: percentile_bound([1.0], 0.5, 0.0),
        lambda: percentile_bound([math.nan]),
        lambda: share_exceeds(3, 2),
        lambda: share_exceeds(1, 2, 0.0),
        lambda: mean_bound([1.0, math.inf]),
        lambda: mean_bound([1.0], look=0),
    ],
)
def test_what_makes_no_sense_is_refused(call) -> None:
    with pytest.raises(ConfigError):
        call()
