"""The tool loop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from rollouts.agents import AgentLimits, run_agent
from rollouts.dtypes import Endpoint, Message, Request, Response, Tool, ToolCall, Usage
from rollouts.errors import ProviderError
from rollouts.testing import ScriptedLLM

ADD = Tool(name="add", description="a + b", parameters={"type": "object"})
REQUEST = Request(
    endpoint=Endpoint(provider="fake", model="m"), messages=(Message("system", "Compute."), Message("user", "2 + 3"))
)


class Adder:
    """Adds; fails on words; `big` returns a long text."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, Any]] = []

    def tools(self) -> tuple[Tool, ...]:
        return (ADD,)

    async def call(self, name: str, arguments: Mapping[str, Any]) -> str:
        self.seen.append((name, arguments))
        if name == "big":
            return "x" * 10_000
        if name != "add":
            raise KeyError(f"no tool {name!r}; there is only 'add'")
        return str(arguments["a"] + arguments["b"])

    async def close(self) -> None:
        """Nothing to free."""


def calling(*calls: tuple[str, str]) -> Response:
    tool_calls = tuple(ToolCall(id=f"t{i}", name=name, arguments=text) for i, (name, text) in enumerate(calls))
    return Response(
        text="", tool_calls=tool_calls, usage=Usage(prompt_tokens=10, completion_tokens=5), cost_micros=7, latency_s=0.5
    )


async def test_without_tools_it_is_one_call() -> None:
    llm = ScriptedLLM(["five"])
    trajectory = await run_agent(REQUEST, llm, module="solver")
    assert trajectory.output == "five"
    assert [call.module for call in trajectory.calls] == ["solver"]
    assert trajectory.messages == (*REQUEST.messages, Message("assistant", "five"))
    assert llm.requests[0].tools == ()


async def test_tool_calls_are_run_until_the_model_answers() -> None:
    llm, adder = ScriptedLLM([calling(("add", '{"a": 2, "b": 3}')), calling(("add", '{"a": 5, "b": 1}')), "6"]), Adder()
    trajectory = await run_agent(REQUEST, llm, environment=adder)
    assert trajectory.output == "6"
    assert adder.seen == [("add", {"a": 2, "b": 3}), ("add", {"a": 5, "b": 1})]
    assert [m.role for m in trajectory.messages] == ["system", "user", *["assistant", "tool"] * 2, "assistant"]
    assert [m.content for m in trajectory.messages if m.role == "tool"] == ["5", "6"]
    assert len(trajectory.calls) == 3
    assert trajectory.cost_micros == 14
    assert trajectory.latency_s == 1.0
    assert llm.requests[1].messages == trajectory.messages[:4]


async def test_several_calls_of_one_turn_are_answered_by_their_ids() -> None:
    llm = ScriptedLLM([calling(("add", '{"a": 1, "b": 1}'), ("add", '{"a": 2, "b": 2}')), "done"])
    trajectory = await run_agent(REQUEST, llm, environment=Adder())
    answers = [(m.tool_call_id, m.content) for m in trajectory.messages if m.role == "tool"]
    assert answers == [("t0", "2"), ("t1", "4")]


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (("add", '{"a": 1}'), "KeyError"),
        (("add", '{"a": "x", "b": 1}'), "TypeError"),
        (("subtract", "{}"), "no tool 'subtract'"),
        (("add", '{"a": 1,'), "JSONDecodeError"),
        (("add", "[1, 2]"), "must be a JSON object"),
        (("add", ""), "KeyError"),
    ],
)
async def test_what_goes_wrong_with_a_tool_is_told_to_the_model(call: tuple[str, str], told: str) -> None:
    llm = ScriptedLLM([calling(call), "sorry"])
    trajectory = await run_agent(REQUEST, llm, environment=Adder())
    (answer,) = [m for m in trajectory.messages if m.role == "tool"]
    assert answer.content.startswith("error: ")
    assert told in answer.content
    assert trajectory.output == "sorry"


async def test_arguments_that_are_no_object_never_reach_the_tool() -> None:
    adder = Adder()
    await run_agent(REQUEST, ScriptedLLM([calling(("add", "[1, 2]")), "ok"]), environment=adder)
    assert adder.seen == []


async def test_long_tool_results_are_cut_and_say_so() -> None:
    llm = ScriptedLLM([calling(("big", "{}")), "ok"])
    trajectory = await run_agent(REQUEST, llm, environment=Adder(), limits=AgentLimits(max_tool_output=100))
    (answer,) = [m for m in trajectory.messages if m.role == "tool"]
    assert answer.content.startswith("x" * 100 + "\n")
    assert "10000 characters" in answer.content
    assert len(answer.content) < 200


async def test_the_last_turn_is_sent_without_tools() -> None:
    llm = ScriptedLLM([calling(("add", '{"a": 1, "b": 1}')), calling(("add", '{"a": 2, "b": 1}')), "3"])
    trajectory = await run_agent(REQUEST, llm, environment=Adder(), limits=AgentLimits(max_turns=3))
    assert [request.tools for request in llm.requests] == [(ADD,), (ADD,), ()]
    assert trajectory.output == "3"


async def test_a_model_that_calls_tools_to_the_end_has_said_nothing() -> None:
    """A tool's result is never taken for the model's answer."""
    adder = Adder()
    llm = ScriptedLLM([calling(("add", '{"a": 20, "b": 22}'))] * 2)
    trajectory = await run_agent(REQUEST, llm, environment=adder, limits=AgentLimits(max_turns=2))
    assert trajectory.output == ""
    assert trajectory.messages[-1].role == "assistant"
    assert len(adder.seen) == 1


async def test_a_failing_model_is_not_the_loops_business() -> None:
    with pytest.raises(ProviderError, match="down"):
        await run_agent(REQUEST, ScriptedLLM([ProviderError("down")]), environment=Adder())
