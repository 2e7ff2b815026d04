"""Bodies and streams of OpenAI's routes that are passed on for another program. No I/O.

A body goes on as it came, but for the model, what its endpoint says, and a limit of answer tokens, without which its
cost would have no bound. What would be charged beside the tokens of the body and of the answer is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from rollouts.dtypes import Endpoint, Price, Request, Usage
from rollouts.errors import InvalidRequest
from rollouts.llm import openai_answers as answers
from rollouts.llm import openai_wire as wire
from rollouts.llm.openai_answers import JSON, Answer, WireError
from rollouts.llm.registry import ProviderSpec
from rollouts.llm.tokens import PER_MESSAGE, PER_REQUEST, PER_TOOL, PER_TOOLS

Route = Literal["chat/completions", "responses"]

PER_IMAGE = 50_000
"""More tokens than any model of OpenAI's charges for one image (gpt-4o-mini, eight tiles in high detail: 48,169)."""
_LIMITS: Mapping[Route, tuple[str, ...]] = {
    "chat/completions": ("max_tokens", "max_completion_tokens"),
    "responses": ("max_output_tokens",),
}
_REFUSED = {
    "web_search_options": "searches are charged by themselves",
    "prediction": "rejected predictions are charged too",
    "audio": "speech has a price of its own",
    "previous_response_id": "the stored conversation would be charged too",
    "conversation": "the stored conversation would be charged too",
    "prompt": "the stored prompt would be charged too",
    "background": "its end could not be charged",
    "best_of": "answers that are not shown would be charged",
    "models": "the model is the endpoint's",
    "route": "the model is the endpoint's",
    "provider": "the route is the endpoint's",
    "plugins": "plugins are charged by themselves",
    "data_sources": "what is retrieved would be charged too",
}
_TIERS = (None, "auto", "default", "flex")
_PARTS = ("text", "input_text", "output_text", "refusal", "image_url", "input_image", "input_audio")
_CALLS = ("function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output")
_ITEMS = ("message", "reasoning", *_CALLS)
_BLANK = re.compile(rb"\r?\n\r?\n")
_ENDS = ("response.completed", "response.incomplete", "response.failed")


def outgoing(
    body: Mapping[str, Any], endpoint: Endpoint, spec: ProviderSpec, price: Price | None, route: Route
) -> JSON:
    """`body` as it is sent to `endpoint`.

    Sampling that the body leaves open is the endpoint's, and the limit of answer tokens the lower of both. A stream is
    asked to tell its usage. Raises InvalidRequest for what has no bound of cost.
    """
    _check(body)
    refused = (*_LIMITS[route], *wire.refused_by(endpoint, spec))
    out: JSON = {name: value for name, value in body.items() if name not in refused}
    out["model"] = endpoint.model
    given = [body[name] for name in _LIMITS[route] if type(body.get(name)) is int and body[name] > 0]
    limit = min([wire.completion_limit(endpoint, spec), *given])
    if route == "responses":
        return {**wire.finished(out, endpoint, spec, price), "max_output_tokens": limit}
    out = {**wire.sampling_of(endpoint, spec), **out, spec.limit_field: limit}
    if out.get("stream") and spec.stream_usage:
        options = out.get("stream_options")
        out["stream_options"] = {**(options if isinstance(options, dict) else {}), "include_usage": True}
    return wire.finished(out, endpoint, spec, price)


def encoded(body: Mapping[str, Any]) -> bytes:
    """`body` as JSON bytes; raises InvalidRequest for numbers that JSON does not know."""
    try:
        return json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:  # half a surrogate pair, which only an escape can carry
        return json.dumps(body).encode()
    except ValueError as error:
        raise InvalidRequest(f"the body is no JSON: {error}") from None


def most(out: Mapping[str, Any], size: int, endpoint: Endpoint) -> Usage:
    """The most tokens that an outgoing body of `size` bytes can take."""
    items = _items(out.get("messages")) or _items(out.get("input"))
    tools = _items(out.get("tools"))
    described = [out[name] for name in ("tools", "functions", "response_format", "text") if out.get(name)]
    # Schemas are re-indented and rewritten by providers: they count twice, as in `rollouts.llm.tokens`.
    rewritten = len(json.dumps([*described, dict(endpoint.extra)]))
    images = sum(part.get("type") in ("image_url", "input_image") for part in _content_parts(items))
    prompt = PER_REQUEST + size + PER_MESSAGE * len(items) + PER_TOOL * len(tools) + rewritten + PER_IMAGE * images
    limits = [out[name] for names in _LIMITS.values() for name in names if type(out.get(name)) is int]
    return Usage(
        prompt_tokens=prompt + (PER_TOOLS if described else 0),
        completion_tokens=max(limits) * max(1, out.get("n") or 1),
    )


