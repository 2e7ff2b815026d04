"""The replay of selectors on tables of outcomes."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
from benchmarks.selection import small, stopping
from benchmarks.selection.__main__ import main, world
from benchmarks.selection.mipro_v2 import course
from benchmarks.selection.replay import METHODS, PEER, regrets, stopped
from benchmarks.selection.report import Record, calls_to, comparison, ratio
from benchmarks.selection.worlds import FAMILIES, World, load, made_up, many_factors, tabulated


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    rng = random.Random(0)
    rows = [["".join(str(int(rng.random() < (i + j) / 8)) for _ in range(30)) for j in range(4)] for i in range(4)]
    (tmp_path / "tiny.json.gz").write_bytes(gzip.compress(json.dumps({"correct": rows}).encode()))
    return tmp_path


def tiny(tables: Path) -> World:
    return load(tables)["tiny"]()


def test_records_of_every_method(tables: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "records.json"
    arguments = ["--tables", str(tables), "--no-synthetic", "--budgets", "60,120", "--seeds", "2", "--processes", "1"]
    main([*arguments, "--json", str(out)])
    records = json.loads(out.read_text())
    assert [set(record) for record in records] == [{"table", "method", "budget", "regret", "se", "seeds"}] * len(
        records
    )
    assert {(r["method"], r["budget"]) for r in records} == {(m, b) for m in METHODS for b in (60, 120)}
    assert all(0 <= record["regret"] <= 100 and record["seeds"] == 2 for record in records)
    shown = capsys.readouterr().out
    assert "tiny" in shown
    assert all(method in shown for method in METHODS)


@pytest.mark.parametrize("method", METHODS)
def test_all_calls_leave_no_regret_and_seeds_decide(method: str, tables: Path) -> None:
    world = tiny(tables)
    if method in ("racing", "tpe", PEER):
        assert regrets(method, world, 0, [4 * 4 * 30])[0] <= 5
    assert regrets(method, world, 1, [50, 100]) == regrets(method, world, 1, [50, 100])


def test_the_peer_pays_for_the_start_and_then_by_minibatch(tables: Path) -> None:
    calls = [step for step, _ in islice(course(tiny(tables), 0), 4)]
    assert calls[:2] == [0, 30]
    assert all(0 <= after - before <= 30 for before, after in pairwise(calls))


def test_an_early_stop_is_reported(tables: Path) -> None:
    stop = stopped("racing", tiny(tables), 0, budget=480, epsilon=0.9, delta=0.1)
    assert stop.calls < 480
    assert stop.reason


def test_every_seed_has_a_table_of_its_own_family(tables: Path) -> None:
    cells = [((i, 0), s) for i in range(8) for s in range(20)]
    drawn = [[world(None, "syn-pure", seed).score(*cell) for cell in cells] for seed in (0, 1, 1)]
    assert drawn[0] != drawn[1] == drawn[2]
    assert world(tables, "tiny", 0) is world(tables, "tiny", 1)


def test_what_is_behind_is_told_seed_by_seed() -> None:
    hard = [10.0, 2.0, 6.0, 4.0]
    behind = [Record.of("t", "racing", 400, [value + 1 for value in hard]), Record.of("t", "other", 400, hard)]
    assert "  behind other on t at 400: 6.50 against 5.50 (+1.00 ±0.00)" in comparison(behind, "racing")
    level = [Record.of("t", "racing", 400, [11.0, 1.0, 7.0, 3.2]), Record.of("t", "other", 400, hard)]
    assert not any("behind" in line for line in comparison(level, "racing"))


def test_families_are_the_same_every_time() -> None:
    first, again = made_up("syn-4-factors"), made_up("syn-4-factors")
    candidate = (1, 2, 3, 4)
    assert [first.score(candidate, s) for s in range(50)] == [again.score(candidate, s) for s in range(50)]
    assert first.best == again.best
    assert "syn-pure" in FAMILIES


def test_the_best_of_many_factors_beats_neighbours() -> None:
    world = many_factors(factors=5, levels=3, samples=20)
    rng = random.Random(1)
    values = [world.value(tuple(rng.randrange(3) for _ in range(5))) for _ in range(100)]
    assert world.best >= max(values)
    assert world.score((0,) * 5, 3) in (0.0, 1.0)


def test_what_the_summary_computes() -> None:
    values = {("a", 100): [8.0, 8.0], ("a", 400): [2.0, 2.0], ("b", 100): [16.0, 16.0], ("b", 400): [4.0, 4.0]}
    records = [Record.of("t", method, budget, found) for (method, budget), found in values.items()]
    assert ratio(records, "a", ["b"], 100) == pytest.approx(0.5, abs=0.01)
    assert calls_to(records, "t", "a", 5.0) == pytest.approx(200)
    assert calls_to(records, "t", "b", 2.0) is None


@pytest.mark.parametrize("command", [main, stopping.main])
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--tables", "/no/such/folder"], "there is no folder /no/such/folder"),
        (["--tables", "."], "there is no file NAME.json.gz in ."),
        (["--no-synthetic"], "nothing to replay"),
        (["--seeds", "0"], "must be at least 1, not 0"),
        (["--processes", "-1"], "must be at least 1, not -1"),
    ],
)
def test_what_replays_nothing_is_refused(
    command: Callable[[list[str]], None],
    words: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        command(words)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (main, ["--batch", "0"]),
        (main, ["--budgets", "0,100"]),
        (stopping.main, ["--budget", "0"]),
        (stopping.main, ["--epsilon", "3"]),
        (stopping.main, ["--delta", "0"]),
    ],
)
def test_searches_that_make_no_call_are_refused(
    command: Callable[[list[str]], None], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        command(words)
    assert ended.value.code == 2
    assert f"argument {words[0]}: must be" in capsys.readouterr().err


SMALL = ("racing", "tpe", "random", "successive_rejects")
BEST = (2, 1)


def watched() -> tuple[World, list[tuple[tuple[int, ...], int]]]:
    """Sixteen candidates, one right on 9 of 10 rows and the others on 3; and what is looked up, as it happens."""
    rng = np.random.default_rng(0)
    chances = np.full((4, 4, 1), 0.3)
    chances[BEST] = 0.9
    world = tabulated("watched", (rng.random((4, 4, small.ROWS + 40)) < chances).astype(np.uint8))
    looked: list[tuple[tuple[int, ...], int]] = []

    def score(candidate: tuple[int, ...], row: int) -> float:
        looked.append((candidate, row))
        return world.score(candidate, row)

    return replace(world, score=score), looked


@pytest.mark.parametrize("rollouts", [100, 250])
@pytest.mark.parametrize("selector", SMALL)
def test_small_searches_keep_to_their_rollouts(selector: str, rollouts: int) -> None:
    plan = small.plan_of(selector, rollouts)
    assert 0 < plan.val <= small.ROWS
    assert plan.total <= rollouts
    world, looked = watched()
    small.search(selector, world, range(plan.val), plan, 0)
    assert plan.trials * plan.minibatch / 2 < len(looked) <= plan.trials * plan.minibatch + plan.finals
    assert {row for _, row in looked} <= set(range(plan.val))


def test_small_searches_draw_the_same_rows_whoever_searches() -> None:
    judged, searched = [], []
    for selector in SMALL:
        world, looked = watched()
        small.held_out(selector, world, 250, seed=3)
        rows = [row for _, row in looked]
        kept = world.samples - small.ROWS
        judged.append(rows[-kept:])
        searched.append(set(rows[:-kept]))
    assert all(rows == judged[0] for rows in judged)
    assert len(set(judged[0])) == len(judged[0]), "each row that is left over, once"
    assert not set.union(*searched) & set(judged[0])


@pytest.mark.parametrize("selector", SMALL)
def test_small_searches_find_what_is_better(selector: str) -> None:
    world, _ = watched()
    plan = small.plan_of(selector, 250)
    found = [small.search(selector, world, range(plan.val), plan, seed) for seed in range(8)]
    assert found.count(BEST) >= 4, "by chance it is one in sixteen"
