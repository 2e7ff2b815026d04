"""Virtual time: what waits for hours in a test is over at once."""

from __future__ import annotations

import asyncio
import heapq
from itertools import count


class FakeClock:
    """A `Clock` whose time moves only when it is told to, or (`auto`) when every task of the loop waits.

    With `auto` a wait on a socket or a thread also counts as waiting: time then jumps ahead of it. Sleepers wake in
    the order of their times, those of one time in the order in which they went to sleep.
    """

    def __init__(self, start: float = 0.0, *, auto: bool = False) -> None:
        self._now, self._auto = start, auto
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = count()
        self._watching = False

    def now(self) -> float:
        """Virtual seconds."""
        return self._now

    async def sleep(self, seconds: float) -> None:
        """Returns when `seconds` of virtual time have passed."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        loop = asyncio.get_running_loop()
        sleeper: asyncio.Future[None] = loop.create_future()
        heapq.heappush(self._sleepers, (self._now + seconds, next(self._count), sleeper))
        if self._auto and not self._watching:
            self._watching = True
            loop.call_soon(self._watch, loop)
        await sleeper

    async def advance(self, seconds: float) -> None:
        """Moves time by `seconds`, waking every sleeper at its own time and letting what it starts run on."""
        end = self._now + seconds
        await _settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            self._wake_next()
            await _settle()
        self._now = end

    @property
    def sleeping(self) -> int:
        """How many wait for this clock."""
        return sum(not sleeper.done() for _, _, sleeper in self._sleepers)

    def _wake_next(self) -> None:
        """Moves time to the earliest sleeper and wakes it, past those that were cancelled."""
        while self._sleepers:
            due, _, sleeper = heapq.heappop(self._sleepers)
            if not sleeper.done():
                self._now = max(self._now, due)
                sleeper.set_result(None)
                return

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        if not _others_ready(loop):
            self._wake_next()
        self._watching = bool(self._sleepers)
        if self._watching:
            loop.call_soon(self._watch, loop)


def _others_ready(loop: asyncio.AbstractEventLoop) -> bool:
    # asyncio has no public way to ask whether anything but the running callback is ready.
    return bool(getattr(loop, "_ready", ()))


async def _settle() -> None:
    """Returns when every other task waits (or has been given a thousand turns)."""
    loop = asyncio.get_running_loop()
    for _ in range(1000):
        await asyncio.sleep(0)
        if not _others_ready(loop):
            return
