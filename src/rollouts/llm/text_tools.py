"""Tools for models that have no tool calls of their own: described in the prompt, called in the text. No I/O.

The marks are those of the Hermes models, which many small models have seen in training.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace

from rollouts.dtypes import Message, Request, Response, Tool, ToolCall

_HOW = (
    "You can call tools. To call one, write its name and arguments as JSON between marks, and nothing after them:\n"
    '<tool_call>{"name": "NAME", "arguments": {"ARGUMENT": "VALUE"}}</tool_call>\n'
    "You then get its result, and can call again or answer without marks. The tools:"
)
_MARK = re.compile(r"<tool_call>\s*")
_JSON = json.JSONDecoder()


def as_text(request: Request) -> Request:
    """`request` without tools: they are described at the end of the system message, calls and results are texts.

    A request that has nothing to do with tools is returned as it is.
    """
    if not request.tools and not any(message.tool_calls or message.role == "tool" for message in request.messages):
        return request
    messages = list(request.messages)
    if request.tools:
        told = f"{_HOW}\n" + "\n".join(map(_described, request.tools))
        if messages and messages[0].role == "system":
            messages[0] = replace(messages[0], content=f"{messages[0].content}\n\n{told}")
        else:
            messages.insert(0, Message("system", told))
    return replace(request, messages=_plain(messages), tools=())


def with_calls(response: Response, request: Request) -> Response:
    """`response` to `as_text(request)` with the calls in its text as tool calls; without tools on offer, as it is."""
    if not request.tools:
        return response
    text, calls = response.text, list[ToolCall]()
    for mark in _MARK.finditer(response.text):
        call = _read(response.text, mark.end(), len(calls))
        if call is not None:
            text = text if calls else response.text[: mark.start()].strip()
            calls.append(call)
    if not calls:
        return response
    return replace(response, text=text, tool_calls=tuple(calls), finish_reason="tool_calls")


def _plain(messages: Sequence[Message]) -> tuple[Message, ...]:
    out: list[Message] = []
    after_result = False
    for message in messages:
        is_result = message.role == "tool"
        if is_result:
            result = f"<tool_response>{message.content}</tool_response>"
            if after_result:
                out[-1] = replace(out[-1], content=f"{out[-1].content}\n{result}")
            else:
                out.append(Message("user", result))
        else:
            marked = [f"<tool_call>{_written(call)}</tool_call>" for call in message.tool_calls]
            text = "\n".join([*([message.content] if message.content or not marked else []), *marked])
            out.append(Message(message.role, text))
        after_result = is_result
    return tuple(out)


def _described(tool: Tool) -> str:
    entry = {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}
    return json.dumps(entry, ensure_ascii=False)


def _written(call: ToolCall) -> str:
    return f'{{"name": {json.dumps(call.name, ensure_ascii=False)}, "arguments": {call.arguments.strip() or "{}"}}}'


def _read(text: str, start: int, number: int) -> ToolCall | None:
    try:
        call, _ = _JSON.raw_decode(text, start)
    except (ValueError, RecursionError):
        return None
    if not isinstance(call, dict) or not isinstance(call.get("name"), str):
        return None
    arguments = call.get("arguments", {})
    written = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return ToolCall(id=f"call_{number}", name=call["name"], arguments=written)
