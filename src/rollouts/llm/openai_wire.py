"""Requests as OpenAI's chat completions take them, and the ways in which other servers differ. No I/O.

The one module that knows the names of a request's fields; `openai_answers` knows those of an answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from rollouts.dtypes import Choices, Endpoint, JsonSchema, Message, Price, Request
from rollouts.errors import ConfigError
from rollouts.llm.openai_answers import ANSWER, JSON
from rollouts.llm.registry import ProviderSpec, Structured
from rollouts.llm.text_tools import as_text
from rollouts.llm.tool_messages import sendable

_REASONING = re.compile(r"^(o\d|gpt-5(?!.*chat))")
_REASONING_REFUSES = ("temperature", "top_p", "stop")
_LIMITS = ("max_tokens", "max_completion_tokens")
_SETTINGS_OF_OURS = frozenset({"api_version", "extra_headers", "extra_query", "structured", "tool_protocol"})
_OWNED = {
    "messages": "the prompt",
    "model": "the endpoint's model",
    "stream": "the endpoint's stream",
    "n": "repeats of the request",
    "best_of": "repeats of the request",
}


def check_extra(extra: Mapping[str, Any]) -> None:
    """Raises ConfigError for fields of `extra` that would undo what the request or the budget counts on."""
    for name, owner in _OWNED.items():
        if name in extra:
            raise ConfigError(f"extra.{name} cannot be set: it is decided by {owner}")


def url_of(endpoint: Endpoint, base: str) -> str:
    """The address of chat completions under `base`.

    Azure: `https://NAME.openai.azure.com` gets `/openai/v1`; with `extra.api_version` it gets the older
    `/openai/deployments/MODEL` and the version as a query.
    """
    if endpoint.provider == "azure":
        if endpoint.extra.get("api_version"):
            if "/deployments/" not in base:
                resource = base.removesuffix("/v1").removesuffix("/openai")
                base = f"{resource}/openai/deployments/{endpoint.model}"
        elif not urlsplit(base).path:
            base = f"{base}/openai/v1"
    return f"{base}/chat/completions"


def query_of(endpoint: Endpoint) -> dict[str, str]:
    """The query parameters: `extra.extra_query`, and Azure's version."""
    query = {str(name): str(value) for name, value in endpoint.extra.get("extra_query", {}).items()}
    if version := endpoint.extra.get("api_version"):
        query["api-version"] = str(version)
    return query


def headers_of(endpoint: Endpoint, spec: ProviderSpec, key: str | None) -> dict[str, str]:
    """The request's headers: type, key, and `extra.extra_headers`."""
    headers = {"Content-Type": "application/json"}
    if key and spec.key_header == "api-key":
        headers["api-key"] = key
    elif key:
        headers["Authorization"] = f"Bearer {key}"
    headers.update({str(name): str(value) for name, value in endpoint.extra.get("extra_headers", {}).items()})
    return headers


def body_of(request: Request, spec: ProviderSpec, price: Price | None = None) -> JSON:
    """The JSON body. `extra` is merged last; a None in it removes a field that we would send."""
    endpoint = request.endpoint
    check_extra(endpoint.extra)
    if text_protocol(endpoint):
        request = as_text(request)
    messages = sendable(request.messages, spec.name)
    body: JSON = {"model": endpoint.model, "messages": [message_json(message) for message in messages]}
    body.update(sampling_of(endpoint, spec))
    if request.tools:
        body["tools"] = [
            {
                "type": "function",
                "function": {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)},
            }
            for tool in request.tools
        ]
    _constrain(body, request, structured_mode(endpoint, spec))
    if endpoint.stream:
        body["stream"] = True
        if spec.stream_usage:
            body["stream_options"] = {"include_usage": True}
    return finished(body, endpoint, spec, price)


def finished(body: JSON, endpoint: Endpoint, spec: ProviderSpec, price: Price | None) -> JSON:
    """`body` with what the operator of the endpoint has said; it has the last word."""
    if spec.name == "openrouter" and price is not None:
        # It routes to whom it likes: without a bound, one that costs more than the listed price.
        body["provider"] = {"max_price": {"prompt": float(price.input), "completion": float(price.output)}}
    for name, value in endpoint.extra.items():
        if value is None:
            body.pop(name, None)
        elif name not in _SETTINGS_OF_OURS:
            body[name] = {**body[name], **value} if name == "provider" and name in body else value
    return body


