"""How a value of a row is written in a prompt."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def value_text(value: Any) -> str:
    """`value` as a model is shown it: text as it is, numbers as Python writes them, None, truth values, objects and
    lists as JSON with keys in the order that they have; by `str` what JSON cannot say."""
    match value:
        case str():
            return value
        case None | bool() | dict() | list() | tuple():
            try:
                return json.dumps(value, ensure_ascii=False, default=str)
            except (TypeError, ValueError):
                return str(value)
        case _:
            return str(value)


def named_text(values: Mapping[str, Any]) -> str:
    """A line `name: value` for each of the values, as `value_text` writes them."""
    return "\n".join(f"{name}: {value_text(value)}" for name, value in values.items())
