"""Evolves the instruction of an agent that solves word problems with a calculator.

    python examples/prompt_optimization/gsm8k_agent_gepa.py [TRAIN.jsonl]

TRAIN.jsonl has the rows of GSM8K: `question`, and `answer` with the result after `####`. Without it, the problems below
are used. The model is that of the environment variable ROLLOUTS_ENDPOINT, as `provider/model`; by default the embedded
one, which is too small to be good at it. ROLLOUTS_BUDGET caps the rollouts (60).
"""

# ruff: noqa: T201 - a program that people run

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rollouts import Budget, Endpoint, GEPAConfig, PromptTemplate, StudyOptions, run_gepa
from rollouts.dtypes import Metric, Sample, Score, Trajectory
from rollouts.environments.calculator import CalculatorEnvironment
from rollouts.prompt_optimization import OptimizationResult

NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
PROBLEMS = (
    ("A baker makes 7 trays of 24 rolls and sells all but 19. How many rolls are sold?", 149),
    ("Nora runs 3 km on each weekday and 8 km on Saturday. How far does she run in 4 such weeks?", 92),
    ("A tank holds 540 litres. A third is used on Monday and 75 litres on Tuesday. How many litres are left?", 285),
    ("Two lamps cost 38 euros each and a cable 12 euros. What change is left from 100 euros?", 12),
    ("A class of 28 is split into groups of 4, and each group gets 15 sheets. How many sheets are needed?", 105),
    ("Ivo reads 35 pages a day. How many days does a book of 420 pages take him?", 12),
    ("A bus leaves with 41 people; 17 get off, 9 get on, then 6 get off. How many are on the bus?", 27),
    ("Mia saves 12 euros a week for 9 weeks and then spends 65. How much does she have?", 43),
    ("A farmer packs 516 eggs into boxes of 12 and sells a box for 3 euros. What does he earn?", 129),
    ("A film of 118 minutes starts after 14 minutes of trailers. How many minutes is that in all?", 132),
    ("Six friends share a bill of 174 euros equally, and each adds 4 euros. What does each pay?", 33),
    ("A printer makes 22 pages a minute. How many pages does it make in a quarter of an hour?", 330),
    ("A shop buys 45 mugs at 4 euros and sells them at 7 euros. What is the profit?", 135),
    ("Leo is 3 times as old as his sister, who is 11. How old is he in 5 years?", 38),
    ("A rope of 50 m is cut into 8 pieces of 4.5 m. How many metres are left?", 14),
    ("A garden has 13 rows of 16 plants. 27 plants die. How many are alive?", 181),
    ("A train travels 85 km in an hour. How far does it go in 3 and a half hours?", 297.5),
    ("Eva types 55 words a minute. How many minutes does a text of 1,320 words take?", 24),
    ("A box of 96 crayons is shared among 7 children as evenly as possible. How many are left over?", 5),
    ("A phone costs 320 euros, less 15 percent. What is its price?", 272),
)


def rows(path: str | None) -> list[dict[str, Any]]:
    """The first 80 rows of the file, or the problems above."""
    if path is None:
        return [{"question": question, "answer": str(answer)} for question, answer in PROBLEMS]
    lines = Path(path).read_text(encoding="utf-8").splitlines()[:80]
    found = [json.loads(line) for line in lines]
    return [{"question": row["question"], "answer": row["answer"].split("####")[-1].strip()} for row in found]


def score(trajectory: Trajectory, sample: Sample) -> Score:
    """Whether the last number is right; the feedback says how the tool was used."""
    found = NUMBER.findall(trajectory.output)
    right = bool(found) and float(found[-1].replace(",", "")) == float(str(sample.ground_truth).replace(",", ""))
    used = len(trajectory.tool_uses)
    said = f"The right answer is {sample.ground_truth}. The calculator was used {used} times."
    return Score(metrics=(Metric("right", float(right)),), feedback="Right." if right else said)


async def optimize(data: list[dict[str, Any]], endpoint: Endpoint, budget: int) -> OptimizationResult:
    """Evolves the instruction."""
    return await run_gepa(
        initial_template=PromptTemplate(system="Solve the problem.", user_template="{question}"),
        config=GEPAConfig(generations=10, population_size=6, elite_size=2, minibatch_size=3),
        dataset=data,
        endpoint=endpoint,
        mutation_endpoint=endpoint,
        score_fn=score,
        environment_factory=lambda sample: CalculatorEnvironment(),
        options=StudyOptions(budget=Budget(max_rollouts=budget), listeners=(show,)),
    )


def show(kind: str, data: Mapping[str, Any]) -> None:
    """One line for each child."""
    if kind == "child":
        print(f"child {data['child']}: {data['id'] or data['reason']}")


def main() -> None:
    endpoint = Endpoint.parse(os.environ.get("ROLLOUTS_ENDPOINT", "local")).with_sampling(max_tokens=96)
    data = rows(sys.argv[1] if len(sys.argv) > 1 else None)
    result = asyncio.run(optimize(data, endpoint, int(os.environ.get("ROLLOUTS_BUDGET", "60"))))
    print(f"\n{result.best_template.system}\n")
    verdict = result.verdict
    if verdict is not None:
        print(
            f"before {verdict.baseline.mean:.2f}, after {verdict.best.mean:.2f}; {verdict.decision}: {verdict.reason}"
        )


if __name__ == "__main__":
    main()
