"""Chat completions as requests of the library, and its responses as chat completions. No I/O.

For models that do not speak OpenAI's protocol: the embedded one, Anthropic's.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import uuid4

from rollouts.dtypes import Endpoint, JsonSchema, Message, Request, Response, Tool, ToolCall
from rollouts.errors import InvalidRequest
from rollouts.llm.openai_wire import message_json

JSON = dict[str, Any]
_NUMBERS: Mapping[str, tuple[type, ...]] = {"temperature": (int, float), "top_p": (int, float), "seed": (int,)}
_LIMITS = ("max_tokens", "max_completion_tokens")


def request_of(body: Mapping[str, Any], endpoint: Endpoint) -> Request:
    """A chat completion's body as a request to `endpoint`.

    The body's sampling wins over the endpoint's; the limit of answer tokens is the lower of both. A tool that must be
    called (`forced_tool`) becomes a JSON schema of its arguments, because that is how these models are held to it.
    Raises InvalidRequest for what these models cannot do, or is not the protocol's.
    """
    if body.get("n") not in (None, 1):
        raise InvalidRequest("this model gives one answer to a call: leave n out")
    try:
        forced = forced_tool(body)
        tools = () if forced or body.get("tool_choice") == "none" else _tools(body)
        schema = _schema(body) if forced is None else JsonSchema(name=forced.name, schema=forced.parameters)
        return Request(
            endpoint=_sampled(body, endpoint),
            messages=messages_of(body["messages"]),
            tools=tuple(tools),
            response_format=schema,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise InvalidRequest(f"the body is no chat completion's: {type(error).__name__} {error}") from None


def messages_of(messages: Sequence[Mapping[str, Any]]) -> tuple[Message, ...]:
    """Wire messages as messages; raises InvalidRequest for content other than text, and for what is no message."""
    try:
        return tuple(map(_message, messages))
    except (KeyError, TypeError, AttributeError) as error:
        raise InvalidRequest(f"a message is not the protocol's: {type(error).__name__} {error}") from None


def forced_tool(body: Mapping[str, Any]) -> Tool | None:
    """The one tool that the answer must call; None when there is a choice."""
    choice, tools = body.get("tool_choice"), _tools(body)
    if isinstance(choice, dict):
        tools = [tool for tool in tools if tool.name == choice["function"]["name"]]
        if not tools:
            raise InvalidRequest(f"tool_choice names {choice['function']['name']!r}, which is not among the tools")
    elif choice != "required":
        return None
    return tools[0] if len(tools) == 1 else None


def with_forced_call(response: Response, tool: Tool | None) -> Response:
    """The answer to a request with a forced tool as a call of that tool; any other as it is."""
    if tool is None:
        return response
    call = ToolCall(id=f"call_{uuid4().hex[:24]}", name=tool.name, arguments=response.text)
    return replace(response, text="", tool_calls=(call,), finish_reason="tool_calls")


def completion_json(response: Response, model: str) -> JSON:
    """The response as a chat completion."""
    message = {"refusal": None, **message_json(response.message())}
    choice = {"index": 0, "message": message, "finish_reason": response.finish_reason, "logprobs": None}
    return {**_frame("chat.completion", model), "choices": [choice], "usage": _usage_json(response)}


def events(response: Response, model: str, *, with_usage: bool) -> bytes:
    """The response as a stream: role and text, calls, end, and the usage if it is asked for."""
    frame = _frame("chat.completion.chunk", model)
    said = message_json(response.message())
    deltas: list[tuple[JSON, str | None]] = [({"role": "assistant", "content": response.text or None}, None)]
    if calls := said.get("tool_calls"):
        deltas.append(({"tool_calls": [{"index": index, **call} for index, call in enumerate(calls)]}, None))
    deltas.append(({}, response.finish_reason))
    chunks = [{**frame, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]} for delta, finish in deltas]
    if with_usage:
        chunks.append({**frame, "choices": [], "usage": _usage_json(response)})
    return b"".join(map(event_bytes, chunks)) + b"data: [DONE]\n\n"


def event_bytes(data: Mapping[str, Any]) -> bytes:
    """One event of a stream."""
    return b"data: " + json.dumps(data).encode() + b"\n\n"


def _frame(kind: str, model: str) -> JSON:
    return {"id": f"chatcmpl-{uuid4().hex}", "object": kind, "created": int(time.time()), "model": model}


def _usage_json(response: Response) -> JSON:
    usage = response.usage
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def _sampled(body: Mapping[str, Any], endpoint: Endpoint) -> Endpoint:
    changes: JSON = {name: body[name] for name in _NUMBERS if body.get(name) is not None}
    for name, value in changes.items():
        if isinstance(value, bool) or not isinstance(value, _NUMBERS[name]):
            raise InvalidRequest(f"{name} must be a number")
    limits = [body[name] for name in _LIMITS if type(body.get(name)) is int and body[name] > 0]
    changes["max_tokens"] = min([endpoint.sampling.max_tokens, *limits])
    if stop := body.get("stop"):
        changes["stop"] = (stop,) if isinstance(stop, str) else tuple(stop)
    return endpoint.with_sampling(**changes)


def _message(data: Mapping[str, Any]) -> Message:
    role, content = data["role"], data.get("content")
    if isinstance(content, list):
        if any(part.get("type") not in ("text", "refusal") for part in content):
            raise InvalidRequest("this model reads text only: leave other content out")
        content = "".join(part.get("text") or part.get("refusal") or "" for part in content)
    if role not in ("system", "developer", "user", "assistant", "tool") or not isinstance(content, str | None):
        raise InvalidRequest(f"a message of role {role!r} is not understood: use system, user, assistant or tool")
    calls = tuple(
        ToolCall(id=call["id"], name=call["function"]["name"], arguments=call["function"]["arguments"])
        for call in data.get("tool_calls") or ()
    )
    if not all(isinstance(call.arguments, str) for call in calls):
        raise InvalidRequest("the arguments of a tool call are a text that holds JSON")
    return Message("system" if role == "developer" else role, content or "", calls, data.get("tool_call_id"))


def _tools(body: Mapping[str, Any]) -> list[Tool]:
    functions = [tool["function"] for tool in body.get("tools") or ()]
    return [
        Tool(
            name=function["name"],
            description=function.get("description") or "",
            parameters=function.get("parameters") or {"type": "object", "properties": {}},
        )
        for function in functions
    ]


def _schema(body: Mapping[str, Any]) -> JsonSchema | None:
    wanted = body.get("response_format") or {"type": "text"}
    match wanted["type"]:
        case "text":
            return None
        case "json_object":
            return JsonSchema(name="object", schema={"type": "object"})
        case "json_schema":
            described = wanted["json_schema"]
            return JsonSchema(name=described["name"], schema=described.get("schema") or {"type": "object"})
    raise InvalidRequest(f"response_format {wanted['type']!r} is not known: use text, json_object or json_schema")
