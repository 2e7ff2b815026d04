"""The arguments of a tool call, as a model wrote them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

_SHOWN = 200


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_FITS: dict[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: _is_number(value) and value == value // 1,
    "number": _is_number,
    "boolean": lambda value: isinstance(value, bool),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
    "null": lambda value: value is None,
}


def read_arguments(text: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments in `text`, checked against the first level of `schema`; what is nested is the tool's to check.

    A value of another type is converted where it can only mean one thing: `"2"` for a number, 5 for a text, `"[1]"`
    for an array. Raises ValueError, in words for the model, for what is no JSON object, an argument that is missing or
    unknown, a type that does not fit, a value outside its enumeration.
    """
    arguments = _object(text)
    properties: Mapping[str, Any] = schema.get("properties") or {}
    missing = [name for name in schema.get("required") or () if name not in arguments]
    if missing:
        raise ValueError(f"missing argument {', '.join(map(repr, missing))}; {_known(properties)}")
    if schema.get("additionalProperties") is False:
        unknown = sorted(set(arguments) - set(properties))
        if unknown:
            raise ValueError(f"unknown argument {', '.join(map(repr, unknown))}; {_known(properties)}")
    return {name: _fitted(name, value, properties.get(name)) for name, value in arguments.items()}


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text.strip() or "{}")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the arguments are not JSON ({error}); write one JSON object") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"the arguments must be a JSON object, not {_shown(value)}")
    return value


def _fitted(name: str, value: Any, schema: Any) -> Any:
    if not isinstance(schema, Mapping):
        return value
    kinds = schema.get("type")
    kinds = [kinds] if isinstance(kinds, str) else kinds
    known = [kind for kind in kinds or () if kind in _FITS]
    if known and not any(_FITS[kind](value) for kind in known):
        value = _converted(name, value, known)
    if known == ["integer"]:
        value = int(value)
    options = schema.get("enum")
    if options and value not in options:
        raise ValueError(f"argument {name!r} must be one of {_shown(options)}, not {_shown(value)}")
    return value


def _converted(name: str, value: Any, kinds: list[str]) -> Any:
    if "string" in kinds and _is_number(value):
        return json.dumps(value)
    if isinstance(value, str):
        try:
            meant = json.loads(value)
        except (ValueError, RecursionError):
            meant = value
        if not isinstance(meant, str) and any(_FITS[kind](meant) for kind in kinds):
            return meant
    raise ValueError(f"argument {name!r} must be {' or '.join(kinds)}, not {_shown(value)}")


def _known(properties: Mapping[str, Any]) -> str:
    return f"the arguments are: {', '.join(properties) or 'none'}"


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} ..."
