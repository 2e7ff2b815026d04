"""A database with our schema: connections for reading, transactions for writing, and statements compiled once."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, delete, select
from sqlalchemy.exc import SQLAlchemyError

from rollouts.errors import ConfigError, StoreError
from rollouts.store.base import RolloutRow
from rollouts.store.codec import Codec
from rollouts.store.dialects import BUSY_TIMEOUT_S, among_sql, as_store_error, insert_sql, make_engine, parse
from rollouts.store.locks import AdvisoryLocks, FileLocks, Locks
from rollouts.store.migrate import bring_up_to_date

_INSERT_SIZES = (64, 16, 4, 1)
_LOOKUP_SIZES = (1, 4, 16, 64, 256)


class Database:
    """The open database of a store, made or migrated when needed.

    One thread of this process writes at a time; any number read.
    """

    def __init__(self, place: str | Path) -> None:
        url = parse(place)
        self.engine = make_engine(url)
        self._writing = threading.Lock()
        self._sql: dict[tuple[str, str, int], str] = {}
        if url.get_backend_name() == "sqlite":
            self.place, file = str(url.database), Path(str(url.database))
            files = FileLocks(file)
            self.locks: Locks = files
            make_directory(file)
            alone: Callable[[], AbstractContextManager[None]] = partial(
                files.alone, "schema migration", timeout_s=BUSY_TIMEOUT_S
            )
        else:
            self.place = url.render_as_string(hide_password=True)
            self.locks = AdvisoryLocks(self.engine)
            alone = nullcontext
        try:
            with self.errors():
                bring_up_to_date(self.engine, self.place, alone)
        except BaseException:
            self.engine.dispose()
            raise

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection to read from. Database errors inside become StoreError."""
        with self.errors(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self, *, durable: bool = False) -> Iterator[Connection]:
        """A transaction, committed at the end. It survives the death of the process; `durable`, that of the machine."""
        mode = "durable" if durable else "fast"
        with self.errors(), self._writing, self.engine.connect() as connection:
            connection.execution_options(write=mode)
            with connection.begin():
                yield connection

    def insert(self, connection: Connection, codec: Codec[Any], rows: list[list[Any]]) -> None:
        """Inserts, in order, the rows whose keys are not known yet."""
        start = 0
        while start < len(rows):
            size = next(size for size in _INSERT_SIZES if size <= len(rows) - start)
            values = tuple([value for row in rows[start : start + size] for value in row])
            connection.exec_driver_sql(self._compiled("insert", codec, size), values)
            start += size

    def by_key(self, connection: Connection, codec: Codec[Any], keys: Sequence[str]) -> Iterator[Row[Any]]:
        """The stored rows whose first field is one of `keys`."""
        for some in _padded(keys):
            yield from connection.exec_driver_sql(self._compiled("select", codec, len(some)), some)

    def delete_failures(self, connection: Connection, codec: Codec[RolloutRow], keys: Sequence[str]) -> None:
        """Deletes those of the rollouts with `keys` that are failures."""
        for some in _padded(keys):
            connection.exec_driver_sql(self._compiled("delete failures", codec, len(some)), some)

    def close(self) -> None:
        """Gives all locks free and closes all connections."""
        with self.errors():
            self.locks.give_all()
            self.engine.dispose()

    def error(self, error: BaseException) -> StoreError:
        """What an error means for the user."""
        return as_store_error(error, self.place)

    def _compiled(self, use: str, codec: Codec[Any], size: int) -> str:
        """The SQL for `size` rows or keys, made by SQLAlchemy once: per call that would cost more than the call."""
        name = (use, codec.table.name, size)
        if name not in self._sql:
            self._sql[name] = self._compile(use, codec, size)
        return self._sql[name]

    def _compile(self, use: str, codec: Codec[Any], size: int) -> str:
        if use == "insert":
            return insert_sql(self.engine, codec.table, codec.names, size)
        key = codec.table.c[codec.names[0]]
        if use == "select":
            return among_sql(self.engine, select(*codec.columns), key, size)
        return among_sql(self.engine, delete(codec.table).where(codec.table.c.failure.is_not(None)), key, size)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Database errors inside become StoreError."""
        try:
            yield
        except (SQLAlchemyError, sqlite3.Error) as error:
            raise self.error(error) from error


def make_directory(file: Path) -> None:
    """Makes the directory of a database file; raises ConfigError where `file` is a directory itself."""
    if file.is_dir():
        raise ConfigError(f"{file} is a directory; name a file in it, like {file / 'store.db'}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"the directory {file.parent} cannot be made ({error.strerror}); choose another path"
        ) from None


def _padded(keys: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """`keys` in tuples of a few sizes only, the last filled up with its last key."""
    start = 0
    while start < len(keys):
        size = next((size for size in _LOOKUP_SIZES if size >= len(keys) - start), _LOOKUP_SIZES[-1])
        some = keys[start : start + size]
        yield (*some, *[some[-1]] * (size - len(some)))
        start += size
