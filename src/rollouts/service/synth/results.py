"""Prompts, candidates and results in the shapes that the synth-ai SDK reads. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rollouts.prompt_optimization.saving import BEST_PROMPT
from rollouts.service.jobs import JobRow

JSON = dict[str, Any]
TOP = 10
"""Candidates that are told with their texts."""


def best_prompt(job: JobRow) -> JSON | None:
    """The winner, or None while there is none."""
    return None if job.result is None else prompt_json(job.result["files"][BEST_PROMPT])


def prompt_json(prompt: Mapping[str, Any]) -> JSON:
    """A prompt of `best_prompt.json` as messages and, the same, as sections.

    Those of a program of several modules stand under `modules`; its messages are those of all modules, each named by
    its own.
    """
    modules = prompt.get("modules")
    if modules is None:
        messages = _messages(prompt["messages"], "")
        return {**_both(messages), "demonstrations": prompt["demonstrations"]}
    parts = {name: prompt_json(part) for name, part in modules.items()}
    messages = [message for name, part in modules.items() for message in _messages(part["messages"], f"{name}.")]
    return {**_both(messages), "modules": parts}


def _messages(messages: Sequence[Mapping[str, Any]], prefix: str) -> list[JSON]:
    return [
        {"role": said["role"], "name": f"{prefix}{said['role']}", "pattern": text, "content": text}
        for said in messages
        if isinstance(text := said.get("content"), str)
    ]


def _both(messages: list[JSON]) -> JSON:
    ordered = [{**message, "order": order} for order, message in enumerate(messages)]
    return {"messages": ordered, "sections": ordered}


def full_text(prompt: Mapping[str, Any]) -> str:
    """All messages of a `prompt_json`, with their roles, as one text."""
    return "\n\n".join(f"[{said['role']} | {said['name']}]\n{said['content']}" for said in prompt["messages"])


def top_prompts(job: JobRow) -> list[JSON]:
    """The best candidates from rank 1 on: mean scores on the validation seeds as `train_accuracy`, on the test seeds
    (the winner's only) as `val_accuracy`."""
    tops = []
    for rank, entry in enumerate(_winner_first(job)[:TOP], 1):
        prompt = prompt_json(entry["prompt"])
        tops.append(
            {
                "rank": rank,
                "candidate_id": entry["id"] or entry["program"],
                "train_accuracy": entry["score"],
                "val_accuracy": held_out_score(job) if rank == 1 else None,
                "pattern": {"messages": prompt["messages"]},
                "template": {"sections": prompt["sections"]},
                "full_text": full_text(prompt),
            }
        )
    return tops


def candidates(job: JobRow) -> list[JSON]:
    """All candidates that were scored, best first, by their means on validation seeds; the first `TOP` with texts."""
    return [
        {
            "rank": rank,
            "candidate_id": entry["id"] or entry["program"],
            "accuracy": entry["score"],
            "outcome_reward": entry["score"],
            "score": {"accuracy": entry["score"], "outcome_reward": entry["score"], "num_seeds": entry["n"]},
            **(_texts(entry["prompt"]) if rank <= TOP else {}),
        }
        for rank, entry in enumerate(_winner_first(job), 1)
    ]


def _texts(prompt: Mapping[str, Any]) -> JSON:
    said = prompt_json(prompt)["messages"]
    replacements = [{"apply_to_role": each["role"], "new_text": each["content"]} for each in said]
    return {"payload_kind": "transformation", "object": {"data": {"text_replacements": replacements}}}


def validations(job: JobRow) -> list[JSON]:
    """Start and winner on the test seeds, which the search never saw; nothing where there was no test."""
    verdict = _verdict(job)
    if not verdict.get("n"):
        return []
    return [
        {
            "rank": rank,
            "outcome_reward": verdict[name]["mean"],
            "outcome_objectives": {"reward": verdict[name]["mean"]},
            "accuracy": verdict[name]["mean"],
            "is_baseline": name == "baseline",
            "num_seeds": verdict["n"],
            "seeds": job.config.get("task_app", {}).get("test_seeds", []),
        }
        for name, rank in (("baseline", None), ("best", 1))
    ]


def held_out_score(job: JobRow) -> float | None:
    """The winner's mean on the test seeds."""
    return next((entry["outcome_reward"] for entry in validations(job) if not entry["is_baseline"]), None)


def summary_of(job: JobRow) -> JSON:
    """What the end of a job says of it, in a line for each figure."""
    summary = job.summary or {}
    return {
        "best_score": summary.get("best_score"),
        "best_reward": summary.get("best_score"),
        "baseline_score": summary.get("baseline_score"),
        "verdict": _verdict(job).get("decision"),
        "finish_reason": summary.get("stop_reason"),
        "notes": summary.get("notes", []),
    }


def spend_of(job: JobRow) -> JSON:
    """Tokens and dollars, in all and for the two sides that the SDK knows: the task model and the proposer."""
    phases: Mapping[str, Mapping[str, Any]] = (job.summary or {}).get("spend_by_phase", {})
    proposals = [part for name, part in phases.items() if name == "propose"]
    rollouts = [part for name, part in phases.items() if name != "propose"]
    return {
        "total_tokens": _sum(phases.values(), "tokens"),
        "policy_tokens": _sum(rollouts, "tokens"),
        "proposer_tokens": _sum(proposals, "tokens"),
        "total_cost_usd": _sum(phases.values(), "micros") / 1e6,
        "policy_cost_usd": _sum(rollouts, "micros") / 1e6,
        "proposal_cost_usd": _sum(proposals, "micros") / 1e6,
        "total_rollouts": _sum(phases.values(), "rollouts"),
    }


def _sum(parts: Any, name: str) -> int:
    return sum(part.get(name, 0) for part in parts)


def _winner_first(job: JobRow) -> list[JSON]:
    """The candidates with a score, best first; the winner before all others."""
    if job.result is None:
        return []
    best = (job.summary or {}).get("best_program")
    entries: list[JSON] = [entry for entry in job.result["candidates"] if entry["score"] is not None]
    return sorted(entries, key=lambda entry: entry["program"] != best)


def _verdict(job: JobRow) -> Mapping[str, Any]:
    return (job.summary or {}).get("verdict") or {}