def completion_limit(endpoint: Endpoint, spec: ProviderSpec) -> int:
    """The most tokens that one answer can have; raises ConfigError when `extra` takes the limit away."""
    limits: JSON = {spec.limit_field: endpoint.sampling.max_tokens}
    limits.update({name: endpoint.extra[name] for name in _LIMITS if name in endpoint.extra})
    known = [limit for limit in limits.values() if isinstance(limit, int)]
    if not known:
        raise ConfigError(f"{endpoint.name}: extra removes the limit of answer tokens; keep {' or '.join(_LIMITS)}")
    return max(known)


def text_protocol(endpoint: Endpoint) -> bool:
    """Whether tools are called in the text (`extra.tool_protocol = "text"`), for servers that do not know tools."""
    protocol = endpoint.extra.get("tool_protocol", "native")
    if protocol not in ("native", "text"):
        raise ConfigError(f'extra.tool_protocol = {protocol!r} must be "native" or "text"')
    return bool(protocol == "text")


def structured_mode(endpoint: Endpoint, spec: ProviderSpec) -> Structured:
    """How this server is told to keep to a schema: `extra.structured`, else its provider's way."""
    mode = endpoint.extra.get("structured", spec.structured)
    known = ("json_schema", "structured_outputs", "grammar", "json_object")
    if mode not in known:
        raise ConfigError(f"extra.structured = {mode!r} must be one of {', '.join(known)}")
    chosen: Structured = mode
    return chosen


def choice_schema(choices: Choices) -> JSON:
    """A strict schema of an object that holds one of the options."""
    return {
        "type": "object",
        "properties": {ANSWER: {"type": "string", "enum": list(choices.options)}},
        "required": [ANSWER],
        "additionalProperties": False,
    }


def message_json(message: Message) -> JSON:
    """A message as it is sent."""
    out: JSON = {"role": message.role, "content": message.content}
    if message.tool_calls:
        out["content"] = message.content or None
        out["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        out["tool_call_id"] = message.tool_call_id
    return out


def sampling_of(endpoint: Endpoint, spec: ProviderSpec) -> JSON:
    """The fields that say how to sample, without those that the model refuses."""
    sampling = endpoint.sampling
    fields: JSON = {spec.limit_field: sampling.max_tokens, "temperature": sampling.temperature}
    if sampling.top_p is not None:
        fields["top_p"] = sampling.top_p
    if sampling.seed is not None:
        fields[spec.seed_field] = sampling.seed
    if sampling.stop:
        fields["stop"] = list(sampling.stop)
    for name in refused_by(endpoint, spec):
        fields.pop(name, None)
    return fields


def refused_by(endpoint: Endpoint, spec: ProviderSpec) -> tuple[str, ...]:
    """The sampling fields that the endpoint's model refuses."""
    reasons = spec.openai_models and _REASONING.match(endpoint.model.rpartition("/")[2])
    return _REASONING_REFUSES if reasons else ()


def _constrain(body: JSON, request: Request, mode: Structured) -> None:
    match request.response_format:
        case None:
            return
        case Choices() as choices if mode == "structured_outputs":
            body["structured_outputs"] = {"choice": list(choices.options)}
            return
        case Choices() as choices if mode == "grammar":
            options = " | ".join(json.dumps(option, ensure_ascii=False) for option in choices.options)
            body["grammar"] = f"root ::= {options}"
            return
        case Choices() as choices:
            name, schema = "choice", choice_schema(choices)
        case JsonSchema() as wanted:
            name, schema = re.sub(r"[^A-Za-z0-9_-]", "_", wanted.name)[:64] or "answer", dict(wanted.schema)
    if mode == "json_object":
        body["response_format"] = {"type": "json_object"}
        told = "Answer with one JSON object that fits this JSON schema: " + json.dumps(schema, ensure_ascii=False)
        last = body["messages"][-1]
        body["messages"][-1] = {**last, "content": f"{last['content'] or ''}\n\n{told}"}
        return
    body["response_format"] = {
        "type": "json_schema",
        "json_schema": {"name": name, "schema": schema, "strict": _is_strict(schema)},
    }


def _is_strict(schema: Any) -> bool:
    """Whether a schema keeps to the subset of OpenAI's strict mode: closed objects with all properties required."""
    if isinstance(schema, list):
        return all(_is_strict(item) for item in schema)
    if not isinstance(schema, dict):
        return True
    if schema.get("type") == "object" or "properties" in schema:
        properties = schema.get("properties", {})
        if schema.get("additionalProperties") is not False or set(schema.get("required", ())) != set(properties):
            return False
        return all(_is_strict(value) for value in properties.values())
    return all(_is_strict(value) for value in schema.values())
