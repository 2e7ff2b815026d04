"""Servers on loopback: a task app, a misbehaving one, and a desk that exchanges prompts on the way to a model."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import uvicorn
from aiohttp import web

from rollouts.dtypes import Call, Endpoint, Message, Request, Sample, ToolCall, Trace, pieces, render
from rollouts.errors import RolloutsError
from rollouts.llm.client import Client
from rollouts.taskapp import TrialSpec
from rollouts.taskapp.ports import listen

KEY = "env_key_of_the_tests"
MODEL = Endpoint(provider="sim", model="m")


@asynccontextmanager
async def served(app: Any) -> AsyncIterator[str]:
    """The URL of an ASGI app that runs in this loop."""
    listener = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        await asyncio.sleep(0.001)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = server.force_exit = True
        await task


@asynccontextmanager
async def answering(handler: Any) -> AsyncIterator[str]:
    """The URL of a server that gives every request to one aiohttp handler."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


class FakeDesk:
    """A `TrialDesk` over a client: baseline texts in a request become the candidate's, the rest passes through."""

    def __init__(self, llm: Client) -> None:
        self.llm, self.url = llm, ""
        self.open_trials: dict[str, TrialSpec] = {}
        self.opened: list[TrialSpec] = []
        self.requests: list[Request] = []
        self._failed: dict[str, RolloutsError] = {}

    @contextmanager
    def open(self, spec: TrialSpec) -> Iterator[str]:
        self.open_trials[spec.trial_id] = spec
        self.opened.append(spec)
        try:
            yield f"{self.url}/v1/{spec.trial_id}/{spec.correlation_id}"
        finally:
            del self.open_trials[spec.trial_id]
            if error := self._failed.pop(spec.trial_id, None):
                raise error

    async def answer(self, request: web.Request) -> web.Response:
        _, trial_id, _, *rest = request.match_info["path"].split("/")
        spec = self.open_trials.get(trial_id)
        if spec is None or rest != ["chat", "completions"]:
            return web.json_response({"error": {"message": "trial not registered"}}, status=404)
        body = await request.json()
        module, values, after = _read(spec, [_message(one) for one in body["messages"]])
        messages = (*render(spec.program.modules[module], values), *after)
        asked = Request(endpoint=MODEL, messages=messages, phase=spec.phase, module=module)
        self.requests.append(asked)
        try:
            response = await self.llm.complete(asked)
        except RolloutsError as error:
            self._failed[trial_id] = error
            return web.json_response({"error": {"message": str(error)}}, status=503)
        self._failed.pop(trial_id, None)
        call = Call(module=module, usage=response.usage, cost_micros=response.cost_micros, latency_s=0.01)
        spec.on_call(call)
        spec.on_trace(Trace(module=module, values=values, steps=(*after, response.message())))
        return web.json_response(_completion(response.message(), response.usage))


@asynccontextmanager
async def desk_over(llm: Client) -> AsyncIterator[FakeDesk]:
    """A desk whose trials call `llm`."""
    desk = FakeDesk(llm)
    async with answering(desk.answer) as desk.url:
        yield desk


def _read(spec: TrialSpec, messages: list[Message]) -> tuple[str, dict[str, str], tuple[Message, ...]]:
    """Which module renders these messages, from which values, and what came after its user message."""
    for name, template in spec.baseline.modules.items():
        head = 1 if template.system else 0
        pattern = "".join(
            re.escape(text) + (f"(?P<{hole}>.*)" if hole else "") for text, hole in pieces(template.user_template)
        )
        found = re.fullmatch(pattern, messages[head].content, re.DOTALL)
        if found and (not head or messages[0].content == template.system):
            return name, found.groupdict(), tuple(messages[head + 1 :])
    raise AssertionError(f"no module renders {messages}")


def _message(data: Mapping[str, Any]) -> Message:
    calls = tuple(
        ToolCall(id=call["id"], name=call["function"]["name"], arguments=call["function"]["arguments"])
        for call in data.get("tool_calls") or ()
    )
    return Message(data["role"], data.get("content") or "", calls, data.get("tool_call_id"))


def _completion(message: Message, usage: Any) -> dict[str, Any]:
    calls = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in message.tool_calls
    ]
    choice = {"index": 0, "message": {"role": "assistant", "content": message.content, "tool_calls": calls or None}}
    return {
        "id": "c",
        "object": "chat.completion",
        "choices": [{**choice, "finish_reason": "tool_calls" if calls else "stop"}],
        "usage": {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens},
    }


def rollout_body(url: str = "http://127.0.0.1:9/v1", seed: int = 0, **policy: Any) -> dict[str, Any]:
    """A request as the newer generation sends it."""
    return {
        "trace_correlation_id": "trace_1",
        "env": {"seed": seed},
        "policy": {"config": {"inference_url": url, **policy}},
    }


def seeds(numbers: Sequence[int]) -> list[Sample]:
    return [Sample(inputs={"seed": number}, id=str(number)) for number in numbers]
