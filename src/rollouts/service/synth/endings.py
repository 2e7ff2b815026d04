"""What the SDK is told when a job is over: the results, event by event, and last the one that ends it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rollouts.service.jobs import JobRow
from rollouts.service.synth import results as shapes
from rollouts.service.synth.names import Family, Told

JSON = dict[str, Any]


def failure(job: JobRow) -> list[Told]:
    """The end of a job that failed."""
    error = job.error or "the job failed"
    data = {"status": "failed", "error": error, "detail": error, "error_detail": error}
    return [Told("failed", error, data, "error")]


def results(job: JobRow, family: Family, algorithm: str, status: str) -> Iterator[Told]:
    """The end of a job that succeeded, or was cancelled, with what it found."""
    summary = {"status": status, "algorithm": algorithm, **shapes.summary_of(job)}
    best = shapes.best_prompt(job)
    if best is not None:
        yield from _found(job, summary["best_score"], best)
        yield from _legacy(job, algorithm, summary) if family == "legacy" else ()
        spent = shapes.spend_of(job)
        yield Told("budget", f"{spent['total_tokens']} tokens, ${spent['total_cost_usd']:.4f}", spent)
        yield Told("spent", "", {**spent, "category_costs": _categories(spent)})
        summary |= {"best_prompt": best, "score": summary["best_score"], **_all(job, algorithm)}
    yield Told("cancelled" if status == "cancelled" else "succeeded", f"job {status}", summary)


def _found(job: JobRow, score: float | None, best: JSON) -> Iterator[Told]:
    reward = {"best_score": score, "outcome_reward": score, "accuracy": score}
    yield Told("best_prompt", "the best prompt", {**reward, "best_prompt": best})
    for top in shapes.top_prompts(job):
        yield Told("top_prompt", f"rank {top['rank']}", top)
    for validation in shapes.validations(job):
        yield Told("validated", "the start" if validation["is_baseline"] else "the winner", validation)


def _legacy(job: JobRow, algorithm: str, summary: JSON) -> Iterator[Told]:
    everything, spent = shapes.candidates(job), shapes.spend_of(job)
    yield Told("final", "", {"attempted_candidates": everything, "optimized_candidates": everything[: shapes.TOP]})
    tested = {entry["is_baseline"]: entry for entry in shapes.validations(job)}
    if algorithm == "gepa":
        tokens = {"rollouts_prompt_tokens": spent["policy_tokens"], "finish_reason": summary["finish_reason"]}
        dollars = {"usd_tokens_rollouts": spent["policy_cost_usd"], "usd_tokens_mutation": spent["proposal_cost_usd"]}
        if tested:
            yield Told("validation_summary", "", {"baseline": tested[True], "results": [tested[False]]})
        yield Told("rollouts_cost", "", {**tokens, **dollars})
    else:
        yield from _tests(job, tested)
        yield Told("summary", "", {"best_score": summary["best_score"], "category_costs": _categories(spent)})
    seconds = (job.finished_at or job.created_at) - (job.started_at or job.created_at)
    total = spent["total_cost_usd"]
    yield Told("billed", f"${total:.4f}", {"seconds": seconds, "total_usd": total, "tokens_usd": total})


def _tests(job: JobRow, tested: Mapping[bool, JSON]) -> Iterator[Told]:
    """MIPRO's start and winner on the test seeds."""
    if not tested:
        return
    before, after, seeds = tested[True]["accuracy"], tested[False]["accuracy"], tested[True]["seeds"]
    start = {"score": before, "test_score": before, "seeds": seeds}
    yield Told("baseline_test", f"baseline on the test seeds: {before:.4f}", start)
    lift = {"lift_absolute": after - before, "lift_percent": 100 * (after - before) / before if before else None}
    top = shapes.top_prompts(job)[0]
    scores = {"rank": 1, "train_score": top["train_accuracy"], "test_score": after, "test_seeds": seeds}
    yield Told("top_candidate", f"best on the test seeds: {after:.4f}", {**scores, **lift, **_texts(top)})


def _texts(top: JSON) -> JSON:
    text = next((said["content"] for said in top["template"]["sections"] if said["role"] == "system"), "")
    return {"instruction_text": text, "instruction_lines": text.splitlines()}


def _all(job: JobRow, algorithm: str) -> JSON:
    """What SDK 0.7 reads of GEPA's last event."""
    if algorithm != "gepa":
        return {}
    tops = [{**top, "score": {"outcome_reward": top["train_accuracy"]}} for top in shapes.top_prompts(job)]
    return {
        "optimized_candidates": tops,
        "attempted_candidates": shapes.candidates(job),
        "validation": shapes.validations(job),
        "total_rollouts": shapes.spend_of(job)["total_rollouts"],
    }


def _categories(spent: JSON) -> JSON:
    return {"rollout": spent["policy_cost_usd"], "proposal": spent["proposal_cost_usd"]}
