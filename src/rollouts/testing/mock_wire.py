"""The two protocols as `MockProvider` serves them. Written apart from the clients, so that each checks the other."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from rollouts.dtypes import Usage

JSON = dict[str, Any]
_TO_ANTHROPIC = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}
_PIECES = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokenizer:
    """`split` cuts a text into tokens that join to it again."""

    split: Callable[[str], list[str]]
    per_message: int

    def count(self, text: str) -> int:
        return len(self.split(text))


WORDS = Tokenizer(split=lambda text: re.findall(r"\s*\S+|\s+$", text), per_message=3)
# A token per byte; a character of several bytes stands at its first one.
BYTES = Tokenizer(split=lambda text: [p for c in text for p in (c, *[""] * (len(_encoded(c)) - 1))], per_message=16)


@dataclass(frozen=True, slots=True, kw_only=True)
class MockAnswer:
    """What the model said. `written` are the prompt tokens up to the last cache mark."""

    text: str
    tool_calls: tuple[JSON, ...]
    finish_reason: str
    usage: Usage
    written: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """One provider's shapes."""

    body: Callable[[MockAnswer, Usage | None, int], JSON]
    prefixes: Callable[[JSON, Tokenizer], Iterator[tuple[str, int]]]
    constrain: Callable[[JSON, str], str | JSON]


def echo(body: JSON) -> str:
    """The text of the last user message, or the first option of a choice."""
    options = options_of(body)
    if options:
        return options[0]
    users = [text for message in body["messages"] if message["role"] == "user" for text in _texts(message["content"])]
    return users[-1] if users else ""


def options_of(body: JSON) -> list[str]:
    """The options of a requested choice, in whichever way it was asked for; empty without one."""
    if "structured_outputs" in body:
        return list(body["structured_outputs"].get("choice", []))
    schema = (body.get("response_format") or {}).get("json_schema", {}).get("schema", {})
    if not schema and _forced_tool(body):
        schema = next(tool["input_schema"] for tool in body["tools"] if tool["name"] == _forced_tool(body))
    answer = schema.get("properties", {}).get("answer", {})
    return list(answer.get("enum", []))


def answer(protocol: Protocol, body: JSON, reply: str | JSON, tokenizer: Tokenizer) -> MockAnswer:
    """What is sent back for `reply`, cut at the body's limit, and what it takes."""
    said: JSON = {"content": reply} if isinstance(reply, str) else dict(reply)
    if isinstance(reply, str):
        constrained = protocol.constrain(body, reply)
        said = {"content": constrained} if isinstance(constrained, str) else constrained
    calls = tuple(
        {"id": call.get("id", f"call_{n}"), "name": call["name"], "arguments": _json_text(call.get("arguments", {}))}
        for n, call in enumerate(said.get("tool_calls", ()))
    )
    limit = body.get("max_completion_tokens") or body.get("max_tokens") or 10**9
    parts = tokenizer.split(said.get("content") or "")
    called = sum(tokenizer.count(call["name"]) + tokenizer.count(call["arguments"]) for call in calls)
    cut = len(parts) + called > limit
    finish = "length" if cut else said.get("finish_reason", "tool_calls" if calls else "stop")
    marks = list(protocol.prefixes(body, tokenizer))
    return MockAnswer(
        text="".join(parts[:limit]),
        tool_calls=calls,
        finish_reason=finish,
        usage=Usage(prompt_tokens=prompt_tokens(body, tokenizer), completion_tokens=min(limit, len(parts) + called)),
        written=marks[-1][1] if marks and protocol is ANTHROPIC else 0,
    )


def prompt_tokens(body: JSON, tokenizer: Tokenizer) -> int:
    """What the server counts as prompt: all texts, tool calls, tools and schemas, and a little per message."""
    total = sum(tokenizer.per_message + _message_tokens(message, tokenizer) for message in body["messages"])
    for text in _texts(body.get("system") or []):
        total += tokenizer.per_message + tokenizer.count(text)
    for name in ("tools", "response_format", "structured_outputs", "grammar"):
        if name in body:
            total += tokenizer.count(_json_text(body[name]))
    return total


