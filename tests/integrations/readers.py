"""Exported prompts, read and filled in as the tools that they are for do it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import jinja2
import yaml
from langchain_core.load import loads

from rollouts.dtypes import Message, PromptTemplate, ToolCall, fill, render

Values = Mapping[str, str]
Reader = Callable[[Any, Values], list[Message]]


def replaced(text: str, values: Values) -> str:
    """What stands as `{{name}}` is replaced, in one pass, so that values are never searched."""
    marks = "|".join(re.escape("{{" + name + "}}") for name in values)
    return re.sub(marks, lambda match: values[match[0][2:-2]], text) if marks else text


def variables(found: Any, values: Values) -> Values:
    """Those of `values` that the export names; other text in braces stays as it is."""
    return {name: values[name] for name in found.get("variables", ())}


def completion(message: Mapping[str, Any], text: Callable[[str], str] = str) -> Message:
    calls = tuple(
        ToolCall(id=call["id"], name=call["function"]["name"], arguments=text(call["function"]["arguments"]))
        for call in message.get("tool_calls", ())
    )
    return Message(message["role"], text(message["content"] or ""), calls, message.get("tool_call_id"))


def ends(messages: list[Message], filled: Callable[[str], str]) -> list[Message]:
    """Placeholders stand in the system message and in the last one."""
    last = len(messages) - 1
    return [
        Message(
            m.role, filled(m.content) if m.role == "system" or i == last else m.content, m.tool_calls, m.tool_call_id
        )
        for i, m in enumerate(messages)
    ]


def messages(found: Any, values: Values) -> list[Message]:
    return ends([completion(message) for message in found], lambda text: fill(text, values))


def openai(found: Any, values: Values) -> list[Message]:
    used = variables(found, values)
    return ends([completion(message) for message in found["messages"]], lambda text: replaced(text, used))


def anthropic(found: Any, values: Values) -> list[Message]:
    """Every block as a message of its own; a call and the text before it are one."""
    used = variables(found, values)
    out = [Message("system", replaced(found["system"], used))] if "system" in found else []
    for turn in found["messages"]:
        for block in turn["content"]:
            match block["type"]:
                case "text":
                    out.append(Message(turn["role"], block["text"]))
                case "tool_result":
                    out.append(Message("tool", block["content"], (), block["tool_use_id"]))
                case "tool_use":
                    call = ToolCall(id=block["id"], name=block["name"], arguments=json.dumps(block["input"]))
                    text = out.pop().content if out[-1].role == "assistant" else ""
                    out.append(Message("assistant", text, (call,)))
    return [*out[:-1], Message("user", replaced(out[-1].content, used))]


def langchain(found: Any, values: Values) -> list[Message]:
    prompt = loads(json.dumps(found), allowed_objects="core")
    roles = {"human": "user", "ai": "assistant", "system": "system", "tool": "tool"}
    return [
        Message(
            roles[message.type],  # type: ignore[arg-type]
            str(message.content),
            tuple(
                ToolCall(id=call["id"], name=call["name"], arguments=json.dumps(call["args"]))
                for call in getattr(message, "tool_calls", ())
            ),
            getattr(message, "tool_call_id", None),
        )
        for message in prompt.invoke(dict(values)).to_messages()
    ]


def dspy(found: Any, values: Values) -> list[Message]:
    """As the adapter of docs/exporting.md does it."""
    (user,) = found["metadata"]["user_templates"].values()
    system = found["signature"]["instructions"]
    out = [Message("system", system)] if system else []
    for demo in found["demos"]:
        out += [Message("user", fill(user, demo)), Message("assistant", demo["answer"])]
    return [*out, Message("user", fill(user, values))]


def jinja(found: Any, values: Values, environment: jinja2.Environment | None = None) -> list[Message]:
    engine = environment or jinja2.Environment()
    made = map(completion, found["messages"])
    return [replace(message, content=engine.from_string(message.content).render(values)) for message in made]


def promptfoo(found: Any, values: Values) -> list[Message]:
    """Every text of the prompt's JSON is a template. Nunjucks keeps a line end at the end of one, and takes the end of
    a comment that never began for an error."""
    engine = jinja2.Environment(keep_trailing_newline=True)
    (prompt,) = found["prompts"]
    assert "#}" not in prompt["raw"]
    return [completion(m, lambda text: engine.from_string(text).render(values)) for m in json.loads(prompt["raw"])]


def native(found: Any, values: Values) -> list[Message]:
    return list(render(PromptTemplate.from_json(found["template"]), values))


def text_messages(found: str, values: Values) -> list[Message]:
    """A message is what stands between its heading's line and the empty line before the next heading."""
    mark = re.match(r"#+ ", found)
    assert mark
    parts = re.split(rf"^{mark[0]}(\w+)\n", found, flags=re.MULTILINE)[1:]
    roles, bodies = parts[::2], parts[1::2]
    ended = [body.removesuffix("\n\n") for body in bodies[:-1]] + [bodies[-1].removesuffix("\n")]
    made = [Message(role, body) for role, body in zip(roles, ended, strict=True)]  # type: ignore[arg-type]
    return ends(made, lambda text: fill(text, values))


READERS: Mapping[str, tuple[Callable[[str], Any], Reader]] = {
    "messages": (json.loads, messages),
    "text": (str, text_messages),
    "openai": (json.loads, openai),
    "anthropic": (json.loads, anthropic),
    "langchain": (json.loads, langchain),
    "dspy": (json.loads, dspy),
    "promptfoo": (yaml.safe_load, promptfoo),
    "jinja": (json.loads, jinja),
    "json": (json.loads, native),
}
"""Name of a form -> how the artefact is parsed, and how the prompt of one module in it becomes messages."""


def read(form: str, artefact: str, values: Values) -> list[Message]:
    parse, reader = READERS[form]
    return reader(parse(artefact), values)
