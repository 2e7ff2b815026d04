"""The comparison's tables and plot, from made-up records."""

from __future__ import annotations

import random
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks.mipro_comparison import report
from benchmarks.mipro_comparison.contrasts import ALL, Contrast, ablations, at_a_third, at_equal_calls
from benchmarks.mipro_comparison.outcome import Counts, Key, Outcome
from benchmarks.mipro_comparison.plot import svg
from benchmarks.mipro_comparison.runs import OURS, PEER, grouped

ROWS, SEEDS = 200, 5


def outcome(
    method: str, right: float, *, task: str = "sst2", settings: str = "equal", cap: int = 900, seed: int = 0
) -> Outcome:
    """Right on the first `right` share of the rows, in an order that the seed decides, and a little more or less: by
    seed, and so that the seeds of ours as it comes do not move with those of others."""
    order = random.Random(seed).sample(range(ROWS), ROWS)
    turn = seed if (method, settings) == (OURS, "equal") else SEEDS - 1 - seed
    count = round(right * ROWS) + turn % 3 - 1 if right else 0
    scores = {str(row): int(place < count) for place, row in enumerate(order)}
    counts = Counts(calls=cap, prompt_tokens=100 * cap, completion_tokens=cap, call_s=cap / 4)
    return Outcome(
        key=Key(task=task, method=method, settings=settings, cap=cap, seed=seed),
        model="local",
        best_score=sum(scores.values()) / ROWS,
        elapsed=cap / 8,
        train_size=100,
        val_size=100,
        test_size=ROWS,
        test_scores=scores,
        calls={"search": counts, "propose": Counts(calls=3, prompt_tokens=10)},
        versions={},
        date="2026-01-01T00:00:00",
        machine="2 x made up",
    )


def seeds(method: str, right: float, **known: object) -> list[Outcome]:
    return [outcome(method, right, seed=seed, **known) for seed in range(SEEDS)]  # type: ignore[arg-type]


def failed(run: Outcome) -> Outcome:
    return replace(run, best_score=None, test_scores={}, error="Traceback\nRuntimeError: the model is gone")


def only(tables: list[list[Contrast]]) -> list[Contrast]:
    assert len(tables) == 1
    return tables[0]


@pytest.mark.parametrize(
    ("ours", "theirs", "finding"),
    [(0.7, 0.5, "better"), (0.5, 0.7, "worse"), (0.6, 0.6, "no difference seen")],
)
def test_a_known_difference_is_found(ours: float, theirs: float, finding: str) -> None:
    row = only(at_equal_calls(grouped(seeds(OURS, ours) + seeds(PEER, theirs))))[0]
    assert row.difference.mean == pytest.approx(ours - theirs)
    assert row.means == pytest.approx((ours, theirs), abs=0.002)
    assert row.difference.low <= row.difference.mean <= row.difference.high
    assert (row.finding, row.share, row.missing) == (finding, 1.0, 0)


def test_one_seed_is_too_few_however_large_the_difference() -> None:
    row = only(at_equal_calls(grouped([outcome(OURS, 0.9), outcome(PEER, 0.1)])))[0]
    assert row.finding == "too few seeds"


def test_four_seeds_are_too_few_and_seeds_that_repeat_each_other_show_nothing() -> None:
    four = [run for run in seeds(OURS, 0.7) + seeds(PEER, 0.5) if run.key.seed < 4]
    row = only(at_equal_calls(grouped(four)))[0]
    assert (row.p_holm < 0.05 < row.difference.low, row.finding) == (True, "too few seeds")
    copies = [
        replace(run, key=replace(run.key, seed=seed))
        for run in (outcome(OURS, 0.7), outcome(PEER, 0.5))
        for seed in range(SEEDS)
    ]
    row = only(at_equal_calls(grouped(copies)))[0]
    assert (row.p_holm < 0.05, row.finding) == (True, "no difference seen")


def test_rows_that_agree_say_nothing_beyond_the_seeds() -> None:
    runs = seeds(OURS, 0.51) + seeds(PEER, 0.5)
    row = only(at_equal_calls(grouped(runs)))[0]
    assert row.p_value < 0.05, "the rows alone differ"
    moved = [replace(run, test_scores={}, best_score=0.5 + 0.1 * (-1) ** run.key.seed) for run in seeds(OURS, 0.5)]
    row = only(at_equal_calls(grouped(moved + seeds(PEER, 0.5))))[0]
    assert (row.p_value, row.finding) == (1.0, "no difference seen")


