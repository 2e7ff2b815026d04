"""Where runs are kept: rows, the one interface, and its implementations.

`SqlStore` keeps an SQLite file or a PostgreSQL database, `MemoryStore` nothing that outlives the process.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rollouts.store.base import (
    JSON,
    EventRow,
    GenerationRow,
    ProgramRow,
    RolloutRow,
    Row,
    RunRow,
    SampleRow,
    Store,
    UseRow,
    chunks,
    events_of,
)
from rollouts.store.memory import MemoryStore

if TYPE_CHECKING:
    from rollouts.store.sql import SqlStore

__all__ = [
    "JSON",
    "EventRow",
    "GenerationRow",
    "MemoryStore",
    "ProgramRow",
    "RolloutRow",
    "Row",
    "RunRow",
    "SampleRow",
    "SqlStore",
    "Store",
    "UseRow",
    "chunks",
    "events_of",
    "open_store",
]


def open_store(place: str | Path | None = None) -> Store:
    """The store at `place`, made or migrated when needed.

    None is a `MemoryStore`; a path is an SQLite file, whose directory is created; a text with `://` is a database URL
    (`sqlite:///file`, `postgresql://user@host/name`). Raises ConfigError for a place that can be none of these,
    StoreError when it cannot be opened and StoreTooNew when a newer version wrote it.
    """
    if place is None:
        return MemoryStore()
    store: Store = importlib.import_module("rollouts.store.sql").SqlStore(place)
    return store


def __getattr__(name: str) -> Any:
    if name == "SqlStore":
        return importlib.import_module("rollouts.store.sql").SqlStore
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
