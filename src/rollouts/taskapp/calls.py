"""One rollout from the app's side: the sample that is asked for, and the way to the model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from rollouts.dtypes import Endpoint, Message, Request, Response, ResponseFormat, Sample, Sampling, Tool
from rollouts.errors import ConfigError
from rollouts.llm.client import Client
from rollouts.llm.openai import OpenAIProvider
from rollouts.taskapp.wire import RolloutRequest

_ROUTE = "/chat/completions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """What a rollout function gets: `sample` number `seed`, the request as it came, and the model that it names.

    `endpoint` and `client` are for code that makes its own `Request`s; `ask` does for the rest.
    """

    seed: int
    sample: Sample
    request: RolloutRequest
    endpoint: Endpoint
    client: Client

    async def ask(
        self, *messages: Message, tools: Sequence[Tool] = (), response_format: ResponseFormat | None = None
    ) -> Response:
        """The model's answer. Raises a ProviderError, which is to be left alone: the client is then told that there
        was no rollout."""
        request = Request(
            endpoint=self.endpoint, messages=messages, tools=tuple(tools), response_format=response_format
        )
        return await self.client.complete(request)


@asynccontextmanager
async def opened(request: RolloutRequest, samples: Sequence[Sample]) -> AsyncIterator[Rollout]:
    """The rollout that `request` asks for; its connection is closed at the end. Raises ConfigError for a policy that
    names no model."""
    endpoint = endpoint_of(request.policy.config)
    client = OpenAIProvider(endpoint, api_key=endpoint.api_key)
    seed = request.seed % len(samples)
    try:
        yield Rollout(seed=seed, sample=samples[seed], request=request, endpoint=endpoint, client=client)
    finally:
        await client.close()


def endpoint_of(policy: Mapping[str, Any]) -> Endpoint:
    """The model of `policy.config`. Its `inference_url` may have a query, which goes behind `/chat/completions`.

    The key is `policy.config.api_key` or none: a provider's key of this machine is never sent to an address that a
    request names.
    """
    url = policy.get("inference_url")
    parts = urlsplit(url) if isinstance(url, str) else urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError("policy.config.inference_url must be the URL of an OpenAI-compatible API")
    query = dict(parse_qsl(parts.query))
    path = parts.path.rstrip("/").removesuffix(_ROUTE)
    try:
        sampling = Sampling(
            temperature=float(policy.get("temperature") or 0.0),
            max_tokens=int(policy.get("max_completion_tokens") or policy.get("max_tokens") or 1024),
        )
    except (TypeError, ValueError):
        raise ConfigError("policy.config: temperature and max_completion_tokens are numbers") from None
    return Endpoint(
        provider="openai_compatible",
        model=str(policy.get("model") or "default"),
        base_url=urlunsplit((parts.scheme, parts.netloc, path, "", "")),
        sampling=sampling,
        api_key=str(policy["api_key"]) if policy.get("api_key") else None,
        extra={"extra_query": query} if query else {},
    )
