"""A task that a provider solves better with demonstrations, as a job's body."""

from __future__ import annotations

import zlib
from typing import Any

LABELS = ("billing", "bugs", "sales")


def label_of(text: str) -> str:
    return LABELS[zlib.crc32(text.encode(errors="replace")) % 3]


def reply(body: dict[str, Any]) -> str:
    """Right with demonstrations in the prompt, and on every third row without."""
    *shown, last = body["messages"]
    if not last["content"].startswith("Ticket: "):
        return f"<instruction>Answer with one of {', '.join(LABELS)} and nothing else.</instruction>"
    text = last["content"].removeprefix("Ticket: ")
    right = len(shown) > 1 or zlib.crc32(f"{text}!".encode(errors="replace")) % 3 == 0
    return label_of(text) if right else "no idea"


def config(*, seed: int = 0, **tables: dict[str, Any]) -> dict[str, Any]:
    """A job file as JSON; `tables` add to its tables."""
    job: dict[str, Any] = {
        "seed": seed,
        "dataset": {"train": 12, "val": 12, "test": 12},
        "initial_prompt": {"system": "Route the ticket.", "user": "Ticket: {text}"},
        "policy": {"provider": "openai", "model": "gpt-4.1-nano", "max_completion_tokens": 16},
        "mipro": {"num_iterations": 4, "num_candidates": 2, "proposal_rounds": 1, "minibatch_size": 8},
        "termination_config": {"max_calls": 100_000},
        "execution": {"slots": 4},
    }
    for name, table in tables.items():
        job[name] = {**job.get(name, {}), **table}
    return {"prompt_learning": job}


def rows(topic: str = "ticket", count: int = 36) -> list[dict[str, Any]]:
    """Tickets; another `topic` means other tickets."""
    texts = [f"{topic} number {number} is open" for number in range(count)]
    return [{"text": text, "label": label_of(text)} for text in texts]


def body(topic: str = "ticket", **more: Any) -> dict[str, Any]:
    """What POST /api/v1/jobs takes."""
    return {"config": config(**more), "rows": rows(topic)}
