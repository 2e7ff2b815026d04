"""Messages of chat completions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rollouts.dtypes import PromptTemplate, render
from rollouts.integrations.exports.layout import completions, document, example, layout, marked, variables


def prompt_messages(template: PromptTemplate) -> list[dict[str, Any]]:
    """The messages to send, in order, ready for a chat API; fill the placeholders of the system and last user text."""
    return completions(layout(template))


def messages(modules: Mapping[str, PromptTemplate]) -> str:
    """The list of messages alone."""
    return document(modules, prompt_messages)


def openai(modules: Mapping[str, PromptTemplate]) -> str:
    """`messages` with every placeholder as `{{name}}`, `variables`, and an `example` with its values filled in.

    Placeholders stand in the system message and in the last one; the same braces in a demonstration are its own text.
    """
    return document(modules, _openai)


def _openai(template: PromptTemplate) -> dict[str, Any]:
    values = example(template)
    return {
        "variables": variables(template),
        "messages": completions(layout(template, marked(template))),
        "example": {
            "variables": values,
            "messages": completions(render(template, values)),
        },
    }
