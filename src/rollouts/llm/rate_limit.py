"""As many calls at once as the endpoint takes, found out by trying."""

from __future__ import annotations

import asyncio
from collections import deque

from rollouts.dtypes import Request, Response
from rollouts.errors import ConfigError, RateLimited
from rollouts.llm.client import Client
from rollouts.llm.clock import Clock

START = 20
CUT = 0.8


class ConcurrencyLimiter:
    """Additive increase, multiplicative decrease (Chiu & Jain 1989) of the calls in flight. Pure: time is an argument.

    It starts at min(20, slots) and grows while the window is full, up to `slots`: by one for every call that succeeded
    until the first refusal ("slow start", Jacobson 1988), then by one for every full window of them. It is cut by a
    fifth when a call that started after the last cut is refused, down to 1. A Retry-After of at most `max_pause_s`
    stops all new starts for that long. A refusal at a limit of 1 stops them too, for a time that doubles from 1 s up
    to 30 s until a call succeeds.
    """

    def __init__(self, slots: int, *, max_pause_s: float = 300.0) -> None:
        if slots < 1:
            raise ConfigError(f"{slots} calls in flight: at least 1 is needed")
        self.slots, self.max_pause_s = slots, max_pause_s
        self.limit = min(START, slots)
        self.in_flight = 0
        self._paused_until = 0.0
        self._round = 0
        self._successes = 0
        self._refused_at_floor = 0

    def ready(self, now: float) -> bool:
        """Whether a call may start."""
        return self.in_flight < self.limit and now >= self._paused_until

    def pause_left(self, now: float) -> float:
        """Seconds for which no call may start."""
        return max(0.0, self._paused_until - now)

    def resume(self) -> None:
        """Ends a pause."""
        self._paused_until = 0.0

    def start(self) -> int:
        """A call starts. Returns its ticket, which tells whether it started before or after the last cut."""
        self.in_flight += 1
        return self._round

    def succeeded(self, ticket: int) -> None:
        """A call ended well."""
        if ticket == self._round and self.in_flight >= self.limit < self.slots:
            self._successes += 1
            if self._round == 0 or self._successes >= self.limit:
                self.limit += 1
                self._successes = 0
        self._refused_at_floor = 0
        self.in_flight -= 1

    def failed(self) -> None:
        """A call ended in a way that says nothing about rate limits."""
        self.in_flight -= 1

    def refused(self, ticket: int, now: float, retry_after: float | None) -> None:
        """A call was answered 429; `retry_after` in seconds."""
        self.in_flight -= 1
        pause = retry_after or 0.0
        if ticket == self._round:
            if self.limit == 1:
                pause = max(pause, min(30.0, 2.0**self._refused_at_floor))
                self._refused_at_floor = min(self._refused_at_floor + 1, 5)
            self.limit = max(1, int(self.limit * CUT))
            self._round += 1
            self._successes = 0
        if 0 < pause <= self.max_pause_s:
            self._paused_until = max(self._paused_until, now + pause)


class RateLimitedClient:
    """Lets as many requests through to `inner` as `limiter` allows; the others wait in the order of arrival.

    The wait is no part of `Response.latency_s`, which the provider measures.
    """

    def __init__(self, inner: Client, limiter: ConcurrencyLimiter, clock: Clock) -> None:
        self._inner, self._clock = inner, clock
        self.limiter = limiter
        self._queue: deque[asyncio.Future[int]] = deque()
        self._pause: asyncio.Task[None] | None = None

    async def complete(self, request: Request) -> Response:
        """See `Client.complete`."""
        limiter = self.limiter
        if self._queue or not limiter.ready(self._clock.now()):
            ticket = await self._turn()
        else:
            ticket = limiter.start()
        try:
            response = await self._inner.complete(request)
        except RateLimited as error:
            limiter.refused(ticket, self._clock.now(), error.retry_after)
            raise
        except BaseException:
            limiter.failed()
            raise
        else:
            limiter.succeeded(ticket)
            return response
        finally:
            if self._queue:
                self._admit()

    async def close(self) -> None:
        """Ends the waiting and closes `inner`."""
        if self._pause is not None:
            self._pause.cancel()
            await asyncio.wait([self._pause])
        for waiter in self._queue:
            waiter.cancel()
        await self._inner.close()

    async def _turn(self) -> int:
        waiter: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._queue.append(waiter)
        self._admit()
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.limiter.failed()
                self._admit()
            raise

    def _admit(self) -> None:
        """Starts those at the head of the queue; each has its slot from here on, before it runs."""
        limiter, queue, now = self.limiter, self._queue, self._clock.now()
        while queue and (queue[0].done() or limiter.ready(now)):
            waiter = queue.popleft()
            if not waiter.done():
                waiter.set_result(limiter.start())
        if queue and self._pause is None and limiter.pause_left(now):
            self._pause = asyncio.get_running_loop().create_task(self._wait_out())

    async def _wait_out(self) -> None:
        clock, limiter = self._clock, self.limiter
        try:
            now = clock.now()
            while wait := limiter.pause_left(now):
                await clock.sleep(wait)
                then, now = now, clock.now()
                if now - then < wait / 2:
                    # The clock has no time left to sleep (see RunClock): all go on, and the budget tells them so.
                    break
            limiter.resume()
        finally:
            self._pause = None
        self._admit()
