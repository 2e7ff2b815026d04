"""How many prompt tokens a request can take at most, and about how many a text has.

A byte-level BPE tokenizer never makes more tokens than there are UTF-8 bytes, so bytes bound tokens from above without
knowing the tokenizer. What chat templates add around the text is bounded by fixed allowances.
"""

from __future__ import annotations

import json
from typing import Any

from rollouts.dtypes import Choices, JsonSchema, Request
from rollouts.llm.tool_messages import ID_CHARS

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
    names: set[str] = set()
    for message in request.messages:
        total += PER_MESSAGE + _bytes(message.content)
        if message.tool_call_id is not None:
            total += max(_bytes(message.tool_call_id), ID_CHARS)
        for call in message.tool_calls:
            # Arguments that are not JSON are sent as a text inside JSON.
            written = _bytes(call.name) + _json_bytes({"arguments": call.arguments})
            total += PER_MESSAGE + max(_bytes(call.id), ID_CHARS) + written
            names.add(call.name)
    if request.endpoint.extra:
        total += _SCHEMA_FACTOR * _json_bytes(dict(request.endpoint.extra))
    described = [_SCHEMA_FACTOR * _json_bytes([t.name, t.description, dict(t.parameters)]) for t in request.tools]
    # Without tools, those that were called before may have to be named.
    described = described or [_bytes(name) for name in names]
    if described:
        total += PER_TOOLS + PER_TOOL * len(described) + sum(described)
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
