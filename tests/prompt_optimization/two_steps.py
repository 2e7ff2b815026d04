"""A program of two steps on which both texts matter, and a model that answers by their instructions alone.

`find` names the topic of a message when its instruction holds FIND, `decide` turns a topic into a team when its
instruction holds DECIDE. Proposals for a module hold the right phrase every third time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rollouts.dtypes import Agent, Endpoint, Program, PromptTemplate, Request, Sample, Sampling, Score, Trajectory
from rollouts.dtypes.scoring import Metric
from rollouts.prompt_optimization import Splits, StudyOptions
from rollouts.testing import ScriptedLLM

ENDPOINT = Endpoint(provider="sim", model="two", sampling=Sampling(max_tokens=64))
FIND, DECIDE = "look for the object", "map every topic to its team"
TEAMS = {"card": "cards", "loan": "credit", "login": "access", "fee": "billing"}
_TOPICS = list(TEAMS)


async def run(sample: Sample, agents: Mapping[str, Agent]) -> str:
    """find -> decide."""
    topic = await agents["find"]({"message": sample.inputs["message"]})
    return (await agents["decide"]({"topic": topic.output, "hint": "none"})).output


def program(find: str = "Name the topic.", decide: str = "Name the team.") -> Program:
    return Program(
        modules={
            "find": PromptTemplate(find, "Message: {message}\nTopic:"),
            "decide": PromptTemplate(decide, "Topic: {topic}\nHint: {hint}\nTeam:"),
        },
        run=run,
    )


def samples(prefix: str, count: int) -> list[Sample]:
    out = []
    for number in range(count):
        topic = _TOPICS[number % len(_TOPICS)]
        inputs = {"message": f"{prefix} {number}: something about my {topic}"}
        out.append(Sample(inputs=inputs, ground_truth=TEAMS[topic], id=f"{prefix}-{number}"))
    return out


def splits(train: int = 24, val: int = 24, test: int = 24) -> Splits:
    return Splits(train=samples("train", train), val=samples("val", val), test=samples("test", test))


def score(trajectory: Trajectory, sample: Sample) -> Score:
    """Right or wrong, and what each step is worth by itself."""
    found = next((trace.output for trace in trajectory.traces if trace.module == "find"), "")
    modules = {
        "find": float(TEAMS.get(found) == sample.ground_truth),
        "decide": float(trajectory.output == TEAMS.get(found)),
    }
    right = float(trajectory.output == sample.ground_truth)
    return Score(metrics=(Metric("right", right),), feedback=f"The team is {sample.ground_truth}.", modules=modules)


def plain_score(trajectory: Trajectory, sample: Sample) -> float:
    return float(trajectory.output == sample.ground_truth)


class TwoSteps:
    """The model; `llm` counts, `asked` are the requests for rewrites."""

    def __init__(self) -> None:
        self.llm = ScriptedLLM(self._reply)
        self.asked: list[str] = []

    def _reply(self, request: Request) -> str:
        system, asked = request.messages[0].content, request.messages[-1].content
        if request.phase == "propose":
            self.asked.append(system)
            return f"<instruction>{_rewrite(system, request.repeat)}</instruction>"
        if asked.startswith("Message:"):
            topic = next(topic for topic in _TOPICS if topic in asked)
            return topic if FIND in system else "unknown"
        topic = asked.split("\n")[0].removeprefix("Topic: ")
        shown = {m.content for m in request.messages[1:-1] if m.role == "assistant"}
        knows = DECIDE in system or len(shown) >= 2
        return TEAMS.get(topic, "nobody") if knows else "nobody"

    def options(self, **settings: Any) -> StudyOptions:
        return StudyOptions(**{"slots": 8, "providers": {ENDPOINT.name: self.llm}, **settings})


def _rewrite(system: str, number: int) -> str:
    now = system.split("<instruction>")[1].split("</instruction>", maxsplit=1)[0]
    phrase = FIND if "'find'" in system else DECIDE
    helps = phrase if number % 3 == 0 else f"be careful ({number})"
    return f"{now.rstrip('.')}; {helps}."
