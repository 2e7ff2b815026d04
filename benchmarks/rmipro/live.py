"""`run_rmipro` as a whole on simulated agents: `python -m benchmarks.rmipro.live [--seeds 10]`.

The model follows the law of a world: an agent's text names one of its candidates, and the agent is right when that
candidate is right on the sample. The writer of texts draws candidates. What is reported is the winner's true score.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import wilcoxon

from benchmarks.rmipro.worlds import CANDIDATES, FAMILIES, SAMPLES, World, make
from rollouts.budget import Budget, Spend
from rollouts.dtypes import Agent, Endpoint, Program, PromptTemplate, Request, Response, Sample, Trajectory, Usage
from rollouts.prompt_optimization import Splits, StudyOptions
from rollouts.prompt_optimization.rmipro import RMIPROConfig, run_rmipro

ENDPOINT = Endpoint(provider="law", model="agents")
TEST = 40


class Agents:
    """A `Provider` that answers for every agent of a world, and writes texts for them."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def complete(self, request: Request) -> Response:
        system, asked = request.messages[0].content, request.messages[-1].content
        if request.phase == "propose":
            agent = re.search(r"yours is 'a(\d+)'", system)
            number = 1 + (request.repeat * 7 + 3) % CANDIDATES
            text = f"<instruction>agent {agent[1] if agent else 0} candidate {number}</instruction>"
        else:
            agent_number, candidate = map(int, re.findall(r"\d+", system))
            sample = int(re.findall(r"\d+", asked)[0])
            right = bool(self._world.right[agent_number][candidate, sample]) and "wrong" not in asked
            text = "right" if right else "wrong"
        return Response(text=text, usage=Usage(prompt_tokens=10, completion_tokens=1), cost_micros=0, latency_s=0.0)

    async def close(self) -> None: ...

    def worst_case(self, request: Request) -> Spend:
        return Spend(tokens=11, calls=1)

    def count_tokens(self, text: str) -> int:
        return len(text) // 4


async def pipeline(sample: Sample, agents: Mapping[str, Agent]) -> str:
    """One after the other; a wrong answer stays wrong."""
    said = "right"
    for agent in agents.values():
        said = (await agent({"n": sample.inputs["n"], "said": said})).output
    return said


def score(trajectory: Trajectory, sample: Sample) -> float:
    """1 when right."""
    return float(trajectory.output == "right")


def winner(world: World, scheduler: str, seed: int, rollouts: int) -> float:
    """The true score of what `run_rmipro` ships."""

    def samples(numbers: range) -> list[Sample]:
        return [Sample(inputs={"n": n}, ground_truth="right", id=str(n)) for n in numbers]

    start = Program(
        modules={name: PromptTemplate(f"agent {n} candidate 0", "{n} {said}") for n, name in enumerate(world.names)},
        run=pipeline,
    )
    data = Splits(
        train=samples(range(SAMPLES, SAMPLES + 20)),
        val=samples(range(SAMPLES)),
        test=samples(range(SAMPLES + 20, SAMPLES + 20 + TEST)),
    )
    config = RMIPROConfig(scheduler=scheduler, seed=seed, optimize_demos=False, num_candidates=40)
    options = StudyOptions(budget=Budget(max_rollouts=rollouts), providers={ENDPOINT.name: Agents(world)}, slots=16)
    result = asyncio.run(run_rmipro(start, config, data, ENDPOINT, ENDPOINT, score, options=options))
    numbers = [int(re.findall(r"\d+", template.system)[1]) for template in result.best_program.modules.values()]
    return world.value(tuple(numbers))


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--rollouts", type=int, default=800)
    parser.add_argument("--families", type=lambda text: text.split(","), default=["one of 4", "none of 4"])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(argv)
    records: list[dict[str, Any]] = []
    for name in options.families:
        regrets: dict[str, list[float]] = {"uniform": [], "adaptive": []}
        for seed in range(options.seeds):
            world = make(FAMILIES[name], seed)
            for scheduler, found in regrets.items():
                found.append(world.best - winner(world, scheduler, seed, options.rollouts))
        ours, theirs = np.array(regrets["adaptive"]), np.array(regrets["uniform"])
        p_value = float(wilcoxon(ours - theirs).pvalue) if np.any(ours != theirs) else 1.0
        records.append(
            {
                "family": name,
                "seeds": options.seeds,
                "uniform": float(theirs.mean()),
                "adaptive": float(ours.mean()),
                "p": p_value,
            }
        )
        print(f"{name}: uniform {theirs.mean():.3f}, adaptive {ours.mean():.3f}, p = {p_value:.2g}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(records, indent=1))


if __name__ == "__main__":
    main()
