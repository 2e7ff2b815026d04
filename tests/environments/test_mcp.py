"""MCP servers: in this process, as a process of their own, over HTTP."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from rollouts.agents import AgentLimits, opened
from rollouts.environments import MCPEnvironment
from rollouts.environments.mcp import _model_names
from rollouts.errors import ConfigError, EnvironmentFailed

pytest.importorskip("mcp", reason="the extra 'mcp' is not installed")
from .mcp_server import make_server

SERVER = [sys.executable, str(Path(__file__).with_name("mcp_server.py"))]
TOOLS = ["add", "files_count", "fail", "picture", "die"]


@asynccontextmanager
async def connected(**settings: Any) -> AsyncIterator[MCPEnvironment]:
    async with opened(lambda _: MCPEnvironment(**settings), {}, AgentLimits()) as environment:
        assert isinstance(environment, MCPEnvironment)
        yield environment


@asynccontextmanager
async def over_http() -> AsyncIterator[str]:
    import uvicorn

    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    app = make_server().streamable_http_app()
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1))
    serving = asyncio.create_task(server.serve([listening]))
    while not server.started:
        await asyncio.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/mcp"
    finally:
        server.should_exit = True
        await serving


async def exercise(environment: MCPEnvironment) -> None:
    assert [tool.name for tool in environment.tools()] == TOOLS
    assert environment.tools()[0].description == "Adds two whole numbers."
    assert set(environment.tools()[0].parameters["properties"]) == {"a", "b"}
    assert await environment.call("add", {"a": 2, "b": 3}) == "5"
    assert await environment.call("picture", {}) == "[image image/png, 8 bytes]"
    with pytest.raises(ValueError, match="fail"):
        await environment.call("fail", {})
    with pytest.raises(ValueError, match=r"no tool 'files\.count'"):
        await environment.call("files.count", {})
    assert [await environment.call("files_count", {}) for _ in range(2)] == ["1", "2"]


async def test_a_server_of_this_process() -> None:
    async with connected(server=make_server()) as environment:
        await exercise(environment)


async def test_a_server_over_http() -> None:
    async with over_http() as url:
        async with connected(url=url, headers={"X-Team": "us"}) as environment:
            await exercise(environment)
        async with connected(url=url) as first, connected(url=url) as second:
            assert await first.call("add", {"a": 1, "b": 1}) == await second.call("add", {"a": 1, "b": 1}) == "2"


async def test_a_server_over_http_that_goes_away() -> None:
    async with over_http() as url:
        environment = MCPEnvironment(url=url)
        await environment.reset({})
    with pytest.raises(EnvironmentFailed, match=r"the MCP server at http://127\.0\.0\.1"):
        await environment.call("add", {"a": 1, "b": 1})
    await environment.close()


@pytest.mark.slow
async def test_a_server_as_a_process_is_fresh_each_time_and_may_die() -> None:
    async with connected(command=SERVER, env={"KEY": "hunter2"}) as environment:
        await exercise(environment)
        with pytest.raises(EnvironmentFailed, match=r"went away; it said: .*the key was \[redacted\]"):
            await environment.call("die", {})
        with pytest.raises(EnvironmentFailed):
            await environment.call("add", {"a": 1, "b": 1})
    async with connected(command=SERVER) as environment:
        assert await environment.call("files_count", {}) == "1"


@pytest.mark.slow
async def test_a_process_that_is_given_up_while_it_starts_is_ended() -> None:
    environment = MCPEnvironment(command=[sys.executable, "-c", "import time; time.sleep(60)"])
    starting = asyncio.create_task(environment.reset({}))
    await asyncio.sleep(0.05)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    await environment.close()
    with pytest.raises(ValueError, match="no tool"):
        await environment.call("add", {})


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"command": "/no/such/program --fast"}, "the MCP server 'program' cannot be used"),
        ({"command": [sys.executable, "-c", "import sys; sys.exit('no licence')"]}, "it said: no licence"),
        ({"url": "http://127.0.0.1:9/mcp?key=hunter2"}, "the MCP server at http://127.0.0.1:9/mcp cannot be used"),
    ],
)
async def test_a_server_that_cannot_be_reached(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(EnvironmentFailed, match=words) as raised:
        async with connected(**settings):
            pass
    assert "hunter2" not in str(raised.value)


async def test_only_the_wished_tools_are_offered() -> None:
    async with connected(server=make_server(), tools=["files.count", "add"]) as environment:
        assert [tool.name for tool in environment.tools()] == ["add", "files_count"]
    with pytest.raises(ConfigError, match=r"has no tool multiply \(it has: add, files\.count"):
        async with connected(server=make_server(), tools=["multiply"]):
            pass


def test_names_that_models_can_say() -> None:
    names = ["a.b", "a_b", "a/b", "ü" * 70, "", "ok-1"]
    assert list(_model_names(names)) == ["a_b", "a_b_2", "a_b_3", "_" * 64, "tool", "ok-1"]
    assert list(_model_names(names).values()) == names


def test_without_the_sdk_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mcp", None)
    with pytest.raises(ConfigError, match=r"pip install 'rollouts-optimizer\[mcp\]'"):
        MCPEnvironment(command="x")
