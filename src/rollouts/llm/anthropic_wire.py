"""The wire format of Anthropic's messages. No I/O.

Differences to chat completions that matter here: the system prompt stands apart, tool results are user content, roles
alternate, a schema is kept by forcing a tool, and what is to be cached is marked in the request.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from rollouts.dtypes import Choices, JsonSchema, Message, Request, ToolCall, Usage
from rollouts.errors import ConfigError
from rollouts.llm.openai_answers import ANSWER, JSON, Answer, WireError, unwrap_choice
from rollouts.llm.openai_wire import check_extra, choice_schema
from rollouts.llm.tool_messages import sendable, tool_names

_FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_CACHE = {"type": "ephemeral"}
_EMPTY = "(empty)"  # the protocol refuses empty texts
_SETTINGS_OF_OURS = frozenset({"extra_headers", "extra_query", "structured"})


def body_of(request: Request) -> JSON:
    """The JSON body. `extra` is merged last; a None in it removes a field that we would send.

    Cache marks: the end of the system prompt, the end of the demonstrations (the message before the last one that the
    user wrote), and, with tools, the last message, which the next turn will send again.
    """
    endpoint, sampling = request.endpoint, request.endpoint.sampling
    check_extra(endpoint.extra)
    turns = [message for message in sendable(request.messages, "anthropic") if message.role != "system"]
    body: JSON = {"model": endpoint.model, "max_tokens": sampling.max_tokens, "messages": _turns(turns, request)}
    system = [_text_block(m.content) for m in request.messages if m.role == "system" and m.content.strip()]
    if system:
        system[-1]["cache_control"] = _CACHE
        body["system"] = system
    if sampling.top_p is None:
        body["temperature"] = min(sampling.temperature, 1.0)
    else:
        body["top_p"] = sampling.top_p  # newer models take one of the two
    if sampling.stop:
        body["stop_sequences"] = list(sampling.stop)
    body.update(_tools(request, turns))
    for name, value in endpoint.extra.items():
        if value is None:
            body.pop(name, None)
        elif name not in _SETTINGS_OF_OURS:
            body[name] = value
    return body


def completion_limit(request: Request) -> int:
    """The most tokens that the answer can have; raises ConfigError when `extra` takes the limit away."""
    limit = request.endpoint.extra.get("max_tokens", request.endpoint.sampling.max_tokens)
    if not isinstance(limit, int):
        raise ConfigError(
            f"{request.endpoint.name}: extra.max_tokens must be a number; set sampling.max_tokens instead"
        )
    return limit


def answer_of(data: Any, request: Request) -> tuple[Answer, int]:
    """A JSON answer as an `Answer`, and the prompt tokens that were written to the cache.

    Raises WireError when it is not one.
    """
    content = data.get("content") if isinstance(data, dict) else None
    if not isinstance(content, list) or data.get("type") != "message":
        raise WireError("it is no message with content")
    blocks = [block for block in content if isinstance(block, dict)]
    text = "".join(block["text"] for block in blocks if isinstance(block.get("text"), str))
    calls = [_tool_call(block) for block in blocks if block.get("type") == "tool_use"]
    finish = _FINISH.get(str(data.get("stop_reason")), "stop")
    name = _answer_tool(request)
    answers = [call for call in calls if call.name == name]
    if name and answers:
        text, calls = _unwrap(answers[0].arguments, request), [call for call in calls if call.name != name]
        finish = "tool_calls" if calls else "stop" if finish == "tool_calls" else finish
    usage, written = usage_of(data.get("usage"))
    return Answer(text=text, tool_calls=tuple(calls), finish_reason=finish, usage=usage), written


def usage_of(data: Any) -> tuple[Usage | None, int]:
    """Usage and written tokens; the protocol's `input_tokens` leaves out what was read from or written to the cache."""
    if not isinstance(data, dict):
        return None, 0
    names = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    plain, output, read, written = (data.get(name) for name in names)
    if not isinstance(plain, int) or not isinstance(output, int) or plain < 0 or output < 0:
        return None, 0
    read, written = (value if isinstance(value, int) and value > 0 else 0 for value in (read, written))
    usage = Usage(prompt_tokens=plain + read + written, completion_tokens=output, cached_tokens=read)
    return usage, written


