"""This project's side: `gepa` on a study whose model follows the law."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

from benchmarks.gepa.world import SEED_TEXT, World
from rollouts.budget import Budget, Spend
from rollouts.dtypes import Endpoint, Program, PromptTemplate, Request, Response, Sample, Trajectory, Usage
from rollouts.evaluation import Task
from rollouts.prompt_optimization import GEPAConfig, Splits, StudyOptions, gepa, open_study
from rollouts.prompt_optimization.reflection import Reflection, Rewrite

ENDPOINT = Endpoint(provider="law", model="m")


class LawLLM:
    """A `Provider` that answers by the law of a world."""

    def __init__(self, world: World) -> None:
        self._world, self.calls = world, 0

    async def complete(self, request: Request) -> Response:
        self.calls += 1
        system, user = request.messages[0].content, request.messages[-1].content
        right = self._world.right(system, int(user.split()[1]))
        return Response(text="right" if right else "wrong", usage=Usage(), cost_micros=0, latency_s=0.0)

    async def close(self) -> None: ...

    def worst_case(self, request: Request) -> Spend:
        return Spend(tokens=1, calls=1)

    def count_tokens(self, text: str) -> int:
        return len(text) // 4


class LawReflector:
    """The world's reflector behind our interface."""

    def __init__(self, world: World, seed: int) -> None:
        self._world, self._rng = world, Random(f"reflector-{seed}")

    async def reflect(self, reflection: Reflection) -> Rewrite:
        shown = [(int(record.given.split()[1]), record.score or 0.0) for record in reflection.records]
        return Rewrite(text=self._world.rewrite(reflection.context.text, shown, self._rng))


def score(trajectory: Trajectory, sample: Sample) -> float:
    """1 when right."""
    return float(trajectory.output == "right")


def optimize(world: World, calls: int, seed: int, **settings: Any) -> tuple[str, int]:
    """The best prompt found with at most `calls` metric calls, and how many it took."""

    def samples(examples: range) -> list[Sample]:
        return [Sample(inputs={"question": world.question(i)}, id=str(i)) for i in examples]

    async def run() -> tuple[str, int]:
        llm = LawLLM(world)
        options = StudyOptions(
            budget=Budget(max_rollouts=calls), providers={ENDPOINT.name: llm}, method="gepa", slots=8
        )
        study = open_study(Task(endpoint=ENDPOINT, score_fn=score), [], options)
        start = Program.single(PromptTemplate(SEED_TEXT, "{question}"))
        data = Splits(train=samples(world.train), val=samples(world.val), test=())
        config = GEPAConfig(**{"seed": seed, "rule_candidates": 0, **settings})
        result = await gepa(study, start, data, config, LawReflector(world, seed))
        await study.close("done")
        return result.best_template.system, llm.calls

    return asyncio.run(run())
