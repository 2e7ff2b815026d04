"""The forms by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Mapping

from rollouts.dtypes import Program, PromptTemplate
from rollouts.errors import ConfigError
from rollouts.integrations.exports import anthropic, chat, dspy, jinja, langchain, native, promptfoo, text

Modules = Mapping[str, PromptTemplate]


FORMATS: Mapping[str, Callable[[Modules], str]] = {
    "messages": chat.messages,
    "text": text.text,
    "openai": chat.openai,
    "anthropic": anthropic.anthropic,
    "langchain": langchain.langchain,
    "dspy": dspy.dspy,
    "promptfoo": promptfoo.promptfoo,
    "jinja": jinja.jinja,
    "json": native.native,
}
"""Name -> what makes one text of a program's modules."""


def export_prompt(prompt: PromptTemplate | Program | Modules, form: str) -> str:
    """The prompt as `form`, one of `FORMATS`; of a program every module.

    Raises ConfigError for an unknown form, and when this prompt cannot be said in it.
    """
    known_format(form, FORMATS)
    return FORMATS[form](_modules(prompt))


def known_format(form: str, known: Collection[str]) -> None:
    """Raises ConfigError, which names the nearest of `known`, when `form` is none of them."""
    if form not in known:
        near = difflib.get_close_matches(form.lower(), known, n=1)
        meant = f" Did you mean {near[0]}?" if near else ""
        raise ConfigError(f"no format {form!r}.{meant} There are: {', '.join(known)}")


def _modules(prompt: PromptTemplate | Program | Modules) -> Modules:
    if isinstance(prompt, PromptTemplate):
        return {"main": prompt}
    return prompt.modules if isinstance(prompt, Program) else prompt
