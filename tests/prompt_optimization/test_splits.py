"""The rows that a search sees of its splits."""

from __future__ import annotations

from rollouts.dtypes import Sample
from rollouts.prompt_optimization import Splits


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
