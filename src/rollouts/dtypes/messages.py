"""What goes to a model and what comes back: messages, tools, requests, responses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from rollouts.dtypes.digests import canonical_json, digest
from rollouts.dtypes.endpoint import Endpoint

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call that the model asks for. `arguments` is the JSON text exactly as the model wrote it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A tool that the model may call; `parameters` is a JSON schema of an object."""

    name: str
    description: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Message:
    """One chat message. `tool_call_id` is set on the answer of a tool (role `tool`)."""

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The fields that are set, as JSON values."""
        out: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.tool_calls:
            out["tool_calls"] = [
                {"id": call.id, "name": call.name, "arguments": call.arguments} for call in self.tool_calls
            ]
        if self.tool_call_id is not None:
            out["tool_call_id"] = self.tool_call_id
        return out

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Message:
        """The inverse of `to_json`."""
        calls = tuple(ToolCall(**call) for call in data.get("tool_calls", ()))
        return cls(data["role"], data["content"], calls, data.get("tool_call_id"))


def exchange_problem(messages: Sequence[Message]) -> str | None:
    """What is wrong with the exchange after a user message, in words that say what to change; None when nothing is.

    It goes from the assistant to the assistant: every tool call is followed by its result, in a message of role `tool`
    with the call's id, before anything else is said, and the last message is an answer without calls.
    """
    open_calls: list[str] = []
    for message in messages:
        if message.role == "tool":
            if message.tool_call_id not in open_calls:
                return f"the tool result {message.content[:40]!r} answers no call: give it the tool_call_id of one"
            open_calls.remove(message.tool_call_id)
        elif open_calls:
            return f"the tool calls {open_calls} have no result: add a message of role 'tool' with each tool_call_id"
        else:
            open_calls = [call.id for call in message.tool_calls]
    if messages and (messages[-1].role != "assistant" or open_calls):
        return "the last message must be the assistant's answer, without tool calls"
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one or several calls. `cached_tokens` are the part of `prompt_tokens` read from a prefix cache."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonSchema:
    """The answer must be JSON that fits `schema`."""

    name: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """The answer must be one of `options`, word for word."""

    options: tuple[str, ...]


ResponseFormat = JsonSchema | Choices


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One completion asked of an endpoint.

    `repeat` tells apart wished repetitions of the same request at temperature > 0; it is part of the key.
    `phase` says what the call is for (`task`, `judge`, `propose`, ...), `max_latency_s` after how many seconds of the
    model's own time an attempt is cut (beside the endpoint's `timeout_s`); `module` is the module of the program that
    asks, whose own budget it counts against. None of these is part of the key.
    """

    endpoint: Endpoint
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    response_format: ResponseFormat | None = None
    repeat: int = 0
    phase: str = "task"
    max_latency_s: float | None = None
    module: str = ""

    def key(self) -> str:
        """The content key under which the answer is cached."""
        parts = [self.endpoint.digest, str(self.repeat)]
        for message in self.messages:
            parts.append(message.role)
            parts.append(message.content)
            if message.tool_calls or message.tool_call_id:
                parts.append(canonical_json(message.to_json()))
        if self.tools:
            parts.append(canonical_json([[t.name, t.description, dict(t.parameters)] for t in self.tools]))
        match self.response_format:
            case JsonSchema(name=name, schema=schema):
                parts.append(canonical_json(["schema", name, dict(schema)]))
            case Choices(options=options):
                parts.append(canonical_json(["choices", *options]))
            case None:
                pass
        return digest(*parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What came back for a `Request`.

    `latency_s` is the time of the attempt that succeeded, without waits for rate limits or retries. `cost_micros` is
    in millionths of a dollar. `cached` is True when nothing was sent or paid for this answer; `saved_micros` is what it
    cost when it was.
    """

    text: str
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str = "stop"
    usage: Usage = field(default_factory=Usage)
    cost_micros: int = 0
    latency_s: float = 0.0
    cached: bool = False
    saved_micros: int = 0

    def message(self) -> Message:
        """The answer as an assistant message."""
        return Message("assistant", self.text, self.tool_calls)
