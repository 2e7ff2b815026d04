"""Splits never overlap, have the exact sizes, keep the class shares, and depend on the seed alone."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollouts.datasets import (
    apart,
    auto_sizes,
    cross_validation,
    describe,
    fitted_sizes,
    remarks_on,
    same_inputs,
    split,
    usable_rows,
)
from rollouts.datasets.rounding import controlled_rounding
from rollouts.dtypes import Sample
from rollouts.errors import ConfigError, DataError


def sample(number: int, label: object, text: str | None = None) -> Sample:
    return Sample(inputs={"text": text if text is not None else f"text {number}"}, ground_truth=label, id=str(number))


def labelled(counts: list[int]) -> list[Sample]:
    """Sorted by label, as published sets are."""
    labels = [f"label{i}" for i, count in enumerate(counts) for _ in range(count)]
    return [sample(number, label) for number, label in enumerate(labels)]


class_counts = st.lists(st.integers(min_value=2, max_value=40), min_size=1, max_size=12)
shares = st.lists(st.floats(min_value=0, max_value=1), min_size=1, max_size=4)


def sizes_of(portions: list[float], total: int) -> dict[str, int]:
    scale = max(1.0, sum(portions))
    return {f"s{i}": int(portion / scale * total) for i, portion in enumerate(portions)}


@given(class_counts, shares, st.integers(min_value=0, max_value=2**40))
def test_disjoint_exact_and_stratified(counts: list[int], portions: list[float], seed: int) -> None:
    samples = labelled(counts)
    sizes = sizes_of(portions, len(samples))
    parts = split(samples, sizes, seed)
    assert {name: len(part) for name, part in parts.items()} == sizes
    ids = [one.id for part in parts.values() for one in part]
    assert len(ids) == len(set(ids))
    for name, part in parts.items():
        found = Counter(one.ground_truth for one in part)
        for label, count in Counter(one.ground_truth for one in samples).items():
            assert abs(found[label] - sizes[name] * count / len(samples)) < 1


def test_remarks_name_the_rows() -> None:
    texts = [("a", "x"), ("A ", "x"), ("b", "x"), ("b", "y"), ("c", "x"), (" ", "y"), *[("c", "x")] * 6]
    samples = [sample(number, label, text) for number, (text, label) in enumerate(texts, start=1)]
    assert remarks_on(samples) == [
        "7 of 12 rows repeat the inputs of another one and were left out (id 2, 7, 8, 9, 10, ...)",
        "2 of 12 rows have the inputs of another one and a different ground truth; all of them were left out (id 3, 4)",
        "1 of 12 rows have an input without any text; they are used as they are (id 6)",
    ]
    assert remarks_on(samples[4:5]) == []
    hidden = [Sample(inputs={"text": "a", "note": ""}, ground_truth="x", id="1")]
    assert remarks_on(hidden)
    assert not remarks_on(hidden, {"text"}), "what the prompt does not show counts for nothing"


@given(class_counts, shares, st.integers(min_value=0, max_value=2**40), st.booleans())
def test_the_same_seed_gives_the_same_splits(counts: list[int], portions: list[float], seed: int, by: bool) -> None:
    samples = labelled(counts)
    sizes = sizes_of(portions, len(samples))
    assert split(samples, sizes, seed, by) == split(list(samples), dict(sizes), seed, by)


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from("xy")), min_size=1, max_size=60))
def test_no_text_is_on_two_sides(rows: list[tuple[str, str]]) -> None:
    samples = [sample(i, label, text if i % 2 else f" {text.upper()} ") for i, (text, label) in enumerate(rows)]
    clear = [group[0] for group in same_inputs(samples) if len({one.ground_truth for one in group}) == 1]
    half = len(clear) // 2
    parts = split(samples, {"train": half, "test": len(clear) - half}, seed=3)
    kept = parts["train"] + parts["test"]
    assert sorted(kept, key=lambda s: int(s.id)) == clear
    left_out = sum(int(remark.split()[0]) for remark in remarks_on(samples))
    assert len(samples) - left_out == len(usable_rows(samples)) == len(clear), "what is left out is told"
    summary = describe(samples)
    assert summary.n - summary.duplicates - len(summary.contradictions) == len(clear)


@given(
    st.lists(st.integers(min_value=0, max_value=50), min_size=1, max_size=9),
    st.lists(st.floats(min_value=0, max_value=1), min_size=0, max_size=5),
)
def test_controlled_rounding(rows: list[int], portions: list[float]) -> None:
    total = sum(rows)
    columns = list(sizes_of(portions, total).values())
    columns.append(total - sum(columns))
    table = controlled_rounding(rows, columns)
    assert [sum(row) for row in table] == rows
    assert [sum(column) for column in zip(*table, strict=True)] == columns
    for row, count in zip(table, rows, strict=True):
        assert all(abs(cell - count * size / total) < 1 for cell, size in zip(row, columns, strict=True) if total)


def test_seeds_differ_and_order_is_shuffled() -> None:
    samples = labelled([50, 50])
    sizes = {"train": 40, "val": 40}
    first = split(samples, sizes, 0)
    assert first != split(samples, sizes, 1)
    labels = [one.ground_truth for one in first["train"]]
    assert labels != sorted(labels)


@pytest.mark.parametrize("truths", [[f"free text {i}" for i in range(40)], [[i] for i in range(40)], [None] * 40])
def test_other_ground_truths_are_shuffled_plainly(truths: list[object]) -> None:
    samples = [sample(i, truth) for i, truth in enumerate(truths)]
    parts = split(samples, {"train": 10, "test": 30})
    assert sorted(int(one.id) for part in parts.values() for one in part) == list(range(40))


def test_without_stratify_the_classes_are_left_to_chance() -> None:
    samples = labelled([20, 20])
    found = {
        Counter(s.ground_truth for s in split(samples, {"a": 20}, seed, False)["a"])["label0"] for seed in range(20)
    }
    assert len(found) > 2


def test_rare_classes_take_turns() -> None:
    # Twenty classes, ten rows asked for: each class must have the chance to be in.
    samples = labelled([5] * 20)
    seen = {one.ground_truth for seed in range(30) for one in split(samples, {"train": 10}, seed)["train"]}
    assert len(seen) == 20


def test_shares() -> None:
    parts = split(labelled([50, 50]), {"train": 0.29, "val": 10, "test": 0.61})
    assert {name: len(part) for name, part in parts.items()} == {"train": 29, "val": 10, "test": 61}
    assert len(split(labelled([7]), {"all": 1.0})["all"]) == 7
    assert split(labelled([7]), {"test": 0}) == {"test": []}


@pytest.mark.parametrize("sizes", [{"a": -1}, {"a": True}, {"a": 1.5}, {"a": float("nan")}, {"a": 0.6, "b": 0.6}])
def test_sizes_that_make_no_sense(sizes: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="split"):
        split(labelled([10]), sizes)


def test_too_few_rows_are_told_with_numbers() -> None:
    samples = [*labelled([6, 3]), sample(9, "label0", "text 0"), sample(10, "label1", "TEXT 1")]
    message = (
        r"need 12 rows \(train 4 \+ test 8\), the data set has 8 \(11 less 3 duplicates or contradictions\); "
        r"per label that is label0 8 \(has 5\), label1 5 \(has 3\)"
    )
    with pytest.raises(DataError, match=message):
        split(samples, {"train": 4, "test": 8})
    with pytest.raises(DataError, match="need 1 rows"):
        split([], {"train": 1})


def test_processes_with_other_hash_seeds_agree() -> None:
    code = (
        "from rollouts.datasets import load, split, DatasetSpec\n"
        "parts = split(load(DatasetSpec(path='tickets', limit=300)), {'train': 50, 'val': 50, 'test': 100}, seed=7)\n"
        "print([[s.id for s in part] for part in parts.values()])"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("0", "1", "4242")
    }
    assert len(outputs) == 1


@given(st.integers(min_value=2, max_value=20_000))
def test_auto_sizes(n: int) -> None:
    sizes = auto_sizes(n)
    assert list(sizes) == ["train", "val", "test"]
    assert sum(sizes.values()) <= n
    assert sizes["train"] >= 1
    assert sizes["val"] >= 1
    assert (sizes["test"] == 0) == (n < 9)
    assert sizes["train"] <= 200
    assert sizes["val"] <= 300
    assert sizes["test"] <= 500


@given(st.integers(min_value=2, max_value=20_000))
def test_auto_sizes_without_test_rows_leave_none_over(n: int) -> None:
    sizes = auto_sizes(n, ["train", "val"])
    assert sizes["train"] == 200 or sizes["val"] == 300 or sum(sizes.values()) == n
    assert min(sizes.values()) >= 1
    assert auto_sizes(n, ["val"]) == {"val": min(300, n)}


PARTS = st.sampled_from([("train", "val", "test"), ("train", "val"), ("train", "test"), ("val", "test"), ("train",)])


@given(st.integers(3, 2000), PARTS, st.dictionaries(st.sampled_from(["train", "val", "test"]), st.floats(0, 0.33)))
def test_sizes_that_are_not_stated_share_what_the_others_leave(
    n: int, parts: tuple[str, ...], stated: dict[str, float]
) -> None:
    sizes = fitted_sizes(n, stated, parts)
    assert list(sizes) == list(parts)
    assert sum(sizes.values()) <= n
    for name in parts:
        if name in stated:
            assert sizes[name] == math.floor(stated[name] * n + 1e-9)
    missing = [name for name in parts if name not in stated]
    full = {"train": 200, "val": 300, "test": 500}
    if missing and all(sizes[name] < full[name] for name in missing):
        assert sum(sizes.values()) == n, "no row is left over"


@pytest.mark.parametrize("share", [0.07, 0.14, 0.28, 0.29, 0.55, 0.56, 0.57, 0.58])
def test_a_share_is_rounded_once(share: float) -> None:
    samples = labelled([50, 50])
    sizes = fitted_sizes(len(samples), {"train": share}, ["train", "val"])
    assert sum(map(len, split(samples, sizes).values())) == 100


def test_sizes_that_do_not_fit_are_told_by_the_split() -> None:
    samples = labelled([5, 5])
    with pytest.raises(DataError, match=r"need 12 rows \(train 1 \+ val 1 \+ test 10\)"):
        split(samples, fitted_sizes(10, {"test": 10}))


@given(class_counts, st.integers(2, 8), st.integers(0, 3), st.booleans())
def test_the_folds_of_one_division_test_every_row_once(
    counts: list[int], folds: int, division: int, stratify: bool
) -> None:
    samples = labelled(counts)
    samples += [sample(len(samples), "label0", "text 0")]
    usable = usable_rows(samples)
    if len(usable) < (4 if folds == 2 else folds):
        with pytest.raises(DataError, match=f"{folds} folds need"):
            cross_validation(samples, folds)
        return
    tested: list[str] = []
    for seed in range(division * folds, (division + 1) * folds):
        test, rest = cross_validation(samples, folds, seed, stratify)
        assert sorted(test + rest, key=lambda row: int(row.id)) == usable
        assert len(rest) >= 2, "one to train on and one to validate"
        assert len(usable) // folds <= len(test) <= -(-len(usable) // folds)
        tested += [row.id for row in test]
        found = Counter(row.ground_truth for row in test)
        for label, count in Counter(row.ground_truth for row in usable).items():
            assert not stratify or abs(found[label] - len(test) * count / len(usable)) < 1
    assert sorted(tested) == sorted(row.id for row in usable)


def test_divisions_differ_and_one_fold_is_none() -> None:
    samples = labelled([30, 30])
    assert {row.id for row in cross_validation(samples, 3, 0)[0]} != {
        row.id for row in cross_validation(samples, 3, 3)[0]
    }
    with pytest.raises(ConfigError, match="at least 2"):
        cross_validation(samples, 1)


def test_auto_sizes_at_the_ends() -> None:
    assert auto_sizes(2) == {"train": 1, "val": 1, "test": 0}
    assert auto_sizes(9) == {"train": 3, "val": 3, "test": 3}
    assert auto_sizes(100) == {"train": 30, "val": 35, "test": 35}
    assert auto_sizes(10_003) == {"train": 200, "val": 300, "test": 500}
    for n in (0, 1):
        with pytest.raises(DataError, match=f"has {n} usable rows; at least 2"):
            auto_sizes(n)


def test_no_row_of_a_later_part_is_in_an_earlier_one() -> None:
    def rows(*texts: str) -> list[Sample]:
        return [Sample(id=f"{i}", inputs={"text": text}, ground_truth="a") for i, text in enumerate(texts)]

    parts, left_out = apart({"train": rows("a", "B ", "c", "d"), "val": rows("b", "e"), "test": rows("E", "a", "f")})
    texts = {name: [sample.inputs["text"] for sample in kept] for name, kept in parts.items()}
    assert texts == {"train": ["c", "d"], "val": ["b"], "test": ["E", "a", "f"]}
    assert left_out == {"train": 2, "val": 1}
