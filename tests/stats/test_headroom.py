"""Is there anything to gain: each finding on data that has it, and the permutation test behind one of them."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

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
    found = head_room([1.0] * 59 + [0.0], test_samples=10)
    assert (found.findings, found.worth, found.needed) == (("ceiling",), False, None)
    assert "already scores 0.983 (95 % interval 0.911" in found.advice


@pytest.mark.parametrize("n", [1, 10, 16, 20, 24, 28, 29, 30, 31, 32, 60])
def test_a_start_with_room_is_seldom_called_full(n: int) -> None:
    """Exactly, over all counts of right answers when each of them has a chance of 0.9."""
    called = [not head_room([1.0] * right + [0.0] * (n - right)).worth for right in range(n // 2, n + 1)]
    assert np.sum(binom.pmf(np.arange(n // 2, n + 1), n, 0.9) * called) < 0.05
    assert called[-1] == (n >= 29)


@pytest.mark.parametrize("n", [10, 20, 32])
def test_rare_failures_of_a_graded_score_are_reckoned_with(n: int) -> None:
    rng = np.random.default_rng(n)
    draws = rng.uniform(0.99, 1, (400, n)) * (rng.random((400, n)) < 0.9)
    assert np.mean([not head_room(start).worth for start in draws]) < 0.08


def test_too_few_rows_for_a_ceiling_say_so() -> None:
    found = head_room([1.0] * 20)
    assert (found.findings, found.worth) == ((), True)
    assert "on 20 rows, too few to call that little to gain" in found.advice


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
    assert remarks([1.0] * 19 + [0.0], [(0.2, 10), *varied]) == (), "too few rows for that"


def note_on(table: np.ndarray, missing: int = 0) -> bool:
    """Whether candidates with these rows are called alike when each lacks `missing` rows that the others have."""
    k, n = table.shape
    rows = [
        {row: score for row, score in enumerate(scores) if row % k != place or row >= missing * k}
        for place, scores in enumerate(table)
    ]
    said = remarks([0.0, 1.0] * 20, [(float(scores.mean()), n) for scores in table], rows=rows)
    assert len(said) <= 1
    return bool(said) and "than chance" in said[0]


def pool(seed: int, k: int, n: int, lift: float = 0.0) -> np.ndarray:
    """0/1 scores that mostly agree; the first candidate is better by `lift`."""
    rng = np.random.default_rng(seed)
    base = rng.random(n) < 0.5
    table = np.where(rng.random((k, n)) < 0.1, rng.random((k, n)) < 0.5, base)
    table[0] |= rng.random(n) < 2 * lift
    return table.astype(float)


def test_alike_candidates_are_called_alike_where_the_rows_could_have_told() -> None:
    assert np.mean([note_on(pool(seed, 6, 300)) for seed in range(20)]) >= 0.8
    assert not any(note_on(pool(seed, 6, 30)) for seed in range(20)), "too few rows"
    assert not any(note_on(pool(seed, 4, 300)) for seed in range(5)), "too few candidates"
    assert not any(note_on(pool(seed, 6, 300), missing=45) for seed in range(5)), "too few rows that all have"


def test_candidates_that_differ_are_not_called_alike() -> None:
    assert np.mean([note_on(pool(seed, 6, 300, lift=0.1)) for seed in range(30)]) <= 0.1


def test_a_good_candidate_among_many_of_few_rows_is_not_called_alike() -> None:
    """As an adaptive search leaves them: 30 points above 29 others that have four rows each."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        rows = [dict(enumerate(scores)) for scores in (rng.random((29, 4)) < 0.5).astype(float)]
        rows.append(dict(enumerate((rng.random(90) < 0.8).astype(float))))
        trials = [(float(np.mean(list(row.values()))), len(row)) for row in rows]
        assert remarks([0.0, 1.0] * 20, trials, rows=rows) == remarks([0.0, 1.0] * 20, trials) == ()


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
