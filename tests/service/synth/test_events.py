"""Logs of jobs in both families of names."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from rollouts.service.jobs import JobRow
from rollouts.service.synth.events import FAMILIES, Translation, metrics, translated
from rollouts.service.synth.results import prompt_json
from rollouts.store import EventRow

PROMPT = {
    "instruction": {"role": "system", "content": "New."},
    "demonstrations": [{"query": "q", "label": "l", "message": "q"}],
    "user_template": "{text}",
    "messages": [{"role": "system", "content": "New."}, {"role": "user", "content": "{text}"}],
    "template": {},
}
SUMMARY: dict[str, Any] = {
    "best_score": 0.9,
    "baseline_score": 0.5,
    "best_program": "p2",
    "stop_reason": "all planned trials were made",
    "notes": [],
    "verdict": {"decision": "ship", "baseline": {"mean": 0.4}, "best": {"mean": 0.8}, "n": 20},
    "spend_by_phase": {
        "search": {"tokens": 900, "micros": 50, "rollouts": 30},
        "propose": {"tokens": 100, "micros": 7, "rollouts": 0},
    },
}
CANDIDATES = [
    {"id": "", "program": "p1", "score": 0.9, "n": 12, "prompt": PROMPT},
    {"id": "", "program": "p2", "score": 0.9, "n": 12, "prompt": PROMPT},
]
RESULT = {"files": {"best_prompt.json": PROMPT}, "candidates": CANDIDATES}
LOG: list[tuple[str, dict[str, Any]]] = [
    ("job", {"status": "queued"}),
    ("job", {"status": "running"}),
    ("started", {"method": "mipro", "budget": {}}),
    ("plan", {"trials": 3, "minibatch": 8, "total": 100}),
    ("phase", {"phase": "bootstrap"}),
    ("demo_sets", {"sources": {"main": ["labelled", "bootstrapped"]}, "successes": 3}),
    ("phase", {"phase": "search", "instructions": 3}),
    ("trial", {"trial": 1, "score": 0.5, "scored": 8, "best": 0.5, "best_candidate": [0, 0]}),
    ("child", {"child": 1, "accepted": True, "id": "g1", "reason": "", "parents": ["g0"], "minibatch": [2.0, 3.0]}),
    ("trial", {"trial": 2, "score": None, "scored": 0, "best": 0.5, "best_candidate": [0, 0]}),
    ("proposals", {"round": 1, "added": 2}),
    ("trial", {"trial": 3, "score": 0.9, "scored": 8, "best": 0.9, "best_candidate": [1, 0]}),
    ("something new", {"of": "the core"}),
    ("phase", {"phase": "validate"}),
]


def job_row(family: str, algorithm: str = "mipro", **changes: Any) -> JobRow:
    own = {"family": family, "warnings": ["x has no effect here: y"]}
    config = {"config": {"prompt_learning": {"algorithm": algorithm}}, "synth": own}
    row = JobRow(id="pl_1", owner="me", kind="task_app", name="n", status="queued", config=config, created_at=1.0)
    return replace(row, **changes)


def rows(*more: tuple[str, dict[str, Any]]) -> list[EventRow]:
    log = [*LOG, *more]
    return [
        EventRow(run_id="pl_1", seq=number, kind=kind, data=data, created_at=1.0 + number)
        for number, (kind, data) in enumerate(log, 1)
    ]


ENDS: dict[str, dict[str, Any]] = {
    "succeeded": {"status": "succeeded", "summary": SUMMARY, "result": RESULT, "finished_at": 99.0},
    "cancelled": {"status": "cancelled", "summary": SUMMARY, "result": RESULT, "finished_at": 99.0},
    "failed": {"status": "failed", "error": "no key", "finished_at": 99.0},
}
KNOWN_ENDS = {
    ("legacy", "mipro", "succeeded"): "prompt.learning.mipro.complete",
    ("legacy", "gepa", "succeeded"): "prompt.learning.gepa.complete",
    ("legacy", "mipro", "failed"): "prompt.learning.mipro.failed",
    ("legacy", "gepa", "failed"): "prompt.learning.gepa.failed",
    ("canonical", "mipro", "succeeded"): "learning.policy.mipro.job.completed",
    ("canonical", "gepa", "succeeded"): "learning.policy.gepa.job.completed",
    ("canonical", "mipro", "failed"): "learning.policy.mipro.job.failed",
    ("canonical", "gepa", "failed"): "learning.policy.gepa.job.failed",
}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_proposal_that_failed_is_a_warning(family: str) -> None:
    lost = {"reason": "RateLimited", "detail": "too many requests", "lost": 1, "asked": 4}
    *_, event = translated(job_row(family), rows(("proposal_lost", lost)), over=False)
    assert event["level"] == "warn"
    assert event["message"] == "a proposal failed: RateLimited: too many requests"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("algorithm", ["mipro", "gepa"])
@pytest.mark.parametrize("end", [*ENDS])
def test_numbers_rise_by_one_and_the_end_is_the_last_event(family: str, algorithm: str, end: str) -> None:
    log = rows(("job", {"status": end}))
    job = job_row(family, algorithm, **ENDS[end])
    events = translated(job, log, over=True)
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    types = [event["type"] for event in events]
    last = KNOWN_ENDS.get((family, algorithm, end))
    if last is not None:
        assert types[-1] == last
    assert types.count(types[-1]) == 1
    assert events[-1]["data"]["status"] == end
    ends = {*KNOWN_ENDS.values(), "learning.policy.gepa.job.completed"}
    assert not ends & {*types[:-1]}
    assert all(isinstance(event["data"].get("score"), int | float | None) for event in events)
    assert all(event["level"] in ("info", "warn", "error") and isinstance(event["data"], dict) for event in events)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("algorithm", ["mipro", "gepa"])
def test_what_was_told_of_a_shorter_log_stays(family: str, algorithm: str) -> None:
    log = rows(("job", {"status": "succeeded"}))
    over = job_row(family, algorithm, **ENDS["succeeded"])
    whole = translated(over, log, over=True)
    running = job_row(family, algorithm, status="running")
    for length in range(len(log)):
        part = translated(running, log[:length], over=False)
        assert part == whole[: len(part)]
    # The service may have died before it noted the end; the end is told all the same, under the same numbers.
    untold = translated(over, log[:-1], over=True)
    assert [event["type"] for event in untold] == [event["type"] for event in whole]


def test_a_failed_job_that_goes_on_has_two_ends() -> None:
    log = rows(("job", {"status": "failed"}), ("job", {"status": "queued"}), ("job", {"status": "succeeded"}))
    types = [event["type"] for event in translated(job_row("canonical", **ENDS["succeeded"]), log, over=True)]
    assert types.index("learning.policy.mipro.job.failed") < types.index("learning.policy.mipro.job.completed")
    assert types[-1] == "learning.policy.mipro.job.completed"


def test_what_sdk_07_looks_for_in_a_mipro_job() -> None:
    events = translated(job_row("canonical", **ENDS["succeeded"]), rows(("job", {"status": "succeeded"})), over=True)
    by_type = {event["type"]: event["data"] for event in events}
    best = by_type["learning.policy.gepa.candidate.new_best"]
    assert (best["best_score"], best["best_prompt"]["messages"][0]["pattern"]) == (0.9, "New.")
    top = next(event["data"] for event in events if event["data"].get("rank") == 1)
    assert top["train_accuracy"] == 0.9
    assert top["candidate_id"] == "p2"
    assert top["full_text"].startswith("[system | system]\nNew.")
    started = by_type["mipro.job.started"]
    assert (started["num_iterations"], started["num_trials_per_iteration"]) == (3, 1)
    trials = [event["data"] for event in events if event["type"] == "mipro.trial.complete"]
    assert [(trial["iteration"], trial["minibatch_score"]) for trial in trials] == [(0, 0.5), (1, None), (2, 0.9)]
    bests = [event["data"] for event in events if event["type"] == "learning.policy.mipro.candidate.new_best"]
    assert [(told["best_score"], told["cumulative_trials"]) for told in bests] == [(0.5, 1), (0.9, 3)]
    assert by_type["mipro.budget.update"]["total_tokens"] == 1000


def test_what_sdk_04_looks_for_in_a_mipro_job() -> None:
    events = translated(job_row("legacy", **ENDS["succeeded"]), rows(("job", {"status": "succeeded"})), over=True)
    by_type = {event["type"]: event["data"] for event in events}
    assert by_type["prompt.learning.best.prompt"]["best_prompt"]["sections"][0]["content"] == "New."
    top = by_type["mipro.topk.evaluated"]
    assert (top["rank"], top["train_score"], top["test_score"], top["instruction_text"]) == (1, 0.9, 0.8, "New.")
    assert top["lift_absolute"] == pytest.approx(0.4)
    assert by_type["mipro.baseline.test"]["score"] == 0.4
    assert by_type["mipro.budget.summary"]["category_costs"] == {"rollout": 5e-5, "proposal": 7e-6}
    assert by_type["mipro.iteration.complete"]["cumulative"] == 3
    assert by_type["prompt.learning.mipro.complete"]["best_prompt"]["sections"]


def test_a_log_is_told_the_same_in_parts() -> None:
    job = job_row("canonical", **ENDS["succeeded"])
    log = rows(("job", {"status": "succeeded"}))
    translation = Translation(job)
    parts = [*translation.begin(job)]
    for row in log:
        parts += translation.add(row, job)
    assert parts + translation.end(job) == translated(job, log, over=True)


def test_metrics_are_points_by_trial() -> None:
    points = metrics(rows(), "mipro")
    assert [point["step"] for point in points if point["name"] == "mipro.best_score"] == [1, 2, 3]
    assert [point["value"] for point in points if point["name"] == "mipro.trial_score"] == [0.5, 0.9]


def test_a_program_of_several_modules_is_told_as_one_prompt() -> None:
    told = prompt_json({"modules": {"find": PROMPT, "say": PROMPT}, "program": {}})
    assert [said["name"] for said in told["messages"]] == ["find.system", "find.user", "say.system", "say.user"]
    assert [said["order"] for said in told["sections"]] == [0, 1, 2, 3]
    assert told["modules"]["find"]["demonstrations"]
