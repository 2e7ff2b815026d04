"""A model provider on this machine, for tests: a real HTTP server that bills, and fails when asked to.

It speaks OpenAI's chat completions (plain and streamed) at `/v1/chat/completions` and Anthropic's messages at
`/v1/messages`, and counts exactly what it bills, so that a test can compare that with what a run believes to have
spent:

    async with MockProvider(reply=lambda body: "positive", faults={"rate_limit": 0.1}, seed=1) as mock:
        endpoint = mock.endpoint("any-model")
        ...
        assert spent.micros == mock.micros

    with MockProvider.in_thread(latency=0.02) as mock:          # for code that runs its own event loop
        subprocess.run([...], env={"OPENAI_BASE_URL": mock.base_url, "OPENAI_API_KEY": "any"})

Faults (`Fault`), each with whether the server charges for the call:

    rate_limit     429 with Retry-After                          no
    quota          429 with `insufficient_quota`                 no
    server_error   500                                           no
    drop           connection closed before any answer           yes
    cut            connection closed in the middle of the body   yes
    garbage        200 with a body that is not JSON              yes
    wrong_shape    200 with JSON of another protocol             yes
    hang           no answer until the client goes away          yes
    no_usage       an answer without token counts                yes
    slow_stream    the answer comes in small, late pieces        yes
    300 ... 599    that status                                   no
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from types import TracebackType
from typing import Any, Literal, Self

from aiohttp import web

from rollouts.dtypes import Endpoint, Price, Usage
from rollouts.errors import ConfigError
from rollouts.llm.pricing import cost_micros
from rollouts.testing import mock_wire as wire

JSON = dict[str, Any]
Fault = Literal[
    "rate_limit",
    "quota",
    "server_error",
    "drop",
    "cut",
    "garbage",
    "wrong_shape",
    "hang",
    "no_usage",
    "slow_stream",
]
Reply = Callable[[JSON], "str | JSON"]
PRICE = Price(input=Decimal(1), output=Decimal(4), cached_input=Decimal("0.25"))
"""Dollars per million tokens that the mock charges by default."""

_FAULTS: frozenset[str] = frozenset(Fault.__args__)  # type: ignore[attr-defined]
_STATUS = {"rate_limit": 429, "quota": 429, "server_error": 500}


class MockProvider:
    """The server and its account.

    `reply(body)` gives the answer to a request body: a text, or `{"content": ..., "tool_calls": [{"name": ...,
    "arguments": {...}}], "finish_reason": ...}`; by default the last user message comes back. Answers are cut at the
    request's limit of tokens. A text that is one of the options of a requested choice is wrapped as servers do.

    `latency` is seconds before an answer, or a function of a random generator that gives them. `faults` maps faults to
    their share of the requests; a request's fate depends on `seed`, its content and how often it was sent before, not
    on the order of arrival. `script` is used up first, one entry per request: a fault, a status, or None for an answer.
    `key`, when given, is the only one accepted. `echo_key` puts the key that came into every error text, as a careless
    server might. `tokens` counts words (like a real tokenizer, far below the bytes) or bytes (the most there can be).
    `prefix_cache` serves messages that it has seen at the start of an earlier request as cached tokens.

    `calls` are the requests received, `tokens` and `micros` what was billed, `in_flight` and `in_flight_max` the
    requests being answered, `requests` the newest bodies, `headers` the newest request's headers.
    """

    def __init__(  # noqa: PLR0913 - the one constructor of a fake with many knobs, all named
        self,
        *,
        reply: Reply | None = None,
        latency: float | Callable[[random.Random], float] = 0.0,
        faults: Mapping[str, float] | None = None,
        script: Sequence[Fault | int | None] = (),
        seed: int = 0,
        retry_after: float | str = 0.01,
        price: Price = PRICE,
        key: str | None = None,
        echo_key: bool = False,
        tokenizer: Literal["words", "bytes"] = "words",
        prefix_cache: bool = False,
        chunk_delay: float = 0.005,
        keep: int = 1000,
    ) -> None:
        unknown = {name for name in (*(faults or {}), *script) if isinstance(name, str)} - _FAULTS
        if unknown:
            raise ConfigError(f"unknown faults {sorted(unknown)}; known are {sorted(_FAULTS)} and statuses")
        self._reply = reply or wire.echo
        self._latency, self._chunk_delay = latency, chunk_delay
        self._faults, self._script, self._seed = dict(faults or {}), deque(script), seed
        self._retry_after, self._price = retry_after, price
        self._key, self._echo_key = key, echo_key
        self._tokenizer: wire.Tokenizer = wire.BYTES if tokenizer == "bytes" else wire.WORDS
        self._prefixes: set[str] | None = set() if prefix_cache else None
        self._seen: Counter[str] = Counter()
        self._runner: web.AppRunner | None = None
        self._closing = asyncio.Event()
        self.url = ""
        self.calls = self.answered = self.tokens = self.micros = 0
        self.in_flight = self.in_flight_max = 0
        self.requests: deque[JSON] = deque(maxlen=keep)
        self.headers: dict[str, str] = {}
        self.faulted: Counter[str] = Counter()

    @property
    def base_url(self) -> str:
        """The base URL for OpenAI-compatible clients, with `/v1`; `url` is the one for Anthropic's."""
        return f"{self.url}/v1"

    def endpoint(self, model: str = "mock", *, provider: str = "openai_compatible", **settings: Any) -> Endpoint:
        """An endpoint of this server with its price; `settings` are more fields of `Endpoint`."""
        url = self.url if provider == "anthropic" else self.base_url
        return Endpoint(provider=provider, model=model, base_url=url, **{"price": self._price, **settings})

    @classmethod
    @contextmanager
    def in_thread(cls, **settings: Any) -> Iterator[Self]:
        """A server in a thread of its own, for code that is not async or runs in another process."""
        mock = cls(**settings)
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="mock-provider", daemon=True)
        thread.start()
        try:
            asyncio.run_coroutine_threadsafe(mock.__aenter__(), loop).result(10)
            try:
                yield mock
            finally:
                asyncio.run_coroutine_threadsafe(mock.__aexit__(None, None, None), loop).result(10)
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(10)
            loop.close()

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=64 * 2**20)
        app.router.add_post("/v1/chat/completions", self._serve_openai)
        app.router.add_post("/openai/{path:.*}", self._serve_openai)
        app.router.add_post("/v1/messages", self._serve_anthropic)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, backlog=1024)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _serve_openai(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, wire.OPENAI)

    async def _serve_anthropic(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, wire.ANTHROPIC)

    async def _serve(self, request: web.Request, protocol: wire.Protocol) -> web.StreamResponse:
        raw = await request.read()
        self.calls += 1
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight_max, self.in_flight)
        try:
            return await self._answer(request, raw, protocol)
        finally:
            self.in_flight -= 1

    async def _answer(self, request: web.Request, raw: bytes, protocol: wire.Protocol) -> web.StreamResponse:
        body = json.loads(raw)
        self.requests.append(body)
        self.headers = dict(request.headers)
        fault, rng = self._fate(raw)
        if fault is not None:
            self.faulted[str(fault)] += 1
        if self._key is not None and _key_in(request) != self._key:
            return self._refuse(request, 401, "wrong key")
        if isinstance(fault, int) or fault in _STATUS:
            return self._refuse(request, fault, "as the test wished")
        answer = wire.answer(protocol, body, self._reply(body), self._tokenizer)
        usage = self._with_cache(protocol, body, answer.usage)
        written = 0 if self._prefixes is None else max(0, answer.written - usage.cached_tokens)
        self._bill(usage, written)
        if fault == "hang":
            await self._closing.wait()
            return web.Response(status=503)
        seconds = self._latency(rng) if callable(self._latency) else self._latency
        if seconds:
            await asyncio.sleep(seconds)
        self.answered += 1
        counts = None if fault == "no_usage" else usage
        if body.get("stream") and protocol is wire.OPENAI:
            events = wire.stream_events(
                answer, counts if (body.get("stream_options") or {}).get("include_usage") else None
            )
            return await self._stream(request, events, fault)
        return await self._send(request, _payload(protocol.body(answer, counts, written), fault), fault)

    def _fate(self, raw: bytes) -> tuple[Fault | int | None, random.Random]:
        digest = hashlib.sha256(raw).hexdigest()[:16]
        rng = random.Random(f"{self._seed}:{digest}:{self._seen[digest]}")
        self._seen[digest] += 1
        if self._script:
            return self._script.popleft(), rng
        drawn = rng.random()
        for name, share in self._faults.items():
            drawn -= share
            if drawn < 0:
                fault: Any = name
                return fault, rng
        return None, rng

    def _with_cache(self, protocol: wire.Protocol, body: JSON, usage: Usage) -> Usage:
        if self._prefixes is None:
            return usage
        cached = 0
        for key, tokens in protocol.prefixes(body, self._tokenizer):
            if key in self._prefixes:
                cached = tokens
            self._prefixes.add(key)
        return Usage(prompt_tokens=usage.prompt_tokens, completion_tokens=usage.completion_tokens, cached_tokens=cached)

    def _bill(self, usage: Usage, written: int) -> None:
        self.tokens += usage.total_tokens
        self.micros += cost_micros(self._price, usage, written_tokens=written)

    def _refuse(self, request: web.Request, fault: Fault | int | None, text: str) -> web.Response:
        status = fault if isinstance(fault, int) else _STATUS[str(fault)]
        code = "insufficient_quota" if fault == "quota" else None
        if self._echo_key:
            text += f" (you sent {_key_in(request)!r} in {request.headers.get('Authorization')!r})"
        headers = {"Retry-After": str(self._retry_after)} if fault in ("rate_limit", 429) else {}
        if 300 <= status < 400:
            headers["Location"] = request.path
        data = {"type": "error", "error": {"message": text, "type": code or "mock_error", "code": code}}
        return web.json_response(data, status=status, headers=headers)

    async def _send(self, request: web.Request, payload: bytes, fault: Fault | int | None) -> web.StreamResponse:
        if fault not in ("cut", "drop", "slow_stream"):
            return web.Response(body=payload, content_type="application/json")
        response = web.StreamResponse(headers={"Content-Length": str(len(payload)), "Content-Type": "application/json"})
        if fault != "drop":
            await response.prepare(request)
        if fault == "slow_stream":
            step = max(1, len(payload) // 8)
            for start in range(0, len(payload), step):
                await response.write(payload[start : start + step])
                await asyncio.sleep(self._chunk_delay)
            return response
        if fault == "cut":
            await response.write(payload[: len(payload) // 2])
        _hang_up(request)
        return response

    async def _stream(self, request: web.Request, events: list[bytes], fault: Fault | int | None) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        if fault == "drop":
            _hang_up(request)
            return response
        await response.prepare(request)
        if fault == "wrong_shape":
            events = [b"data: [1, 2]\n\n"]
        elif fault == "garbage":
            events = [b"data: {not json\n\n"]
        elif fault == "cut":
            events = events[: len(events) // 2]
        for event in events:
            await response.write(event)
            if fault == "slow_stream":
                await asyncio.sleep(self._chunk_delay)
        if fault == "cut":
            _hang_up(request)
        return response


def _payload(body: JSON, fault: Fault | int | None) -> bytes:
    if fault == "garbage":
        return b"<html>not what you think \xff\xfe</html>"
    if fault == "wrong_shape":
        return b'{"hello": "world"}'
    return json.dumps(body).encode()


def _key_in(request: web.Request) -> str:
    headers = request.headers
    bearer = headers.get("Authorization", "").removeprefix("Bearer ")
    return bearer or headers.get("x-api-key") or headers.get("api-key") or ""


def _hang_up(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.close()
