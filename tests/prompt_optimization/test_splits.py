"""The rows that a search sees of its splits."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rollouts.dtypes import PromptTemplate, Sample
from rollouts.errors import DataError
from rollouts.prompt_optimization import MIPROConfig, Splits, StudyOptions
from rollouts.prompt_optimization.prepared import prepared


def test_ready_splits_are_kept_apart_and_their_ids_tell_rows_apart() -> None:
    rows = [Sample(inputs={"x": f"row {n}"}, ground_truth="a", id=str(n)) for n in range(12)]
    template, config, options = PromptTemplate("s", "{x}"), MIPROConfig(), StudyOptions()
    overlapping = Splits(train=rows[:8], val=rows[4:10], test=rows[8:])
    _, data, told = prepared(template, overlapping, config, options)
    assert (list(data.train), list(data.val), list(data.test)) == (rows[:4], rows[4:8], rows[8:])
    assert sum("were left out" in note for note in told.notes) == 2
    nameless, alike = [replace(row, id="") for row in rows[8:]], [replace(row, id="7") for row in rows[8:]]
    _, data, _ = prepared(template, Splits(train=rows[:4], val=rows[4:8], test=nameless), config, options)
    assert [row.id for row in data.test] == ["1", "2", "3", "4"]
    assert [row.inputs for row in data.test] == [row.inputs for row in nameless]
    twice = Splits(train=rows[:4], val=rows[4:8], test=[*rows[8:], *rows[8:]])
    assert prepared(template, twice, config, options)[1].test
    with pytest.raises(DataError, match="different samples of the test split have the id '7'"):
        prepared(template, Splits(train=rows[:4], val=rows[4:8], test=alike), config, options)


def test_training_rows_by_number_are_mixed() -> None:
    """Files are often sorted by label, and the first rows are bootstrapped and shown to proposers."""
    rows = [{"x": f"row {n}", "y": "abcd"[n // 10]} for n in range(40)]
    config = MIPROConfig(train_seeds=(*range(8), *range(10, 18), *range(20, 28), *range(30, 38)), val_seeds=(8, 18))
    template = PromptTemplate("s", "{x}")
    _, data, _ = prepared(template, rows, config, StudyOptions())
    assert {sample.ground_truth for sample in data.train[:8]} == set("abcd")
    assert {sample.inputs["x"] for sample in data.train} == {f"row {n}" for n in config.train_seeds}
    assert prepared(template, rows, config, StudyOptions())[1].train == data.train


def test_the_first_rows_of_a_cut_have_all_labels_in_proportion() -> None:
    rows = [Sample(id=str(i), inputs={"text": f"row {i}"}, ground_truth="ab"[i % 4 == 0]) for i in range(40)]
    rows.sort(key=lambda row: str(row.ground_truth))
    cut = Splits(train=rows, val=rows, test=rows).cut(val=20, test=8)
    assert [row.ground_truth for row in cut.val].count("b") == 5
    assert [row.ground_truth for row in cut.test].count("b") == 2
    assert [row.ground_truth for row in cut.val[:4]].count("b") == 1
    assert list(cut.train) == rows
    assert cut.val == Splits(train=rows, val=rows).cut(val=20, test=0).val


def test_a_cut_keeps_the_order_of_rows_without_labels() -> None:
    rows = [Sample(id=str(i), inputs={"text": f"row {i}"}, ground_truth=f"answer {i}") for i in range(9)]
    assert list(Splits(train=rows, val=rows, test=()).cut(val=5, test=3).val) == rows[:5]
