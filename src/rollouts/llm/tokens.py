"""How many prompt tokens a request can take at most, and about how many a text has.

A byte-level BPE tokenizer never makes more tokens than there are UTF-8 bytes, so bytes bound tokens from above without
knowing the tokenizer. What chat templates add around the text is bounded by fixed allowances.
"""

from __future__ import annotations

import json
from typing import Any

from rollouts.dtypes import Choices, JsonSchema, Request

PER_MESSAGE = 16
"""Role markers and separators of one message, or of one tool call."""
PER_REQUEST = 256
"""What a template adds once: start markers, dates, a default system prompt."""
PER_TOOL = 128
"""The wrapping of one tool's schema."""
PER_TOOLS = 768
"""The instructions on tool use that templates and providers add once when there are tools."""
_SCHEMA_FACTOR = 2  # templates re-indent schemas and providers rewrite them


def upper_bound(request: Request) -> int:
    """Prompt tokens that `request` cannot exceed, for tokenizers that make at most one token of a byte."""
    total = PER_REQUEST
    for message in request.messages:
        total += PER_MESSAGE + _bytes(message.content)
        if message.tool_call_id is not None:
            total += _bytes(message.tool_call_id)
        for call in message.tool_calls:
            total += PER_MESSAGE + _bytes(call.id) + _bytes(call.name) + _bytes(call.arguments)
    if request.endpoint.extra:
        total += _SCHEMA_FACTOR * _json_bytes(dict(request.endpoint.extra))
    if request.tools:
        total += PER_TOOLS
        for tool in request.tools:
            described = _json_bytes([tool.name, tool.description, dict(tool.parameters)])
            total += PER_TOOL + _SCHEMA_FACTOR * described
    match request.response_format:
        case JsonSchema(name=name, schema=schema):
            total += PER_TOOLS + _SCHEMA_FACTOR * _json_bytes([name, dict(schema)])
        case Choices(options=options):
            total += PER_TOOLS + _SCHEMA_FACTOR * _json_bytes(list(options))
        case None:
            pass
    return total


def estimate(text: str) -> int:
    """About how many tokens `text` has: one per 4 bytes, rounded up. Not a bound."""
    return -(-_bytes(text) // 4)


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _json_bytes(value: Any) -> int:
    return _bytes(json.dumps(value, ensure_ascii=False, default=str))
