"""No call of a module leaves that the module's own budget cannot pay for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from rollouts.budget import ModuleAccount, Spend
from rollouts.budget.modules import ModuleReservation
from rollouts.dtypes import Request, Response
from rollouts.errors import BudgetExhausted, CallTimeout
from rollouts.llm.budgeted import taken_by, taken_by_failure
from rollouts.llm.client import Client, Provider
from rollouts.llm.clock import Clock
from rollouts.llm.turns import Turns


class ModuleBudgetedClient:
    """Reserves the worst case of a module's attempt in its account, then asks `inner`, which reserves it in the run's.

    Attempts wait and are settled as in `BudgetedClient`; `turns` has the line of each account, which all clients share.
    Where model time is capped, an attempt may take its endpoint's `timeout_s`, or what is left, and is cut then.
    """

    def __init__(
        self,
        inner: Client,
        provider: Provider,
        accounts: Mapping[str, ModuleAccount],
        clock: Clock,
        turns: Mapping[str, Turns],
    ) -> None:
        self._inner, self._provider, self._accounts, self._clock = inner, provider, accounts, clock
        self._turns = turns

    async def complete(self, request: Request) -> Response:
        """See `Client.complete`; raises BudgetExhausted, and the StoreError of an authorisation that failed."""
        account = self._accounts.get(request.module)
        if account is None:
            return await self._inner.complete(request)
        worst = self._provider.worst_case(request)
        turns = self._turns[account.name]
        reservation = await turns.wait(lambda: account.reserve(worst, request.endpoint.timeout_s, phase=request.phase))
        started = self._clock.now()
        taken = worst
        try:
            response = await self._timed(account, reservation, request)
            taken = taken_by(response, worst)
            return response
        except BaseException as error:
            taken = replace(_taken(error, worst), seconds=self._clock.now() - started)
            raise
        finally:
            account.settle(reservation, taken)
            turns.settled()

    async def close(self) -> None:
        """Closes `inner`."""
        await self._inner.close()

    async def _timed(self, account: ModuleAccount, reservation: ModuleReservation, request: Request) -> Response:
        cap, endpoint = account.budget.max_seconds, request.endpoint
        if cap is None or reservation.seconds >= endpoint.timeout_s:
            return await self._inner.complete(request)
        try:
            limited = replace(endpoint, timeout_s=reservation.seconds)
            return await self._inner.complete(replace(request, endpoint=limited))
        except CallTimeout:
            left = reservation.seconds
            raise BudgetExhausted("seconds", cap=cap, committed=cap - left, wanted=left, module=account.name) from None


def _taken(error: BaseException, worst: Spend) -> Spend:
    """Nothing when the run's own budget refused the attempt; else as in `taken_by_failure`."""
    if isinstance(error, BudgetExhausted) and error.resource != "seconds":
        return Spend()
    return taken_by_failure(error, worst)
