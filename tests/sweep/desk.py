"""A task of three agents for experiments: a model that gets better by instruction and demonstrations, the router least
good at the start. Every answer follows from seed and request alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from hashlib import blake2b
from typing import Any

from rollouts.dtypes import Agent, Price, Program, PromptTemplate, Request, Response, Sample, Score, Trajectory
from rollouts.dtypes.scoring import Metric
from rollouts.experiments.tasks import TaskBundle
from rollouts.llm.client import Provider
from rollouts.testing import ScriptedLLM
from rollouts.testing.latency import log_normal

TOPICS = ("card", "loan", "login", "fee")
TEAMS = dict(zip(TOPICS, ("cards", "credit", "access", "billing"), strict=True))
HELP = {"reader": "look for the object", "router": "map every topic to its team", "writer": "greet the customer first"}
EASE = {"reader": 0.85, "router": 0.35, "writer": 0.8}
PRICE = Price(input=Decimal("0.4"), output=Decimal("1.6"))
_LAW = log_normal(0.4, 0.6)


async def serve(sample: Sample, agents: Mapping[str, Agent]) -> str:
    """reader -> router -> writer."""
    topic = (await agents["reader"]({"message": sample.inputs["message"]})).output
    team = (await agents["router"]({"topic": topic})).output
    said = (await agents["writer"]({"team": team})).output
    return f"{team}/{said}"


START = Program(
    modules={
        "reader": PromptTemplate("Name the topic.", "Message: {message}"),
        "router": PromptTemplate("Name the team.", "Topic: {topic}"),
        "writer": PromptTemplate("Write the reply.", "Team: {team}"),
    },
    run=serve,
)


def rows(count: int = 120) -> list[Sample]:
    return [
        Sample(inputs={"message": f"{n}: about my {topic}, please"}, ground_truth=TEAMS[topic], id=f"row-{n}")
        for n in range(count)
        for topic in (TOPICS[n % len(TOPICS)],)
    ]


def score(trajectory: Trajectory, sample: Sample) -> Score:
    """Team and reply both right; what each agent is worth by itself."""
    said = {trace.module: trace.output for trace in trajectory.traces}
    topic = next(topic for topic, team in TEAMS.items() if team == sample.ground_truth)
    modules = {
        "reader": float(said.get("reader") == topic),
        "router": float(said.get("router") == TEAMS.get(said.get("reader", ""), "?")),
        "writer": float(said.get("writer") == "welcome"),
    }
    right = float(trajectory.output == f"{sample.ground_truth}/welcome")
    return Score(metrics=(Metric("right", right),), modules=modules)


class DeskLLM(ScriptedLLM):
    """The model; `seed` is part of every draw. It reports latencies and waits for none."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(self._answer, price=PRICE)
        self._seed = seed

    async def complete(self, request: Request) -> Response:
        response = await super().complete(request)
        return replace(response, latency_s=_LAW(self._unit(request, "latency")))

    def _unit(self, request: Request, what: str) -> float:
        text = "\x1f".join([str(self._seed), what, str(request.repeat), *(m.content for m in request.messages)])
        return int.from_bytes(blake2b(text.encode(), digest_size=6).digest(), "big") / 2**48

    def _answer(self, request: Request) -> str:
        system, asked = request.messages[0].content, request.messages[-1].content
        luck = self._unit(request, "right")
        if request.phase.startswith("propose"):
            module = next((name for name in HELP if f"'{name}'" in system), "reader")
            helps = HELP[module] if luck < 0.3 else f"be careful, case {int(luck * 1000)}"
            return f"<instruction>Do your part, and {helps}.</instruction>"
        module, right = _asked(asked)
        chance = EASE[module] + (0.3 if HELP[module] in system else 0) + 0.03 * (len(request.messages) // 2 - 1)
        return right if luck < chance else "nothing"


def _asked(text: str) -> tuple[str, str]:
    kind, _, rest = text.partition(": ")
    if kind == "Message":
        return "reader", next(topic for topic in TOPICS if topic in rest)
    return ("router", TEAMS.get(rest, "nobody")) if kind == "Topic" else ("writer", "welcome")


def desk(simulate: Callable[[int], Provider] = DeskLLM) -> TaskBundle:
    return TaskBundle(
        name="desk", program=START, samples=rows(), score_fn=score, description="A help desk.", simulate=simulate
    )


SMALL: dict[str, Any] = {
    "name": "desk",
    "task": "desk",
    "seeds": 2,
    "jobs": 2,
    "data": {"train": 12, "val": 12, "test": 12},
    "model": {"provider": "simulated", "max_completion_tokens": 32},
    "proposer": {"max_completion_tokens": 64},
    "budgets": {"small": {"max_rollouts": 80}},
    "methods": {
        "start": {"algorithm": "start"},
        "mipro": {"algorithm": "mipro", "num_candidates": 2, "num_trials": 3, "minibatch_size": 6},
        "adaptive": {
            "algorithm": "rmipro",
            "num_candidates": 2,
            "num_trials": 8,
            "minibatch_size": 3,
            "num_demo_sets": 2,
        },
    },
}
"""An experiment that takes less than a second."""
