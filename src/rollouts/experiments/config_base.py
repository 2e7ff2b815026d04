"""What the tables of a job file have in common: the model base, fields with aliases, and their types in words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from types import UnionType
from typing import Annotated, Any, ClassVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, Strict
from pydantic.fields import FieldInfo

from rollouts.dtypes import TextPart

Path = tuple[str, ...]
"""Keys from the root of a file down to a setting."""

Texts = Annotated[tuple[str, ...], Strict(False)]
"""A list of texts."""

Parts = Annotated[tuple[TextPart, ...], Strict(False)]
"""A list of texts of a prompt."""


class Table(BaseModel):
    """One table of a job file: immutable, strict about types, closed to unknown keys.

    `no_effect` names keys that other tools know and this one accepts without acting on them, each with the reason.
    `moved` names keys that live elsewhere here: key -> dotted path below `prompt_learning`. `foreign` are tables of
    other tools that hold nothing but such keys.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
        protected_namespaces=(),
    )
    no_effect: ClassVar[Mapping[str, str]] = {}
    moved: ClassVar[Mapping[str, str]] = {}
    foreign: ClassVar[Mapping[str, type[Table]]] = {}


def setting(
    default: Any, meaning: str, *, aliases: Sequence[str] = (), shown: str = "", kind: str = "", **limits: Any
) -> Any:
    """A field of a `Table`.

    `meaning` is its line in the reference, units included. `aliases` are other names the loader takes for it. `shown`
    tells the default, `kind` the type in words where the bare value or type would not do. `limits` are pydantic's
    (`ge`, `lt`, `min_length`, ...).
    """
    words = {"aliases": list(aliases), "default_in_words": shown, "kind": kind}
    extra: dict[str, Any] = {name: value for name, value in words.items() if value}
    return Field(default, description=meaning, json_schema_extra=extra or None, **limits)


def field_extra(field: FieldInfo, name: str) -> Any:
    """What `setting` keeps beside a field: `aliases`, `default_in_words`, `kind`; None where it has none."""
    extra = field.json_schema_extra
    return extra.get(name) if isinstance(extra, dict) else None


@cache
def names_of(table: type[Table]) -> dict[str, str]:
    """Every name that `table` takes for a setting of its own -> the field's name."""
    names = {name: name for name in table.model_fields}
    for name, field in table.model_fields.items():
        names.update(dict.fromkeys(field_extra(field, "aliases") or (), name))
    return names


def _alternatives(field: FieldInfo) -> tuple[Any, ...]:
    kind = field.annotation
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def table_of(field: FieldInfo) -> type[Table] | None:
    """The table that a field holds (also when optional); None for other fields, lists of tables among them."""
    for kind in _alternatives(field):
        if isinstance(kind, type) and issubclass(kind, Table):
            return kind
    return None


def items_of(field: FieldInfo) -> type[Table] | None:
    """The table that each item of a list field holds; None for other fields."""
    for kind in _alternatives(field):
        # A list is `tuple[X, ...]`, perhaps annotated.
        inner = get_args(kind)[0] if get_origin(kind) is Annotated else kind
        item = get_args(inner)[0] if get_origin(inner) is tuple else None
        if isinstance(item, type) and issubclass(item, Table):
            return item
    return None


def named_of(field: FieldInfo) -> type[Table] | None:
    """The table that each value of a field of named tables holds; None for other fields."""
    for kind in _alternatives(field):
        item = get_args(kind)[1] if get_origin(kind) is dict else None
        if isinstance(item, type) and issubclass(item, Table):
            return item
    return None


@cache
def _properties(table: type[Table]) -> dict[str, Any]:
    return dict(table.model_json_schema()["properties"])


def type_in_words(table: type[Table], name: str) -> str:
    """What the field `name` may hold, for the reference and for error messages: `integer of at least 1`."""
    return field_extra(table.model_fields[name], "kind") or schema_in_words(_properties(table)[name])


def schema_in_words(schema: Mapping[str, Any]) -> str:
    """A JSON schema of one value in plain words."""
    if "anyOf" in schema:
        options = [schema_in_words(option) for option in schema["anyOf"] if option.get("type") != "null"]
        return " or ".join(dict.fromkeys(options))
    if "enum" in schema or "const" in schema:
        options = [json.dumps(value) for value in schema.get("enum", [schema.get("const")])]
        return " or ".join(options) if len(options) < 3 else "one of " + ", ".join(options)
    kind = schema.get("type")
    if kind == "array":
        return _length(schema, "list") + " of " + _plural(schema_in_words(schema["items"]))
    if kind == "object":
        values = schema.get("additionalProperties")
        return "table of " + _plural(schema_in_words(values)) if isinstance(values, dict) else "table"
    if kind in ("integer", "number"):
        return str(kind) + _range(schema)
    if kind == "string":
        return _length(schema, "text")
    return {"boolean": "true or false"}.get(str(kind), "table" if "$ref" in schema else "any value")


def _plural(words: str) -> str:
    head, space, rest = words.partition(" ")
    return (
        {"text": "texts", "table": "tables", "integer": "integers", "number": "numbers"}.get(head, head) + space + rest
    )


def _length(schema: Mapping[str, Any], noun: str) -> str:
    if schema.get("minLength") == schema.get("maxLength") == 1:
        return "one character"
    return f"non-empty {noun}" if schema.get("minLength", schema.get("minItems")) else noun


def _range(schema: Mapping[str, Any]) -> str:
    low = f"at least {schema['minimum']:g}" if "minimum" in schema else ""
    if "exclusiveMinimum" in schema:
        low = f"more than {schema['exclusiveMinimum']:g}"
    high = f"at most {schema['maximum']:g}" if "maximum" in schema else ""
    if "exclusiveMaximum" in schema:
        high = f"less than {schema['exclusiveMaximum']:g}"
    both = " and ".join(filter(None, (low, high)))
    return f" of {both}" if both else ""
