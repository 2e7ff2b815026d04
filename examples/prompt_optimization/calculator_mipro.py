"""Finds instruction and demonstrations for an agent that has a calculator.

    python examples/prompt_optimization/calculator_mipro.py

Demonstrations are whole exchanges of successful runs: question, tool call, its result, answer. The model is that of the
environment variable ROLLOUTS_ENDPOINT, as `provider/model`; by default the embedded one, which is too small to be good
at it and takes minutes. ROLLOUTS_BUDGET caps the rollouts (60).
"""

# ruff: noqa: T201 - a program that people run

from __future__ import annotations

import asyncio
import os
import random
import re
from collections.abc import Callable
from typing import Any

from rollouts import Budget, Endpoint, MIPROConfig, PromptTemplate, StudyOptions, run_mipro
from rollouts.dtypes import Sample, Trajectory
from rollouts.environments.calculator import CalculatorEnvironment
from rollouts.prompt_optimization import OptimizationResult

NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
FORMS: tuple[tuple[str, Callable[[int, int, int], int]], ...] = (
    ("A crate holds {a} boxes of {b} pens. How many pens is that?", lambda a, b, c: a * b),
    ("{a} of the {b} seats are taken, and {c} more people come. How many are taken?", lambda a, b, c: a + c),
    ("A ticket costs {a} euros. What do {b} tickets cost, less a discount of {c} euros?", lambda a, b, c: a * b - c),
    ("Each of {a} shelves holds {b} books; {c} are lent out. How many are left?", lambda a, b, c: a * b - c),
)


def questions(count: int) -> list[dict[str, Any]]:
    """Word problems with numbers that are too large to guess."""
    rng = random.Random(0)
    rows = []
    for number in range(count):
        a, b, c = rng.randint(12, 99), rng.randint(201, 999), rng.randint(2, 99)
        text, answer = FORMS[number % len(FORMS)]
        rows.append({"question": text.format(a=a, b=b, c=c), "answer": str(answer(a, b, c))})
    return rows


def score(trajectory: Trajectory, sample: Sample) -> float:
    """Whether the last number of the answer is the right one."""
    found = NUMBER.findall(trajectory.output.replace(",", ""))
    return float(bool(found) and float(found[-1]) == float(sample.ground_truth))


async def optimize(endpoint: Endpoint, budget: int) -> OptimizationResult:
    """Searches instructions and tool-using demonstrations."""
    return await run_mipro(
        initial_template=PromptTemplate(
            system="Answer the question. Use the calculator for every calculation.", user_template="{question}"
        ),
        config=MIPROConfig(
            num_trials=8, num_candidates=4, max_bootstrapped_demos=2, max_labeled_demos=0, minibatch_size=4
        ),
        dataset=questions(60),
        endpoint=endpoint,
        proposer_endpoint=endpoint,
        score_fn=score,
        environment_factory=lambda sample: CalculatorEnvironment(),
        options=StudyOptions(budget=Budget(max_rollouts=budget)),
    )


def main() -> None:
    endpoint = Endpoint.parse(os.environ.get("ROLLOUTS_ENDPOINT", "local")).with_sampling(max_tokens=96)
    result = asyncio.run(optimize(endpoint, int(os.environ.get("ROLLOUTS_BUDGET", "60"))))
    best, verdict = result.best_template, result.verdict
    print(best.system)
    for demo in best.few_shot_examples:
        print(f"- {demo.input} -> {demo.output} ({len(demo.messages)} messages)")
    if verdict is not None:
        print(
            f"before {verdict.baseline.mean:.2f}, after {verdict.best.mean:.2f}; {verdict.decision}: {verdict.reason}"
        )


if __name__ == "__main__":
    main()
