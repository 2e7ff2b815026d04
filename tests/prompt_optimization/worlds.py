"""A simulated model on the shipped tickets, and runs of MIPRO on it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from rollouts.datasets import DatasetSpec, load, split
from rollouts.dtypes import Endpoint, Price, PromptTemplate, Request, Response, Sample, Sampling
from rollouts.evaluation.metrics import exact_match
from rollouts.llm.clock import Clock
from rollouts.prompt_optimization import MIPROConfig, OptimizationResult, Splits, StudyOptions, run_mipro
from rollouts.testing import SimulatedLLM, SimulatedTask
from rollouts.testing.latency import LatencyLaw

ENDPOINT = Endpoint(provider="sim", model="m", sampling=Sampling(max_tokens=16))
START = PromptTemplate("Route the ticket.", "Ticket: {ticket}\nRoute:", id="start")
FULL = MIPROConfig(num_trials=25, num_candidates=12, max_labeled_demos=16, minibatch_size=15)
SMALL = MIPROConfig(
    num_trials=6, num_candidates=4, minibatch_size=6, max_labeled_demos=8, max_bootstrapped_demos=2, num_demo_sets=4
)


@cache
def tickets() -> tuple[Sample, ...]:
    return tuple(load(DatasetSpec(path="tickets", inputs={"ticket": "ticket"}, ground_truth="route")))


@cache
def labels() -> tuple[str, ...]:
    return tuple(sorted({str(sample.ground_truth) for sample in tickets()}))


def splits(train: int = 60, val: int = 60, test: int = 80) -> Splits:
    return Splits.of(split(tickets(), {"train": train, "val": val, "test": test}, seed=0))


def task(**law: Any) -> SimulatedTask:
    answers = {sample.inputs["ticket"]: str(sample.ground_truth) for sample in tickets()}
    return SimulatedTask(labels=labels(), answers=answers, **law)


class CountingLLM(SimulatedLLM):
    """Notes what it was billed, and every request's key, in the order of arrival."""

    def __init__(self, task: SimulatedTask, **settings: Any) -> None:
        super().__init__(task, **settings)
        self.keys: list[str] = []
        self.tokens = self.micros = 0

    async def complete(self, request: Request) -> Response:
        self.keys.append(request.key())
        response = await super().complete(request)
        self.tokens += response.usage.total_tokens
        self.micros += response.cost_micros
        return response


@dataclass
class World:
    """A model and the events of the runs on it."""

    law: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    price: Price | None = None
    latency: LatencyLaw | None = None
    clock: Clock | None = None
    events: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        settings: dict[str, Any] = {"seed": self.seed, "latency": self.latency}
        if self.price is not None:
            settings["price"] = self.price
        if self.clock is not None:
            settings["clock"] = self.clock
        self.llm = CountingLLM(task(**self.law), **settings)

    def options(self, **settings: Any) -> StudyOptions:
        if self.clock is not None:
            settings.setdefault("clock", self.clock)
        return StudyOptions(
            **{
                "slots": 8,
                "providers": {ENDPOINT.name: self.llm},
                "listeners": (lambda kind, data: self.events.append((kind, data)),),
                **settings,
            }
        )

    async def run(
        self,
        config: MIPROConfig = SMALL,
        *,
        data: Splits | None = None,
        start: PromptTemplate = START,
        score_fn: Any = None,
        **settings: Any,
    ) -> OptimizationResult:
        return await run_mipro(
            start,
            config,
            splits() if data is None else data,
            ENDPOINT,
            ENDPOINT,
            score_fn or exact_match(),
            options=self.options(**settings),
        )

    def run_sync(self, *args: Any, **settings: Any) -> OptimizationResult:
        return asyncio.run(self.run(*args, **settings))

    def of(self, kind: str) -> list[Mapping[str, Any]]:
        return [data for name, data in self.events if name == kind]


def told(result: OptimizationResult) -> Any:
    """Everything of a result that must not depend on time, place or order of arrival."""
    return {
        "best": result.best_template.digest,
        "score": result.best_template.score,
        "population": [(t.digest, t.score) for t in result.final_population],
        "history": [repr(entry) for entry in result.history],
        "verdict": result.verdict,
        "test": result.test,
        "stop": result.stop_reason,
    }
