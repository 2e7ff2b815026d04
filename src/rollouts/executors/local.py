"""Bounded concurrency in this process: at most `slots` jobs at once, the most urgent batch first."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar, cast

T = TypeVar("T")
R = TypeVar("R")


class Executor(Protocol):
    """Runs many jobs with bounded concurrency."""

    slots: int

    async def map(self, job: Callable[[T], Awaitable[R]], items: Sequence[T], *, priority: int = 0) -> list[R]:
        """`job(item)` for every item; results in the order of `items`.

        Jobs start in the order of `items`; batches with a smaller `priority` go first, equal ones in turn of arrival.
        The first exception of a job drops the batch's waiting jobs and is raised; running ones end by themselves. When
        the caller is cancelled, so are its running jobs.
        """
        ...

    async def close(self) -> None:
        """Cancels what still runs and everyone who waits for it."""
        ...


class _Batch(Generic[T, R]):
    """The jobs of one `map` call: a cursor over the items instead of one queue entry each."""

    __slots__ = ("done", "items", "job", "left", "next", "results", "running")

    def __init__(self, job: Callable[[T], Awaitable[R]], items: Sequence[T], done: asyncio.Future[None]) -> None:
        self.job, self.items, self.done = job, items, done
        self.results: list[Any] = [None] * len(items)
        self.next, self.left = 0, len(items)
        self.running: set[asyncio.Task[None]] = set()

    def drop(self) -> None:
        self.next = len(self.items)


class LocalExecutor:
    """Up to `slots` worker tasks share one priority queue; they are started when needed and end when it is empty."""

    def __init__(self, slots: int) -> None:
        if slots < 1:
            raise ValueError("an executor needs at least one slot")
        self.slots = slots
        self._queue: list[tuple[int, int, _Batch[Any, Any]]] = []
        self._arrivals = 0
        self._workers: set[asyncio.Task[None]] = set()
        self._batches: set[_Batch[Any, Any]] = set()

    async def map(self, job: Callable[[T], Awaitable[R]], items: Sequence[T], *, priority: int = 0) -> list[R]:
        if not items:
            return []
        batch: _Batch[T, R] = _Batch(job, items, asyncio.get_running_loop().create_future())
        self._arrivals += 1
        heapq.heappush(self._queue, (priority, self._arrivals, batch))
        self._batches.add(batch)
        for _ in range(min(len(items), self.slots - len(self._workers))):
            self._workers.add(asyncio.create_task(self._work()))
        try:
            await batch.done
        except asyncio.CancelledError:
            batch.drop()
            for worker in batch.running:
                worker.cancel()
            raise
        finally:
            self._batches.discard(batch)
        return cast("list[R]", batch.results)

    def _take(self) -> tuple[_Batch[Any, Any], int] | None:
        while self._queue:
            batch = self._queue[0][2]
            index = batch.next
            if index < len(batch.items):
                batch.next = index + 1
                return batch, index
            heapq.heappop(self._queue)
        return None

    async def _work(self) -> None:
        me = asyncio.current_task()
        assert me is not None
        try:
            while taken := self._take():
                await self._run(me, *taken)
        finally:
            # At once, not by a callback: who waits for the last result may call `map` before a callback runs. A
            # cancelled worker leaves its slot to the batches that still wait.
            self._workers.discard(me)
            if self._queue:
                self._workers.add(asyncio.create_task(self._work()))

    async def _run(self, me: asyncio.Task[None], batch: _Batch[Any, Any], index: int) -> None:
        batch.running.add(me)
        try:
            batch.results[index] = await batch.job(batch.items[index])
        except asyncio.CancelledError:
            batch.drop()
            batch.done.cancel()
            raise
        except BaseException as error:
            batch.drop()
            if not batch.done.done():
                batch.done.set_exception(error)
            if not isinstance(error, Exception):
                raise
        finally:
            batch.running.discard(me)
        batch.left -= 1
        if batch.left == 0 and not batch.done.done():
            batch.done.set_result(None)

    async def close(self) -> None:
        self._queue.clear()
        for batch in self._batches:
            batch.drop()
            batch.done.cancel()
        workers = list(self._workers)
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        self._workers.clear()
