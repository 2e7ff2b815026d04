"""Ground-truth detection, and dicts to samples."""

from __future__ import annotations

import datetime
import math
import subprocess
import sys
from decimal import Decimal
from typing import Any, cast

import numpy as np
import pytest

from rollouts.datasets import GROUND_TRUTH_NAMES, detect_ground_truth, samples_from_dicts
from rollouts.errors import DataError

QUERY = frozenset({"query"})


@pytest.mark.parametrize(
    ("columns", "used", "expected"),
    [
        (["query", "verdict"], {"query"}, "verdict"),
        (["id", "query", "verdict", "idx"], {"query"}, "verdict"),
        (["query", "intent", "intents"], {"query", "intents"}, "intent"),
        (["query", "notes", "label"], {"query"}, "label"),
        (["query", "Answer", "notes"], {"query"}, "Answer"),
        (["query", "route", "label"], {"query"}, "label"),
        (["label", "route", "notes"], {"label"}, "route"),
        (["query"], {"query"}, None),
        (["id", "query"], {"query"}, None),
        (["text"], set(), None),
    ],
)
def test_detection(columns: list[str], used: set[str], expected: str | None) -> None:
    assert detect_ground_truth(columns, used) == expected


@pytest.mark.parametrize("name", GROUND_TRUTH_NAMES)
def test_every_known_name_is_found_among_others(name: str) -> None:
    assert detect_ground_truth(["query", "x", name, "y"], QUERY) == name


def test_unclear_columns_are_listed() -> None:
    with pytest.raises(DataError, match="candidates are 'a', 'b': state ground_truth"):
        detect_ground_truth(["query", "a", "b", "id"], QUERY)


def test_samples_from_dicts() -> None:
    rows = [{"query": "q1", "intent": "a", "intents": "a b"}, {"query": "q2", "intent": "b", "intents": "a b"}]
    samples = samples_from_dicts(rows, frozenset({"query", "intents"}))
    assert [(dict(s.inputs), s.ground_truth, s.id) for s in samples] == [
        ({"query": "q1", "intents": "a b"}, "a", "1"),
        ({"query": "q2", "intents": "a b"}, "b", "2"),
    ]


def test_a_stated_column_wins() -> None:
    (sample,) = samples_from_dicts([{"query": "q", "label": "a", "mine": "b"}], QUERY, "mine")
    assert (sample.ground_truth, dict(sample.inputs)) == ("b", {"query": "q", "label": "a"})


def test_ids_are_taken_when_they_are_unique() -> None:
    rows = [{"id": 7, "query": "a", "label": 1}, {"id": 8, "query": "b", "label": 1}]
    assert [s.id for s in samples_from_dicts(rows, QUERY)] == ["7", "8"]
    assert all(set(s.inputs) == {"query"} for s in samples_from_dicts(rows, QUERY))
    rows[1]["id"] = 7
    assert [(s.id, s["id"]) for s in samples_from_dicts(rows, QUERY)] == [("1", 7), ("2", 7)]
    assert [(s.id, s["id"]) for s in samples_from_dicts(rows, QUERY | {"id"})] == [("1", 7), ("2", 7)]


def test_data_without_ground_truth() -> None:
    assert samples_from_dicts([{"query": "q"}], QUERY)[0].ground_truth is None


def test_values_become_json() -> None:
    row = {
        "query": np.int64(3),
        "array": np.array([1.5]),
        "day": datetime.date(2025, 1, 2),
        "price": Decimal("1.10"),
        "pair": ({"a": (1,)},),
        "label": np.str_("x"),
    }
    (sample,) = samples_from_dicts([row], QUERY)
    assert dict(sample.inputs) == {
        "query": 3,
        "array": [1.5],
        "day": "2025-01-02",
        "price": "1.10",
        "pair": [{"a": [1]}],
    }
    assert sample.ground_truth == "x"
    assert type(sample.ground_truth) is str
    assert sample.digest


@pytest.mark.parametrize(
    ("rows", "truth", "message"),
    [
        ([], None, "has no rows"),
        (["text"], None, "row 1: must be a dict of column to value, not str"),
        ([{"query": 1, "label": 2}, {"query": 1}], None, "row 2, column 'label': the ground truth is missing"),
        ([{"query": 1, "label": math.nan}], None, "row 1, column 'label': the ground truth is missing"),
        ([{"query": 1, "label": 2}], "labels", "column 'labels'.*did you mean 'label'"),
        ([{"query": 1, "label": 2}], "query", "both a placeholder and the ground truth"),
        ([{"query": b"raw", "label": 2}], None, "row 1, column 'query': holds bytes"),
        ([{"query": {1: 2}, "label": 2}], None, "row 1, column 'query': holds dict"),
    ],
)
def test_wrong_rows(rows: list[Any], truth: str | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        samples_from_dicts(rows, QUERY, truth)


def test_optional_packages_stay_out_of_the_import() -> None:
    code = "import sys, rollouts.datasets; print(sorted({'pyarrow', 'datasets', 'pandas', 'numpy'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize("index", [None, ["a", "b", "c"]])
def test_a_data_frame_is_rows(index: list[str] | None) -> None:
    pandas = pytest.importorskip("pandas")
    rows: list[dict[str, Any]] = [{"q": f"row {n}", "n": n, "label": "xy"[n % 2]} for n in range(3)]
    made = samples_from_dicts(pandas.DataFrame(rows, index=index), frozenset({"q"}), "label")
    assert made == samples_from_dicts(rows, frozenset({"q"}), "label")

    class Polars:
        def to_dicts(self) -> list[dict[str, Any]]:
            return rows

    assert samples_from_dicts(cast("Any", Polars()), frozenset({"q"}), "label") == made
