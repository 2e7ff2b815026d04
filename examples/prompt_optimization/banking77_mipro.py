"""Optimizes a prompt for intent classification from Python.

    python examples/prompt_optimization/banking77_mipro.py [DATA] [ROWS]

DATA is `banking77` (the default; downloaded once), `tickets` (shipped) or a file with a text and a label column. The
model is that of the environment variable ROLLOUTS_ENDPOINT, as `provider/model`; by default the embedded one.
ROLLOUTS_BUDGET caps the rollouts (300). Runs are kept in .rollouts/rollouts.db: a second run pays for nothing that the
first one paid for.
"""

# ruff: noqa: T201 - a program that people run

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rollouts import Budget, Endpoint, MIPROConfig, PromptTemplate, StudyOptions, open_store, run_mipro
from rollouts.datasets import DatasetSpec, auto_sizes, load, split
from rollouts.evaluation.metrics import exact_match
from rollouts.prompt_optimization import OptimizationResult, Splits

INTENTS = (
    "activate_my_card",
    "age_limit",
    "card_arrival",
    "card_not_working",
    "change_pin",
    "exchange_rate",
    "lost_or_stolen_card",
    "passcode_forgotten",
    "pending_transfer",
    "request_refund",
    "terminate_account",
    "top_up_failed",
)
"""Twelve of the 77: enough to be hard for a small model."""


def samples(data: str, rows: int) -> Splits:
    """At most `rows` rows, divided into training, validation and test rows that share no text."""
    labels = INTENTS if data == "banking77" else ()
    found = load(DatasetSpec(path=data, labels=labels, limit=rows), cache_dir=Path(".rollouts/data"))
    return Splits(**split(found, auto_sizes(len(found))))


async def optimize(data: Splits, endpoint: Endpoint, budget: int) -> OptimizationResult:
    """Searches instructions and demonstrations and compares the winner with the start."""
    (text,) = data.train[0].inputs
    labels = sorted({str(sample.ground_truth) for sample in data.train})
    start = PromptTemplate(
        system=f"Classify the message. Answer with one of: {', '.join(labels)}.",
        user_template=f"Message: {{{text}}}\nLabel:",
    )
    config = MIPROConfig(num_trials=15, num_candidates=8, max_labeled_demos=2 * len(labels), minibatch_size=10)
    store = open_store(".rollouts/rollouts.db")
    options = StudyOptions(budget=Budget(max_rollouts=budget), store=store, name="example", listeners=(show,))
    try:
        return await run_mipro(start, config, data, endpoint, endpoint, exact_match(), options=options)
    finally:
        store.close()


def show(kind: str, data: Mapping[str, Any]) -> None:
    """One line for each trial."""
    if kind == "trial":
        tried = f"instruction from {data['instruction_source']}, {data['demos']} demonstrations"
        print(f"trial {data['trial']:3}: best so far {data['best']:.3f}; {tried}")


def main() -> None:
    data = sys.argv[1] if len(sys.argv) > 1 else "banking77"
    rows = int(sys.argv[2]) if len(sys.argv) > 2 else 600
    endpoint = Endpoint.parse(os.environ.get("ROLLOUTS_ENDPOINT", "local")).with_sampling(max_tokens=16)
    result = asyncio.run(optimize(samples(data, rows), endpoint, int(os.environ.get("ROLLOUTS_BUDGET", "300"))))
    best, verdict = result.best_template, result.verdict
    print(f"\n{best.system}\n({len(best.few_shot_examples)} demonstrations)\n")
    if verdict is not None:
        print(f"before {verdict.baseline.mean:.3f}, after {verdict.best.mean:.3f} on {verdict.n} test rows")
        print(f"{verdict.decision}: {verdict.reason}")
    print(f"{result.spend.rollouts} rollouts, {result.spend.calls} calls, ${result.spend.usd:.4f}")


if __name__ == "__main__":
    main()