def test_seeds_without_a_pair_are_left_out_and_counted() -> None:
    ours = seeds(OURS, 0.7)
    ours[0] = failed(ours[0])
    runs = ours + seeds(PEER, 0.5)[:-1]
    row = only(at_equal_calls(grouped(runs)))[0]
    assert row.missing == 2
    assert row.difference.n == 3
    text = report.markdown(runs)
    assert "4 of 5" in text
    assert "RuntimeError: the model is gone" in text


def test_a_third_of_the_calls_takes_the_largest_cap_within_it() -> None:
    runs = [run for cap in (100, 300, 301, 900) for run in seeds(OURS, 0.6, cap=cap)] + seeds(PEER, 0.6)
    row = only(at_a_third(grouped(runs)))[0]
    assert row.caps == (300, 900)
    assert row.share == pytest.approx(1 / 3)
    assert only(at_equal_calls(grouped(runs)))[0].caps == (900, 900)


def test_the_peers_defaults_are_met_by_what_they_really_called() -> None:
    """The cap of its record says nothing about a run with its own settings."""
    defaults = [replace(run, key=replace(run.key, cap=300)) for run in seeds(PEER, 0.5, settings="default", cap=1000)]
    runs = [run for cap in (300, 900) for run in seeds(OURS, 0.6, cap=cap)] + defaults
    assert only(at_equal_calls(grouped(runs)))[0].share == pytest.approx(0.9)
    assert only(at_a_third(grouped(runs)))[0].share == pytest.approx(0.3)


def test_holm_corrects_for_tasks_and_all_tasks_come_last() -> None:
    tasks = ("banking12", "sst2", "tickets")
    runs = [run for task in tasks for run in seeds(OURS, 0.53, task=task) + seeds(PEER, 0.5, task=task)]
    *rows, overall = only(at_equal_calls(grouped(runs)))
    assert tuple(row.task for row in rows) == tasks
    assert overall.task == ALL
    assert max(row.p_holm for row in rows) == pytest.approx(min(1.0, 3 * min(row.p_value for row in rows)))
    assert overall.difference.mean == pytest.approx(0.03)
    assert overall.finding == "better"


def test_variants_are_held_against_ours_as_it_comes() -> None:
    runs = seeds(OURS, 0.6) + seeds(OURS, 0.4, settings="no-demos") + seeds(OURS, 0.6, settings="tpe", cap=300)
    row = only(ablations(grouped(runs)))[0]
    assert (row.ours, row.finding) == (f"{OURS} (no-demos)", "worse")
    assert "Ablation" in report.markdown(runs)


def test_one_method_alone_is_a_table_without_contrasts() -> None:
    text = report.markdown(seeds("start", 0.0, cap=0))
    assert "| start |" in text.replace("  ", " ")
    assert "0.0 % (0.0 % to 0.4 %)" in text, "the interval of 1,000 rows, as no seed differs"
    assert "finding" not in text


def test_a_repeated_run_counts_once_and_failing_hides_nothing() -> None:
    first = outcome(OURS, 0.4)
    later = replace(outcome(OURS, 0.6), date="2026-01-02T00:00:00")
    broken = replace(failed(first), date="2026-01-03T00:00:00")
    (group,) = grouped([later, broken, first])
    assert group.accuracy().mean == later.best_score


def everything() -> Iterable[Outcome]:
    for task in ("sst2", "tickets"):
        for cap in (300, 900):
            yield from seeds(OURS, 0.5 + cap / 9000, task=task, cap=cap)
            yield from seeds(PEER, 0.5, task=task, cap=cap)
        yield from seeds("start", 0.0, task=task, cap=0)
        yield failed(outcome("gepa", 0.5, task=task))


def test_the_plot_has_a_panel_for_each_task_and_resource() -> None:
    root = ET.fromstring(svg(grouped(everything())))
    spaced = "{http://www.w3.org/2000/svg}"
    words = [text.text or "" for text in root.iter(f"{spaced}text")]
    assert sum("accuracy (%) against" in text for text in words) == 2 * 3
    assert len(list(root.iter(f"{spaced}title"))) == 2 * 3 * 5
    assert "gepa" not in words, "it has nothing to show"


def test_the_command_writes_tables_and_plots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for run in everything():
        run.save(tmp_path / "results")
    for name in ("plot.svg", "plot.html"):
        arguments = [
            "report",
            str(tmp_path / "results"),
            "--markdown",
            str(tmp_path / "t.md"),
            "--plot",
            str(tmp_path / name),
        ]
        monkeypatch.setattr("sys.argv", arguments)
        report.main()
    assert (tmp_path / "t.md").read_text() == report.report(tmp_path / "results")
    assert (tmp_path / "plot.svg").read_text() in (tmp_path / "plot.html").read_text()


def test_no_runs_are_no_error(tmp_path: Path) -> None:
    assert report.report(tmp_path) == "No runs yet.\n"
