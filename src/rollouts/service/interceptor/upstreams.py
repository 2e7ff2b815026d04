"""Where a call goes: on to a server that speaks OpenAI's protocol, or through the study's own client."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from rollouts.dtypes import Endpoint, Request, Response
from rollouts.errors import InvalidRequest
from rollouts.llm.connect import metered
from rollouts.llm.openai import OpenAIProvider
from rollouts.llm.openai_relay import OpenAIRelay
from rollouts.llm.openai_wire import text_protocol
from rollouts.llm.relay_wire import Route, asks_usage
from rollouts.prompt_optimization import Study
from rollouts.service.interceptor import chat
from rollouts.service.interceptor.reply import Reply

_ASKED_AGAIN = 1000
"""More than a study repeats a rollout, so that the two kinds of repetition do not meet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One call of an app, with the candidate's prompt in its body.

    `repeat` tells apart wished repetitions of a rollout; `asked` counts the requests that its trial has made, by key.
    """

    body: Mapping[str, Any]
    route: Route
    phase: str
    module: str
    repeat: int
    asked: Counter[str]


class Upstream(Protocol):
    """The model of a module."""

    endpoint: Endpoint

    async def answer(self, exchange: Exchange, reply: Reply) -> Response:
        """Answers into `reply`, within the budget of the study.

        Raises InvalidRequest for a body that cannot be sent, the `ProviderError` of a call that failed (whose own
        answer may be in `reply` already), BudgetExhausted, or StoreError.
        """
        ...


class RelayUpstream:
    """Passes calls on as they are. Each is an attempt of its own, tried again by the app if at all; none is cached."""

    def __init__(self, endpoint: Endpoint, provider: OpenAIProvider, study: Study) -> None:
        self.endpoint = endpoint
        self._relay = OpenAIRelay(provider)
        self._client = metered(self._relay, study.context)

    async def answer(self, exchange: Exchange, reply: Reply) -> Response:
        """See `Upstream`."""
        request = self._relay.request(
            self.endpoint, exchange.body, exchange.route, reply, phase=exchange.phase, module=exchange.module
        )
        return await self._client.complete(request)


class StudyUpstream:
    """Asks the study's client, whatever it speaks, and answers as OpenAI would: cached, retried, budgeted."""

    def __init__(self, endpoint: Endpoint, study: Study) -> None:
        self.endpoint, self._study = endpoint, study

    async def answer(self, exchange: Exchange, reply: Reply) -> Response:
        """See `Upstream`."""
        body = exchange.body
        if exchange.route != "chat/completions":
            raise InvalidRequest(f"{self.endpoint.name} does not know /{exchange.route}: use /chat/completions")
        request = chat.request_of(body, self.endpoint)
        request = replace(request, phase=exchange.phase, module=exchange.module, repeat=_repeat(request, exchange))
        response = chat.with_forced_call(await self._study.generate(request), chat.forced_tool(body))
        if not body.get("stream"):
            reply.json(chat.completion_json(response, self.endpoint.model))
            return response
        await reply.begin(200, {"content-type": "text/event-stream"})
        reply.last(chat.events(response, self.endpoint.model, with_usage=asks_usage(body)))
        return response


def _repeat(request: Request, exchange: Exchange) -> int:
    """An app that asks the same again at a temperature above 0 wants another answer, not the cached one."""
    if request.endpoint.sampling.temperature == 0:
        return 0
    key = request.key()
    exchange.asked[key] += 1
    return exchange.repeat + _ASKED_AGAIN * (exchange.asked[key] - 1)


def upstream_of(endpoint: Endpoint, study: Study) -> Upstream:
    """The way to an endpoint of the study."""
    provider = study.provider(endpoint)
    if isinstance(provider, OpenAIProvider) and not text_protocol(endpoint):
        return RelayUpstream(endpoint, provider, study)
    return StudyUpstream(endpoint, study)
