"""No attempt leaves that the budget cannot pay for."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from rollouts.budget import Authorisation, Ledger, Reservation, Spend
from rollouts.dtypes import Request, Response
from rollouts.errors import BudgetExhausted, CallTimeout, ProviderError
from rollouts.llm.client import Provider
from rollouts.llm.clock import Clock
from rollouts.llm.turns import Turns


class RunClock:
    """The clock of one run in this process: no wait outlasts the run's cap on seconds, or its `stop`.

    `started` is the time of `clock` at which this process began to work on the run.
    """

    def __init__(self, clock: Clock, ledger: Ledger, started: float) -> None:
        self._clock, self._ledger, self._started = clock, ledger, started
        self._capped = ledger.budget.max_seconds is not None
        self._sleeping: set[asyncio.Future[None]] = set()
        self.stopped = False

    def now(self) -> float:
        """See `Clock.now`."""
        return self._clock.now()

    async def sleep(self, seconds: float) -> None:
        """Waits, but not longer than the run may last. That it is over is raised by the next `left`."""
        if self._capped:
            try:
                seconds = min(seconds, self.left() or 0.0)
            except BudgetExhausted:
                seconds = 0.0
        if self.stopped:
            return
        sleeping = asyncio.ensure_future(self._clock.sleep(seconds))
        self._sleeping.add(sleeping)
        try:
            await asyncio.wait((sleeping,))
        finally:
            self._sleeping.discard(sleeping)
            sleeping.cancel()

    def stop(self) -> None:
        """Ends all waits, now and from now on: the run is to end."""
        self.stopped = True
        for sleeping in self._sleeping:
            sleeping.cancel()

    def left(self) -> float | None:
        """Seconds the run may still last, None without a cap; raises BudgetExhausted when there are none."""
        return self._ledger.check_time(self._clock.now() - self._started) if self._capped else None

    def used_up(self) -> BudgetExhausted:
        """The error of a call or rollout that was cut because the run may last no longer."""
        cap = self._ledger.budget.max_seconds or 0.0
        return BudgetExhausted("seconds", cap=cap, committed=cap, wanted=0)


def taken_by(response: Response, worst: Spend) -> Spend:
    """What an attempt took that was answered."""
    return Spend(
        micros=response.cost_micros,
        tokens=response.usage.total_tokens,
        calls=worst.calls,
        seconds=response.latency_s,
    )


def taken_by_failure(error: BaseException, worst: Spend) -> Spend:
    """What a failed attempt took: one call when it was certainly not billed, else the worst case."""
    return Spend(calls=worst.calls) if isinstance(error, ProviderError) and not error.billed else worst


class BudgetedClient:
    """Reserves the worst case of every attempt before it leaves and settles what it took when it is over.

    An attempt that does not fit, but would if calls under way gave back what they do not need, waits for them. `turns`
    is the line of all clients of `ledger`.
    An attempt that fails is settled by its error: one call and nothing else when it was certainly not billed; the
    worst case when it was or may have been, as after a timeout, a cancellation or an unknown error. An attempt is cut
    when the run's time is up. With an `authorisation` nothing leaves before its worst case is durably authorised.
    """

    def __init__(
        self,
        inner: Provider,
        ledger: Ledger,
        clock: RunClock,
        *,
        turns: Turns | None = None,
        authorisation: Authorisation | None = None,
    ) -> None:
        self._inner, self._ledger, self._clock, self._authorisation = inner, ledger, clock, authorisation
        self._turns = turns or Turns()

    async def complete(self, request: Request) -> Response:
        """See `Client.complete`; raises BudgetExhausted, and the StoreError of an authorisation that failed."""
        worst = self._inner.worst_case(request)
        reservation, left = await self._turns.wait(lambda: self._reserve(worst, request.phase))
        started, taken = self._clock.now(), Spend()
        try:
            if self._authorisation is not None:
                self._authorisation.cover(worst)
            try:
                response = await (self._inner.complete(request) if left is None else self._timed(request, left))
            except BaseException as error:
                taken = replace(taken_by_failure(error, worst), seconds=self._clock.now() - started)
                raise
            taken = taken_by(response, worst)
            return response
        finally:
            self._ledger.settle(reservation, taken)
            self._turns.settled()

    async def close(self) -> None:
        """Closes `inner`."""
        await self._inner.close()

    def _reserve(self, worst: Spend, phase: str) -> tuple[Reservation, float | None] | None:
        left = self._clock.left()
        try:
            return self._ledger.reserve(worst, phase=phase), left
        except BudgetExhausted:
            if self._ledger.may_pay(worst):
                return None
            raise

    async def _timed(self, request: Request, left: float) -> Response:
        """The attempt may take its endpoint's `timeout_s`, or what is left. Providers go by the run's clock, the timer
        here by the system's, for a provider that does not keep its limit."""
        endpoint, last = request.endpoint, left < request.endpoint.timeout_s
        if last:
            request = replace(request, endpoint=replace(endpoint, timeout_s=left))
        try:
            async with asyncio.timeout(left) as scope:
                return await self._inner.complete(request)
        except CallTimeout:
            if not last:
                raise
        except TimeoutError:
            if not scope.expired():
                raise
        raise self._clock.used_up()
