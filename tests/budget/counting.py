"""A provider that bills as real ones do, fails in every way, and keeps count with its own hands."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

from rollouts.budget import Budget, Spend
from rollouts.dtypes import Endpoint, Message, Price, Request, Response, Usage
from rollouts.errors import (
    AuthenticationFailed,
    CallTimeout,
    InvalidRequest,
    MalformedResponse,
    ModelNotFound,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
)
from rollouts.llm.pricing import cost_micros
from rollouts.testing import FakeClock
from rollouts.testing.billing import worst_case

PRICE = Price(input=Decimal("0.8"), output=Decimal("3.3"))
ENDPOINT = Endpoint.parse("openai/counting").with_sampling(max_tokens=40)
RESOURCES = ("micros", "tokens", "calls")


def lost() -> ProviderUnavailable:
    error = ProviderUnavailable("the connection was cut")
    error.billed = True
    return error


UNBILLED: tuple[Callable[[], Exception], ...] = (
    lambda: RateLimited("429"),
    lambda: RateLimited("429", retry_after=0.7),
    lambda: ProviderUnavailable("503"),
    lambda: AuthenticationFailed("401"),
    lambda: InvalidRequest("400"),
    lambda: ModelNotFound("404"),
)
BILLED: tuple[Callable[[], Exception], ...] = (
    lost,
    lambda: CallTimeout("no answer"),
    lambda: MalformedResponse("no JSON"),
    lambda: RuntimeError("a bug in a provider"),
)


def request(n: int) -> Request:
    """Requests of many sizes."""
    return Request(endpoint=ENDPOINT, messages=(Message("user", f"{n} " + "é" * (n * 7 % 60)),), phase="task")


class Overspent(AssertionError):
    """A cap was passed."""


class Account:
    """What the provider charged, in all its processes; checks the caps at each charge."""

    def __init__(self, budget: Budget) -> None:
        self.total = Spend()
        caps = {"micros": budget.max_micros, "tokens": budget.max_tokens, "calls": budget.max_calls}
        self.caps = {name: cap for name, cap in caps.items() if cap is not None}

    def charge(self, amount: Spend) -> None:
        self.total = self.total + amount
        for name, cap in self.caps.items():
            if getattr(self.total, name) > cap:
                raise Overspent(f"{getattr(self.total, name)} {name} billed under a cap of {cap}")


class CountingProvider:
    """A fifth of the attempts fails. An attempt is charged when it arrives, whatever becomes of the caller.

    The first `alive_for` attempts are served; at the next one the process is dead: `death` is set and nothing comes
    back any more.
    """

    def __init__(self, account: Account, clock: FakeClock, rng: random.Random, *, alive_for: int = 10**9) -> None:
        self.account, self._clock, self._rng = account, clock, rng
        self._alive_for = alive_for
        self.death = asyncio.Event()
        self.overspent: Overspent | None = None
        self.raised = Counter[str]()
        self.in_flight_max = self._in_flight = 0

    async def complete(self, asked: Request) -> Response:
        if self.death.is_set():
            await asyncio.Event().wait()
        rng, worst = self._rng, self.worst_case(asked)
        fails = rng.random() < 0.2
        unbilled = fails and rng.random() < 0.5
        completion = rng.choice((1, rng.randint(1, 40), 40))
        prompt = rng.choice((1, rng.randint(1, worst.tokens - 40), worst.tokens - 40))
        usage = Usage(prompt_tokens=prompt, completion_tokens=completion)
        response = Response(text=str(rng.random()), usage=usage, cost_micros=cost_micros(PRICE, usage))
        self._charge(
            Spend(calls=1) if unbilled else Spend(micros=response.cost_micros, tokens=prompt + completion, calls=1)
        )
        self._alive_for -= 1
        if self._alive_for < 0:
            self.death.set()
            await asyncio.Event().wait()
        self._in_flight += 1
        self.in_flight_max = max(self.in_flight_max, self._in_flight)
        try:
            latency = rng.choice((0.0, rng.random(), rng.paretovariate(1.5)))
            await self._clock.sleep(latency)
        finally:
            self._in_flight -= 1
        if fails:
            error = rng.choice(UNBILLED if unbilled else BILLED)()
            self.raised[type(error).__name__] += 1
            raise error
        return replace(response, latency_s=latency)

    def _charge(self, amount: Spend) -> None:
        try:
            self.account.charge(amount)
        except Overspent as error:  # the client would take it for a provider's bug
            self.overspent = self.overspent or error

    async def close(self) -> None: ...

    def worst_case(self, asked: Request) -> Spend:
        return worst_case(asked, PRICE)

    def count_tokens(self, text: str) -> int:
        return len(text)


EXPECTED = (ProviderError, RuntimeError)
