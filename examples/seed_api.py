"""The native API in three snippets: GEPA, GEPA with tools, MIPRO.

    python examples/seed_api.py

The model is that of the environment variable ROLLOUTS_ENDPOINT, as `provider/model`; by default the embedded one.
ROLLOUTS_BUDGET caps the rollouts of each snippet (100).
"""

# ruff: noqa: T201 - a program that people run

from __future__ import annotations

import asyncio
import os

from rollouts import Budget, StudyOptions
from rollouts.datasets import DatasetSpec, load
from rollouts.dtypes import Endpoint, Metric, Sample, Score, Trajectory
from rollouts.environments.calculator import CalculatorEnvironment
from rollouts.prompt_optimization import (
    GEPAConfig,
    MIPROConfig,
    OptimizationResult,
    PromptTemplate,
    run_gepa,
    run_mipro,
)

# 1. What is optimized.
template = PromptTemplate(
    system="Classify the customer query into one of the support routes.",
    user_template="Query: {query}\nIntents: {intents}\n\nClassify this query.",
)

# 2. The data set: 160 rows of the shipped tickets, of three routes.
ROUTES = ("late_delivery", "password_reset", "refund_status")
dataset = [
    {"query": row.inputs["ticket"], "intent": row.ground_truth, "intents": ", ".join(ROUTES)}
    for row in load(DatasetSpec(path="tickets", inputs={"ticket": "ticket"}, ground_truth="route", labels=ROUTES))
][:160]


# 3. The score.
def extract_intent(trajectory: Trajectory) -> str:
    """The answer without what models like to put around it."""
    return trajectory.output.strip().strip(".\"'`").removeprefix("Intent:").strip()


def score_fn(trajectory: Trajectory, sample: Sample) -> Score:
    predicted = extract_intent(trajectory)
    correct = predicted.lower() == sample.ground_truth.lower()
    return Score(metrics=(Metric("correct", 1.0 if correct else 0.0, weight=1.0),))


async def gepa(endpoint: Endpoint, options: StudyOptions) -> OptimizationResult:
    """Evolution of the instruction."""
    config = GEPAConfig(
        population_size=20,
        generations=10,
        mutation_rate=0.3,
        train_seeds=tuple(range(100)),
        val_seeds=tuple(range(100, 150)),
    )
    return await run_gepa(
        initial_template=template,
        config=config,
        dataset=dataset,
        endpoint=endpoint,
        mutation_endpoint=endpoint,
        score_fn=score_fn,
        options=options,
    )


async def gepa_with_tools(endpoint: Endpoint, options: StudyOptions) -> OptimizationResult:
    """The same for an agent with tools: a fresh environment for every sample."""
    config = GEPAConfig(
        population_size=4, generations=3, train_seeds=tuple(range(100)), val_seeds=tuple(range(100, 150))
    )
    return await run_gepa(
        initial_template=template,
        config=config,
        dataset=dataset,
        endpoint=endpoint,
        mutation_endpoint=endpoint,
        score_fn=score_fn,
        environment_factory=lambda sample: CalculatorEnvironment(),
        options=options,
    )


async def mipro(endpoint: Endpoint, options: StudyOptions) -> OptimizationResult:
    """Joint search over instructions and demonstrations."""
    config = MIPROConfig(num_candidates=50, num_trials=100, max_bootstrapped_demos=4, max_labeled_demos=4)
    return await run_mipro(
        initial_template=template,
        config=config,
        dataset=dataset,
        endpoint=endpoint,
        proposer_endpoint=endpoint,
        score_fn=score_fn,
        options=options,
    )


def main() -> None:
    endpoint = Endpoint.parse(os.environ.get("ROLLOUTS_ENDPOINT", "local")).with_sampling(max_tokens=16)
    options = StudyOptions(budget=Budget(max_rollouts=int(os.environ.get("ROLLOUTS_BUDGET", "100"))))
    for snippet in (gepa, gepa_with_tools, mipro):
        result = asyncio.run(snippet(endpoint, options))
        print(f"\n{snippet.__name__}: best score {result.best_template.score}")
        print(f"Optimized prompt:\n{result.best_template.system}")
        print(f"Optimized demos: {len(result.best_template.few_shot_examples)}")


if __name__ == "__main__":
    main()
