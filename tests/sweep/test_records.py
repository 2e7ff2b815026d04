from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rollouts.budget import Spend
from rollouts.errors import ConfigError
from rollouts.experiments.sweep.records import (
    EventLog,
    RunRecord,
    convergence_of,
    first_told,
    read_events,
    rollout_costs,
)
from rollouts.store import MemoryStore, RolloutRow, RunRow
from tests.sweep.desk import START


def row(key: str, program: str, calls: list[list[Any]]) -> RolloutRow:
    return RolloutRow(
        key=key,
        run_id="r",
        program=program,
        sample_id=key,
        repeat=0,
        score=1.0,
        output="",
        failure=None,
        prompt_tokens=sum(call[1] for call in calls),
        completion_tokens=sum(call[2] for call in calls),
        cached_tokens=0,
        cost_micros=sum(call[4] for call in calls),
        latency_s=sum(call[5] for call in calls),
        data={"calls": calls},
        created_at=0.0,
    )


def test_a_call_from_the_store_counts_with_what_it_saved() -> None:
    store = MemoryStore()
    store.create_run(RunRow(id="r", method="m", status="running", created_at=0.0, config={}))
    other = START.with_modules({"writer": START.modules["writer"].replace(system="Write.")})
    paid = [["reader", 90, 10, 0, 200, 1.0, False, 1], ["writer", 40, 10, 0, 50, 0.5, False, 1]]
    shared = [["reader", 90, 10, 0, 0, 1.0, True, 1, 200], ["writer", 60, 10, 0, 70, 0.5, False, 1]]
    store.record(row("a", START.digest, paid), row("b", other.digest, shared))
    found = rollout_costs(store, "r", {"start": START, "best": other})
    assert found["start"]["micros"] == 250
    assert found["best"]["micros"] == 70 + 200
    assert found["best"]["tokens"] == 170
    assert found["best"]["p95_s"] == 1.5


def test_a_program_that_never_ran_took_nothing_that_is_known() -> None:
    store = MemoryStore()
    store.create_run(RunRow(id="r", method="m", status="running", created_at=0.0, config={}))
    assert rollout_costs(store, "r", {"best": START})["best"] == {
        "n": 0,
        "micros": None,
        "tokens": None,
        "latency_s": None,
        "p50_s": None,
        "p95_s": None,
    }


def test_the_log_keeps_what_was_told_first_and_outlives_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with EventLog(path) as log:
        log.write("a", "trial", {"trial": 1, "best": 0.5}, Spend(rollouts=10))
        log.write("b", "trial", {"trial": 1, "best": 0.9}, Spend(rollouts=11))
    with path.open("a") as file:
        file.write('{"time": 1, "run": "a", "ki')
    with EventLog(path) as log:
        log.write("a", "trial", {"trial": 1, "best": 0.5}, Spend(rollouts=40))
        log.write("a", "trial", {"trial": 2, "best": 0.6}, Spend(rollouts=45))
    trials = first_told(read_events(path, "a"), "trial", "trial")
    columns = convergence_of(trials)
    assert columns["best"] == [0.5, 0.6]
    assert columns["rollouts"] == [10, 45]
    assert len(list(read_events(path))) == 4
    assert len(path.read_text().splitlines()) == 5


def test_what_is_no_record_is_said() -> None:
    with pytest.raises(ConfigError, match="lacks"):
        RunRecord.from_json({"run": "x"})
    with pytest.raises(ConfigError, match="version"):
        RunRecord.from_json({"schema_version": 99})
