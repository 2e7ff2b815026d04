"""`ChatPromptTemplate` as `langchain_core.load.dumps` writes it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rollouts.dtypes import Message, PromptTemplate
from rollouts.integrations.exports.layout import check_names, document, layout, rewritten, variables

_CLASSES = {"system": "SystemMessage", "user": "HumanMessage", "assistant": "AIMessage", "tool": "ToolMessage"}
_TYPES = {"system": "system", "user": "human", "assistant": "ai", "tool": "tool"}


def langchain(modules: Mapping[str, PromptTemplate]) -> str:
    """The serialized prompt: f-string templates for the texts with placeholders, demonstrations as plain messages.

    Several modules are a dictionary of prompts under `modules`.
    """
    return document(modules, _langchain)


def _langchain(template: PromptTemplate) -> dict[str, Any]:
    check_names(template, ("self",), "LangChain")
    messages = [_template("SystemMessagePromptTemplate", template.system)] if template.system else []
    shown = layout(replace(template, system=""))[:-1]
    messages.extend(map(_message, shown))
    messages.append(_template("HumanMessagePromptTemplate", template.user_template))
    fields = {"input_variables": sorted(variables(template)), "messages": messages}
    return _object("prompts", "chat", "ChatPromptTemplate", fields)


def _object(room: str, file: str, name: str, fields: dict[str, Any]) -> dict[str, Any]:
    return {"lc": 1, "type": "constructor", "id": ["langchain", room, file, name], "kwargs": fields}


def _template(name: str, text: str) -> dict[str, Any]:
    prompt = {
        "input_variables": sorted(variables(PromptTemplate("", text))),
        "template": rewritten(text, _escaped, lambda name: "{" + name + "}"),
        "template_format": "f-string",
    }
    return _object("prompts", "chat", name, {"prompt": _object("prompts", "prompt", "PromptTemplate", prompt)})


def _escaped(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _message(message: Message) -> dict[str, Any]:
    fields: dict[str, Any] = {"content": message.content, "type": _TYPES[message.role]}
    if message.role == "tool":
        fields["tool_call_id"] = message.tool_call_id or ""
    if message.tool_calls:
        fields["tool_calls"] = [
            {"name": call.name, "args": json.loads(call.arguments), "id": call.id, "type": "tool_call"}
            for call in message.tool_calls
        ]
    return _object("schema", "messages", _CLASSES[message.role], fields)
