"""OpenAI's routes for bodies that another program wrote: sent on as they are, within the budget, answers passed back.

The bytes, status and streaming of the answer go to a `Sink` as they come; what the call took is read off on the way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp

from rollouts.budget import Spend
from rollouts.dtypes import Endpoint, Request, Response, Usage
from rollouts.llm import relay_wire as relay
from rollouts.llm.failures import Failures
from rollouts.llm.keys import redact
from rollouts.llm.openai import OpenAIProvider, decoded
from rollouts.llm.openai_answers import Stream, WireError
from rollouts.llm.openai_wire import url_of
from rollouts.llm.pricing import cost_micros
from rollouts.llm.tokens import estimate

_KEPT = ("content-type", "retry-after", "retry-after-ms", "x-request-id", "x-should-retry")
_KEPT_PREFIX = "x-ratelimit-"
_LINGER_S = 0.1


class Sink(Protocol):
    """Where an answer goes: `whole`, or `begin`, `piece`s and `last`.

    `sending` tells what the call takes at most, when it leaves. What `whole` and `last` are given is held back until
    the call is settled, so that nobody who has the answer can ask too early what it cost.
    """

    def sending(self, most: Usage, micros: int) -> None: ...

    def whole(self, status: int, headers: Mapping[str, str], body: bytes) -> None: ...

    async def begin(self, status: int, headers: Mapping[str, str]) -> None: ...

    async def piece(self, data: bytes) -> None: ...

    def last(self, data: bytes) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayRequest(Request):
    """A request whose body is there already. `most` is what it can take at most; `messages` is empty."""

    route: relay.Route
    payload: bytes
    most: Usage
    hide_usage: bool
    sink: Sink


class OpenAIRelay:
    """A `Provider` of `RelayRequest`s, over the connections, key and price of an `OpenAIProvider`.

    One attempt each. An answer that is no success goes to the sink with its status and body, without the key should it
    be in there, and raises the `ProviderError` that fits; so does an error inside a stream. Where nothing could be
    passed back, the error alone tells. A reader of the stream that stalls is cut by the endpoint's `timeout_s`.
    """

    def __init__(self, provider: OpenAIProvider) -> None:
        self._provider = provider

    def request(
        self, endpoint: Endpoint, body: Mapping[str, Any], route: relay.Route, sink: Sink, *, phase: str, module: str
    ) -> RelayRequest:
        """A body as it will be sent. Raises InvalidRequest for one whose cost has no bound, or that is no JSON."""
        provider = self._provider
        out = relay.outgoing(body, endpoint, provider.spec, provider.price, route)
        payload = relay.encoded(out)
        return RelayRequest(
            endpoint=endpoint,
            messages=(),
            phase=phase,
            module=module,
            route=route,
            payload=payload,
            most=relay.most(out, len(payload), endpoint),
            hide_usage=relay.asks_usage(out) and not relay.asks_usage(body),
            sink=sink,
        )

    async def complete(self, request: Request) -> Response:
        """See `Client.complete`."""
        call = _relayed(request)
        provider, endpoint, sink = self._provider, call.endpoint, call.sink
        failures = provider.failures_of(endpoint)
        url = url_of(endpoint, provider.base_url)
        if call.route == "responses":
            url = url.removesuffix("chat/completions") + "responses"
        sink.sending(call.most, cost_micros(provider.price, call.most))
        start = provider.clock.now()
        async with provider.exchange(endpoint, url, call.payload) as response:
            headers = _kept(response.headers)
            if response.status != 200:
                text = (await response.read()).decode("utf-8", "replace")
                sink.whole(response.status, headers, redact(text, failures.secrets).encode())
                raise failures.status(response.status, response.headers, text)
            if response.content_type == "text/event-stream":
                await sink.begin(200, headers)
                data = await _streamed(response, call, failures)
            else:
                raw = await response.read()
                sink.whole(200, headers, raw)
                data = decoded(raw, failures)
        return self._response(call, data, provider.clock.now() - start, failures)

    def worst_case(self, request: Request) -> Spend:
        """Every byte of the body a token, all answers as long as they may be, nothing cached."""
        call = _relayed(request)
        return Spend(
            micros=cost_micros(self._provider.price, call.most),
            tokens=call.most.total_tokens,
            calls=1,
            seconds=call.endpoint.timeout_s,
        )

    def count_tokens(self, text: str) -> int:
        return estimate(text)

    async def close(self) -> None:
        """Nothing: the connections are the provider's."""

    def _response(self, call: RelayRequest, data: Any, seconds: float, failures: Failures) -> Response:
        if isinstance(data, dict) and data.get("error"):
            raise failures.inside_answer(data["error"])
        try:
            answer = relay.answer_of(data, call, call.route)
        except WireError as error:
            raise failures.malformed(str(error)) from None
        usage = answer.usage or call.most
        return Response(
            text=answer.text,
            tool_calls=answer.tool_calls,
            finish_reason=answer.finish_reason,
            usage=usage,
            cost_micros=cost_micros(self._provider.price, usage),
            latency_s=seconds,
        )


async def _streamed(response: aiohttp.ClientResponse, call: RelayRequest, failures: Failures) -> Any:
    """Passes a stream on and reads it along; one that cannot be read is passed on all the same."""
    stream = Stream() if call.route == "chat/completions" else relay.ResponsesStream()
    gate = relay.UsageGate() if call.hide_usage else None
    broken: WireError | None = None
    async for piece in response.content.iter_any():
        if broken is None:
            try:
                stream.feed(piece)
            except WireError as error:
                broken = error
        passed = piece if gate is None else gate.feed(piece)
        if stream.done:
            rest = await _rest(response)
            call.sink.last(passed + (rest if gate is None else gate.feed(rest)))
            break
        if passed:
            await call.sink.piece(passed)
    if gate is not None:
        call.sink.last(gate.rest)
    if stream.error is not None:
        raise failures.inside_answer(stream.error)
    if broken is not None:
        raise broken
    if not stream.done:
        raise failures.cut("the stream ended before its last event")
    return stream.answer()


async def _rest(response: aiohttp.ClientResponse) -> bytes:
    """What comes after the last event. The end of the body frees the connection for the next call, but an answer that
    is whole neither waits long for it nor fails with it."""
    pieces: list[bytes] = []
    with suppress(TimeoutError, aiohttp.ClientError):
        async with asyncio.timeout(_LINGER_S):
            async for piece in response.content.iter_any():
                pieces.append(piece)
    return b"".join(pieces)


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    lower = {name.lower(): value for name, value in headers.items()}
    return {name: value for name, value in lower.items() if name in _KEPT or name.startswith(_KEPT_PREFIX)}


def _relayed(request: Request) -> RelayRequest:
    if not isinstance(request, RelayRequest):
        raise TypeError("a relay takes requests made by its own `request`")
    return request
