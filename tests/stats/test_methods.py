"""Methods against a baseline over tasks and seeds: verdicts, error rates, the table."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from rollouts.errors import ConfigError
from rollouts.stats import (
    Comparison,
    MethodRow,
    compare_methods,
    holm,
    paired_power,
    seeds_needed,
    sign_flip_test,
    wilcoxon_test,
)

TASKS = ("a", "b", "c")


def runs(gain: float, seeds: int = 6, spread: float = 0.02, seed: int = 0) -> dict[tuple[str, int], float]:
    rng = np.random.default_rng([seed, int(1000 * (gain + 1))])
    return {(t, s): 0.5 + i / 10 + gain + rng.normal(0, spread) for i, t in enumerate(TASKS) for s in range(seeds)}


def table(**options) -> Comparison:
    scores = {"start": runs(0.0), "ours": runs(0.05), "same": runs(0.0, seed=3), "poor": runs(-0.05)}
    return compare_methods(scores, baseline="start", **options)


@pytest.mark.parametrize("test", ["permutation", "wilcoxon"])
def test_the_verdicts(test: str) -> None:
    found = table(test=test)
    assert [(row.method, row.verdict) for row in found.rows] == [
        ("ours", "better"),
        ("same", "no difference seen"),
        ("poor", "worse"),
    ]
    ours = found["ours"]
    assert ours.difference.mean == pytest.approx(ours.mean - ours.baseline)
    assert 0 < ours.difference.low < ours.difference.mean < ours.difference.high
    assert ours.shift.low > 0 < ours.effect.low
    assert ours.n == 18
    assert ours.p_value <= ours.p_holm < 0.05
    assert found["same"].detectable < 0.05
    with pytest.raises(KeyError):
        found["start"]


def test_the_unit_says_how_many_independent_differences_there_are() -> None:
    assert {unit: table(unit=unit)["ours"].n for unit in ("run", "task", "seed")} == {"run": 18, "task": 3, "seed": 6}
    assert table(unit="task")["ours"].verdict == "too few seeds"
    assert table(unit="seed")["ours"].verdict == "too few seeds", "three comparisons need more than 2 / 2^6"
    pair = {"start": runs(0.0), "ours": runs(0.05)}
    assert compare_methods(pair, baseline="start", unit="seed")["ours"].verdict == "better"


def test_what_has_no_counterpart_is_left_out() -> None:
    ours = runs(0.05)
    for broken in (None, math.nan):
        scores = {"start": runs(0.0), "ours": {**ours, ("a", 0): broken, ("a", 99): 1.0}}
        row = compare_methods(scores, baseline="start")["ours"]
        assert (row.n, row.missing) == (17, 2)


def test_nothing_in_common_is_too_few() -> None:
    row = compare_methods({"start": runs(0.0), "x": {("z", 1): 0.3}}, baseline="start")["x"]
    assert (row.verdict, row.n, row.p_value, row.needed) == ("too few seeds", 0, 1.0, None)
    assert math.isnan(row.difference.mean)


def of_differences(*moved: float, confidence: float = 0.95, tasks: int = 1) -> MethodRow:
    start = {(run % tasks, run): 0.5 for run in range(len(moved))}
    ours = {(run % tasks, run): 0.5 + gain for run, gain in enumerate(moved)}
    return compare_methods({"start": start, "ours": ours}, baseline="start", confidence=confidence)["ours"]


def test_fewer_than_five_are_too_few_at_any_confidence() -> None:
    moved = (0.1, 0.12, 0.11, 0.13, 0.1)
    assert of_differences(*moved[:4], confidence=0.6).verdict == "too few seeds"
    assert of_differences(*moved, confidence=0.6).verdict == "better"


@pytest.mark.parametrize("tasks", [1, 2])
def test_runs_that_repeat_each_other_are_no_evidence(tasks: int) -> None:
    moved = [(0.1, 0.2)[run % tasks] for run in range(12)]
    found = of_differences(*moved, tasks=tasks)
    assert (found.verdict, found.p_value < 0.05, found.needed) == ("no difference seen", True, None)
    assert math.isnan(found.detectable)
    assert of_differences(*moved[:-1], 0.11, tasks=tasks).verdict == "better"


def test_an_interval_holds_no_difference_that_scores_cannot_have() -> None:
    start, ours = {("a", 0): 0.5, ("a", 1): 0.0}, {("a", 0): 1.0, ("a", 1): 0.6}
    swing = {"start": {**start, ("a", 2): 1.0}, "ours": {**ours, ("a", 2): 0.0}}
    found = compare_methods(swing, baseline="start")["ours"]
    assert (found.difference.low, found.difference.high) == (-1.0, 1.0)
    points = {name: {run: 100 * score for run, score in part.items()} for name, part in swing.items()}
    found = compare_methods(points, baseline="start")["ours"]
    assert found.difference.high > 100
    same = compare_methods({"start": start, "ours": start}, baseline="start")["ours"]
    assert math.isinf(same.difference.high), "nothing is known of the noise"


def test_the_order_of_runs_changes_nothing() -> None:
    scores = {"start": runs(0.0), "ours": runs(0.01)}
    turned = {name: dict(reversed(part.items())) for name, part in scores.items()}
    assert compare_methods(scores, baseline="start") == compare_methods(turned, baseline="start")


def test_the_whole_table_errs_rarely_when_all_are_alike() -> None:
    rng = np.random.default_rng(8)
    # All share the baseline's luck, which makes their errors dependent.
    draws = rng.normal(0.5, 0.1, (600, 4, 10))
    wrong = [min(holm([sign_flip_test(other - start) for other in others])) < 0.05 for start, *others in draws]
    assert np.mean(wrong) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 600)


def test_the_corrected_p_value_decides() -> None:
    rng = np.random.default_rng(9)
    for _ in range(20):
        scores = {n: {(0, s): float(v) for s, v in enumerate(rng.normal(0.5, 0.1, 9))} for n in ("start", "x", "y")}
        found = compare_methods(scores, baseline="start")
        assert [row.p_holm for row in found.rows] == holm([row.p_value for row in found.rows])
        for row in found.rows:
            assert (row.verdict == "no difference seen") == (row.p_holm >= 0.05)


def test_the_needed_seeds_find_the_effect() -> None:
    # G*Power 3.1, matched pairs, two-sided, power 80 %: d = 0.2, 0.5, 0.8, 1.0.
    assert [seeds_needed(d) for d in (0.2, 0.5, 0.8, 1.0)] == [199, 34, 15, 10]
    rng, n = np.random.default_rng(6), seeds_needed(1.0)
    moved = rng.normal(1.0, 1.0, (600, n))
    assert paired_power(n, 1.0) == pytest.approx(0.803, abs=0.002)
    assert np.mean([sign_flip_test(row) < 0.05 for row in moved]) == pytest.approx(0.8, abs=0.06)
    assert np.mean([wilcoxon_test(row) < 0.05 for row in moved]) == pytest.approx(0.8, abs=0.08)


def test_the_table_is_text_and_json() -> None:
    found = table()
    lines = found.text().splitlines()
    assert len(lines) == 2 + 3 + 1
    assert lines[2].startswith("ours")
    assert lines[2].endswith("better")
    assert "against start" in lines[-1]
    assert "3 comparisons" in lines[-1]
    told = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert [row["verdict"] for row in told["rows"]] == [row.verdict for row in found.rows]
    assert told["rows"][0]["difference"]["n"] == 18


@pytest.mark.parametrize(
    ("scores", "options"),
    [
        ({"a": {}}, {"baseline": "a"}),
        ({"a": {}, "b": {}}, {"baseline": "c"}),
        ({"a": {}, "b": {}}, {"baseline": "a", "unit": "row"}),
        ({"a": {}, "b": {}}, {"baseline": "a", "test": "t"}),
        ({"a": {}, "b": {}}, {"baseline": "a", "confidence": 1.0}),
    ],
)
def test_what_makes_no_sense_is_refused(scores, options) -> None:
    with pytest.raises(ConfigError):
        compare_methods(scores, **options)
