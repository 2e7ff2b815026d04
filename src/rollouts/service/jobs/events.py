"""The events of jobs, from the store to any number of listeners.

A listener only ever sees what is committed: an event that was delivered cannot be lost by a sudden death of the
process, and its number is never given to another one. One reader serves all listeners of all jobs.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress

from rollouts.errors import StoreError
from rollouts.store.base import EventRow, Store

PAGE = 1000
_GATHER_S = 0.02
_AGAIN_S = 1.0
_KEPT = 2 * PAGE

log = logging.getLogger(__name__)


class _Feed:
    """The newest committed events of a job that somebody listens to: all those after `base`.

    `ending` says that the job is over, `complete` that all of its events have been read since then.
    """

    def __init__(self) -> None:
        self.rows: list[EventRow] = []
        self.base = self.tip = 0
        self.listeners = 0
        self.ending = self.complete = False
        self.changed = asyncio.Event()

    def add(self, rows: Sequence[EventRow]) -> None:
        if not rows:
            return
        self.rows += rows
        self.tip = rows[-1].seq
        if len(self.rows) > _KEPT:
            self.base = self.rows[-PAGE - 1].seq
            del self.rows[:-PAGE]
        self.wake()

    def end(self) -> None:
        self.complete = True
        self.wake()

    def after(self, seq: int) -> Sequence[EventRow]:
        return self.rows[bisect_right(self.rows, seq, key=lambda row: row.seq) :][:PAGE]

    def wake(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()


class Events:
    """Reads events in pages, and follows them while they come.

    `note` must be called, in the event loop, after an event of a job was recorded.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._feeds: dict[str, _Feed] = {}
        self._noted: set[str] = set()
        self._anything = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None
        self._hung_up = False

    def start(self) -> None:
        """Begins to serve listeners."""
        self._reader = asyncio.create_task(self._read_on(), name="events")

    def hang_up(self) -> None:
        """Sends all listeners away: they may come back, to another process, with the number of their last event."""
        self._hung_up = True
        for feed in self._feeds.values():
            feed.wake()

    async def close(self) -> None:
        """Ends."""
        if self._reader is not None:
            self._reader.cancel()
            with suppress(asyncio.CancelledError):
                await self._reader

    def note(self, job_id: str) -> None:
        """There is something new of this job."""
        if job_id in self._feeds:
            self._noted.add(job_id)
            self._anything.set()

    def page(self, job_id: str, *, after: int = 0, limit: int = PAGE) -> list[EventRow]:
        """The committed events after number `after`, in order."""
        return self._store.events(job_id, after=after, limit=limit)

    async def follow(
        self, job_id: str, *, after: int, over: Callable[[], bool], heartbeat_s: float
    ) -> AsyncIterator[Sequence[EventRow]]:
        """All events after number `after`, a few at a time, until the job has `ended` or `hang_up`; an empty list after
        every `heartbeat_s` seconds without one. `over` says whether it has ended before."""
        feed = self._feeds.setdefault(job_id, _Feed())
        feed.listeners += 1
        try:
            feed.ending = over()
            feed.complete = feed.complete and feed.ending
            self.note(job_id)
            while not self._hung_up:
                changed, complete = feed.changed, feed.complete
                if after < feed.base:
                    rows: Sequence[EventRow] = await asyncio.to_thread(self.page, job_id, after=after)
                else:
                    rows = feed.after(after)
                if rows:
                    after = rows[-1].seq
                    yield rows
                elif complete:
                    return
                elif not await _within(changed, heartbeat_s):
                    yield ()
        finally:
            feed.listeners -= 1
            if not feed.listeners:
                del self._feeds[job_id]

    def ended(self, job_id: str) -> None:
        """A job is over: who listens to it is sent away when all of its events are delivered."""
        feed = self._feeds.get(job_id)
        if feed is not None:
            feed.ending = True
            self.note(job_id)

    async def _read_on(self) -> None:
        while True:
            await self._anything.wait()
            await asyncio.sleep(_GATHER_S)
            self._anything.clear()
            noted, self._noted = self._noted, set()
            feeds = {job: feed for job in noted if (feed := self._feeds.get(job)) is not None}
            ending = {job for job, feed in feeds.items() if feed.ending}
            try:
                found = await asyncio.to_thread(self._fresh, {job: feed.tip for job, feed in feeds.items()})
            except StoreError as error:
                log.error("events cannot be read: %s", error)
                self._noted |= noted
                self._anything.set()
                await asyncio.sleep(_AGAIN_S)
                continue
            for job, rows in found.items():
                feeds[job].add(rows)
                if len(rows) == PAGE:
                    self.note(job)
                elif job in ending and feeds[job].ending:
                    feeds[job].end()

    def _fresh(self, wanted: dict[str, int]) -> dict[str, list[EventRow]]:
        self._store.flush()
        return {job: self._store.events(job, after=tip, limit=PAGE) for job, tip in wanted.items()}


async def _within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
