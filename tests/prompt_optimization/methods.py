"""Both optimizers behind one call, for tests of what must hold for either; and a small world for GEPA's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rollouts.budget import Budget
from rollouts.dtypes import Endpoint, PromptTemplate, Request, Sample, Sampling, Score, Trajectory
from rollouts.dtypes.scoring import Metric
from rollouts.evaluation.metrics import exact_match
from rollouts.prompt_optimization import (
    GEPAConfig,
    MIPROConfig,
    OptimizationResult,
    Splits,
    StudyOptions,
    run_gepa,
    run_mipro,
)
from rollouts.testing import ScriptedLLM
from rollouts.testing.scripted import Reply

from .worlds import ENDPOINT, SMALL, START, World, splits

METHODS = ("mipro", "gepa")
SMALL_GEPA = GEPAConfig(
    generations=4,
    population_size=8,
    elite_size=2,
    minibatch_size=3,
    rule_candidates=2,
    optimize_demos=True,
    max_labeled_demos=8,
    max_bootstrapped_demos=2,
    num_demo_sets=4,
)


async def optimized(
    method: str, world: World, config: Any = None, *, data: Splits | None = None, score_fn: Any = None, **options: Any
) -> OptimizationResult:
    """A run of `method` on the tickets of `worlds`."""
    run: Callable[..., Any] = run_gepa if method == "gepa" else run_mipro
    config = config or small(method)
    data = splits(30, 30, 40) if data is None else data
    score_fn = score_fn or exact_match()
    result: OptimizationResult = await run(
        START, config, data, ENDPOINT, ENDPOINT, score_fn, options=world.options(**options)
    )
    return result


def small(method: str) -> GEPAConfig | MIPROConfig:
    return SMALL_GEPA if method == "gepa" else SMALL


# A world of rules: a prompt is right on the samples of the topics whose rules it holds.

RULES = Endpoint(provider="sim", model="rules", sampling=Sampling(max_tokens=64))
BASE = PromptTemplate("Answer.", "{question}")
TOPICS = ("cats", "dogs", "fish", "owls")


def rule(topic: str) -> str:
    return f"Mind the {topic}."


def rows(prefix: str, count: int) -> list[Sample]:
    return [
        Sample(inputs={"question": f"{prefix} {n} on {TOPICS[n % 4]}"}, ground_truth="yes", id=f"{prefix}-{n}")
        for n in range(count)
    ]


def rule_splits(train: int = 24, val: int = 24, test: int = 16) -> Splits:
    return Splits(train=rows("train", train), val=rows("val", val), test=rows("test", test))


def scored(trajectory: Trajectory, sample: Sample) -> Score:
    topic = sample.inputs["question"].split()[-1]
    return Score(metrics=(Metric("right", float(trajectory.output == "yes")),), feedback=f"It is about {topic}.")


def good_reflector(request: Request) -> str:
    """States the rule of a topic that failed."""
    text = request.messages[0].content
    now = text.split("<instruction>")[1].split("</instruction>", maxsplit=1)[0]
    failed = [topic for topic in TOPICS if f"on {topic}\nAnswer: no" in text] or list(TOPICS)
    return f"<instruction>{now}\n{rule(failed[request.repeat % len(failed)])}</instruction>"


class RuleWorld:
    """`reflector` gives the rewrites; `right` may say more about who is right (None: what the rules say)."""

    def __init__(
        self,
        reflector: Callable[[Request], Reply] = good_reflector,
        right: Callable[[str, str], Reply | None] = lambda system, asked: None,
        **llm: Any,
    ) -> None:
        self._reflector, self._right = reflector, right
        self.llm = ScriptedLLM(self._reply, **llm)
        self.asked: list[str] = []
        self.events: list[tuple[str, Mapping[str, Any]]] = []

    def _reply(self, request: Request) -> Reply:
        if request.phase == "propose":
            self.asked.append("\n".join(message.content for message in request.messages))
            return self._reflector(request)
        system, asked = request.messages[0].content, request.messages[-1].content
        reply = self._right(system, asked)
        return reply if reply is not None else ("yes" if rule(asked.split()[-1]) in system else "no")

    async def run(
        self,
        *,
        start: PromptTemplate = BASE,
        data: Splits | None = None,
        score_fn: Any = scored,
        options: Mapping[str, Any] | None = None,
        rollouts: int | None = None,
        **config: Any,
    ) -> OptimizationResult:
        settings: dict[str, Any] = {
            "slots": 8,
            "providers": {RULES.name: self.llm},
            "listeners": (lambda kind, data: self.events.append((kind, data)),),
            "budget": Budget(max_rollouts=rollouts),
            **(options or {}),
        }
        merged = GEPAConfig(**{"rule_candidates": 0, "generations": 5, "population_size": 8, **config})
        data = rule_splits() if data is None else data
        return await run_gepa(start, merged, data, RULES, RULES, score_fn, options=StudyOptions(**settings))

    def of(self, kind: str) -> list[Mapping[str, Any]]:
        return [data for name, data in self.events if name == kind]

    @property
    def children(self) -> list[Mapping[str, Any]]:
        return self.of("child")
