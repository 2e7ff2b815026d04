"""The inverse of filling a template: a text read back into the values that it was filled with. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from rollouts.dtypes.prompts import pieces


def read_back(template: str, text: str, known: Mapping[str, str]) -> dict[str, str] | None:
    """`known` and the values with which `fill(template, values) == text`; None when there are none.

    Where a text can be read in several ways, each value ends at the first place where the template's next words stand.
    The time is linear in the text. A placeholder that is known, or comes again, must have the same value; what follows
    from the first reading of it is not tried in other ways.
    """
    values = dict(known)
    literal, position = "", 0
    open_name: str | None = None
    for words, name in pieces(template):
        literal += words
        if name in values:
            literal += values[name]
            continue
        start = _find(text, literal, position, floats=open_name is not None, last=name is None)
        if start is None:
            return None
        if open_name is not None:
            values[open_name] = text[position:start]
        position, literal, open_name = start + len(literal), "", name
        if name in values:
            literal, open_name = values[name], None
    return values


def _find(text: str, literal: str, position: int, *, floats: bool, last: bool) -> int | None:
    """Where `literal` stands: at `position`, or with `floats` at the first place from there on; the last ends the
    text."""
    start = position
    if last:
        start = len(text) - len(literal)
    elif floats:
        start = text.find(literal, position)
    fits = start >= position if floats else start == position
    return start if fits and text.startswith(literal, start) else None
