"""All that differs between SQLite and PostgreSQL: opening, pragmas, inserts, and what an error means."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import (
    ClauseElement,
    ColumnElement,
    Connection,
    Delete,
    Engine,
    Select,
    Table,
    bindparam,
    create_engine,
    event,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from rollouts.errors import ConfigError, StoreError

BUSY_TIMEOUT_S = 30.0
_PRAGMAS = (
    "PRAGMA synchronous=NORMAL",
    "PRAGMA cache_size=-32768",
    "PRAGMA temp_store=MEMORY",
    "PRAGMA wal_autocheckpoint=4000",
    "PRAGMA journal_size_limit=67108864",
)
_MIGRATION_LOCK = 0x726F6C6C6F757473
_SQLITE_ADVICE = {
    sqlite3.SQLITE_FULL: "the disk is full; free some space and resume (what was committed before is kept)",
    sqlite3.SQLITE_READONLY: "it cannot be written to; change the file's permissions, or choose another path",
    sqlite3.SQLITE_BUSY: f"another process has kept it locked for over {BUSY_TIMEOUT_S:g} s; stop that one and resume",
    sqlite3.SQLITE_LOCKED: "it is locked by another connection; stop the one that has it and resume",
    sqlite3.SQLITE_NOTADB: "the file is no SQLite database; choose another path",
    sqlite3.SQLITE_CORRUPT: "the file is damaged; restore a copy, or save what is left by sqlite3's `.recover`",
    sqlite3.SQLITE_CANTOPEN: "the file cannot be opened; check that path and permissions are right",
    sqlite3.SQLITE_IOERR: "the disk failed to read or write; check the disk and its free space, then resume",
}
_POSTGRES_ADVICE = {
    "53100": "the server's disk is full; free some space and resume (what was committed before is kept)",
    "53300": "the server has no connection left; raise its max_connections or close other clients",
    "25006": "the server allows reading only; use the address of the primary server",
    "42501": "this user may not do that; grant it the right to create and write tables",
    "28P01": "the password is wrong; change it in the URL",
    "28000": "the server refuses this user; change it in the URL, or the server's pg_hba.conf",
    "3D000": "there is no such database; create it, or change its name in the URL",
}
_RETRYABLE_STATES = frozenset({"40001", "40P01"})


def parse(place: str | Path) -> URL:
    """The database URL of a path or URL; raises ConfigError when it is neither."""
    if isinstance(place, Path) or "://" not in place:
        if str(place) in ("", ":memory:"):
            raise ConfigError("a store in memory is a MemoryStore (open_store(None)); give a path or a URL here")
        return URL.create("sqlite", database=str(Path(place).expanduser().absolute()))
    try:
        url = make_url(place)
    except (ArgumentError, ValueError):
        raise ConfigError("the store's URL cannot be read; write it like postgresql://user@host:5432/name") from None
    name = url.get_backend_name()
    if name in ("postgres", "postgresql"):
        return url.set(drivername="postgresql+psycopg")
    if name != "sqlite":
        raise ConfigError(f"a store cannot be kept in {name!r}; use an SQLite file or postgresql://")
    if url.query:
        raise ConfigError("the store's sqlite URL takes no options; write it like sqlite:///directory/file.db")
    return parse(url.database or "")


def without_password(place: str) -> str:
    """A path or URL as it may be shown."""
    if "://" not in place:
        return place
    url = make_url(place)
    secrets = [name for name in url.query if "password" in name]
    return url.difference_update_query(secrets).render_as_string(hide_password=True)


def make_engine(url: URL) -> Engine:
    """A pool of connections, none opened yet. Transactions with the option `write` may write, all others only read."""
    if url.get_backend_name() == "sqlite":
        engine = create_engine(
            url, hide_parameters=True, connect_args={"check_same_thread": False, "timeout": BUSY_TIMEOUT_S}
        )
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    try:
        return create_engine(url, hide_parameters=True, pool_pre_ping=True, paramstyle="format")
    except ModuleNotFoundError:
        raise ConfigError('PostgreSQL needs a driver: pip install "rollouts-optimizer[postgres]"') from None


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None
    for pragma in _PRAGMAS:
        connection.execute(pragma)


def _begin_sqlite(connection: Connection) -> None:
    """Readers see each statement's own snapshot; a writer takes the lock at once, since waiting for it later fails."""
    mode = connection.get_execution_options().get("write")
    if mode is not None:
        connection.exec_driver_sql(f"PRAGMA synchronous={'FULL' if mode == 'durable' else 'NORMAL'}")
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def prepare_store(engine: Engine) -> None:
    """Before the first migration: readers must not wait for the writer. The mode stays in the file."""
    if engine.dialect.name == "sqlite":
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")


def is_prepared(connection: Connection) -> bool:
    """Whether `prepare_store` was done."""
    return connection.dialect.name != "sqlite" or connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"


def lock_migrations(connection: Connection) -> None:
    """Makes this transaction the only one that migrates. An SQLite transaction that writes is that already."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:id)"), {"id": _MIGRATION_LOCK})


def insert_sql(engine: Engine, table: Table, names: Sequence[str], rows: int) -> str:
    """INSERT of `rows` rows that leaves rows with a known key as they are; parameters go row by row."""
    insert = postgresql.insert if engine.dialect.name == "postgresql" else sqlite.insert
    statement: Any = insert(table).inline().values(dict.fromkeys(names)).on_conflict_do_nothing()
    return _repeated(engine, statement, " VALUES ", " ON CONFLICT", rows)


def among_sql(engine: Engine, statement: Select[Any] | Delete, key: ColumnElement[Any], keys: int) -> str:
    """`statement` for the rows whose `key` is one of `keys` parameters."""
    return _repeated(engine, statement.where(key.in_([bindparam("key", type_=key.type)])), " IN (", ")", keys)


def _repeated(engine: Engine, statement: ClauseElement, before: str, after: str, times: int) -> str:
    """The SQL of `statement` with what stands between `before` and `after` repeated, by commas. SQLAlchemy would take
    ten milliseconds to compile a long one."""
    head, rest = str(statement.compile(dialect=engine.dialect)).split(before, 1)
    part, tail = rest.split(after, 1)
    return head + before + ", ".join([part] * times) + after + tail


def is_transient(error: BaseException) -> bool:
    """Whether the same transaction may succeed when done again: a lost connection or a deadlock."""
    if not isinstance(error, DBAPIError):
        return False
    return error.connection_invalidated or getattr(error.orig, "sqlstate", None) in _RETRYABLE_STATES


def as_store_error(error: BaseException, place: str) -> StoreError:
    """What `error` means for the user of the store at `place`."""
    if isinstance(error, StoreError):
        return error
    cause = getattr(error, "orig", None) or error
    code = getattr(cause, "sqlite_errorcode", None)
    state = getattr(cause, "sqlstate", None)
    advice = _POSTGRES_ADVICE.get(state or "") if code is None else _SQLITE_ADVICE.get(code & 0xFF)
    said = " ".join(str(cause).split())
    return StoreError(f"store {place}: {advice} [{said}]" if advice else f"store {place}: {said}")
