"""The least that any recorder on SQLite does: the same rows in the same tables, by the standard library alone."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable
from operator import attrgetter
from pathlib import Path
from typing import Any

from rollouts.store import GenerationRow, RolloutRow, open_store

Row = RolloutRow | GenerationRow
_JSON = frozenset({"failure", "data", "request", "response"})


class PlainStore:
    """`executemany` into the tables of a store, one transaction for each `record`. Like ours it passes over what is
    known; it has no thread, no queue, and reads no row back."""

    def __init__(self, path: Path) -> None:
        open_store(path).close()
        self._connection = sqlite3.connect(path)
        self._connection.execute("PRAGMA synchronous=NORMAL")
        self._kinds = {
            "rollouts": _inserter(RolloutRow, "rollouts"),
            "generations": _inserter(GenerationRow, "generations"),
        }

    def record(self, rollouts: Iterable[RolloutRow], generations: Iterable[GenerationRow]) -> None:
        """Writes and commits."""
        for name, rows in (("rollouts", rollouts), ("generations", generations)):
            statement, values = self._kinds[name]
            self._connection.executemany(statement, map(values, rows))
        self._connection.commit()

    def close(self) -> None:
        """Closes the file."""
        self._connection.close()


def _inserter(kind: type[Row], table: str) -> tuple[str, Callable[[Row], tuple[Any, ...]]]:
    names = list(kind.__dataclass_fields__)
    as_json = [name in _JSON for name in names]
    fields = attrgetter(*names)

    def values(row: Row) -> tuple[Any, ...]:
        return tuple(
            json.dumps(value) if encoded and value is not None else value
            for value, encoded in zip(fields(row), as_json, strict=True)
        )

    places = ", ".join("?" * len(names))
    return f"INSERT OR IGNORE INTO {table} ({', '.join(names)}) VALUES ({places})", values
