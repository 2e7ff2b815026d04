"""Anthropic's messages through its SDK, with the SDK's retries off."""

from __future__ import annotations

import asyncio
import importlib
import json
from types import ModuleType
from typing import Any

import aiohttp

from rollouts.budget import Spend
from rollouts.dtypes import Endpoint, Price, Request, Response, Usage
from rollouts.errors import ConfigError
from rollouts.llm import anthropic_wire as wire
from rollouts.llm.clock import Clock, SystemClock
from rollouts.llm.failures import Failures
from rollouts.llm.keys import address_of, secrets_of
from rollouts.llm.openai_answers import WireError
from rollouts.llm.openai_wire import check_extra
from rollouts.llm.per_loop import PerLoop
from rollouts.llm.pricing import cost_micros
from rollouts.llm.registry import host_of, spec_of
from rollouts.llm.tokens import estimate, upper_bound

_CONNECT_S = 15.0  # a host that does not answer the connection is down, and nothing has been sent to it
_NOT_SENT = frozenset({"ConnectError", "ConnectTimeout", "UnsupportedProtocol", "ProxyError"})


class AnthropicProvider:
    """A `Provider` for one address and key; model, sampling and timeout are those of each request's endpoint.

    The parts of a prompt that samples share are marked for Anthropic's cache. Writing to it costs more than plain
    input, so the worst case prices all prompt tokens as written. There is no seed: `sampling.seed` is not sent.
    Answers are not streamed, whatever `endpoint.stream` says.
    """

    def __init__(
        self, endpoint: Endpoint, price: Price | None = None, api_key: str | None = None, clock: Clock | None = None
    ) -> None:
        check_extra(endpoint.extra)
        self._sdk = _load_sdk()
        self.endpoint, self.price = endpoint, price
        self._base = address_of(endpoint).removesuffix("/v1")  # the SDK adds it
        self._key = api_key
        self._clock = clock or SystemClock()
        self._client = PerLoop(self._new_client, _close_client)

    def __repr__(self) -> str:
        return f"AnthropicProvider({self.endpoint.name!r} at {host_of(self._base)!r})"

    async def complete(self, request: Request) -> Response:
        """One attempt. Raises the `ProviderError` that fits; a cancelled call closes its connection."""
        sdk, failures = self._sdk, self._failures(request.endpoint)
        limit = request.endpoint.timeout_s
        client = await self._client.get()
        start = self._clock.now()
        try:
            async with asyncio.timeout(limit):
                text = await _exchange(client, request, sdk.Timeout(limit, connect=min(limit, _CONNECT_S)))
        except TimeoutError:
            raise failures.timed_out(limit) from None
        except sdk.APIStatusError as error:
            raise failures.status(error.status_code, error.response.headers, error.response.text) from None
        except sdk.APIConnectionError as error:
            reason = f"{error.__cause__ or error}"
            if _never_sent(error):
                raise failures.unreachable(reason) from None
            if isinstance(error, sdk.APITimeoutError):
                raise failures.timed_out(limit) from None
            raise failures.cut(reason) from None
        except (sdk.APIError, OSError) as error:
            raise failures.cut(type(error).__name__) from None
        return self._response(request, text, self._clock.now() - start, failures)

    async def close(self) -> None:
        await self._client.close()

    def worst_case(self, request: Request) -> Spend:
        """Every byte of the prompt a token written to the cache, the answer as long as it may be."""
        usage = self._most(request)
        return Spend(
            micros=cost_micros(self.price, usage, written_tokens=usage.prompt_tokens),
            tokens=usage.total_tokens,
            calls=1,
            seconds=request.endpoint.timeout_s,
        )

    def count_tokens(self, text: str) -> int:
        return estimate(text)

    def _response(self, request: Request, text: str, seconds: float, failures: Failures) -> Response:
        try:
            data = json.loads(text)
        except ValueError:
            raise failures.malformed("it is not JSON", text) from None
        if isinstance(data, dict) and data.get("error"):
            raise failures.inside_answer(data["error"])
        try:
            answer, written = wire.answer_of(data, request)
        except WireError as error:
            raise failures.malformed(str(error), text) from None
        usage = answer.usage
        if usage is None:
            usage = self._most(request)
            written = usage.prompt_tokens
        return Response(
            text=answer.text,
            tool_calls=answer.tool_calls,
            finish_reason=answer.finish_reason,
            usage=usage,
            cost_micros=cost_micros(self.price, usage, written_tokens=written),
            latency_s=seconds,
        )

    def _most(self, request: Request) -> Usage:
        return Usage(prompt_tokens=upper_bound(request), completion_tokens=wire.completion_limit(request))

    def _new_client(self) -> Any:
        return self._sdk.AsyncAnthropic(
            api_key=self._key or "none",  # without one the SDK would look for credentials of its own
            base_url=self._base,
            max_retries=0,
            timeout=None,
            http_client=_http_client(self._sdk),
        )

    def _failures(self, endpoint: Endpoint) -> Failures:
        spec = spec_of(endpoint.provider)
        return Failures(
            name=endpoint.name,
            host=host_of(self._base),
            key_hint=f"the key ({endpoint.api_key_env or ', '.join(spec.key_env)})",
            secrets=secrets_of(endpoint, self._key, self._base),
        )


async def _exchange(client: Any, request: Request, timeout: Any) -> str:  # noqa: ASYNC109 - for the SDK
    body, extra = wire.body_of(request), request.endpoint.extra
    required = {name: body.pop(name) for name in ("model", "max_tokens", "messages")}
    raw = await client.messages.with_raw_response.create(
        **required,
        extra_body=body,  # the SDK's own arguments differ between its versions
        extra_headers=dict(extra.get("extra_headers", {})),
        extra_query=dict(extra.get("extra_query", {})),
        timeout=timeout,
    )
    text = raw.text()
    return str(text if isinstance(text, str) else await text)


def _never_sent(error: BaseException) -> bool:
    """Whether no connection came about. Only the first cause knows: transports call other losses `ConnectError` too."""
    chain = [error]
    while (cause := chain[-1].__cause__) is not None:
        chain.append(cause)
    for cause in chain:
        if isinstance(cause, aiohttp.ClientError):
            return isinstance(cause, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
    return any(type(cause).__name__ in _NOT_SENT for cause in chain)


def _load_sdk() -> ModuleType:
    try:
        return importlib.import_module("anthropic")
    except ImportError:
        raise ConfigError("provider 'anthropic' needs its SDK: pip install 'rollouts-optimizer[anthropic]'") from None


def _http_client(sdk: ModuleType) -> Any:
    """The SDK's aiohttp transport, which bears many calls in flight; None (its default) where it has none."""
    make = getattr(sdk, "DefaultAioHttpClient", None) or getattr(sdk, "DefaultAioHttpxClient", None)
    if make is None:
        return None
    try:
        return make(follow_redirects=False)
    except RuntimeError:  # aiohttp is not installed
        return None


async def _close_client(client: Any) -> None:
    await client.close()
