from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rollouts.errors import ConfigError
from rollouts.experiments.sweep.compare import compare, gather
from rollouts.experiments.sweep.records import RunRecord, save_record


def record(method: str, seed: int, score: float | None, **other: Any) -> RunRecord:
    algorithm = "start" if method == "start" else "rmipro"
    scored = None if score is None else {"mean": score, "low": score - 0.1, "high": score + 0.1, "n": 40}
    budget = "" if algorithm == "start" else "small"
    settings: dict[str, Any] = {
        "experiment": "e",
        "task": "desk",
        "model": "m",
        "algorithm": algorithm,
        "budget": budget,
        "status": "failed" if score is None else "done",
        "spend": {"rollouts": 100, "micros": 500},
        **other,
    }
    run = "-".join(filter(None, (method, settings["budget"], f"s{seed}")))
    return RunRecord(run=run, method=method, seed=seed, score=scored, **settings)


def runs(seeds: int, **gains: float) -> list[RunRecord]:
    """Runs whose scores hang together by seed, each method better by its gain and a little noise."""
    return [
        record(method, seed, 0.5 + 0.02 * (seed % 5) + gain + 0.004 * ((7 * seed + 3 * place) % 5 - 2))
        for place, (method, gain) in enumerate(gains.items())
        for seed in range(seeds)
    ]


def said(records: list[RunRecord], **settings: Any) -> dict[str, tuple[str, str]]:
    (table,) = compare(records, **settings)
    assert table.against is not None
    return {row.method: words for row, words in zip(table.against.rows, table.verdicts(), strict=True)}


def test_the_verdict_is_told_in_words_with_what_it_rests_on() -> None:
    found = said(runs(10, uniform=0.0, adaptive=0.1, worse=-0.1, same=0.0))
    assert found["adaptive"][0] == "adaptive is better than uniform"
    assert "10 paired runs" in found["adaptive"][1]
    assert "95 % interval" in found["adaptive"][1]
    assert found["worse"][0] == "worse is worse than uniform"
    assert found["same"][0] == "same: no difference from uniform seen"
    assert "four times in five" in found["same"][1]


def test_too_few_seeds_are_said_and_how_many_it_takes() -> None:
    found = said(runs(4, uniform=0.0, adaptive=0.3))
    assert found["adaptive"][0] == "adaptive: too few seeds to tell it from uniform"
    assert found["adaptive"][1].endswith("1 comparison takes at least 6.")
    enough = said(runs(6, uniform=0.0, adaptive=0.3))
    assert enough["adaptive"][0] == "adaptive is better than uniform"


def test_failed_runs_are_left_out_of_pairs_and_counted() -> None:
    records = [*runs(8, uniform=0.0, adaptive=0.1), record("adaptive", 8, None), record("uniform", 8, 0.5)]
    (table,) = compare(records)
    assert table.against is not None
    assert (table.against["adaptive"].n, table.against["adaptive"].missing) == (8, 1)
    assert {method.method: method.failed for method in table.methods} == {"uniform": 0, "adaptive": 1}


def test_a_method_with_no_run_in_common_has_nothing_to_compare() -> None:
    found = said([*runs(3, uniform=0.0), record("other", 9, 0.7)])
    assert found["other"][0] == "other: nothing to compare"


def test_every_budget_has_a_table_and_the_start_is_in_each() -> None:
    large = [record("adaptive", seed, 0.8, budget="large") for seed in range(3)]
    tables = compare([*runs(3, start=0.0, adaptive=0.1), *large], baseline="start")
    assert [table.budget for table in tables] == ["small", "large"]
    assert all({method.method for method in table.methods} == {"start", "adaptive"} for table in tables)


def test_different_test_rows_are_noted() -> None:
    short = record("adaptive", 0, 0.5)
    (table,) = compare([record("uniform", 0, 0.5), short])
    assert table.notes == ()
    fewer = RunRecord.from_json({**short.to_json(), "score": {"mean": 0.5, "low": 0.4, "high": 0.6, "n": 12}})
    (table,) = compare([record("uniform", 0, 0.5), fewer])
    assert "12 to 40 test rows" in table.notes[0]


def test_an_unknown_baseline_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'uniform'"):
        compare(runs(3, uniform=0.0, adaptive=0.1), baseline="unifrm")


def folder(place: Path, records: list[RunRecord]) -> Path:
    for entry in records:
        (place / "runs" / entry.run).mkdir(parents=True)
        save_record(entry, place / "runs" / entry.run)
    return place


def test_experiments_on_several_tasks_are_one_table(tmp_path: Path) -> None:
    one = folder(tmp_path / "one", runs(4, uniform=0.0, adaptive=0.1))
    other = [replace(entry, task="other") for entry in runs(4, uniform=0.0, adaptive=0.1)]
    two = folder(tmp_path / "two", other)
    records, _ = gather([one, two])
    (table,) = compare(records, baseline="uniform")
    assert table.against is not None
    assert table.against["adaptive"].n == 8
    assert table.against["adaptive"].verdict == "better"


def test_the_same_method_of_two_experiments_is_told_apart(tmp_path: Path) -> None:
    before = [record("adaptive", seed, 0.5 + 0.01 * seed, experiment="old") for seed in range(7)]
    after = [record("adaptive", seed, 0.7 + 0.012 * seed, experiment="new") for seed in range(7)]
    records, _ = gather([folder(tmp_path / "a", before), folder(tmp_path / "b", after)])
    found = said(records)
    assert found["new:adaptive"][0] == "new:adaptive is better than old:adaptive"


def test_a_single_run_may_be_named_and_nothing_is_an_error(tmp_path: Path) -> None:
    place = folder(tmp_path / "one", runs(2, uniform=0.0))
    assert len(gather([place / "runs" / "uniform-small-s1"])[0]) == 1
    with pytest.raises(ConfigError, match="holds no run"):
        gather([tmp_path])
