"""Evolves the instruction of an intent classifier with GEPA.

    python examples/prompt_optimization/banking77_gepa.py [DATA] [ROWS]

DATA is `banking77` (the default; downloaded once), `tickets` (shipped) or a file with a text and a label column. The
model is that of the environment variable ROLLOUTS_ENDPOINT, as `provider/model`; by default the embedded one, which
writes poor instructions: there, rewrites by rule and demonstrations bring the gain. ROLLOUTS_REFLECTOR names another
model for the rewrites. ROLLOUTS_BUDGET caps the rollouts (300).
"""

# ruff: noqa: T201 - a program that people run

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rollouts import Budget, Endpoint, GEPAConfig, PromptTemplate, StudyOptions, open_store, run_gepa
from rollouts.datasets import DatasetSpec, auto_sizes, load, split
from rollouts.dtypes import Metric, Sample, Score, Trajectory
from rollouts.prompt_optimization import OptimizationResult, Splits

INTENTS = ("card_arrival", "change_pin", "exchange_rate", "lost_or_stolen_card", "request_refund", "top_up_failed")


def samples(data: str, rows: int) -> Splits:
    """At most `rows` rows, divided into training, validation and test rows that share no text."""
    labels = INTENTS if data == "banking77" else ()
    found = load(DatasetSpec(path=data, labels=labels, limit=rows), cache_dir=Path(".rollouts/data"))
    return Splits(**split(found, auto_sizes(len(found))))


def score(trajectory: Trajectory, sample: Sample) -> Score:
    """Right or wrong, and in words what was wrong: the reflecting model reads that."""
    said = trajectory.output.strip().lower().rstrip(".")
    if said == sample.ground_truth:
        return Score(metrics=(Metric("right", 1.0),), feedback="Right.")
    form = "" if "\n" not in said and len(said) < 40 else " The answer must be the label alone."
    return Score(metrics=(Metric("right", 0.0),), feedback=f"Wrong: it is {sample.ground_truth}.{form}")


async def optimize(data: Splits, endpoint: Endpoint, reflector: Endpoint, budget: int) -> OptimizationResult:
    """Evolves the instruction and compares the winner with the start."""
    (text,) = data.train[0].inputs
    labels = sorted({str(sample.ground_truth) for sample in data.train})
    start = PromptTemplate(
        system=f"Classify the message. Answer with one of: {', '.join(labels)}.",
        user_template=f"Message: {{{text}}}\nLabel:",
    )
    config = GEPAConfig(generations=20, optimize_demos=True, max_labeled_demos=2 * len(labels))
    store = open_store(".rollouts/rollouts.db")
    options = StudyOptions(budget=Budget(max_rollouts=budget), store=store, name="example", listeners=(show,))
    try:
        return await run_gepa(start, config, data, endpoint, reflector, score, options=options)
    finally:
        store.close()


def show(kind: str, data: Mapping[str, Any]) -> None:
    """One line for each child."""
    if kind == "child":
        fate = f"accepted as {data['id']}" if data["accepted"] else f"rejected: {data['reason']}"
        print(f"child {data['child']:3} ({data['origin']} of {' + '.join(data['parents'])}): {fate}")


def main() -> None:
    data = sys.argv[1] if len(sys.argv) > 1 else "banking77"
    rows = int(sys.argv[2]) if len(sys.argv) > 2 else 400
    model = os.environ.get("ROLLOUTS_ENDPOINT", "local")
    endpoint = Endpoint.parse(model).with_sampling(max_tokens=16)
    reflector = Endpoint.parse(os.environ.get("ROLLOUTS_REFLECTOR", model))
    budget = int(os.environ.get("ROLLOUTS_BUDGET", "300"))
    result = asyncio.run(optimize(samples(data, rows), endpoint, reflector, budget))
    verdict = result.verdict
    print(f"\n{result.best_template.system}\n({len(result.best_template.few_shot_examples)} demonstrations)\n")
    if verdict is not None:
        print(f"before {verdict.baseline.mean:.3f}, after {verdict.best.mean:.3f} on {verdict.n} test rows")
        print(f"{verdict.decision}: {verdict.reason}")
    print(f"{result.spend.rollouts} rollouts, {result.spend.calls} calls, ${result.spend.usd:.4f}")


if __name__ == "__main__":
    main()
