"""The real clients of OpenAI, for Python and for Node, as task apps use them."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from rollouts.budget import Budget
from rollouts.dtypes import Endpoint
from rollouts.testing import ScriptedLLM
from rollouts.testing.mock_provider import MockProvider
from tests.service.interceptor.kit import ASKED, World, world

openai = pytest.importorskip("openai")

SCRIPT = Path(__file__).with_name("client.cjs")
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
FORMAT: Any = {
    "type": "json_schema",
    "json_schema": {"name": "label", "schema": {"type": "object", "properties": {"label": {"type": "string"}}}},
}
SCRIPTED = Endpoint.parse("openai/scripted")


def reply(body: dict[str, Any]) -> str | dict[str, Any]:
    if "tools" in body:
        return {"tool_calls": [{"name": "weather", "arguments": {"city": "Oslo"}}]}
    return '{"label": "x"}' if "response_format" in body else str(body["messages"][-1]["content"])


def scripted(request: Any) -> str:
    if request.response_format is not None:
        return '{"city": "Oslo"}' if "city" in str(request.response_format) else '{"label": "x"}'
    return str(request.messages[-1].content)


@pytest.fixture(params=["passed on", "answered by the study"])
async def w(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """Both kinds of upstream must look the same to a client."""
    if request.param == "passed on":
        async with MockProvider(reply=reply) as mock, world(mock.endpoint("m")) as made:
            yield made
    else:
        async with world(SCRIPTED, providers={SCRIPTED.name: ScriptedLLM(scripted)}) as made:
            yield made


async def test_python(w: World) -> None:
    with w.trial() as url:
        async with openai.AsyncOpenAI(base_url=url, api_key="theirs") as client:
            chat = client.chat.completions
            plain = await chat.create(model="x", messages=ASKED)
            assert plain.choices[0].message.content == "Read this: where is it?\nAnswer:"
            assert plain.usage.total_tokens > 0

            stream = await chat.create(model="x", messages=ASKED, stream=True)
            texts = [chunk.choices[0].delta.content or "" async for chunk in stream]
            assert "".join(texts) == plain.choices[0].message.content

            counted = await chat.create(model="x", messages=ASKED, stream=True, stream_options={"include_usage": True})
            *_, last = [chunk async for chunk in counted]
            assert last.usage == plain.usage

            must: Any = {"type": "function", "function": {"name": "weather"}}
            called = await chat.create(model="x", messages=ASKED, tools=[TOOL], tool_choice=must)
            (call,) = called.choices[0].message.tool_calls
            assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "Oslo"})

            async with chat.stream(model="x", messages=ASKED, tools=[TOOL], tool_choice="required") as events:
                streamed = (await events.get_final_completion()).choices[0].message.tool_calls[0]
            assert json.loads(streamed.function.arguments) == {"city": "Oslo"}

            labelled = await chat.create(model="x", messages=ASKED, response_format=FORMAT)
            assert json.loads(labelled.choices[0].message.content) == {"label": "x"}
    assert len(w.heard.calls) == len(w.heard.traces) == 6
    assert all(trace.values == {"query": "where is it?"} for trace in w.heard.traces)


async def test_python_meets_errors_once() -> None:
    """A refusal by the budget is not tried again; an ended trial is told apart from one that never was."""
    async with MockProvider() as mock, world(mock.endpoint("m"), budget=Budget(max_tokens=10)) as w:
        async with openai.AsyncOpenAI(base_url=w.url, api_key="theirs") as client:
            with w.trial(Exception, match="cap of 10 tokens") as url:
                client.base_url = url
                with pytest.raises(openai.APIStatusError) as refused:
                    await client.chat.completions.create(model="x", messages=ASKED)
            assert (refused.value.status_code, refused.value.code) == (402, "budget_exhausted")
            with pytest.raises(openai.APIStatusError) as ended:
                await client.chat.completions.create(model="x", messages=ASKED)
            assert (ended.value.status_code, ended.value.code) == (410, "trial_ended")
            client.base_url = url.replace("v1/", "v1/x")
            with pytest.raises(openai.NotFoundError):
                await client.chat.completions.create(model="x", messages=ASKED)
        assert mock.calls == 0


async def test_python_meets_an_error_inside_a_stream() -> None:
    async with MockProvider(script=["cut"]) as mock, world(mock.endpoint("m")) as w:
        with w.trial(Exception, match="cut the connection") as url:
            async with openai.AsyncOpenAI(base_url=url, api_key="theirs") as client:
                stream = await client.chat.completions.create(model="x", messages=ASKED, stream=True)
                with pytest.raises(openai.APIError, match="cut the connection"):
                    _ = [chunk async for chunk in stream]


@pytest.mark.slow
async def test_node(w: World) -> None:
    with w.trial() as url:
        said = await node(url)
    assert said == {
        "plain": "Read this: where is it?\nAnswer:",
        "streamed": "Read this: where is it?\nAnswer:",
        "tool": ["weather", {"city": "Oslo"}],
        "streamedTool": ["weather", {"city": "Oslo"}],
        "format": {"label": "x"},
    }
    assert len(w.heard.calls) == 5


@pytest.mark.slow
async def test_node_meets_errors_once() -> None:
    async with MockProvider() as mock, world(mock.endpoint("m"), budget=Budget(max_tokens=10)) as w:
        with w.trial(Exception, match="cap of 10 tokens") as url:
            assert await node(url) == {"status": 402, "code": "budget_exhausted"}
        assert await node(url) == {"status": 410, "code": "trial_ended"}
        assert mock.calls == 0


async def node(url: str) -> Any:
    """What the script prints."""
    program, modules = shutil.which("node"), os.environ.get("NODE_PATH", "")
    if program is None or not (Path(modules) / "openai").is_dir():
        pytest.skip("needs Node and its openai package: npm install openai, and NODE_PATH=.../node_modules")
    asking = json.dumps({"messages": ASKED, "tool": TOOL, "format": FORMAT})
    process = await asyncio.create_subprocess_exec(
        program, str(SCRIPT), url, asking, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return json.loads(out)
