"""Sample sizes: a published figure, simulation, and the inverse."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollouts.errors import ConfigError
from rollouts.stats import detectable_difference, sample_size, unpaired_sample_size, verdict


def test_three_points_at_an_agreement_of_85_percent() -> None:
    assert sample_size(0.03, agreement=0.85) == 1306


def test_the_promised_power_is_reached() -> None:
    n = sample_size(0.1, agreement=0.7)
    rng = np.random.default_rng(5)
    found = 0
    for _ in range(500):
        moved = rng.choice([1, -1, 0], n, p=[0.2, 0.1, 0.7])
        before, after = np.where(moved == 0, 1, moved < 0), np.where(moved == 0, 1, moved > 0)
        found += verdict(dict(enumerate(before)), dict(enumerate(after))).decision == "ship"  # type: ignore[arg-type]
    assert 0.74 <= found / 500 <= 0.88


@pytest.mark.parametrize(("baseline", "gain"), [(0.7, 0.1), (0.5, -0.05), (0.9, 0.06)])
def test_the_promised_power_is_reached_on_different_samples(baseline: float, gain: float) -> None:
    n = unpaired_sample_size(gain, baseline=baseline)
    before, after = (np.random.default_rng(5).binomial(n, [[baseline], [baseline + gain]], (2, 4000)) / n)[:, None, :]
    pooled = (before + after) / 2
    found = np.abs(after - before) > 1.96 * np.sqrt(2 * pooled * (1 - pooled) / n)
    assert found.mean() == pytest.approx(0.8, abs=0.03)


def test_different_samples_take_more_than_the_same() -> None:
    assert unpaired_sample_size(0.03, baseline=0.7) == 3554
    assert unpaired_sample_size(0.03, baseline=0.7) > 2 * sample_size(0.03, agreement=0.85)
    assert unpaired_sample_size(-0.2, baseline=0.7) == unpaired_sample_size(0.2, baseline=0.5)
    for gain, baseline in ((0, 0.5), (0.4, 0.7), (-0.4, 0.3), (0.1, -0.1)):
        with pytest.raises(ConfigError, match="shares"):
            unpaired_sample_size(gain, baseline=baseline)


@given(st.floats(0.01, 0.5), st.floats(0, 0.45), st.sampled_from([0.8, 0.9]))
def test_detectable_difference_turns_sample_size_round(gain: float, agreement: float, power: float) -> None:
    n = sample_size(gain, agreement=agreement, power=power)
    smallest = detectable_difference(n, agreement=agreement, power=power)
    assert smallest <= gain + 1e-9
    assert sample_size(smallest, agreement=agreement, power=power) <= n


def test_smaller_gains_more_power_and_less_agreement_take_more() -> None:
    base = sample_size(0.05, agreement=0.8)
    assert sample_size(0.04, agreement=0.8) > base
    assert sample_size(0.05, agreement=0.7) > base
    assert sample_size(0.05, agreement=0.8, power=0.9) > base
    assert sample_size(0.05, agreement=0.8, confidence=0.99) > base
    assert sample_size(-0.05, agreement=0.8) == base


def test_what_can_not_be_seen() -> None:
    assert detectable_difference(2, agreement=0.9) == 1.0
    assert detectable_difference(100, agreement=1.0) == 1.0


@pytest.mark.parametrize(
    ("difference", "settings"),
    [
        (0, {"agreement": 0.5}),
        (1.5, {"agreement": 0.5}),
        (0.3, {"agreement": 0.8}),
        (0.1, {"agreement": -0.1}),
        (0.1, {"agreement": 0.5, "power": 1}),
        (0.1, {"agreement": 0.5, "confidence": 95}),
    ],
)
def test_impossible_wishes_are_refused(difference: float, settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        sample_size(difference, **settings)


def test_detectable_difference_refuses_no_samples() -> None:
    with pytest.raises(ConfigError):
        detectable_difference(0, agreement=0.5)
    with pytest.raises(ConfigError):
        detectable_difference(10, agreement=1.5)
