"""Conversations with tool calls, made such that every provider takes them. No I/O.

Providers refuse requests over details that models and demonstrations do not keep to: ids that are missing, repeated
(the same demonstration twice, servers that number each answer from 0) or written in other characters than they allow;
names that no tool can have, which a model made up; arguments that are not JSON.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from rollouts.dtypes import Message, ToolCall

ID_CHARS = 40
"""The longest id that is sent; those made here have 9 letters and digits, which is the form that Mistral demands."""

_ID = re.compile(r"[A-Za-z0-9_.:-]{1,40}")
_STRICT_ID = re.compile(r"[A-Za-z0-9_-]{1,40}")
_NINE = re.compile(r"[A-Za-z0-9]{9}")
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_-]")
_LONGEST_NAME = 64


def sendable(messages: Sequence[Message], provider: str) -> tuple[Message, ...]:
    """`messages` with ids that `provider` allows and that are unique, each result bearing the id of its own call; with
    names that tools can have, and arguments that are JSON objects.

    What is right already stays as it is. What is changed depends on the messages before it alone, so that a longer
    conversation begins with the same bytes (prefix caches). Broken arguments are sent as `{"arguments": TEXT}`.
    """
    if not any(message.tool_calls or message.role == "tool" for message in messages):
        return tuple(messages)
    allowed = {"anthropic": _STRICT_ID, "mistral": _NINE}.get(provider, _ID)
    used: set[str] = set()
    waiting: dict[str, deque[str]] = {}
    out: list[Message] = []
    for message in messages:
        if message.tool_calls:
            waiting = {}
            calls = tuple(_call(call, _new_id(call.id, allowed, used)) for call in message.tool_calls)
            for asked, call in zip(message.tool_calls, calls, strict=True):
                waiting.setdefault(asked.id, deque()).append(call.id)
            message = replace(message, tool_calls=calls)
        elif message.role == "tool":
            mine = waiting.get(message.tool_call_id or "")
            message = replace(message, tool_call_id=mine.popleft() if mine else _new_id("", allowed, used))
        out.append(message)
    return tuple(out)


def tool_names(messages: Sequence[Message]) -> tuple[str, ...]:
    """The names that are called in `messages`, in order, each once."""
    return tuple(dict.fromkeys(call.name for message in messages for call in message.tool_calls))


def _new_id(wished: str, allowed: re.Pattern[str], used: set[str]) -> str:
    number = len(used)
    chosen = wished
    while chosen in used or not allowed.fullmatch(chosen):
        chosen = f"call{number:05d}"
        number += 1
    used.add(chosen)
    return chosen


def _call(call: ToolCall, call_id: str) -> ToolCall:
    name = _NOT_IN_A_NAME.sub("_", call.name)[:_LONGEST_NAME] or "tool"
    return ToolCall(id=call_id, name=name, arguments=_object(call.arguments))


def _object(text: str) -> str:
    try:
        value = json.loads(text, parse_constant=_refused) if text.strip() else {}
    except (ValueError, RecursionError):
        return json.dumps({"arguments": text}, ensure_ascii=False)
    if isinstance(value, dict):
        return text if text.strip() else "{}"
    return json.dumps({"arguments": value}, ensure_ascii=False)


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
