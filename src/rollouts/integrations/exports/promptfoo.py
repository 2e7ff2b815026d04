"""A configuration of promptfoo. Every scalar is JSON or a block of JSON lines, which YAML reads word for word."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from rollouts.dtypes import PromptTemplate
from rollouts.integrations.exports.jinja import RESERVED, escaped, template_of
from rollouts.integrations.exports.layout import check_names, completions, example, layout

# What YAML takes for a line end, or does not take at all.
_UNPRINTABLE = re.compile("[^\t\n\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")


def promptfoo(modules: Mapping[str, PromptTemplate]) -> str:
    """`promptfooconfig.yaml`: every module as a chat prompt whose texts are Nunjucks templates, and one test with
    example variables. The provider `echo` shows what would be sent; put your own in its place."""
    values: dict[str, str] = {}
    lines = ["prompts:"]
    for name, template in modules.items():
        check_names(template, RESERVED, "Nunjucks")
        values |= example(template)
        parts = completions(layout(template, template_of, escaped))
        for call in (call for part in parts for call in part.get("tool_calls", ())):
            call["function"]["arguments"] = escaped(call["function"]["arguments"])
        lines += [f"  - label: {_json(name)}", "    raw: |-", *(f"      {line}" for line in _lines(parts))]
    lines += ["", "providers:", "  - echo", "", "tests:", "  - vars:" if values else "  - {}"]
    lines += [f"      {_json(name)}: {_json(value)}" for name, value in values.items()]
    return "\n".join(lines) + "\n"


def _lines(messages: list[dict[str, Any]]) -> list[str]:
    last = len(messages) - 1
    return ["[", *(f"  {_json(m)}{'' if index == last else ','}" for index, m in enumerate(messages)), "]"]


def _json(value: Any) -> str:
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", json.dumps(value, ensure_ascii=False))
