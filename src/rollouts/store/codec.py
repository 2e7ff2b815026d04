"""Rows to tuples of plain database values and back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Table

from rollouts.errors import StoreError
from rollouts.store import schema
from rollouts.store.base import JSON, EventRow, GenerationRow, ProgramRow, RolloutRow, RunRow, SampleRow, UseRow

R = TypeVar("R")

_dumps = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_dumps_ascii = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode


def dumps(value: JSON) -> str:
    """`value` as JSON text that any database can hold; raises StoreError when it is not JSON."""
    try:
        text = _dumps(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise StoreError(
            f"only JSON can be stored: {error}; change the value to text, numbers, lists or dicts"
        ) from None
    return text if text.isascii() or _is_utf8(text) else _dumps_ascii(value)


def clean(text: str) -> str:
    """`text` with U+FFFD for what not every database can hold: lone surrogates and NUL."""
    if text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class Codec(Generic[R]):
    """One row class and its table; the table's columns bear the names of the row's fields.

    `json_fields` hold JSON or None, `free_text` text that models or data sets wrote.
    """

    def __init__(
        self, row: type[R], table: Table, *, json_fields: Sequence[str] = (), free_text: Sequence[str] = ()
    ) -> None:
        self.row, self.table = row, table
        self.names: list[str] = [field.name for field in fields(row)]  # type: ignore[arg-type]
        self.columns: list[ColumnElement[Any]] = [table.c[name] for name in self.names]
        self._values = attrgetter(*self.names)
        self._json = [self.names.index(name) for name in json_fields]
        self._free = [self.names.index(name) for name in free_text]

    def encode(self, row: R) -> list[Any]:
        """The values of `names`. Raises StoreError for what is not JSON."""
        values = list(self._values(row))
        for at in self._json:
            if values[at] is not None:
                values[at] = dumps(values[at])
        for at in self._free:
            values[at] = clean(values[at])
        return values

    def decode(self, stored: Sequence[Any]) -> R:
        """The row whose values of `names` begin `stored`."""
        values = dict(zip(self.names, stored, strict=False))
        for at in self._json:
            text = stored[at]
            if text is not None:
                values[self.names[at]] = json.loads(text)
        return self.row(**values)


RUNS = Codec(RunRow, schema.runs, json_fields=["config", "authorised", "summary"], free_text=["name"])
ROLLOUTS = Codec(RolloutRow, schema.rollouts, json_fields=["failure", "data"], free_text=["sample_id", "output"])
GENERATIONS = Codec(GenerationRow, schema.generations, json_fields=["request", "response"], free_text=["model"])
PROGRAMS = Codec(ProgramRow, schema.programs, json_fields=["modules"])
SAMPLES = Codec(SampleRow, schema.samples, json_fields=["inputs", "ground_truth"])
EVENTS = Codec(EventRow, schema.events, json_fields=["data"])
USES = Codec(UseRow, schema.run_rollouts)

QUEUED: dict[type[Any], Codec[Any]] = {
    codec.row: codec for codec in (PROGRAMS, SAMPLES, GENERATIONS, ROLLOUTS, USES, EVENTS)
}
"""The kinds of rows that are queued, in the order in which a transaction writes them."""
