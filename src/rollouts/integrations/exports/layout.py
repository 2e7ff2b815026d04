"""What the forms have in common: the messages of a template, its variables, an example, JSON of all modules."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rollouts.dtypes import Endpoint, Message, PromptTemplate, Request, pieces, value_text
from rollouts.errors import ConfigError
from rollouts.llm.openai_wire import body_of
from rollouts.llm.registry import spec_of
from rollouts.llm.tool_messages import sendable


def variables(template: PromptTemplate) -> list[str]:
    """Placeholders in the order in which they are first used."""
    found = [name for text in (template.system, template.user_template) for _, name in pieces(text)]
    return list(dict.fromkeys(name for name in found if name is not None))


def layout(
    template: PromptTemplate, filled: Callable[[str], str] = str, plain: Callable[[str], str] = str
) -> list[Message]:
    """The messages in the order of sending: `filled` rewrites texts with placeholders, `plain` those without."""
    head = [Message("system", filled(template.system))] if template.system else []
    shown: list[Message] = []
    for demo in template.few_shot_examples:
        shown.append(Message("user", plain(demo.input)))
        steps = demo.messages or (Message("assistant", demo.output),)
        shown.extend(replace(step, content=plain(step.content)) for step in steps)
    return list(sendable([*head, *shown, Message("user", filled(template.user_template))], "openai"))


def completions(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """`messages` as chat completions take them."""
    request = Request(endpoint=Endpoint(provider="openai", model="any"), messages=tuple(messages))
    return list(body_of(request, spec_of("openai"))["messages"])


def rewritten(text: str, plain: Callable[[str], str], variable: Callable[[str], str]) -> str:
    """`text` in another template language: its plain parts escaped, its placeholders written the other way."""
    return "".join(plain(part) + ("" if name is None else variable(name)) for part, name in pieces(text))


def marked(template: PromptTemplate) -> Callable[[str], str]:
    """Rewrites a text of the template with every placeholder as `{{name}}`: replacing this very text is exact, whatever
    braces stand around it. Raises ConfigError where plain text of the prompt reads the same."""

    def rewrite(text: str) -> str:
        mark = "{{{{{}}}}}".format
        out = rewritten(text, str, mark)
        names = [name for _, name in pieces(text)]
        for name in variables(template):
            if out.count(mark(name)) != names.count(name):
                raise ConfigError(
                    f"the prompt has the text {mark(name)} beside a placeholder of that name; rename the placeholder, "
                    "or export another format"
                )
        return out

    return rewrite


def example(template: PromptTemplate) -> dict[str, str]:
    """Values for all variables: those of the first demonstration that has them, else `<name>`."""
    names = variables(template)
    for demo in template.few_shot_examples:
        if demo.values is not None and set(names) <= set(demo.values):
            return {name: value_text(demo.values[name]) for name in names}
    return {name: f"<{name}>" for name in names}


def check_names(template: PromptTemplate, reserved: Collection[str], language: str) -> None:
    """Raises ConfigError when a placeholder cannot be the name of a variable in `language`."""
    for name in variables(template):
        if name in reserved or not name.isidentifier():
            raise ConfigError(f"{{{name}}} cannot be a variable of {language}; give the placeholder another name")


def each(modules: Mapping[str, PromptTemplate], one: Callable[[PromptTemplate], Any]) -> Any:
    """`one` of the only module, or of every module by name under the key `modules`."""
    found = {name: one(template) for name, template in modules.items()}
    return next(iter(found.values())) if len(found) == 1 else {"modules": found}


def document(modules: Mapping[str, PromptTemplate], one: Callable[[PromptTemplate], Any]) -> str:
    """`each` as JSON."""
    return to_text(each(modules, one))


def to_text(value: Any) -> str:
    """Readable JSON, with a line end."""
    return json.dumps(value, ensure_ascii=False, indent=2) + "\n"
