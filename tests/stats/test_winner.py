"""The best of many: coverage of its true mean whatever the field, and how much of the curse is taken back."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollouts.errors import ConfigError
from rollouts.stats import winner

RUNS = 1500
FIELDS = {
    "50 equal": np.full(50, 0.5),
    "2 equal": np.full(2, 0.5),
    "5 steps": np.linspace(0.4, 0.6, 5),
    "one outlier": np.r_[0.75, np.full(49, 0.5)],
    "50 spread": np.random.default_rng(0).normal(0.5, 0.05, 50),
    "alone": np.array([0.5]),
}


def simulate(means: np.ndarray, errors: np.ndarray, correlation: float) -> tuple[float, float, float]:
    """Coverage of the chosen one's mean, and the bias of its estimate, corrected and raw."""
    rng = np.random.default_rng(1)
    noise = np.sqrt(correlation) * rng.normal(size=(RUNS, 1))
    noise = noise + np.sqrt(1 - correlation) * rng.normal(size=(RUNS, len(means)))
    found = [winner(row, errors, correlation=correlation) for row in means + errors * noise]
    truth = np.array([means[f.index] for f in found])
    covered = np.mean([f.low <= mean <= f.high for f, mean in zip(found, truth, strict=True)])
    corrected, raw = np.array([(f.corrected, f.estimate) for f in found]).T
    return float(covered), float(np.mean(corrected - truth)), float(np.mean(raw - truth))


@pytest.mark.parametrize("correlation", [0.0, 0.7])
@pytest.mark.parametrize("name", FIELDS)
def test_the_chosen_mean_is_covered(name: str, correlation: float) -> None:
    means = FIELDS[name]
    covered, corrected, raw = simulate(means, np.full(len(means), 0.05), correlation)
    assert covered >= 0.94
    assert abs(corrected) <= max(0.75 * raw, 0.004)


def test_unequal_errors_are_covered() -> None:
    errors = np.random.default_rng(2).uniform(0.02, 0.1, 50)
    covered, corrected, raw = simulate(FIELDS["50 equal"], errors, 0.0)
    assert covered >= 0.94
    assert 0 <= corrected <= 0.6 * raw


def test_the_ordinary_interval_of_the_best_of_50_is_wrong() -> None:
    rng = np.random.default_rng(1)
    best = (0.5 + 0.05 * rng.normal(size=(RUNS, 50))).max(axis=1)
    assert np.mean(best - 1.96 * 0.05 <= 0.5) < 0.5


def test_one_candidate_needs_no_correction() -> None:
    found = winner([0.6], [0.1])
    assert (found.index, found.estimate, found.corrected) == (0, 0.6, 0.6)
    assert (found.low, found.high) == pytest.approx((0.6 - 0.196, 0.6 + 0.196), abs=1e-4)


fields = st.lists(st.tuples(st.floats(-1, 1), st.floats(0.01, 0.3)), min_size=1, max_size=20)


@given(fields, st.floats(-3, 3), st.floats(0.1, 10))
def test_shift_and_scale_carry_over(field: list[tuple[float, float]], shift: float, scale: float) -> None:
    estimates, errors = np.round(np.array(field).T, 3)
    found, moved = winner(estimates, errors), winner(estimates * scale + shift, errors * scale)
    assert moved.estimate == pytest.approx(found.estimate * scale + shift)
    for end in ("corrected", "low", "high"):
        assert getattr(moved, end) == pytest.approx(getattr(found, end) * scale + shift, abs=1e-6)


@given(fields)
def test_the_order_of_candidates_does_not_matter(field: list[tuple[float, float]]) -> None:
    estimates, errors = np.array(field).T
    found = winner(estimates, errors)
    assert found.low <= found.corrected <= found.high
    assert found.low <= found.estimate <= found.high
    if list(estimates).count(found.estimate) == 1:
        turned = winner(estimates[::-1], errors[::-1])
        assert turned.index == len(field) - 1 - found.index
        assert (turned.corrected, turned.low, turned.high) == pytest.approx((found.corrected, found.low, found.high))


@pytest.mark.parametrize(
    ("estimates", "errors", "settings"),
    [
        ([], [], {}),
        ([0.5], [0.1, 0.1], {}),
        ([0.5, math.nan], [0.1, 0.1], {}),
        ([0.5, 0.6], [0.1, 0.0], {}),
        ([0.5], [0.1], {"correlation": 1.0}),
        ([0.5], [0.1], {"confidence": 95}),
    ],
)
def test_what_is_refused(estimates: list[float], errors: list[float], settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        winner(estimates, errors, **settings)
