"""What every environment must do."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import pytest

from rollouts.agents import AgentLimits, opened, run_agent
from rollouts.dtypes import Endpoint, Environment, Message, Request, Response, ToolCall
from rollouts.environments import CalculatorEnvironment, MCPEnvironment, PythonFunctionsEnvironment
from rollouts.testing import ScriptedLLM


def add(a: int, b: int) -> str:
    """Adds.

    Args:
        a: the first number
        b: the second number
    """
    return str(a + b)


def mcp_in_process() -> Environment:
    if find_spec("mcp") is None:
        pytest.skip("the extra 'mcp' is not installed")
    from .mcp_server import make_server

    return MCPEnvironment(server=make_server(), tools=["add"])


@dataclass(frozen=True)
class Kind:
    """An environment, a call that it answers with 5, and calls that it refuses with what the model should know."""

    make: Callable[[], Environment]
    tool: str
    good: dict[str, Any]
    bad: dict[str, str] = field(default_factory=dict)


KINDS = {
    "calculator": Kind(
        CalculatorEnvironment,
        "calculate",
        {"expression": "2 + 3"},
        {
            '{"expression": "1 / 0"}': "division by zero",
            '{"expression": "import os"}': "cannot read",
            "{}": "expression",
        },
    ),
    "functions": Kind(
        lambda: PythonFunctionsEnvironment([add]), "add", {"a": 2, "b": 3}, {'{"a": 1}': "b", '{"a": "x", "b": 1}': "a"}
    ),
    "mcp": Kind(mcp_in_process, "add", {"a": 2, "b": 3}, {'{"a": 1}': "b", '{"a": [], "b": 1}': "a"}),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


def request(text: str = "2 + 3") -> Request:
    return Request(endpoint=Endpoint(provider="fake", model="m"), messages=(Message("user", text),))


def called(name: str, arguments: str) -> Response:
    return Response(text="", tool_calls=(ToolCall(id="1", name=name, arguments=arguments),))


async def test_it_is_an_environment_with_schemas_of_objects(kind: Kind) -> None:
    async with opened(lambda _: kind.make(), {}, AgentLimits()) as environment:
        assert isinstance(environment, Environment)
        tools = environment.tools()
        assert len({tool.name for tool in tools}) == len(tools) >= 1
        for tool in tools:
            assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", tool.name)
            assert tool.description
            assert tool.parameters["type"] == "object"
            assert json.loads(json.dumps(tool.parameters)) == tool.parameters
            assert set(tool.parameters["required"]) <= set(tool.parameters["properties"])
        assert environment.tools() == tools


async def test_it_answers_in_text_also_many_at_once(kind: Kind) -> None:
    async with opened(lambda _: kind.make(), {}, AgentLimits()) as environment:
        answers = await asyncio.gather(*(environment.call(kind.tool, kind.good) for _ in range(20)))
    assert answers == ["5"] * 20


async def test_unknown_tools_and_wrong_arguments_are_refused_in_words(kind: Kind) -> None:
    async with opened(lambda _: kind.make(), {}, AgentLimits()) as environment:
        for name, arguments in (("no_such_tool", kind.good), (kind.tool, {"wrong": 1}), (kind.tool, {})):
            with pytest.raises(ValueError, match=r"\w{3}"):
                await environment.call(name, arguments)
        assert await environment.call(kind.tool, kind.good) == "5"


async def test_a_model_can_use_it_and_mend_its_calls(kind: Kind) -> None:
    turns = [*(called(kind.tool, text) for text in kind.bad), called(kind.tool, json.dumps(kind.good)), "5"]
    async with opened(lambda _: kind.make(), {}, AgentLimits()) as environment:
        trajectory = await run_agent(request(), ScriptedLLM(turns), environment=environment)
    told = [message.content for message in trajectory.messages if message.role == "tool"]
    for content, words in zip(told, [*kind.bad.values(), "5"], strict=True):
        assert words in content
    assert [content.startswith("error: ") for content in told] == [True] * len(kind.bad) + [False]
    assert trajectory.output == "5"


async def test_it_may_be_closed_twice_or_before_it_was_reset(kind: Kind) -> None:
    environment = kind.make()
    await environment.close()
    async with opened(lambda _: kind.make(), {}, AgentLimits()) as opened_one:
        pass
    await opened_one.close()


async def test_it_may_be_used_and_closed_by_other_tasks(kind: Kind) -> None:
    environment = kind.make()
    await asyncio.create_task(environment.reset({}))
    assert await asyncio.create_task(environment.call(kind.tool, kind.good)) == "5"
    await asyncio.create_task(environment.close())