def asks_usage(body: Mapping[str, Any]) -> bool:
    """Whether a body asks for the chunk of a stream that holds the usage."""
    options = body.get("stream_options")
    return isinstance(options, dict) and bool(options.get("include_usage"))


def answer_of(data: Any, request: Request, route: Route) -> Answer:
    """The answer's text, calls and usage; raises WireError when it is none of `route`."""
    if route == "chat/completions":
        return answers.answer_of(data, request)
    if not isinstance(data, dict) or not isinstance(data.get("output"), list):
        raise WireError("no output in it")
    parts = [part for part in _content_parts(data["output"]) if isinstance(part.get("text"), str)]
    text = "".join(part["text"] for part in parts if part.get("type") == "output_text")
    return Answer(text=text, finish_reason=str(data.get("status")), usage=answers.usage_of(data.get("usage")))


class UsageGate:
    """Lets the events of a stream through but the one that tells the usage alone, which the reader did not ask for."""

    def __init__(self) -> None:
        self.rest = b""
        """The beginning of an event that has not ended yet."""

    def feed(self, piece: bytes) -> bytes:
        """What of the stream so far may go on now."""
        buffer, start, passed = self.rest + piece, 0, []
        for blank in _BLANK.finditer(buffer):
            event, start = buffer[start : blank.end()], blank.end()
            if not (b'"usage"' in event and _only_usage(event)):
                passed.append(event)
        self.rest = buffer[start:]
        return b"".join(passed)


class ResponsesStream:
    """Finds the last event of a streamed `/responses` answer. The same seam as `openai_answers.Stream`."""

    def __init__(self) -> None:
        self.done = False
        self.error: Any = None
        self._rest = b""
        self._response: Any = None

    def feed(self, piece: bytes) -> None:
        """Raises WireError for an event that is not JSON."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            if line.startswith(b"data:") and line[5:].strip() != b"[DONE]":
                self._event(line[5:])

    def answer(self) -> Any:
        """What the plain route would have answered."""
        return self._response

    def _event(self, data: bytes) -> None:
        event = _decoded(data)
        if not isinstance(event, dict):
            raise WireError("an event of the stream is no JSON object")
        if event.get("type") == "error":
            self.error = event.get("error") or event
        elif event.get("type") in _ENDS:
            self.done, self._response = True, event.get("response")


def _check(body: Mapping[str, Any]) -> None:
    for name, reason in _REFUSED.items():
        if body.get(name):
            raise InvalidRequest(f"{name} is not passed on, because {reason}; leave it out")
    if body.get("service_tier") not in _TIERS:
        raise InvalidRequest("service_tier is not passed on, because it has a price of its own; leave it out")
    if body.get("n") is not None and type(body["n"]) is not int:
        raise InvalidRequest("n must be a whole number")
    _check_parts(body)


def _check_parts(body: Mapping[str, Any]) -> None:
    for tool in _items(body.get("tools")):
        if tool.get("type") not in ("function", "custom"):
            raise InvalidRequest(f"tools of type {tool.get('type')!r} are charged by themselves; use functions")
    items = _items(body.get("messages")) + _items(body.get("input"))
    for item in items:
        if item.get("type", "message") not in _ITEMS:
            raise InvalidRequest(f"input of type {item['type']!r} is not in the body, so its cost has no bound")
    for part in _content_parts(items):
        if part.get("type", "text") not in _PARTS:
            raise InvalidRequest(f"content of type {part['type']!r} is not passed on: its cost has no bound")


def _content_parts(items: list[JSON]) -> Iterator[JSON]:
    for item in items:
        for name in ("content", "output"):
            yield from _items(item.get(name))


def _items(value: Any) -> list[JSON]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _only_usage(event: bytes) -> bool:
    data = _decoded(event.strip().removeprefix(b"data:"))
    return isinstance(data, dict) and bool(data.get("usage")) and not data.get("choices")


def _decoded(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return None
