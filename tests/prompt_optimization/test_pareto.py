"""Fronts: per example with coverage, and over objectives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollouts.prompt_optimization.pareto import coverage, dominates, front

TABLES = st.integers(1, 6).flatmap(
    lambda columns: st.lists(
        st.lists(st.sampled_from([-1.0, 0.0, 0.5, 1.0]), min_size=columns, max_size=columns), min_size=1, max_size=7
    )
)


@pytest.mark.parametrize(
    ("scores", "counts"),
    [
        ([[1, 0], [0, 1]], [1, 1]),
        ([[1, 1], [0, 1]], [2, 0]),
        ([[1, 0, 1], [0, 1, 1], [1, 1, 0]], [2, 2, 0]),
        ([[-2, -3], [-1, -4]], [1, 1]),
        ([[0, 0], [0, 0]], [2, 0]),
        ([[1.0]], [1]),
    ],
)
def test_coverage(scores: list[list[float]], counts: list[int]) -> None:
    strength = [sum(row) for row in scores]
    assert coverage(np.array(scores, dtype=float), strength) == counts


def test_the_weakest_is_left_out_first() -> None:
    same = np.ones((3, 2))
    assert coverage(same, [0.1, 0.9, 0.5]) == [0, 2, 0]
    assert coverage(np.empty((2, 0)), [1.0, 2.0]) == [0, 0]


@given(TABLES)
def test_every_example_is_covered_by_a_best_candidate(table: list[list[float]]) -> None:
    scores = np.array(table)
    counts = coverage(scores, scores.mean(axis=1).tolist())
    kept = [i for i, count in enumerate(counts) if count]
    assert kept
    assert (scores[kept].max(axis=0) == scores.max(axis=0)).all()
    for i in kept:
        assert counts[i] == (scores[i] == scores.max(axis=0)).sum()
        others = [j for j in kept if j != i]
        assert not others or (scores[others].max(axis=0) < scores.max(axis=0)).any(), "nobody is superfluous"


@given(TABLES)
def test_the_front_is_what_nothing_dominates(points: list[list[float]]) -> None:
    kept = front(points)
    assert kept
    for i, point in enumerate(points):
        beaten = any(dominates(other, point) for other in points)
        assert beaten == (i not in kept)
        assert not beaten or any(dominates(points[j], point) for j in kept)
        assert not dominates(point, point)
