"""OpenAI's chat completions over aiohttp: OpenAI, Azure and every server that speaks the same protocol."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp

from rollouts.budget import Spend
from rollouts.dtypes import Endpoint, Price, Request, Response, Usage
from rollouts.llm import openai_wire as wire
from rollouts.llm.clock import Clock, SystemClock
from rollouts.llm.failures import Failures
from rollouts.llm.keys import address_of, secrets_of
from rollouts.llm.openai_answers import Stream, WireError, answer_of
from rollouts.llm.per_loop import PerLoop
from rollouts.llm.pricing import cost_micros
from rollouts.llm.registry import host_of, is_loopback, spec_of
from rollouts.llm.text_tools import with_calls
from rollouts.llm.tokens import estimate, upper_bound

_CONNECT_S = 15.0  # a host that does not answer the connection is down, and nothing has been sent to it


class OpenAIProvider:
    """A `Provider` for one address and key; the model, sampling and timeout are those of each request's endpoint.

    `price` None counts money as 0 (allowed only where no cap on money is set). Connections are kept alive and not
    limited in number: how many calls are in flight is the rate limiter's to say. Environment proxies are honoured.
    """

    def __init__(
        self, endpoint: Endpoint, price: Price | None = None, api_key: str | None = None, clock: Clock | None = None
    ) -> None:
        wire.check_extra(endpoint.extra)
        self.endpoint, self.price = endpoint, price
        self.spec = spec_of(endpoint.provider)
        self.base_url = address_of(endpoint)
        self._key = api_key
        self.clock = clock or SystemClock()
        self._proxy = _proxy_of(self.base_url)
        self._session = PerLoop(_new_session, _close_session)

    def __repr__(self) -> str:
        return f"OpenAIProvider({self.endpoint.name!r} at {host_of(self.base_url)!r})"

    async def complete(self, request: Request) -> Response:
        """One attempt. Raises the `ProviderError` that fits; a cancelled call closes its connection."""
        endpoint = request.endpoint
        failures = self.failures_of(endpoint)
        body = json.dumps(wire.body_of(request, self.spec, self.price)).encode()
        start = self.clock.now()
        async with self.exchange(endpoint, wire.url_of(endpoint, self.base_url), body) as response:
            if response.status != 200:
                text = (await response.read()).decode("utf-8", "replace")
                raise failures.status(response.status, response.headers, text)
            if endpoint.stream and response.content_type == "text/event-stream":
                data = await _streamed(response, failures)
            else:
                data = decoded(await response.read(), failures)
        return self._response(request, data, self.clock.now() - start, failures)

    @asynccontextmanager
    async def exchange(self, endpoint: Endpoint, url: str, body: bytes) -> AsyncIterator[aiohttp.ClientResponse]:
        """One POST of `body`, and its answer as soon as it begins.

        What goes wrong with the connection, or in the block, within the endpoint's `timeout_s`, is raised as the
        `ProviderError` that fits.
        """
        failures, limit = self.failures_of(endpoint), endpoint.timeout_s
        session = await self._session.get()
        try:
            async with (
                asyncio.timeout(limit),
                session.post(
                    url,
                    params=wire.query_of(endpoint) or None,
                    data=body,
                    headers=wire.headers_of(endpoint, self.spec, self._key),
                    proxy=self._proxy,
                    allow_redirects=False,  # a redirect would carry the key to another host
                ) as response,
            ):
                yield response
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise failures.unreachable(_reason(error)) from None
        except TimeoutError:
            raise failures.timed_out(limit) from None
        except aiohttp.ClientResponseError as error:
            raise failures.malformed(f"it is not HTTP ({error.message})") from None
        except (aiohttp.ClientError, OSError) as error:
            raise failures.cut(_reason(error)) from None
        except WireError as error:
            raise failures.malformed(str(error)) from None

    async def close(self) -> None:
        await self._session.close()

    def worst_case(self, request: Request) -> Spend:
        """Every byte of the prompt a token, the answer as long as it may be, nothing cached."""
        usage = self._most(request)
        return Spend(
            micros=cost_micros(self.price, usage),
            tokens=usage.total_tokens,
            calls=1,
            seconds=request.endpoint.timeout_s,
        )

    def count_tokens(self, text: str) -> int:
        return estimate(text)

    def _response(self, request: Request, data: Any, seconds: float, failures: Failures) -> Response:
        if isinstance(data, dict) and data.get("error"):
            raise failures.inside_answer(data["error"])
        try:
            answer = answer_of(data, request)
        except WireError as error:
            raise failures.malformed(str(error), json.dumps(data)) from None
        usage = answer.usage or self._most(request)
        response = Response(
            text=answer.text,
            tool_calls=answer.tool_calls,
            finish_reason=answer.finish_reason,
            usage=usage,
            cost_micros=cost_micros(self.price, usage),
            latency_s=seconds,
        )
        return with_calls(response, request) if wire.text_protocol(request.endpoint) else response

    def _most(self, request: Request) -> Usage:
        return Usage(
            prompt_tokens=upper_bound(request),
            completion_tokens=wire.completion_limit(request.endpoint, self.spec),
        )

    def failures_of(self, endpoint: Endpoint) -> Failures:
        """What makes the errors of `endpoint`."""
        return Failures(
            name=endpoint.name,
            host=host_of(self.base_url),
            key_hint=f"the key ({endpoint.api_key_env or ', '.join(self.spec.key_env)})",
            secrets=secrets_of(endpoint, self._key, self.base_url),
        )


async def _streamed(response: aiohttp.ClientResponse, failures: Failures) -> Any:
    stream = Stream()
    async for piece in response.content.iter_any():
        stream.feed(piece)
        if stream.error is not None:
            raise failures.inside_answer(stream.error)
    if not stream.done:
        raise failures.cut("the stream ended before [DONE]")
    return stream.answer()


def decoded(body: bytes, failures: Failures) -> Any:
    """A JSON body; raises the failure for one that is not."""
    try:
        return json.loads(body)
    except ValueError:
        raise failures.malformed("it is not JSON", body.decode("utf-8", "replace")) from None


def _new_session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=300),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S),
        cookie_jar=aiohttp.DummyCookieJar(),
    )


async def _close_session(session: aiohttp.ClientSession) -> None:
    await session.close()


def _proxy_of(base: str) -> str | None:
    parts = urlsplit(base)
    if is_loopback(base) or proxy_bypass(parts.hostname or ""):
        return None
    return getproxies().get(parts.scheme)


def _reason(error: BaseException) -> str:
    return f"{error}" or type(error).__name__
