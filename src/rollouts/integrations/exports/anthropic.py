"""System and messages of the Anthropic API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rollouts.dtypes import Endpoint, PromptTemplate, Request
from rollouts.integrations.exports.layout import document, example, layout, marked, variables
from rollouts.llm.anthropic_wire import body_of


def anthropic(modules: Mapping[str, PromptTemplate]) -> str:
    """`system` and `messages` of content blocks, roles in turn, tool calls as blocks; `variables`, and an `example` of
    their values. `tools` are there when demonstrations call some: the API asks for them.

    Every placeholder is `{{name}}`, in `system` and in the last block of the last message; the same braces in a
    demonstration are its own text.
    """
    return document(modules, _anthropic)


def _anthropic(template: PromptTemplate) -> dict[str, Any]:
    parts = tuple(layout(template, marked(template)))
    body = body_of(Request(endpoint=Endpoint(provider="anthropic", model="any"), messages=parts))
    system = "".join(block["text"] for block in body.get("system", ()))
    for message in body["messages"]:
        for block in message["content"]:
            block.pop("cache_control", None)
    out = {"system": system} if system else {}
    out |= {name: body[name] for name in ("messages", "tools", "tool_choice") if name in body}
    return {**out, "variables": variables(template), "example": {"variables": example(template)}}
