"""The embedded model as a provider: a real LLM in this process, with no key, no network and no cost."""

from __future__ import annotations

import asyncio
from typing import Any

from rollouts.budget import Spend
from rollouts.dtypes import Choices, Endpoint, JsonSchema, Request, Response
from rollouts.errors import InvalidRequest, ProviderUnavailable
from rollouts.llm.clock import Clock, SystemClock
from rollouts.llm.local_model import Job, acquire, release
from rollouts.llm.local_queue import prefix_key
from rollouts.llm.local_weights import find_weights
from rollouts.llm.text_tools import as_text, with_calls


class LocalProvider:
    """Runs `endpoint.model` (`smollm2-135m`, or the path of a `.gguf` file) by llama.cpp on the processor.

    All providers of one process share one copy of the same weights, loaded at the first call (about 0.3 s). Requests
    are answered one at a time, those with the same messages but the last together, so that their prefix is computed
    once. At temperature 0, or with a seed, the answer depends on the request alone: not on what ran before, on what
    waits, or on what is cached. (Exception: a prompt that continues the model's own cached answer may be rounded
    differently from one that is computed from nothing.) With a seed, `Request.repeat` is added to it.

    Tools are described in the prompt and called in the text (`rollouts.llm.text_tools`): these models have no calls of
    their own.

    Sampling that the endpoint leaves open is llama.cpp's (top-k 40, top-p 0.95, min-p 0.05); `endpoint.extra` is sent
    as it is in the body of its chat completion. `Endpoint.timeout_s` counts from when the model starts on a request.
    `Response.latency_s` is the model's own time, without the wait in the queue. Everything is free: cost is 0.

    Raises ConfigError when the model is unknown or not installed.
    """

    def __init__(self, endpoint: Endpoint, clock: Clock | None = None) -> None:
        self._endpoint = endpoint
        self._clock = clock or SystemClock()
        self._weights = find_weights(endpoint.model)
        self._model = acquire(self._weights)
        self._closed = False

    async def complete(self, request: Request) -> Response:
        """One answer. Raises InvalidRequest (a prompt that is too long, a schema that llama.cpp cannot take),
        CallTimeout, or ProviderUnavailable once closed. Cancelling stops the model and drops the answer."""
        job = self._job(as_text(request))
        if self._closed:
            raise ProviderUnavailable("the local provider was closed")
        self._model.submit(job)
        try:
            return with_calls(await asyncio.wrap_future(job.future), request)
        except asyncio.CancelledError:
            job.abandoned = True
            raise

    def worst_case(self, request: Request) -> Spend:
        """The prompt's tokens (bounded closely from above) plus `max_tokens`, at most the model's context; no money."""
        engine = self._model.engine()
        prompt = engine.prompt_bound([message.content for message in as_text(request).messages])
        return Spend(tokens=min(prompt + request.endpoint.sampling.max_tokens, engine.n_ctx), calls=1)

    def count_tokens(self, text: str) -> int:
        """Tokens of `text`, exact. The first call loads the model."""
        return self._model.engine().count(text)

    async def close(self) -> None:
        """Gives up the model; its last user frees it. Calls still under way fail with ProviderUnavailable then."""
        if not self._closed:
            self._closed = True
            await asyncio.to_thread(release, self._weights)

    def _job(self, request: Request) -> Job:
        sampling = request.endpoint.sampling
        return Job(
            prefix=prefix_key(request.messages),
            body=request_body(request),
            clock=self._clock,
            timeout_s=request.endpoint.timeout_s,
            exact=sampling.temperature == 0 or sampling.seed is not None,
        )


def request_body(request: Request) -> dict[str, Any]:
    """`request` as the body of llama.cpp's chat completion. Raises InvalidRequest for what a local model cannot do."""
    _check(request)
    sampling = request.endpoint.sampling
    body: dict[str, Any] = {
        "reasoning_format": "none",
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        **request.endpoint.extra,
        "messages": [{"role": message.role, "content": message.content} for message in request.messages],
    }
    if sampling.top_p is not None:
        body["top_p"] = sampling.top_p
    if sampling.seed is not None:
        body["seed"] = (sampling.seed + request.repeat) % 2**32
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    match request.response_format:
        case JsonSchema(schema=schema):
            body["json_schema"] = dict(schema)
        case Choices(options=options):
            body["grammar"] = choices_grammar(options)
        case None:
            pass
    return body


def choices_grammar(options: tuple[str, ...]) -> str:
    """A GBNF grammar of exactly `options`. Raises InvalidRequest when there are none."""
    if not options:
        raise InvalidRequest("the answer must be one of no options: give at least one")
    return "root ::= " + " | ".join(f'"{"".join(map(_escaped, option))}"' for option in options)


def _escaped(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    return character if character.isprintable() else f"\\U{ord(character):08X}"


def _check(request: Request) -> None:
    if not request.messages:
        raise InvalidRequest("a request needs at least one message")
