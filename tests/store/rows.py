"""Rows to test with."""

from __future__ import annotations

from typing import Any

from rollouts.store import EventRow, GenerationRow, ProgramRow, RolloutRow, RunRow, SampleRow

_USE = {"prompt_tokens": 10, "completion_tokens": 2, "cached_tokens": 4, "cost_micros": 7, "latency_s": 0.25}
FAILURE = {"kind": "CallTimeout", "message": "no answer"}


def run(id: str = "run-1", **changes: Any) -> RunRow:
    return RunRow(**{"id": id, "method": "mipro", "status": "running", "created_at": 1.0, "config": {"a": 1}} | changes)


def rollout(key: str, **changes: Any) -> RolloutRow:
    row: dict[str, Any] = {
        "key": key,
        "run_id": "run-1",
        "program": "p1",
        "sample_id": "s1",
        "repeat": 0,
        "score": 0.5,
        "output": "yes",
        "failure": None,
        "data": {"metrics": {"exact": 0.5}},
        "created_at": 2.0,
    }
    return RolloutRow(**row | _USE | changes)


def failed(key: str, **changes: Any) -> RolloutRow:
    return rollout(key, **{"score": None, "failure": FAILURE, "output": ""} | changes)


def generation(key: str, **changes: Any) -> GenerationRow:
    row: dict[str, Any] = {
        "key": key,
        "run_id": "run-1",
        "phase": "task",
        "model": "openai/gpt-4.1-nano",
        "request": None,
        "response": {"text": "yes"},
        "created_at": 2.0,
    }
    return GenerationRow(**row | _USE | changes)


def program(digest: str, **changes: Any) -> ProgramRow:
    return ProgramRow(**{"digest": digest, "modules": {"main": {"system": "Be brief."}}} | changes)


def sample(digest: str, **changes: Any) -> SampleRow:
    row: dict[str, Any] = {"digest": digest, "inputs": {"text": "naïve 😀"}, "ground_truth": ["yes", 1]}
    return SampleRow(**row | changes)


def event(seq: int, **changes: Any) -> EventRow:
    return EventRow(**{"run_id": "run-1", "seq": seq, "kind": "trial", "data": {"n": seq}, "created_at": 3.0} | changes)
