"""The tools of an MCP server (Model Context Protocol), through the official SDK: the extra `mcp`."""

from __future__ import annotations

import asyncio
import importlib
import json
import re
import shlex
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import IO, Any

from rollouts.dtypes import Tool
from rollouts.errors import ConfigError, EnvironmentFailed

_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_-]")
_LONGEST_NAME = 64
_LOG_TAIL = 1_000
_CONNECT_S, _READ_S = 30.0, 300.0


class MCPEnvironment:
    """An `Environment` with the tools of one MCP server, on a connection of its own.

    command: starts a server that speaks over its standard input and output, for example `"python server.py"` or
        `["npx", "-y", "some-server"]`; `env` are its variables and `cwd` its folder. Of this process's variables it
        only sees PATH, HOME and the like, so that it gets no keys but those in `env`.
    url: the address of a server that speaks streamable HTTP; `headers` are sent along.
    server: an `mcp.server.MCPServer` of this process.
    tools: names of the tools to offer; by default all.

    `reset` connects and `close` ends the connection, and the server if it was started here: every rollout has a server
    or session without a past. That costs a process for each rollout in flight with `command` (a Python server takes
    about a second of a core to start), some requests with `url`, next to nothing with `server`.

    Characters that models' tool names cannot have become `_`. Results are their texts; an image, a sound or a file
    is named in brackets, with its type and size. An error that the tool reports goes to the model; a server that
    cannot be reached, or dies, raises EnvironmentFailed with the end of what it wrote to its standard error. Raises
    ConfigError when the extra is missing, or not exactly one of command, url and server is given.
    """

    def __init__(
        self,
        *,
        command: str | Sequence[str] | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
        url: str | None = None,
        headers: Mapping[str, str] | None = None,
        server: Any = None,
        tools: Sequence[str] | None = None,
    ) -> None:
        if sum(place is not None for place in (command, url, server)) != 1:
            raise ConfigError("an MCP environment needs one of command, url or server")
        words = shlex.split(command) if isinstance(command, str) else list(command or ())
        if command is not None and not words:
            raise ConfigError("the command of an MCP environment is empty; write the one that starts the server")
        if (env or cwd) and command is None:
            raise ConfigError("env and cwd are for a server that command starts")
        if headers and url is None:
            raise ConfigError("headers are for a server at a url")
        self._sdk = require_sdk()
        self._command, self._env, self._cwd = words, dict(env or {}), cwd
        self._url, self._headers, self._server = url, dict(headers or {}), server
        self._wanted = None if tools is None else frozenset(tools)
        self._names: dict[str, str] = {}
        self._tools: tuple[Tool, ...] = ()
        self._client: Any = None
        self._log: IO[bytes] | None = None
        self._owner: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    async def reset(self, sample: Mapping[str, Any]) -> None:
        """Connects and asks for the tools. Raises EnvironmentFailed, or ConfigError for a wished tool there is not."""
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # The SDK's scopes must be left by the task that entered them, and `close` may be called by another one.
        self._owner = asyncio.create_task(self._own(ready))
        await ready

    def tools(self) -> tuple[Tool, ...]:
        """The server's tools, as it listed them at `reset`."""
        return self._tools

    async def call(self, name: str, arguments: Mapping[str, Any]) -> str:
        """The tool's result as text; raises ValueError for an error of the tool, EnvironmentFailed when the server is
        gone."""
        if name not in self._names:
            raise ValueError(f"no tool {name!r} (there are: {', '.join(self._names)})")
        if self._client is None or self._owner is None or self._owner.done():
            raise self._failed("is not connected")
        calling = asyncio.ensure_future(self._client.call_tool(self._names[name], dict(arguments)))
        try:
            await asyncio.wait((calling, self._owner), return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not calling.done():
                calling.cancel()
                await asyncio.wait((calling,))
        if calling.cancelled():
            raise self._failed("went away")
        return self._result(calling)

    async def close(self) -> None:
        """Ends the connection, and the process that `command` started. May be called at any time, and again."""
        self._closing.set()
        owner = self._owner
        if owner is not None:
            if self._client is None:  # still connecting
                owner.cancel()
            await asyncio.wait((owner,))
        if self._log is not None:
            self._log.close()

    async def _own(self, ready: asyncio.Future[None]) -> None:
        try:
            async with self._connection() as client:
                self._tools = await self._listed(client)
                self._client = client
                _settle(ready, None)
                await self._closing.wait()
        except asyncio.CancelledError:
            _settle(ready, self._failed("was given up while it was connecting"))
        except Exception as group:  # noqa: BLE001 - whatever the SDK raises, the server is no use
            error = _innermost(group)
            wrong = error if isinstance(error, ConfigError) else self._failed(f"cannot be used ({_said(error)})")
            _settle(ready, wrong)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Any]:
        async with AsyncExitStack() as stack:
            place: Any = self._server
            if self._command:
                stdio = importlib.import_module("mcp.client.stdio")
                self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
                command, *arguments = self._command
                settings = stdio.StdioServerParameters(command=command, args=arguments, env=self._env, cwd=self._cwd)
                place = stdio.stdio_client(settings, errlog=self._log)
            elif self._url is not None:
                http = importlib.import_module("httpx2")
                timeout = http.Timeout(_CONNECT_S, read=_READ_S)
                client = await stack.enter_async_context(http.AsyncClient(headers=self._headers, timeout=timeout))
                streams = importlib.import_module("mcp.client.streamable_http")
                place = streams.streamable_http_client(self._url, http_client=client)
            yield await stack.enter_async_context(self._sdk.Client(place))

    async def _listed(self, client: Any) -> tuple[Tool, ...]:
        listed: list[Any] = []
        page = await client.list_tools()
        listed.extend(page.tools)
        while page.next_cursor:
            page = await client.list_tools(cursor=page.next_cursor)
            listed.extend(page.tools)
        missing = sorted((self._wanted or set()) - {tool.name for tool in listed})
        if missing:
            names = ", ".join(tool.name for tool in listed)
            raise ConfigError(f"{self._place()} has no tool {', '.join(missing)} (it has: {names})")
        offered = [tool for tool in listed if self._wanted is None or tool.name in self._wanted]
        self._names = _model_names([tool.name for tool in offered])
        return tuple(
            Tool(name=name, description=tool.description or tool.title or "", parameters=dict(tool.input_schema))
            for name, tool in zip(self._names, offered, strict=True)
        )

    def _result(self, calling: asyncio.Future[Any]) -> str:
        error = calling.exception()
        if error is not None:
            if not isinstance(error, self._sdk.MCPError):
                raise ValueError(f"the server's answer cannot be read ({_said(error)})")
            if error.code == self._sdk.types.CONNECTION_CLOSED:
                raise self._failed("went away")
            raise ValueError(error.message)
        result = calling.result()
        text = "\n".join(map(_shown, result.content))
        if not text and result.structured_content is not None:
            text = json.dumps(result.structured_content, ensure_ascii=False)
        if result.is_error:
            raise ValueError(text or "the tool failed and does not say why")
        return text

    def _place(self) -> str:
        # Arguments and addresses may hold keys.
        if self._command:
            return f"the MCP server {Path(self._command[0]).name!r}"
        return f"the MCP server at {self._url.split('?')[0].split('@')[-1]}" if self._url else "the MCP server"

    def _failed(self, what: str) -> EnvironmentFailed:
        text = f"{self._place()} {what}"
        if self._log is not None and not self._log.closed:
            self._log.seek(0, 2)
            self._log.seek(max(0, self._log.tell() - _LOG_TAIL))
            said = self._log.read().decode("utf-8", "replace").strip()
            text += f"; it said: {said}" if said else ""
        for secret in (*self._env.values(), *self._headers.values()):
            text = text.replace(secret, "[redacted]") if secret else text
        return EnvironmentFailed(text)


