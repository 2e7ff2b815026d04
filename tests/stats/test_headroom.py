"""Is there anything to gain: each finding on data that has it, and the permutation test behind one of them."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollouts.errors import ConfigError
from rollouts.stats import head_room, remarks, spread_test


def field(seed: int, *means: float, n: int = 32) -> np.ndarray:
    """0/1 scores of candidates with these means, on samples of different difficulty."""
    rng = np.random.default_rng(seed)
    hard = rng.random(n)
    return np.array([(0.6 * hard + 0.4 * rng.random(n) < mean) * 1.0 for mean in means])


def test_room_and_variants_that_differ() -> None:
    start, *variants = field(0, 0.2, 0.3, 0.8, 0.25)
    found = head_room(start, variants, test_samples=5000)
    assert (found.findings, found.worth) == ((), True)
    assert found.gain is not None
    assert found.gain.index == 1
    assert 0 < found.gain.low <= found.gain.corrected <= found.gain.estimate
    assert found.spread_p is not None
    assert found.spread_p < 0.01
    assert found.room == pytest.approx(1 - start.mean())
    assert "there is room" in found.advice
    json.dumps(found.to_json(), allow_nan=False)


def test_a_start_near_the_ceiling() -> None:
    found = head_room([1.0] * 49 + [0.0], test_samples=10)
    assert (found.findings, found.worth, found.needed) == (("ceiling",), False, None)
    assert "already scores 0.980 (95 % interval 0.895" in found.advice


@pytest.mark.parametrize("score", [0.0, 0.5, 1.0])
def test_a_metric_that_is_constant(score: float) -> None:
    found = head_room([score] * 20, [[score] * 20] * 3)
    assert (found.findings, found.worth) == (("constant",), False)
    assert "the same score" in found.advice


def test_a_few_equal_scores_prove_nothing() -> None:
    assert head_room([0.0] * 4, [[0.0] * 4]).worth


def test_variants_that_change_no_score() -> None:
    start = [0.0, 1.0] * 10
    found = head_room(start, [start, start])
    assert (found.findings, found.worth) == (("unmoved",), False)


def test_variants_that_differ_by_chance_only() -> None:
    start, *variants = field(1, 0.5, 0.5, 0.5, 0.5)
    found = head_room(start, variants)
    assert (found.findings, found.worth) == (("alike",), True)


@pytest.mark.parametrize("rows", [0, 60])
def test_too_few_test_rows(rows: int) -> None:
    start, *variants = field(0, 0.2, 0.3, 0.8)
    found = head_room(start, variants, test_samples=rows)
    assert found.findings == ("few_test_rows",)
    assert found.worth
    assert f"the {rows} there are" in found.advice
    assert found.needed is not None
    assert found.needed > 200


def test_without_variants_the_usual_agreement_is_taken() -> None:
    found = head_room([0.0, 1.0] * 10)
    assert found.needed == 469
    assert (found.spread, found.gain, found.reached) == (None, None, None)


def test_a_ceiling_that_is_passed_is_not_believed() -> None:
    found = head_room([90.0, 95.0, 99.0, 60.0] * 5)
    assert (found.room, found.findings) == (None, ())


def test_alike_candidates_are_called_different_at_the_nominal_rate() -> None:
    found = sum(spread_test(field(seed, 0.5, 0.5, 0.5, 0.5, n=24)) < 0.05 for seed in range(120))
    assert found <= 13


@given(st.integers(0, 1000), st.floats(-3, 3))
def test_the_level_of_a_sample_says_nothing_about_the_spread(seed: int, shift: float) -> None:
    table = np.random.default_rng(seed).random((3, 6)).round(2)
    levels = shift * np.arange(6)
    assert spread_test(table + levels) == pytest.approx(spread_test(table), abs=1e-9)


def test_candidates_that_differ_everywhere_are_told_apart() -> None:
    assert spread_test([[0.0] * 10, [1.0] * 10]) < 0.01
    assert spread_test([[0.3] * 10, [0.3] * 10]) == 1.0
    assert spread_test([[0.0, 1.0]]) == 1.0


def test_remarks_of_a_run() -> None:
    varied = [(0.2, 10), (0.9, 10), (0.3, 10), (0.8, 10), (0.1, 10)]
    assert remarks([0.0, 1.0] * 10, varied) == ()
    (constant,) = remarks([0.0] * 20, [(0.0, 8)] * 6)
    assert "the same score (0)" in constant
    (ceiling,) = remarks([1.0] * 59 + [0.0], [(0.2, 10), *varied])
    assert "little to gain" in ceiling
    (alike,) = remarks([0.0, 1.0] * 20, [(0.5, 10), (0.4, 10), (0.6, 10), (0.5, 10), (0.45, 10)])
    assert "no more than chance" in alike


def test_little_data_brings_no_remark() -> None:
    assert remarks([1.0] * 9, [(1.0, 8)] * 9) == ()
    assert remarks([], []) == ()
    assert remarks([0.0, 1.0] * 5, [(math.nan, 0)]) == ()


def test_what_is_refused() -> None:
    for start, variants, settings in (
        ([], [], {}),
        ([0.5, 0.5], [[0.5]], {}),
        ([0.5, math.nan], [], {}),
        ([0.5], [], {"wanted": 5.0}),
    ):
        with pytest.raises(ConfigError):
            head_room(start, variants, **settings)  # type: ignore[arg-type]
    for table in ([0.5, 0.5], [[]], [[math.nan, 1.0], [1.0, 1.0]]):
        with pytest.raises(ConfigError):
            spread_test(table)
    with pytest.raises(ConfigError):
        remarks([math.inf] * 20, [])
