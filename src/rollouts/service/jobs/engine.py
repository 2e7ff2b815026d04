"""Runs jobs: a queue, a limit on jobs and one on rollouts, and a way back after any end of the process."""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections import Counter
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

from rollouts.errors import RolloutsError, RunNotFound, ServiceError
from rollouts.experiments.job import Job, run_job
from rollouts.llm.client import Provider
from rollouts.prompt_optimization import Study, StudyOptions
from rollouts.service.jobs.events import Events
from rollouts.service.jobs.gate import FairGate, GatedExecutor
from rollouts.service.jobs.model import ENDED, JobRow, Status, new_id
from rollouts.service.jobs.results import said
from rollouts.service.jobs.runners import JobRunner
from rollouts.service.jobs.table import JobTable
from rollouts.service.jobs.webhooks import WEBHOOK, Webhooks
from rollouts.service.settings import ServiceSettings
from rollouts.store import EventRow, Store

log = logging.getLogger(__name__)

_REMEMBERED = 1000
_END_S = 30.0
"""So long a job that was cancelled may take to put together its result, once its rollouts have ended."""


@dataclass(slots=True)
class Active:
    """A job that is being run. `wish` is what its owner wants of it instead."""

    row: JobRow
    task: asyncio.Task[None] = field(init=False)
    study: Study | None = None
    wish: Literal["", "pause", "cancel"] = ""

    @property
    def cancelled(self) -> bool:
        return self.wish == "cancel"