def require_sdk() -> ModuleType:
    """The SDK; raises ConfigError that says what to install."""
    try:
        sdk = importlib.import_module("mcp")
    except ImportError:
        sdk = None
    if sdk is None or not hasattr(sdk, "Client"):
        raise ConfigError("an MCP environment needs the SDK (2.0 or newer): pip install 'rollouts-optimizer[mcp]'")
    return sdk


def _model_names(names: Sequence[str]) -> dict[str, str]:
    """A name that models can say -> the server's name, in order."""
    out: dict[str, str] = {}
    for name in names:
        plain = _NOT_IN_A_NAME.sub("_", name)[:_LONGEST_NAME] or "tool"
        chosen, number = plain, 2
        while chosen in out:
            chosen = f"{plain[: _LONGEST_NAME - 4]}_{number}"
            number += 1
        out[chosen] = name
    return out


def _shown(block: Any) -> str:
    match block.type:
        case "text":
            return str(block.text)
        case "image" | "audio":
            return f"[{block.type} {block.mime_type}, {_size(block.data)} bytes]"
        case "resource_link":
            return f"[resource {block.uri}]"
        case "resource":
            content = block.resource
            text = getattr(content, "text", None)
            if text is not None:
                return str(text)
            return f"[resource {content.uri}, {_size(content.blob)} bytes]"
    return f"[{block.type}]"


def _size(base64: str) -> int:
    return len(base64) * 3 // 4 - base64[-2:].count("=")


def _settle(future: asyncio.Future[None], error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
        future.exception()  # who waits for it may be gone


def _innermost(error: BaseException) -> BaseException:
    """The first reason in a group of errors: the SDK's task groups wrap what is raised inside them."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