def stream_events(said: MockAnswer, usage: Usage | None) -> list[bytes]:
    """The answer as chat completion chunks."""
    step = max(1, len(said.text) // _PIECES)
    deltas: list[JSON] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": said.text[start : start + step]} for start in range(0, len(said.text), step)]
    for index, call in enumerate(said.tool_calls):
        half = len(call["arguments"]) // 2
        first = {"name": call["name"], "arguments": call["arguments"][:half]}
        deltas.append({"tool_calls": [{"index": index, "id": call["id"], "type": "function", "function": first}]})
        deltas.append({"tool_calls": [{"index": index, "function": {"arguments": call["arguments"][half:]}}]})
    chunks: list[JSON] = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": said.finish_reason}]})
    if usage is not None:
        chunks.append({"choices": [], "usage": _openai_usage(usage)})
    frame = {"id": "mock", "object": "chat.completion.chunk", "model": "mock"}
    return [b"data: " + json.dumps(frame | chunk).encode() + b"\n\n" for chunk in chunks] + [b"data: [DONE]\n\n"]


def _openai_body(said: MockAnswer, usage: Usage | None, written: int) -> JSON:
    message: JSON = {"role": "assistant", "content": said.text or None}
    if said.tool_calls:
        message["tool_calls"] = [
            {"id": call["id"], "type": "function", "function": {"name": call["name"], "arguments": call["arguments"]}}
            for call in said.tool_calls
        ]
    body: JSON = {"id": "mock", "object": "chat.completion", "model": "mock"}
    body["choices"] = [{"index": 0, "message": message, "finish_reason": said.finish_reason}]
    if usage is not None:
        body["usage"] = _openai_usage(usage)
    return body


def _openai_usage(usage: Usage) -> JSON:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def _openai_prefixes(body: JSON, tokenizer: Tokenizer) -> Iterator[tuple[str, int]]:
    key, tokens = hashlib.sha256(), 0
    for message in body["messages"]:
        key.update(json.dumps(message).encode())
        tokens += tokenizer.per_message + _message_tokens(message, tokenizer)
        yield key.hexdigest(), tokens


def _openai_constrain(body: JSON, reply: str) -> str:
    wrapped = "response_format" in body and reply in options_of(body)
    return json.dumps({"answer": reply}) if wrapped else reply


def _anthropic_body(said: MockAnswer, usage: Usage | None, written: int) -> JSON:
    content: list[JSON] = [{"type": "text", "text": said.text}] if said.text else []
    for call in said.tool_calls:
        content.append(
            {"type": "tool_use", "id": call["id"], "name": call["name"], "input": json.loads(call["arguments"])}
        )
    body: JSON = {"id": "mock", "type": "message", "role": "assistant", "model": "mock", "content": content}
    body["stop_reason"] = _TO_ANTHROPIC.get(said.finish_reason, said.finish_reason)
    if usage is not None:
        body["usage"] = {
            "input_tokens": usage.prompt_tokens - usage.cached_tokens - written,
            "cache_read_input_tokens": usage.cached_tokens,
            "cache_creation_input_tokens": written,
            "output_tokens": usage.completion_tokens,
        }
    return body


def _anthropic_prefixes(body: JSON, tokenizer: Tokenizer) -> Iterator[tuple[str, int]]:
    """The prefixes that end at a cache mark."""
    key, tokens = hashlib.sha256(), 0
    blocks = [*(body.get("system") or []), *(block for message in body["messages"] for block in message["content"])]
    for block in blocks:
        plain = {name: value for name, value in block.items() if name != "cache_control"}
        key.update(json.dumps(plain).encode())
        tokens += sum(map(tokenizer.count, _texts([block])))
        if "cache_control" in block:
            yield key.hexdigest(), tokens


def _anthropic_constrain(body: JSON, reply: str) -> str | JSON:
    name = _forced_tool(body)
    if not name:
        return reply
    try:
        arguments = {"answer": reply} if reply in options_of(body) else json.loads(reply)
    except ValueError:
        return reply
    return {"tool_calls": [{"name": name, "arguments": arguments}]}


def _forced_tool(body: JSON) -> str:
    choice = body.get("tool_choice")
    return str(choice.get("name", "")) if isinstance(choice, dict) else ""


def _message_tokens(message: JSON, tokenizer: Tokenizer) -> int:
    total = sum(map(tokenizer.count, _texts(message.get("content") or "")))
    for call in message.get("tool_calls") or ():
        total += tokenizer.per_message + tokenizer.count(call["function"]["name"] + call["function"]["arguments"])
    return total


def _texts(content: Any) -> list[str]:
    if isinstance(content, str):
        return [content]
    texts = []
    for block in content:
        kind = block.get("type")
        if kind == "tool_use":
            texts.append(block["name"] + _json_text(block["input"]))
        elif kind == "tool_result":
            texts.extend(_texts(block["content"]))
        else:
            texts.append(block.get("text", ""))
    return texts


def _json_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


OPENAI = Protocol(body=_openai_body, prefixes=_openai_prefixes, constrain=_openai_constrain)
ANTHROPIC = Protocol(body=_anthropic_body, prefixes=_anthropic_prefixes, constrain=_anthropic_constrain)
