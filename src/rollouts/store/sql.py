"""A store in an SQLite file or a PostgreSQL database."""

from __future__ import annotations

import atexit
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Select, func, select, tuple_, update
from sqlalchemy.exc import IntegrityError

from rollouts.errors import RunNotFound, StoreError
from rollouts.store import schema
from rollouts.store.base import EventRow, GenerationRow, ProgramRow, RolloutRow, Row, RunRow, SampleRow
from rollouts.store.codec import EVENTS, GENERATIONS, PROGRAMS, QUEUED, ROLLOUTS, RUNS, SAMPLES, Codec, clean, dumps
from rollouts.store.database import Database
from rollouts.store.dialects import is_transient
from rollouts.store.rules import check, check_changes, key_of, pick_run
from rollouts.store.writer import Batch, Encoded, Writer

R = TypeVar("R", RolloutRow, GenerationRow, ProgramRow, SampleRow)

_ATTEMPTS = 3
_IDS_FOR_HINTS = 1000
_RUN_JSON = frozenset({"config", "authorised", "summary"})
_BY_CONTENT = frozenset({ProgramRow, SampleRow})
"""Many runs write the same ones: in one order, or two transactions could wait for each other."""
_SPEAKS_OF_ROWS = frozenset({"status", "summary"})


class SqlStore:
    """A `Store` at a path (SQLite) or URL (SQLite, PostgreSQL), made or migrated when it is opened.

    `record` queues at most `queue_rows` rows and then waits for the writer. What is queued is committed within
    milliseconds; text that not every database can hold (lone surrogates, NUL) is kept with U+FFFD instead. Changes of
    runs also survive the death of the machine. Raises ConfigError, StoreError, StoreTooNew on opening.
    `database` is where it lives, for tables beside its own.
    """

    def __init__(self, place: str | Path, *, queue_rows: int = 50_000) -> None:
        self.database = Database(place)
        self._writer = Writer(self._commit, self.database.error, queue_rows=queue_rows)
        atexit.register(self._writer.close)

    def record(self, *rows: Row) -> None:
        encoded: list[Encoded] = []
        for row in rows:
            check(row)
            encoded.append((row, key_of(row), QUEUED[type(row)].encode(row)))
        self._writer.put(encoded)

    def flush(self) -> None:
        self._writer.flush()

    def _commit(self, batch: Batch) -> None:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                with self.database.write() as connection:
                    self._insert(connection, batch)
                return
            except StoreError as error:
                if attempt == _ATTEMPTS or error.__cause__ is None or not is_transient(error.__cause__):
                    raise

    def _insert(self, connection: Connection, batch: Batch) -> None:
        for kind, codec in QUEUED.items():
            if kind is RolloutRow:
                self.database.delete_failures(connection, ROLLOUTS, batch.successes())
            values = batch.values(kind)
            if kind in _BY_CONTENT:
                values.sort(key=itemgetter(0))
            self.database.insert(connection, codec, values)

    def rollouts(self, keys: Sequence[str]) -> Mapping[str, RolloutRow]:
        return self._find(ROLLOUTS, keys)

    def generations(self, keys: Sequence[str]) -> Mapping[str, GenerationRow]:
        return self._find(GENERATIONS, keys)

    def programs(self, digests: Sequence[str]) -> Mapping[str, ProgramRow]:
        return self._find(PROGRAMS, digests)

    def samples(self, digests: Sequence[str]) -> Mapping[str, SampleRow]:
        return self._find(SAMPLES, digests)

    def _find(self, codec: Codec[R], keys: Sequence[str]) -> dict[str, R]:
        """What is stored comes first: a queued row with a known key will be left out."""
        waiting = self._writer.waiting()
        with self.database.read() as connection:
            rows = {row[0]: codec.decode(row) for row in self.database.by_key(connection, codec, keys)}
        found = {key: row for key, row in rows.items() if _is_success(row)}
        for batch in waiting:
            for key in keys:
                queued = None if key in found else batch.get(codec.row, key)
                if isinstance(queued, codec.row) and _is_success(queued):
                    found[key] = queued
        return found

    def create_run(self, run: RunRow) -> None:
        self.flush()
        try:
            with self.database.write(durable=True) as connection:
                connection.execute(schema.runs.insert(), dict(zip(RUNS.names, RUNS.encode(run), strict=True)))
        except StoreError as error:
            if isinstance(error.__cause__, IntegrityError):
                raise StoreError(f"there is a run {run.id!r} already; choose another id, or resume it") from None
            raise

    def update_run(self, run_id: str, **changes: Any) -> None:
        check_changes(changes)
        if not _SPEAKS_OF_ROWS.isdisjoint(changes):
            self.flush()
        values = {name: dumps(value) if name in _RUN_JSON else value for name, value in changes.items()}
        if "name" in values:
            values["name"] = clean(values["name"])
        with self.database.write(durable=True) as connection:
            statement = update(schema.runs).where(schema.runs.c.id == run_id)
            changed = connection.execute(statement.values(values or {"id": run_id})).rowcount
        if not changed:
            raise RunNotFound(f"no run has the id {run_id!r}")

    def run(self, run_id: str) -> RunRow:
        ids = schema.runs.c.id
        with self.database.read() as connection:
            known = set(connection.scalars(select(ids).where(ids == run_id)))
            known = known or set(connection.scalars(select(ids).where(ids.startswith(run_id, autoescape=True))))
            if not known:
                newest = select(ids).order_by(schema.runs.c.created_at.desc()).limit(_IDS_FOR_HINTS)
                known = set(connection.scalars(newest))
            wanted = select(*RUNS.columns).where(ids == pick_run(run_id, known))
            return RUNS.decode(connection.execute(wanted).one())

    def runs(self, *, limit: int = 50, before: str | None = None, status: str | None = None) -> list[RunRow]:
        table = schema.runs
        order = tuple_(table.c.created_at, table.c.id)
        query = select(*RUNS.columns).order_by(table.c.created_at.desc(), table.c.id.desc()).limit(limit)
        if status is not None:
            query = query.where(table.c.status == status)
        with self.database.read() as connection:
            if before is not None:
                position = connection.execute(
                    select(table.c.created_at, table.c.id).where(table.c.id == before)
                ).first()
                if position is None:
                    raise RunNotFound(f"no run has the id {before!r}")
                query = query.where(order < tuple_(*position))
            return [RUNS.decode(row) for row in connection.execute(query)]

    def scan_rollouts(
        self, run_id: str, *, program: str | None = None, failed: bool | None = None, page: int = 1000
    ) -> Iterator[RolloutRow]:
        rollouts, uses = schema.rollouts, schema.run_rollouts
        paid = select(*ROLLOUTS.columns, rollouts.c.id).where(rollouts.c.run_id == run_id)
        seen = [uses.c.phase if column is rollouts.c.phase else column for column in ROLLOUTS.columns]
        used = select(*seen, uses.c.id).join(uses, uses.c.key == rollouts.c.key)
        used = used.where(uses.c.run_id == run_id, rollouts.c.run_id != run_id)
        for query, position in ((paid, rollouts.c.id), (used, uses.c.id)):
            if program is not None:
                query = query.where(rollouts.c.program == program)
            if failed is not None:
                query = query.where(rollouts.c.failure.is_not(None) if failed else rollouts.c.failure.is_(None))
            yield from self._pages(ROLLOUTS, query, position, page)

    def scan_generations(self, run_id: str, *, phase: str | None = None, page: int = 1000) -> Iterator[GenerationRow]:
        table = schema.generations
        query = select(*GENERATIONS.columns, table.c.id).where(table.c.run_id == run_id)
        if phase is not None:
            query = query.where(table.c.phase == phase)
        yield from self._pages(GENERATIONS, query, table.c.id, page)

    def _pages(self, codec: Codec[R], query: Select[Any], position: Any, page: int) -> Iterator[R]:
        """All rows of `query` in the order of `position`, its last column. Rows that come later are left out: a scan
        must end even when another process writes faster than it reads."""
        last, end = -1, None
        while True:
            with self.database.read() as connection:
                if end is None:
                    end = connection.scalar(select(func.max(position))) or 0
                part = query.where(position > last, position <= end).order_by(position).limit(page)
                rows = connection.execute(part).all()
            yield from map(codec.decode, rows)
            if len(rows) < page:
                return
            last = rows[-1][-1]

    def events(self, run_id: str, *, after: int = 0, limit: int = 1000) -> list[EventRow]:
        table = schema.events
        query = select(*EVENTS.columns).where(table.c.run_id == run_id, table.c.seq > after)
        with self.database.read() as connection:
            return [EVENTS.decode(row) for row in connection.execute(query.order_by(table.c.seq).limit(limit))]

    def lock_run(self, run_id: str) -> None:
        with self.database.errors():
            self.database.locks.take(run_id)

    def unlock_run(self, run_id: str) -> None:
        with self.database.errors():
            self.database.locks.give(run_id)

    def close(self) -> None:
        """Flushes and closes. Raises the StoreError that stopped the writer, after all is closed."""
        atexit.unregister(self._writer.close)
        self._writer.close()
        self.database.close()
        error = self._writer.error()
        if error is not None:
            raise error


def _is_success(row: RolloutRow | GenerationRow | ProgramRow | SampleRow) -> bool:
    return not isinstance(row, RolloutRow) or row.failure is None
