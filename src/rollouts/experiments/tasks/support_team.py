"""A support team: a router, and four experts of whom the one it names answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from rollouts.dtypes import Agent, Program, Sample, Score, Trajectory
from rollouts.evaluation.metrics import normalise_answer
from rollouts.experiments.tasks.bundle import Judged, Row, TaskBundle, rows_of, samples_of, score_of
from rollouts.experiments.tasks.simulated import SimulatedModule, SimulatedProgram
from rollouts.experiments.tasks.support_prompts import start_prompts
from rollouts.testing import SimulatedTask

_NAME = "support_team"

DESKS = {
    "product": "product_advisor",
    "technical": "tech_specialist",
    "billing": "billing_expert",
    "complaint": "escalation_handler",
}
"""What the router says -> the expert who answers then."""

TOPICS = {
    "product_advisor": ("headphones", "speaker", "camera", "lamp"),
    "tech_specialist": ("battery", "wifi", "sound", "update"),
    "billing_expert": ("refund", "invoice", "discount", "card"),
    "escalation_handler": ("safety", "legal", "manager", "privacy"),
}
"""What each expert may answer. No two share an answer, so the right one says who should have given it."""


def bundle() -> TaskBundle:
    """The task."""
    rows = rows_of(_NAME)
    return TaskBundle(
        name=_NAME,
        program=Program(modules=start_prompts(), run=run),
        samples=samples_of(rows, "subject", "message"),
        score_fn=score,
        description=(
            "Answers a customer of a shop for home electronics: a router picks the desk, and the expert of that desk "
            "names the topic."
        ),
        simulate=partial(_simulated, rows),
    )


async def run(sample: Sample, agents: Mapping[str, Agent]) -> str:
    """router -> expert. What names no desk is answered by nobody, with an empty text."""
    routed = await agents["router"](sample.inputs)
    expert = DESKS.get(normalise_answer(routed.output))
    return "" if expert is None else (await agents[expert]({"message": sample.inputs["message"]})).output


def score(trajectory: Trajectory, sample: Sample) -> Score:
    """1 when the topic is right. An expert is judged on messages for its desk only: a wrong turn is the router's."""
    topic = str(sample.ground_truth)
    desk = next(desk for desk, expert in DESKS.items() if topic in TOPICS[expert])
    wanted = {"router": desk, DESKS[desk]: topic}
    judged = [Judged(t.module, t.output, wanted[t.module]) for t in trajectory.traces if t.module in wanted]
    return score_of(float(normalise_answer(trajectory.output) == topic), judged)


_LAWS: Mapping[str, Mapping[str, Any]] = {
    "router": {"base": 1.6, "phrases": {"who could solve it alone": 0.6, "the subject may mislead": 0.5}},
    "product_advisor": {
        "base": 0.8,
        "phrases": {"think of where it will be used": 0.5, "the need matters more than the words": 0.4},
    },
    "tech_specialist": {"base": 0.8, "phrases": {"ask what changed last": 0.5, "the part that fails first": 0.4}},
    "billing_expert": {
        "base": 0.6,
        "phrases": {"what document or sum is missing": 0.6, "money back is a refund": 0.4},
    },
    "escalation_handler": {
        "base": -3.2,
        "phrases": {
            "danger goes before everything": 1.0,
            "threats of court are legal": 1.0,
            "personal data is privacy": 1.0,
            "anger alone is for the manager": 1.0,
            "what is asked for outweighs the tone": 1.0,
        },
    },
}


def _simulated(rows: list[Row], seed: int) -> SimulatedProgram:
    def module(name: str, labels: Iterable[str], answers: Mapping[str, str]) -> SimulatedModule:
        return SimulatedModule(task=SimulatedTask(labels=tuple(labels), answers=answers, **_LAWS[name]))

    desks = {expert: desk for desk, expert in DESKS.items()}
    modules = {"router": module("router", DESKS, {row["message"]: desks[row["agent"]] for row in rows})}
    for expert, topics in TOPICS.items():
        own = {row["message"]: row["answer"] for row in rows if row["agent"] == expert}
        modules[expert] = module(expert, topics, own)
    return SimulatedProgram(modules, seed=seed)
