"""A task app, and the bodies that synth-ai clients of both generations send for it."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from rollouts.dtypes import PromptTemplate, Sample
from rollouts.evaluation.metrics import exact_match
from rollouts.taskapp import serve_program
from tests.service.world import LABELS, label_of
from tests.service.world import reply as by_demonstrations

SYSTEM = "Route the ticket."
GOOD = f"Answer with one of {', '.join(LABELS)} and nothing else."
KEY = "app-key-of-the-tests"


def app(count: int = 60) -> FastAPI:
    texts = [f"ticket number {number} is open" for number in range(count)]
    samples = [Sample(inputs={"text": text}, ground_truth=label_of(text), id=text) for text in texts]
    prompt = PromptTemplate(system=SYSTEM, user_template="Ticket: {text}")
    return serve_program("tickets", samples, prompt, exact_match(), keys=[KEY])


def reply(body: dict[str, Any]) -> str:
    """Right with demonstrations, or with the good instruction; else on every third row."""
    *shown, last = body["messages"]
    text = last["content"].removeprefix("Ticket: ")
    if text != last["content"] and shown and shown[0]["content"] == GOOD:
        return label_of(text)
    return by_demonstrations(body)


def body(algorithm: str, url: str, **section: Any) -> dict[str, Any]:
    """What SDK 0.7 sends to create a job; `section` adds to the job's own table."""
    searches = {
        "mipro": {
            "num_iterations": 4,
            "batch_size": 8,
            "bootstrap_train_seeds": list(range(12)),
            "online_pool": list(range(12, 24)),
            "test_pool": list(range(24, 36)),
            "proposer": {"mode": "instruction_only", "model": "gpt-4.1-mini", "provider": "openai"},
        },
        "gepa": {
            "env_name": "tickets",
            "evaluation": {
                "seeds": list(range(16)),
                "validation_seeds": {"start": 16, "end": 28},
                "test_pool": list(range(28, 40)),
            },
            "population": {"initial_size": 4, "num_generations": 2, "children_per_generation": 2},
            "archive": {"pareto_set_size": 10},
        },
    }
    job = {
        "algorithm": algorithm,
        "task_app_url": url,
        "initial_prompt": {
            "id": "tickets",
            "name": "Tickets",
            "messages": [
                {"role": "system", "pattern": SYSTEM, "order": 0},
                {"role": "user", "pattern": "Ticket: {text}", "order": 1},
            ],
            "wildcards": {"text": "REQUIRED"},
        },
        "auto_discover_patterns": False,
        "policy": {
            "model": "gpt-4.1-nano",
            "provider": "openai",
            "inference_mode": "synth_hosted",
            "temperature": 0.0,
            "max_completion_tokens": 16,
            "config": {},
        },
        "env_name": "tickets",
        "termination_config": {"max_rollouts": 400},
        algorithm: searches[algorithm],
        **section,
    }
    return {
        "algorithm": algorithm,
        "config_body": {"prompt_learning": job},
        "overrides": {},
        "metadata": {"backend_base_url": "http://127.0.0.1:8000/api"},
        "auto_start": True,
    }
