"""Agents as rollouts: scored, recorded, optimized."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from rollouts import Endpoint, Metric, MIPROConfig, PromptTemplate, Score, StudyOptions, run_mipro
from rollouts.agents import AgentLimits, tools_of
from rollouts.dtypes import FewShotExample, Message, Program, Request, Response, Sample, ToolCall
from rollouts.environments.calculator import CalculatorEnvironment
from rollouts.evaluation import Task, evaluate_sample, rollout_key
from rollouts.prompt_optimization import bootstrap_demos
from rollouts.store import open_store
from rollouts.testing import MockProvider, ScriptedLLM

from .kit import Adder, added

ENDPOINT = Endpoint(provider="fake", model="m")
TEMPLATE = PromptTemplate("Compute.", "{q}")
SAMPLE = Sample(inputs={"q": "2 + 3", "table": "t"}, ground_truth="5", id="0")


def right(trajectory: Any, sample: Sample) -> float:
    return float(trajectory.output == sample.ground_truth)


def task(**settings: Any) -> Task:
    return Task(**{"endpoint": ENDPOINT, "score_fn": right, "environment_factory": lambda _: Adder(), **settings})


def clients(*replies: Any) -> dict[str, ScriptedLLM]:
    return {ENDPOINT.connection: ScriptedLLM(list(replies))}


async def test_a_rollout_with_tools_is_scored_and_its_environment_gets_the_row() -> None:
    adder = Adder()
    made: list[dict[str, Any]] = []

    def make(sample: dict[str, Any]) -> Adder:
        made.append(sample)
        return adder

    evaluation = await evaluate_sample(
        TEMPLATE, SAMPLE, task(environment_factory=make), clients(added(1, 1), added(2, 3), "5")
    )
    assert evaluation.value == 1.0
    assert evaluation.calls == 3
    assert made == [{"q": "2 + 3", "table": "t"}]
    assert adder.life == ["reset ['q', 'table']", "close"]
    assert evaluation.trajectory is not None
    assert [use.name for use in evaluation.trajectory.tool_uses] == ["add", "add"]


@pytest.mark.parametrize(
    ("replies", "limits", "kind", "stage"),
    [
        ([added(1, 1)] * 9, AgentLimits(max_turns=3), "TurnLimitReached", "agent"),
        ([added(1, 1)] * 9, AgentLimits(max_repeats=2), "RepeatedCalls", "agent"),
        ([added(1, 1), added(1, 2), added(1, 3), RuntimeError("cut")], AgentLimits(), "RuntimeError", "call"),
    ],
)
async def test_a_rollout_that_fails_after_some_calls_keeps_what_it_paid(
    replies: list[Any], limits: AgentLimits, kind: str, stage: str
) -> None:
    evaluation = await evaluate_sample(TEMPLATE, SAMPLE, task(limits=limits), clients(*replies))
    assert evaluation.failure is not None
    assert (evaluation.failure.kind, evaluation.failure.stage) == (kind, stage)
    assert (evaluation.value, evaluation.score) == (None, None)
    assert (evaluation.calls, evaluation.cost_micros, evaluation.usage.total_tokens) == (3, 21, 45)
    assert evaluation.trajectory is not None
    assert len(evaluation.trajectory.tool_uses) >= 2
    assert evaluation.trajectory.traces[0].steps[1].role == "tool"
    assert evaluation.output == ""


async def test_a_rollout_that_runs_out_of_time_keeps_what_it_paid() -> None:
    class Hanging(Adder):
        async def call(self, name: str, arguments: Mapping[str, Any]) -> str:
            await asyncio.Event().wait()
            return ""

    adder = Hanging()
    limited = task(environment_factory=lambda _: adder, timeout_s=0.02)
    evaluation = await evaluate_sample(TEMPLATE, SAMPLE, limited, clients(added(1, 1)))
    assert evaluation.failure is not None
    assert evaluation.failure.kind == "RolloutTimeout"
    assert (evaluation.calls, evaluation.cost_micros) == (1, 7)
    assert adder.life[-1] == "close"


async def test_a_forced_answer_is_scored_and_says_that_it_was_forced() -> None:
    evaluation = await evaluate_sample(
        TEMPLATE, SAMPLE, task(limits=AgentLimits(max_turns=2)), clients(added(2, 3), "5")
    )
    assert evaluation.value == 1.0
    assert evaluation.trajectory is not None
    assert evaluation.trajectory.stop_reason == "turn_limit"


def test_tools_and_limits_are_part_of_the_key() -> None:
    def first(sample: dict[str, Any]) -> Any:
        return CalculatorEnvironment()

    def second(sample: dict[str, Any]) -> Any:
        return Adder()

    def key(**settings: Any) -> str:
        return rollout_key(Program.single(TEMPLATE), SAMPLE, task(**settings))

    assert key(environment_factory=first) == key(environment_factory=first)
    distinct = {
        key(environment_factory=None),
        key(environment_factory=first),
        key(environment_factory=second),
        key(environment_factory=first, limits=AgentLimits(max_turns=3)),
    }
    assert len(distinct) == 4


# The seed's snippet "With Tool-Using Agents".

DATASET = [{"question": f"What is {a} * {a + 7}?", "answer": str(a * (a + 7))} for a in range(11, 71)]
AGENT = PromptTemplate("Answer with the number alone.", "{question}")


def score_fn(trajectory: Any, sample: Any) -> Score:
    return Score(metrics=(Metric("correct", float(trajectory.output.strip() == sample.ground_truth), weight=1.0),))


def worker(request: Request) -> Any:
    """Uses the calculator, and errs on odd first factors unless it was shown an example."""
    if request.phase == "propose":
        return "<instruction>Use the calculator and answer with the number alone.</instruction>"
    last = request.messages[-1]
    if last.role == "tool":
        return last.content
    first = int(re.findall(r"\d+", last.content)[0])
    shown = any(message.tool_calls for message in request.messages)
    if first % 2 and not shown:
        return "I do not know."
    expression = last.content.removeprefix("What is ").removesuffix("?")
    call = ToolCall(id="call_0", name="calculate", arguments=json.dumps({"expression": expression}))
    return Response(text="", tool_calls=(call,), finish_reason="tool_calls")


async def test_the_seeds_snippet_with_tool_using_agents() -> None:
    model = ScriptedLLM(worker)
    result = await run_mipro(
        initial_template=AGENT,
        config=MIPROConfig(num_trials=4, num_candidates=2, minibatch_size=10, seed=1),
        dataset=DATASET,
        endpoint=ENDPOINT,
        proposer_endpoint=ENDPOINT,
        score_fn=score_fn,
        environment_factory=lambda sample: CalculatorEnvironment(),
        options=StudyOptions(providers={ENDPOINT.name: model}),
    )
    assert result.best_template.score == 1.0
    demos = result.best_template.few_shot_examples
    assert demos
    bootstrapped = [demo for demo in demos if demo.messages]
    assert bootstrapped, "the tool calls of bootstrapped demonstrations are kept"
    assert [message.role for message in bootstrapped[0].messages] == ["assistant", "tool", "assistant"]
    assert result.spend.calls == model.calls
    asked = [request.messages[0].content for request in model.requests if request.phase == "propose"]
    assert asked
    assert all("- calculate(expression): " in text for text in asked), "who writes instructions knows the tools"


async def test_an_environment_that_cannot_be_made_shows_no_tools() -> None:
    class Broken(Adder):
        async def reset(self, sample: Mapping[str, Any]) -> None:
            raise OSError("no server")

    def refuse(sample: dict[str, Any]) -> Adder:
        raise KeyError("text")

    factories = (lambda _: Adder(), lambda _: Broken(), refuse, None)
    shown = [await tools_of(factory, {}, AgentLimits()) for factory in factories]
    assert [[tool.name for tool in tools] for tools in shown] == [["add", "big"], [], [], []]


def served(body: dict[str, Any]) -> str | dict[str, Any]:
    """The same worker behind a real server, in either protocol."""
    last = body["messages"][-1]
    content = last["content"] if isinstance(last["content"], list) else [last]
    results = [block for block in content if block.get("type") == "tool_result" or block.get("role") == "tool"]
    if results:
        return str(results[-1]["content"])
    question = content[-1].get("text") or content[-1]["content"]
    expression = question.removeprefix("What is ").removesuffix("?")
    return {
        "content": "",
        "tool_calls": [{"id": "call_0", "name": "calculate", "arguments": {"expression": expression}}],
    }


@pytest.mark.parametrize("provider", ["openai_compatible", "anthropic"])
async def test_agents_and_their_demonstrations_run_against_a_server(provider: str) -> None:
    if provider == "anthropic":
        pytest.importorskip("anthropic", reason="the extra 'anthropic' is not installed")
    async with MockProvider(reply=served) as mock:
        endpoint = replace(mock.endpoint(provider=provider), api_key="any")
        store = open_store(None)
        options = StudyOptions(store=store)
        settings: dict[str, Any] = {
            "environment_factory": lambda sample: CalculatorEnvironment(),
            "options": options,
        }
        demos = await bootstrap_demos(AGENT, DATASET, range(6), endpoint, score_fn, 3, **settings)
        assert [len(demo.messages) for demo in demos] == [3, 3, 3]
        shown = AGENT.replace(few_shot_examples=(*demos, *demos))  # the same demonstrations twice, all ids alike
        again = await bootstrap_demos(shown, DATASET, range(6, 8), endpoint, score_fn, 2, **settings)
    assert [demo.output for demo in again] == [DATASET[6]["answer"], DATASET[7]["answer"]]
    assert mock.calls == 16
    sent = json.dumps(mock.requests[-1]["messages"])
    ids = re.findall(r'"(?:id|tool_use_id|tool_call_id)": "([^"]+)"', sent)
    assert len(ids) == 2 * len(set(ids)) == 14


def test_a_demonstration_that_no_provider_takes_is_refused_with_what_to_change() -> None:
    from rollouts.errors import TemplateError

    call = ToolCall(id="1", name="calculate", arguments="{}")
    wrong = {
        "have no result": (Message("assistant", "", (call,)), Message("assistant", "5")),
        "answers no call": (Message("tool", "5", (), "1"), Message("assistant", "5")),
        "must be the assistant's answer": (Message("assistant", "", (call,)), Message("tool", "5", (), "1")),
    }
    for words, messages in wrong.items():
        with pytest.raises(TemplateError, match=words):
            FewShotExample("q", "5", messages)