def _turns(messages: Sequence[Message], request: Request) -> list[JSON]:
    """Alternating roles: neighbours of the same role are one turn of several blocks."""
    users = [index for index, message in enumerate(messages) if message.role == "user"]
    marks = {users[-1] - 1} if users else set()
    if request.tools:
        marks.add(len(messages) - 1)
    turns: list[JSON] = []
    for index, message in enumerate(messages):
        role = "assistant" if message.role == "assistant" else "user"
        blocks = _blocks(message)
        if index in marks:
            blocks[-1]["cache_control"] = _CACHE
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"].extend(blocks)
        else:
            turns.append({"role": role, "content": blocks})
    return turns


def _blocks(message: Message) -> list[JSON]:
    if message.role == "tool":
        result = message.content if message.content.strip() else _EMPTY
        return [{"type": "tool_result", "tool_use_id": message.tool_call_id, "content": result}]
    blocks = [_text_block(message.content)] if message.content.strip() else []
    for call in message.tool_calls:
        blocks.append({"type": "tool_use", "id": call.id, "name": call.name, "input": json.loads(call.arguments)})
    return blocks or [_text_block(_EMPTY)]


def _text_block(text: str) -> JSON:
    return {"type": "text", "text": text}


def _tools(request: Request, turns: Sequence[Message]) -> JSON:
    tools: list[JSON] = [
        {"name": tool.name, "description": tool.description, "input_schema": dict(tool.parameters)}
        for tool in request.tools
    ]
    name = _answer_tool(request)
    if name:
        schema = _answer_schema(request)
        tools.append({"name": name, "description": "Gives the final answer.", "input_schema": schema})
    if not request.tools:
        # Calls in the conversation need their tools named, although none is on offer.
        called = [{"name": old, "description": "", "input_schema": {"type": "object"}} for old in tool_names(turns)]
        tools = [tool for tool in called if tool["name"] != name] + tools
    if not tools:
        return {}
    if not name:
        return {"tools": tools} if request.tools else {"tools": tools, "tool_choice": {"type": "none"}}
    # With other tools in play the model chooses between them and the answer; alone, the answer is forced.
    choice = {"type": "any"} if request.tools else {"type": "tool", "name": name}
    return {"tools": tools, "tool_choice": choice}


def _answer_tool(request: Request) -> str:
    match request.response_format:
        case JsonSchema(name=name):
            return re.sub(r"[^A-Za-z0-9_-]", "_", name)[:64] or ANSWER
        case Choices():
            return ANSWER
        case None:
            return ""


def _answer_schema(request: Request) -> JSON:
    match request.response_format:
        case JsonSchema(schema=schema) if _is_object(schema):
            return dict(schema)
        case JsonSchema(schema=schema):
            return {"type": "object", "properties": {ANSWER: dict(schema)}, "required": [ANSWER]}
        case Choices() as choices:
            return choice_schema(choices)
        case None:
            return {}


def _unwrap(arguments: str, request: Request) -> str:
    match request.response_format:
        case Choices() as choices:
            return unwrap_choice(arguments, choices)
        case JsonSchema(schema=schema) if not _is_object(schema):
            inner = json.loads(arguments)
            return json.dumps(inner[ANSWER], ensure_ascii=False) if ANSWER in inner else arguments
        case _:
            return arguments


def _is_object(schema: Mapping[str, Any]) -> bool:
    return schema.get("type") == "object" or "properties" in schema


def _tool_call(block: JSON) -> ToolCall:
    name, arguments = block.get("name"), block.get("input")
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise WireError("a tool_use block has no name or input")
    return ToolCall(id=str(block.get("id") or ""), name=name, arguments=json.dumps(arguments, ensure_ascii=False))
