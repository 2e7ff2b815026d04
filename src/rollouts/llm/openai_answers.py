"""Answers of OpenAI's chat completions, and the ways in which other servers differ. No I/O.

A JSON answer becomes an `Answer`; the events of a stream become the JSON answer that the plain route would have given.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rollouts.dtypes import Choices, Request, ToolCall, Usage

JSON = dict[str, Any]
ANSWER = "answer"
"""The field that holds a choice where the server only knows JSON objects."""


class WireError(Exception):
    """The answer has not the shape of the protocol."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the server said. `usage` is None when it did not say."""

    text: str
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str = "stop"
    usage: Usage | None = None


def answer_of(data: Any, request: Request) -> Answer:
    """A JSON answer as an `Answer`; raises WireError when it is not one."""
    choices = data.get("choices") if isinstance(data, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise WireError("no choices in it")
    message = choices[0].get("message")
    if not isinstance(message, dict):
        raise WireError("its choice has no message")
    refusal = message.get("refusal")
    text = _text(message.get("content")) or (refusal if isinstance(refusal, str) else "")
    calls = tuple(_tool_call(call, index) for index, call in enumerate(_items(message.get("tool_calls"))))
    if isinstance(request.response_format, Choices):
        text = unwrap_choice(text, request.response_format)
    finish = choices[0].get("finish_reason") or ("tool_calls" if calls else "stop")
    return Answer(text=text, tool_calls=calls, finish_reason=str(finish), usage=usage_of(data.get("usage")))


def usage_of(data: Any) -> Usage | None:
    """Token counts in the spellings in use; None when prompt or completion tokens are missing.

    Completion tokens are at least `total - prompt`: some servers leave reasoning out of the former but charge for it.
    """
    if not isinstance(data, dict):
        return None
    prompt = _count(data, "prompt_tokens", "input_tokens")
    completion = _count(data, "completion_tokens", "output_tokens")
    total = _count(data, "total_tokens")
    if prompt is None or (completion is None and total is None):
        return None
    details = data.get("prompt_tokens_details") or data.get("input_tokens_details")
    cached = _count(details, "cached_tokens") if isinstance(details, dict) else None
    if cached is None:
        cached = _count(data, "prompt_cache_hit_tokens", "cached_tokens", "num_cached_tokens")
    completion = max(completion or 0, (total or 0) - prompt)
    return Usage(prompt_tokens=prompt, completion_tokens=completion, cached_tokens=min(cached or 0, prompt))


def unwrap_choice(text: str, choices: Choices) -> str:
    """The option inside `choice_schema`'s object; any other text as it is."""
    try:
        data = json.loads(text)
    except ValueError:
        return text
    chosen = data.get(ANSWER) if isinstance(data, dict) else None
    return chosen if chosen in choices.options else text


class Stream:
    """Collects the events of a streamed answer. `feed` takes bytes as they come, in any pieces."""

    def __init__(self) -> None:
        self.done = False
        """Whether the stream was ended by the server with `[DONE]`."""
        self.error: Any = None
        """The error object that the server sent inside the stream, if it did."""
        self._rest = b""
        self._text: list[str] = []
        self._refusal: list[str] = []
        self._calls: dict[int, JSON] = {}
        self._finish: str | None = None
        self._usage: Any = None

    def feed(self, piece: bytes) -> None:
        """Raises WireError for an event that is not JSON."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                self._event(line[5:].strip())

    def answer(self) -> JSON:
        """What the plain route would have answered."""
        message: JSON = {"content": "".join(self._text), "refusal": "".join(self._refusal)}
        if self._calls:
            message["tool_calls"] = [self._calls[index] for index in sorted(self._calls)]
        return {"choices": [{"message": message, "finish_reason": self._finish}], "usage": self._usage}

    def _event(self, data: bytes) -> None:
        if data == b"[DONE]":
            self.done = True
            return
        try:
            event = json.loads(data)
        except ValueError:
            raise WireError("an event of the stream is not JSON") from None
        if not isinstance(event, dict):
            raise WireError("an event of the stream is no object")
        self.error = event.get("error") or self.error
        self._usage = event.get("usage") or self._usage
        for choice in map(_object, _items(event.get("choices"))):
            delta = _object(choice.get("delta"))
            self._text.append(_text(delta.get("content")))
            self._refusal.append(_text(delta.get("refusal")))
            for position, call in enumerate(_items(delta.get("tool_calls"))):
                self._call(_object(call), position)
            self._finish = choice.get("finish_reason") or self._finish

    def _call(self, delta: JSON, position: int) -> None:
        index = delta.get("index")
        key = index if isinstance(index, int) else position
        kept = self._calls.setdefault(key, {"id": "", "function": {"name": "", "arguments": ""}})
        kept["id"] = delta.get("id") or kept["id"]
        function = _object(delta.get("function"))
        for name in ("name", "arguments"):
            kept["function"][name] += _text(function.get(name))


def _text(content: Any) -> str:
    """A content that is a text, a list of parts, or null."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = (part.get("text") if isinstance(part, dict) else part for part in content)
        return "".join(part for part in parts if isinstance(part, str))
    return ""


def _object(value: Any) -> JSON:
    return value if isinstance(value, dict) else {}


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _tool_call(call: Any, index: int) -> ToolCall:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise WireError("a tool call has no function name")
    arguments = function.get("arguments")
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments if arguments is not None else {})
    return ToolCall(id=str(call.get("id") or f"call_{index}"), name=function["name"], arguments=arguments)


def _count(data: Mapping[str, Any], *names: str) -> int | None:
    for name in names:
        value = data.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
    return None
