"""One limit on rollouts in flight for all jobs, shared fairly between them."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

from rollouts.executors import LocalExecutor

T = TypeVar("T")
R = TypeVar("R")


class FairGate:
    """Lets `slots` rollouts in at once. A place that becomes free goes to the waiting job that has the fewest in; of
    several, to the one that has waited longest for its turn. Within a job the order is that of arrival."""

    def __init__(self, slots: int) -> None:
        self._free = slots
        self._inside: Counter[str] = Counter()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._closed: set[str] = set()
        self._emptied: dict[str, asyncio.Event] = {}

    @asynccontextmanager
    async def turn(self, job: str) -> AsyncIterator[None]:
        """A place inside while the block runs."""
        await self._enter(job)
        try:
            yield
        finally:
            self._leave(job)

    def close(self, job: str) -> None:
        """Lets no more of `job` in."""
        self._closed.add(job)

    async def emptied(self, job: str) -> None:
        """Returns when nothing of `job` is inside."""
        if self._inside[job]:
            await self._emptied.setdefault(job, asyncio.Event()).wait()

    def forget(self, job: str) -> None:
        """The job has ended: nothing of it is inside or waits. It may come again."""
        self._closed.discard(job)
        self._emptied.pop(job, None)

    async def _enter(self, job: str) -> None:
        place = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(job, deque()).append(place)
        self._let_in()
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self._leave(job)
            else:
                self._drop(job, place)
            raise

    def _leave(self, job: str) -> None:
        self._free += 1
        self._inside[job] -= 1
        if not self._inside[job]:
            del self._inside[job]
            if job in self._emptied:
                self._emptied.pop(job).set()
        self._let_in()

    def _let_in(self) -> None:
        while self._free:
            # Who is let in goes to the end of the dict, so of equals the first has waited longest.
            open_jobs = [job for job in self._waiting if job not in self._closed]
            if not open_jobs:
                return
            job = min(open_jobs, key=self._inside.__getitem__)
            places = self._waiting.pop(job)
            place = places.popleft()
            if places:
                self._waiting[job] = places
            if place.cancelled():
                continue
            self._free -= 1
            self._inside[job] += 1
            place.set_result(None)

    def _drop(self, job: str, place: asyncio.Future[None]) -> None:
        places = self._waiting.get(job)
        if places is not None and place in places:
            places.remove(place)
            if not places:
                del self._waiting[job]


class GatedExecutor:
    """An Executor of one job: at most `slots` rollouts at once, and no more than the gate lets in."""

    def __init__(self, gate: FairGate, job: str, slots: int) -> None:
        self._gate, self._job, self._inner = gate, job, LocalExecutor(slots)
        self.slots = slots

    async def map(self, job: Callable[[T], Awaitable[R]], items: Sequence[T], *, priority: int = 0) -> list[R]:
        async def in_turn(item: T) -> R:
            async with self._gate.turn(self._job):
                return await job(item)

        return await self._inner.map(in_turn, items, priority=priority)

    async def close(self) -> None:
        await self._inner.close()
