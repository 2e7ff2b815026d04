"""Exact tests against enumeration and textbook values."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rollouts.errors import ConfigError
from rollouts.stats import holm, mcnemar, paired_test, sign_flip_test, wilcoxon_test
from rollouts.stats.significance import signed_ranks


@pytest.mark.parametrize(
    ("b", "c", "p"),
    [
        (0, 0, 1.0),
        (5, 5, 1.0),
        (6, 0, 2 / 64),
        (0, 5, 2 / 32),
        (1, 7, 18 / 256),
        (2, 3, 1.0),
        (59, 6, 2 * sum(math.comb(65, k) for k in range(7)) / 2**65),
    ],
)
def test_mcnemar(b: int, c: int, p: float) -> None:
    assert mcnemar(b, c) == pytest.approx(p, rel=1e-9)
    assert mcnemar(b, c) == mcnemar(c, b)


@given(st.integers(0, 60), st.integers(0, 60))
def test_mid_p_counts_half_of_what_was_observed(b: int, c: int) -> None:
    n, k = b + c, min(b, c)
    at_least_as_far = sum(math.comb(n, i) for i in range(k)) + math.comb(n, k) / 2
    expected = 1.0 if b == c else 2 * at_least_as_far / 2**n
    assert mcnemar(b, c, mid=True) == pytest.approx(expected, rel=1e-9)
    assert mcnemar(b, c, mid=True) <= mcnemar(b, c)
    assert mcnemar(b, c, mid=True) == mcnemar(c, b, mid=True)


def test_mid_p_of_a_published_example() -> None:
    # Fagerland, Lydersen & Laake (2013), airway hyper-responsiveness: exact 0.070, mid-p 0.039.
    assert (mcnemar(7, 1), mcnemar(7, 1, mid=True)) == pytest.approx((0.0703, 0.0391), abs=5e-5)


def test_the_kind_of_data_decides_on_the_test() -> None:
    assert paired_test([0.5] * 7 + [-0.5] + [0.0] * 9) == mcnemar(7, 1, mid=True)
    assert paired_test([0.5, 0.3, -0.1, 0.0]) == sign_flip_test([0.5, 0.3, -0.1])


def test_mcnemar_refuses_negative_counts() -> None:
    with pytest.raises(ConfigError):
        mcnemar(-1, 3)


@given(st.integers(0, 40), st.integers(0, 40), st.floats(0.1, 5))
def test_differences_of_one_size_are_mcnemar(b: int, c: int, size: float) -> None:
    assert sign_flip_test([size] * b + [-size] * c + [0.0] * 7) == mcnemar(b, c)


@given(st.lists(st.integers(-9, 9), min_size=1, max_size=8))
def test_few_differences_are_enumerated(differences: list[int]) -> None:
    patterns = itertools.product((1, -1), repeat=len(differences))
    sums = [abs(sum(s * d for s, d in zip(signs, differences, strict=True))) for signs in patterns]
    expected = sum(s >= abs(sum(differences)) for s in sums) / len(sums)
    assert sign_flip_test(np.array(differences) / 10) == pytest.approx(expected)


def test_resampling_agrees_with_enumeration() -> None:
    rng = np.random.default_rng(3)
    differences = rng.normal(0.25, 0.6, 16)
    signs = np.array(list(itertools.product((1, -1), repeat=16)))
    exact = np.mean(np.abs(signs @ differences) >= abs(differences.sum()) - 1e-12)
    assert sign_flip_test(differences, resamples=40_000) == pytest.approx(exact, abs=4 * math.sqrt(exact / 40_000))


def test_many_differences_do_not_change_with_the_call() -> None:
    differences = np.random.default_rng(1).normal(0.02, 0.3, 5000)
    assert sign_flip_test(differences) == sign_flip_test(differences)
    assert sign_flip_test(np.abs(differences)) == 1 / 10_000


def test_size_under_the_null_is_at_most_nominal() -> None:
    rng = np.random.default_rng(11)
    rejected = sum(sign_flip_test(rng.normal(0, 1, 25), resamples=999, seed=i) <= 0.05 for i in range(1000))
    assert 20 <= rejected <= 75


def test_no_difference_is_no_evidence() -> None:
    assert sign_flip_test([]) == 1.0
    assert sign_flip_test([0.0] * 30) == 1.0


def test_wilcoxon_of_the_textbook() -> None:
    # Hollander, Wolfe & Chicken (2014), example 3.1: T+ = 5 of 45, one-sided P = 0.0195.
    assert wilcoxon_test([-0.952, 0.147, -1.022, -0.430, -0.620, -0.590, -0.490, 0.080, -0.010]) == pytest.approx(
        2 * 0.01953, abs=1e-4
    )


@pytest.mark.parametrize("n", [6, 20, 50, 190])
def test_wilcoxon_without_ties_is_scipys(n: int) -> None:
    moved = np.random.default_rng(n).normal(0.2, 1, n)
    assert wilcoxon_test(moved) == pytest.approx(stats.wilcoxon(moved, method="exact").pvalue, rel=1e-9)


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=9))
def test_wilcoxon_with_ties_is_enumerated(differences: list[int]) -> None:
    ranks = signed_ranks(differences)
    patterns = itertools.product((1, -1), repeat=len(ranks))
    sums = [abs(sum(s * r for s, r in zip(signs, ranks, strict=True))) for signs in patterns]
    expected = sum(s >= abs(ranks.sum()) - 1e-9 for s in sums) / len(sums)
    assert wilcoxon_test(differences) == pytest.approx(expected)


def test_many_differences_go_by_the_normal_law() -> None:
    moved = np.random.default_rng(1).integers(-5, 7, 600)
    law = stats.wilcoxon(moved, correction=False, method="approx")
    assert wilcoxon_test(moved) == pytest.approx(law.pvalue, rel=1e-6)


def test_holm_of_a_worked_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    with pytest.raises(ConfigError):
        holm([1.2])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_lies_between_the_plain_and_bonferronis(p_values: list[float]) -> None:
    corrected = holm(p_values)
    for p, q in zip(p_values, corrected, strict=True):
        assert p <= q <= min(1.0, len(p_values) * p) or q == pytest.approx(max(corrected))
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    assert [corrected[i] for i in order] == sorted(corrected)
