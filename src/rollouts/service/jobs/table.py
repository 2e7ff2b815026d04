"""The jobs in the database."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import ColumnElement, Row, func, select, tuple_, update

from rollouts.errors import RunNotFound
from rollouts.service.database import events, jobs
from rollouts.service.jobs.model import JobRow
from rollouts.store.codec import clean, dumps
from rollouts.store.database import Database

_JSON = ("config", "summary", "result")
_TEXT = ("owner", "name", "error")
_LONG = ("config", "result")
_BRIEF = [column for column in jobs.c if column.name not in _LONG]
_WITHOUT_RESULT = [column for column in jobs.c if column.name != "result"]


class JobTable:
    """Reads and writes jobs. Every change is durable when its method returns; all raise StoreError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, job: JobRow) -> None:
        """Stores a new job."""
        with self._database.write(durable=True) as connection:
            connection.execute(jobs.insert(), _encoded(asdict(job)))

    def change(self, job_id: str, **changes: Any) -> None:
        """Changes fields of a job; raises RunNotFound."""
        with self._database.write(durable=True) as connection:
            changed = connection.execute(update(jobs).where(jobs.c.id == job_id).values(**_encoded(changes))).rowcount
        if not changed:
            raise RunNotFound(f"no job has the id {job_id!r}")

    def get(self, job_id: str, owner: str | None = None, *, brief: bool = False) -> JobRow:
        """The job with that id, `brief` as in lists. Raises RunNotFound when there is none, or it is not of `owner`."""
        query = select(*(_BRIEF if brief else jobs.c)).where(jobs.c.id == clean(job_id), *_of(owner))
        with self._database.read() as connection:
            row = connection.execute(query).first()
        if row is None:
            raise RunNotFound(f"no job has the id {job_id!r}; list the jobs to see which there are")
        return _decoded(row)

    def list(
        self, owner: str, *, status: str | None = None, limit: int = 50, before: str | None = None
    ) -> Sequence[JobRow]:
        """The newest jobs of `owner` first, in `brief`; `before` is the id after which to go on."""
        query = select(*_BRIEF).where(*_of(owner))
        if status is not None:
            query = query.where(jobs.c.status == status)
        if before is not None:
            last = self.get(before, owner, brief=True)
            query = query.where(tuple_(jobs.c.created_at, jobs.c.id) < tuple_(last.created_at, last.id))
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(jobs.c.created_at.desc(), jobs.c.id.desc()).limit(limit))
            return [_decoded(row) for row in rows]

    def unfinished(self) -> Sequence[JobRow]:
        """All jobs that are not over, oldest first."""
        query = select(*_WITHOUT_RESULT).where(jobs.c.finished_at.is_(None)).order_by(jobs.c.created_at, jobs.c.id)
        with self._database.read() as connection:
            return [_decoded(row) for row in connection.execute(query)]

    def webhooks_due(self) -> Sequence[JobRow]:
        """The jobs whose end is still to be told, without their results."""
        query = select(*_WITHOUT_RESULT).where(jobs.c.webhook_due.is_not(None)).order_by(jobs.c.webhook_due)
        with self._database.read() as connection:
            return [_decoded(row) for row in connection.execute(query)]

    def count_unfinished(self, owner: str) -> int:
        """How many jobs of `owner` are not over."""
        query = select(func.count()).select_from(jobs).where(*_of(owner), jobs.c.finished_at.is_(None))
        with self._database.read() as connection:
            return connection.scalar(query) or 0

    def last_event(self, job_id: str) -> int:
        """The number of the job's last committed event, 0 when there is none."""
        with self._database.read() as connection:
            return connection.scalar(select(func.max(events.c.seq)).where(events.c.run_id == job_id)) or 0


def _of(owner: str | None) -> list[ColumnElement[bool]]:
    return [] if owner is None else [jobs.c.owner == owner]


def _encoded(values: dict[str, Any]) -> dict[str, Any]:
    out = dict(values)
    for name in _JSON:
        if out.get(name) is not None:
            out[name] = dumps(out[name])
    for name in _TEXT:
        if out.get(name) is not None:
            out[name] = clean(out[name])
    return out


def _decoded(row: Row[Any]) -> JobRow:
    values: dict[str, Any] = {"config": {}, **row._mapping}
    for name in _JSON:
        if isinstance(values.get(name), str):
            values[name] = json.loads(values[name])
    return JobRow(**values)