class Engine:
    """Takes jobs and runs them on the running event loop, `max_jobs` of them and `slots` rollouts at once.

    Every change of a job's status is stored before it is done, and an event of the kind `job` tells of it. Jobs of one
    owner begin in the order in which they came; a free place goes to the owner with the fewest jobs running, of several
    to the one whose turn was longest ago.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        store: Store,
        jobs: JobTable,
        events: Events,
        *,
        runners: Mapping[str, JobRunner],
        webhooks: Webhooks,
        providers: Mapping[str, Provider] | None = None,
    ) -> None:
        self._settings, self._store, self._jobs, self._events = settings, store, jobs, events
        self._runners, self._webhooks, self._providers = runners, webhooks, providers or {}
        self._gate = FairGate(settings.slots)
        self._rows: dict[str, JobRow] = {}
        self._ended: dict[str, JobRow] = {}
        self._queue: dict[str, JobRow] = {}
        self._active: dict[str, Active] = {}
        self._turns: dict[str, int] = {}
        self._enders: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Takes up what earlier processes left."""
        for row in self._jobs.unfinished():
            if row.status in ENDED:
                self._jobs.change(row.id, **_now_over(row))
                self._forget(row)
                continue
            self._rows[row.id] = row
            if row.status != "paused":
                self._queue[row.id] = row
        self._webhooks.start(self._tell)
        self._begin()

    async def close(self) -> None:
        """Stops all work where it is; the next `start` takes it up."""
        self._queue.clear()
        tasks = [active.task for active in self._active.values()]
        for task in (*tasks, *self._enders):
            task.cancel()
        await asyncio.gather(*tasks, *self._enders, return_exceptions=True)
        await self._webhooks.close()

    async def submit(self, kind: str, config: Mapping[str, Any], *, owner: str, name: str = "") -> JobRow:
        """A new job, checked and queued. Raises RolloutsError that says what to change."""
        if self._jobs.count_unfinished(owner) >= self._settings.max_queued:
            raise ServiceError(
                f"you have {self._settings.max_queued} jobs waiting or running, and there may be no more: wait for one "
                "to end, or cancel one",
                status=429,
                code="too_many_jobs",
            )
        row = JobRow(
            id=new_id(),
            owner=owner,
            kind=kind,
            name=name,
            status="queued",
            config=dict(config),
            created_at=time.time(),
        )
        await asyncio.to_thread(self._webhooks.check, owner, config)
        try:
            async with self._runners[kind].prepared(row) as job:
                row = replace(row, name=name or job.options.name)
        except BaseException:
            shutil.rmtree(self._settings.results_dir / row.id, ignore_errors=True)
            raise
        self._jobs.add(row)
        self._rows[row.id] = row
        self._tell(row.id, "job", status="queued")
        self._queue[row.id] = row
        self._begin()
        return row

    def pause(self, job_id: str, owner: str) -> None:
        """Starts no more of the job. What is in flight ends; then the job rests until `resume`.

        This, `resume` and `cancel` raise RunNotFound, and ServiceError (409) when the job's status does not allow it.
        """
        row = self._checked(job_id, owner, "paused", "queued", "running")
        self._set(row.id, "paused")
        self._queue.pop(row.id, None)
        active = self._active.get(row.id)
        if active is not None:
            active.wish = "pause"
            self._gate.close(row.id)
            self._end_soon(active, self._at_rest(active))

    def resume(self, job_id: str, owner: str) -> None:
        """Lets a job that was paused, or has failed, go on where it was."""
        row = self._checked(job_id, owner, "resumed", "paused", "failed")
        self._rows[row.id] = row
        self._webhooks.forget(row.id)
        self._queue[row.id] = self._set(row.id, "queued", error=None, finished_at=None, webhook_due=None)
        self._begin()

    def cancel(self, job_id: str, owner: str) -> None:
        """Ends the job for good, and keeps the best so far: what is in flight may end within the grace, and a job that
        rests is taken from the store once more, which calls nothing."""
        before = self._checked(job_id, owner, "cancelled", "queued", "running", "paused")
        row = self._set(before.id, "cancelled")
        self._queue.pop(row.id, None)
        active = self._active.get(row.id)
        if active is None:
            if self._has_run(row.id):
                self._queue[row.id] = row
                self._begin()
            else:
                self._finish(row.id, "cancelled")
            return
        paused, active.wish = active.wish == "pause", "cancel"
        if active.study is None or paused:
            self._end_soon(active, asyncio.sleep(0))  # a task that has not begun would never end what it stands for
        else:
            active.study.stop("cancelled", grace_s=self._settings.grace_s)
            self._end_soon(active, asyncio.wait([active.task]), more_s=_END_S)

    def over(self, job_id: str) -> bool:
        """Whether nothing more will happen to the job by itself."""
        return job_id not in self._rows

    def row(self, job_id: str, owner: str) -> JobRow | None:
        """The job, if it is the owner's and not over: as it is stored, without asking the database."""
        row = self._rows.get(job_id)
        return row if row is not None and row.owner == owner else None

    async def brief(self, job_id: str, owner: str) -> JobRow:
        """The job in brief. The database is asked only for jobs that were over long ago. Raises RunNotFound."""
        row = self._rows.get(job_id) or self._ended.get(job_id)
        if row is not None and row.owner == owner:
            return row.brief
        return await asyncio.to_thread(self._jobs.get, job_id, owner, brief=True)

    def study(self, job_id: str) -> Study | None:
        """The study of a job that is being run."""
        active = self._active.get(job_id)
        return None if active is None else active.study

    def _checked(self, job_id: str, owner: str, become: str, *allowed: Status) -> JobRow:
        row = self._jobs.get(job_id, owner)
        if row.status not in allowed:
            raise ServiceError(
                f"job {row.id} is {row.status}; only a job that is {' or '.join(allowed)} can be {become}",
                status=409,
                code="wrong_state",
            )
        return row

    def _begin(self) -> None:
        """Begins queued jobs while there is room."""
        while len(self._active) < self._settings.max_jobs:
            busy = Counter(active.row.owner for active in self._active.values())
            # A job that was resumed before it came to rest waits for itself.
            waiting = [row for row in self._queue.values() if row.id not in self._active]
            if not waiting:
                return
            row = min(waiting, key=lambda row: (busy[row.owner], self._turns.get(row.owner, 0), row.created_at))
            self._turns[row.owner] = max(self._turns.values(), default=0) + 1
            del self._queue[row.id]
            active = self._active[row.id] = Active(row, wish="cancel" if row.status == "cancelled" else "")
            active.task = asyncio.create_task(self._run(active), name=row.id)

    async def _run(self, active: Active) -> None:
        job_id = active.row.id
        try:
            await self._work(active)
        except asyncio.CancelledError:
            if active.cancelled:
                self._finish(job_id, "cancelled")
        except RolloutsError as error:
            self._finish(job_id, "cancelled" if active.cancelled else "failed", error=str(error))
        except Exception as error:  # one job's bug must not end the others
            log.exception("job %s", job_id)
            self._finish(job_id, "failed", error=f"unexpected {type(error).__name__}; the service's log has the rest")
        finally:
            del self._active[job_id]
            self._gate.forget(job_id)
            self._begin()

    async def _work(self, active: Active) -> None:
        row = active.row
        async with self._runners[row.kind].prepared(row) as job:
            if not active.wish:
                self._set(row.id, "running", started_at=row.started_at or time.time())
            elif row.status != "cancelled":
                raise asyncio.CancelledError  # the task's own may come when it has ended
            result, _ = await run_job(job, self._store, options=self._options(active, job))
        fields = await asyncio.to_thread(said, job, result, self._store)
        self._finish(row.id, "cancelled" if active.cancelled else "succeeded", **fields)

    def _options(self, active: Active, job: Job) -> StudyOptions:
        row = active.row

        def attach(study: Study) -> None:
            active.study = study
            if row.status == "cancelled":
                study.replay("cancelled")
            if job.options.on_start is not None:
                job.options.on_start(study)

        return replace(
            job.options,
            run_id=row.id,
            resume=self._has_run(row.id),
            listeners=(*job.options.listeners, lambda kind, data: self._events.note(row.id)),
            providers={**self._providers, **job.options.providers},
            executor=partial(GatedExecutor, self._gate, row.id),
            on_start=attach,
        )

    def _has_run(self, job_id: str) -> bool:
        try:
            self._store.run(job_id)
        except RunNotFound:
            return False
        return True

    def _set(self, job_id: str, status: Status, **changes: Any) -> JobRow:
        self._jobs.change(job_id, status=status, **changes)
        row = self._rows[job_id] = replace(self._rows[job_id], status=status, **changes)
        self._tell(job_id, "job", status=status)
        return row

    def _finish(self, job_id: str, status: Status, **changes: Any) -> None:
        self._queue.pop(job_id, None)
        with suppress(RolloutsError):  # a store that fails has failed the job before; the next start takes it up
            row = self._set(job_id, status, **_now_over(self._rows[job_id]), **changes)
            if row.webhook_due is not None:
                self._webhooks.send(row)
            self._ended[job_id] = row.brief
            if len(self._ended) > _REMEMBERED:
                del self._ended[next(iter(self._ended))]
            self._forget(row)
        self._rows.pop(job_id, None)
        self._events.ended(job_id)

    def _forget(self, row: JobRow) -> None:
        if row.status != "failed":  # which can go on
            self._runners[row.kind].forget(row)

    def _tell(self, job_id: str, kind: str, **data: Any) -> None:
        study = self.study(job_id)
        if study is not None:
            study.emit(kind, **data)
        else:
            self._store.flush()
            seq = self._jobs.last_event(job_id) + 1
            self._store.record(EventRow(run_id=job_id, seq=seq, kind=kind, data=data, created_at=time.time()))
        self._events.note(job_id)

    async def _at_rest(self, active: Active) -> None:
        """Returns when nothing of a job that starts no more rollouts is under way."""
        await self._gate.emptied(active.row.id)
        if active.study is not None:
            await active.study.quiet()

    def _end_soon(self, active: Active, at_rest: Awaitable[object], more_s: float = 0.0) -> None:
        """Ends the job's task when it is at rest, at the latest after the grace and `more_s`."""

        async def end() -> None:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._settings.grace_s + more_s):
                    await at_rest
            active.task.cancel()

        ender = asyncio.create_task(end())
        self._enders.add(ender)
        ender.add_done_callback(self._enders.discard)


def _now_over(row: JobRow) -> dict[str, float]:
    now = time.time()
    return {"finished_at": now, "webhook_due": now} if WEBHOOK in row.config else {"finished_at": now}
