"""Plain text, for reading and for pasting."""

from __future__ import annotations

import re
from collections.abc import Mapping

from rollouts.dtypes import Message, PromptTemplate
from rollouts.integrations.exports.layout import layout

_HEADING = re.compile(r"^(#{3,}) ", re.MULTILINE)


def text(modules: Mapping[str, PromptTemplate]) -> str:
    """Every message under a heading `### role`; with several modules under `### module: role`.

    Headings have one `#` more than the longest in the messages' own lines, so that the text can be taken apart again:
    a message is what stands between its heading's line and the empty line before the next heading.
    """
    parts = [
        (message, "" if len(modules) == 1 else f"{name}: ")
        for name, template in modules.items()
        for message in layout(template)
    ]
    bodies = [_body(message) for message, _ in parts]
    longest = max((len(marks) for body in bodies for marks in _HEADING.findall(body)), default=2)
    mark = "#" * max(3, longest + 1)
    shown = [f"{mark} {prefix}{message.role}\n{body}" for (message, prefix), body in zip(parts, bodies, strict=True)]
    return "\n\n".join(shown) + "\n"


def _body(message: Message) -> str:
    calls = [f"[{call.name}: {call.arguments}]" for call in message.tool_calls]
    return "\n".join(([message.content] if message.content or not calls else []) + calls)
