"""Exact tests against enumeration and textbook values."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollouts.errors import ConfigError
from rollouts.stats import mcnemar, sign_flip_test


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
