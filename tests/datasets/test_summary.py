"""What a data set looks like."""

from __future__ import annotations

from typing import Any

import pytest

from rollouts.datasets import Lengths, describe, label_counts
from rollouts.dtypes import Sample


def rows(truths: list[Any]) -> list[Sample]:
    return [Sample(inputs={"text": f"text {i}"}, ground_truth=t, id=str(i)) for i, t in enumerate(truths)]


@pytest.mark.parametrize(
    ("truths", "answers"),
    [
        (["a", "b"] * 5, "labels"),
        ([0, 1] * 5, "labels"),
        ([True, False] * 5, "labels"),
        ([1.0, 2.0, 3.0] * 4, "labels"),
        ([f"{i}" for i in range(40)] * 2, "number"),
        (["1,200", "$3.50", "-7", "12 %", "1e5"], "number"),
        ([1, 2.5, 3], "number"),
        (["-", ".", "a"], "text"),
        ([{"a": 1}, [2]], "json"),
        (['{"a": 1}', " [2]"], "json"),
        (["{a}", "{b}"], "text"),
        ([f"answer {i}" for i in range(10)], "text"),
        (["a\nb", "c\nd"] * 5, "text"),
        (["x" * 100, "y" * 100] * 5, "text"),
        ([None, None], "none"),
        ([], "none"),
    ],
)
def test_kind_of_answers(truths: list[Any], answers: str) -> None:
    summary = describe(rows(truths))
    assert summary.answers == answers
    assert (summary.labels is not None) == (answers == "labels")


def test_label_counts_are_sorted() -> None:
    assert list((label_counts(rows(["b", "a", "c", "c", "b", "c", "a"])) or {}).items()) == [
        ("c", 3),
        ("a", 2),
        ("b", 2),
    ]


def test_lengths_columns_and_duplicates() -> None:
    samples = [Sample(inputs={"a": "x" * i, "b": i}, ground_truth="t", id=str(i)) for i in range(100)] + [
        Sample(inputs={"a": "Same  text", "b": 1, "c": 2}, ground_truth="t", id="100"),
        Sample(inputs={"c": 2, "b": 1, "a": "same text "}, ground_truth="t", id="101"),
        Sample(inputs={"a": "SAME text", "b": 1, "c": 2}, ground_truth="u", id="102"),
        Sample(inputs={"a": "same text", "b": 2, "c": 2}, ground_truth="u", id="103"),
    ]
    summary = describe(samples)
    assert (summary.n, summary.columns, summary.duplicates) == (104, ("a", "b", "c"), 2)
    assert summary.contradictions == (("100", "101", "102"),)
    assert summary.lengths.min == 1
    assert summary.lengths.max == 101
    assert summary.lengths.min < summary.lengths.median < summary.lengths.p95 < summary.lengths.max


def test_nothing() -> None:
    summary = describe([])
    assert (summary.n, summary.columns, summary.labels) == (0, (), None)
    assert summary.lengths == Lengths(min=0, median=0, p95=0, max=0)
