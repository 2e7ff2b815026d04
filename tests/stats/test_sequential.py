"""Confidence sequences: right at all looks at once, the same in any portions, and what they refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollouts.errors import ConfigError
from rollouts.stats import ConfidenceSequence, mean_interval

RUNS, LOOKS = 150, 150


@pytest.mark.parametrize("name", ["binary", "beta", "paired"])
def test_the_mean_is_inside_at_every_look(name: str) -> None:
    rng = np.random.default_rng(4)
    missed = 0
    for _ in range(RUNS):
        scores, truth, low = {
            "binary": lambda: ((rng.random(LOOKS) < 0.2) * 1.0, 0.2, 0.0),
            "beta": lambda: (rng.beta(2, 6, LOOKS), 0.25, 0.0),
            "paired": lambda: (rng.choice([1.0, -1.0, 0.0], LOOKS, p=[0.2, 0.1, 0.7]), 0.1, -1.0),
        }[name]()
        lows, highs = ConfidenceSequence(low=low, confidence=0.9).path(scores)
        missed += bool(((lows > truth) | (highs < truth)).any())
    assert missed / RUNS <= 0.1


def test_an_ordinary_interval_misses_when_it_is_looked_at_again_and_again() -> None:
    rng = np.random.default_rng(4)
    missed = 0
    for _ in range(RUNS):
        scores = (rng.random(LOOKS) < 0.2) * 1.0
        looks = [mean_interval(scores[:n], 0.9) for n in range(5, LOOKS, 3)]
        missed += any(not look.low <= 0.2 <= look.high for look in looks)
    assert missed / RUNS > 0.25


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=60), st.integers(1, 7))
def test_portions_do_not_matter_and_ends_only_move_inwards(scores: list[float], parts: int) -> None:
    whole, pieces = ConfidenceSequence(low=-1), ConfidenceSequence(low=-1)
    lows, highs = whole.path(scores)
    for piece in np.array_split(scores, parts):
        pieces.update(piece)
    assert (
        (pieces.interval.low, pieces.interval.high)
        == (whole.interval.low, whole.interval.high)
        == (lows[-1], highs[-1])
    )
    assert pieces.interval.mean == pytest.approx(np.mean(scores))
    assert (np.diff(lows) >= 0).all()
    assert (np.diff(highs) <= 0).all()
    assert (lows <= highs).all()


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=60))
def test_exchanging_the_prompts_turns_the_interval_round(scores: list[float]) -> None:
    found = ConfidenceSequence(low=-1).update(scores)
    turned = ConfidenceSequence(low=-1).update([-score for score in scores])
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low), abs=2.1e-3)


def test_it_narrows_to_little_more_than_the_ordinary_interval() -> None:
    scores = (np.random.default_rng(0).random(2000) < 0.8) * 1.0
    found, once = ConfidenceSequence().update(scores), mean_interval(scores)
    assert found.low <= 0.8 <= found.high
    assert found.high - found.low < 2.5 * (once.high - once.low)


def test_scores_that_break_the_assumption_leave_the_last_interval() -> None:
    drifting = ConfidenceSequence()
    early = drifting.update([1.0] * 60)
    late = drifting.update([0.0] * 600)
    assert 0 <= late.low <= late.high <= 1
    assert late.low >= early.low


def test_before_the_first_score() -> None:
    nothing = ConfidenceSequence(low=-1).update([])
    assert math.isnan(nothing.mean)
    assert (nothing.low, nothing.high, nothing.n) == (-1, 1, 0)


def test_what_is_refused() -> None:
    for bounds in ({"low": 1.0}, {"high": math.inf}, {"low": math.nan}):
        with pytest.raises(ConfigError, match="bounds"):
            ConfidenceSequence(**bounds)
    with pytest.raises(ConfigError, match="confidence"):
        ConfidenceSequence(confidence=95)
    sequence = ConfidenceSequence()
    for bad in ([0.5, 1.5], [-0.2], [math.nan]):
        with pytest.raises(ConfigError, match="scores must"):
            sequence.update(bad)
    assert sequence.interval.n == 0
