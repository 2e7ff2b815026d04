"""Jinja templates."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from rollouts.dtypes import PromptTemplate
from rollouts.integrations.exports.layout import check_names, completions, document, layout, rewritten, variables

_WORDS = "and else false if import in is none not null or self super true False None True"
RESERVED = frozenset(_WORDS.split())
"""Names that are no variables in Jinja or in Nunjucks."""
# A brace that another one, or a placeholder, could follow; the end of a comment, which Nunjucks takes for an error. The
# engine would change a carriage return, and drop the last line end.
_SPECIAL = re.compile(r"\{(?=[{%#\r]|\n?\Z)|(?<=#)\}|\r")
_EXPRESSIONS = {"{": "{{ '{' }}", "}": "{{ '}' }}", "\r": "{{ '\\r' }}", "\n": "{{ '\\n' }}"}


def jinja(modules: Mapping[str, PromptTemplate]) -> str:
    """`messages` whose contents are all Jinja templates, and `variables`.

    The escapes are plain expressions, which mean the same under every setting of blocks and of white space, and in
    Nunjucks.
    """
    return document(modules, _jinja)


def _jinja(template: PromptTemplate) -> dict[str, Any]:
    check_names(template, RESERVED, "Jinja")
    return {"variables": variables(template), "messages": completions(layout(template, template_of, escaped))}


def template_of(text: str) -> str:
    """A text with placeholders as a Jinja template."""
    return _closed(rewritten(text, _escaped, lambda name: "{{ " + name + " }}"))


def escaped(text: str) -> str:
    """A plain text as a Jinja template."""
    return _closed(_escaped(text))


def _escaped(text: str) -> str:
    return _SPECIAL.sub(lambda match: _EXPRESSIONS[match[0]], text)


def _closed(text: str) -> str:
    return text[:-1] + _EXPRESSIONS["\n"] if text.endswith("\n") else text
