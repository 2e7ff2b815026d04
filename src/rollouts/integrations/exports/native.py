"""Our own JSON: `best_prompt.json`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from rollouts.dtypes import FewShotExample, PromptTemplate, value_text
from rollouts.integrations.exports.chat import prompt_messages
from rollouts.integrations.exports.layout import document


def native(modules: Mapping[str, PromptTemplate]) -> str:
    """Everything known of the prompt; `rollouts.load_prompt` and `load_program` read it."""
    return document(modules, best_prompt)


def best_prompt(template: PromptTemplate) -> dict[str, Any]:
    """`best_prompt.json` of one module."""
    return {
        "instruction": {"role": "system", "content": template.system},
        "demonstrations": demonstrations(template),
        "user_template": template.user_template,
        "messages": prompt_messages(template),
        "template": template.to_json(),
    }


def demonstrations(template: PromptTemplate) -> list[dict[str, Any]]:
    """The demonstrations as rows: `query` and `label`, and the user `message` as it is sent.

    `query` is the input that the prompt shows where there is one, else the message; `values` are the row's inputs by
    name.
    """
    return [_row(demo, template.placeholders) for demo in template.few_shot_examples]


def _row(demo: FewShotExample, shown: Collection[str]) -> dict[str, Any]:
    values = demo.to_json().get("values")
    asked = [value for name, value in (values or {}).items() if name in shown]
    query = asked[0] if len(asked) == 1 else demo.input
    row = {"query": value_text(query), "label": demo.output, "message": demo.input}
    return row if values is None else {**row, "values": values}
