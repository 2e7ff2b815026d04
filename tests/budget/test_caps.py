"""A cap is never passed: not by one call, token or millionth of a dollar, at any concurrency, through any death.

The provider keeps count itself (see `counting`), so that the ledger is not asked about itself.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from decimal import Decimal

import pytest

from rollouts.budget import Budget, Ledger, Spend
from rollouts.errors import BudgetExhausted, ConfigError
from rollouts.llm import BudgetedClient, CallContext, Client, RetryingClient, RetryPolicy, wrap
from rollouts.llm.connect import connect
from rollouts.store import MemoryStore
from rollouts.testing import FakeClock, MockProvider
from tests.budget.counting import BILLED, EXPECTED, RESOURCES, UNBILLED, Account, CountingProvider, request

IN_FLIGHT = 32
REQUESTS = 150


def random_budget(rng: random.Random) -> Budget:
    """One to three caps, from nothing at all to more than the requests can take."""
    scale = rng.choice((0, 0.5, 3, 20, 60, 400))
    caps = {
        "max_cost_usd": Decimal(int(scale * rng.uniform(0, 500))) / 1_000_000,
        "max_tokens": int(scale * rng.uniform(0, 400)),
        "max_calls": int(scale * rng.uniform(0, 2)),
    }
    kept = rng.sample(sorted(caps), rng.randint(1, 3))
    return Budget(**{name: caps[name] for name in kept})


@pytest.mark.parametrize("value", ["5", -1, float("nan"), [5]])
@pytest.mark.parametrize("name", ["max_tokens", "max_calls", "max_rollouts", "max_seconds", "max_trials"])
def test_a_cap_that_is_no_number_is_refused(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"{name} = .*leave it out for no cap"):
        Budget(**{name: value})  # type: ignore[arg-type]


def client_of(provider: CountingProvider, context: CallContext, rng: random.Random) -> Client:
    """The whole stack, or in half of the cases one without a rate limit, so that all workers really call at once."""
    if rng.random() < 0.5:
        return wrap(provider, context)
    budgeted = BudgetedClient(provider, context.ledger, context.run_clock, authorisation=context.authorisation)
    return RetryingClient(budgeted, context.retry, context.run_clock)


async def spend_all(client: Client, clock: FakeClock, rng: random.Random) -> Counter[str]:
    """`IN_FLIGHT` workers ask until the requests or the budget end; some give up on a call."""
    numbers, seen = iter(range(REQUESTS)), Counter[str]()

    async def one(n: int) -> None:
        task = asyncio.ensure_future(client.complete(request(n)))
        if rng.random() < 0.1:
            await clock.sleep(rng.random())
            task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            me = asyncio.current_task()
            if me is not None and me.cancelling():
                raise
            seen["cancelled"] += 1
        except BudgetExhausted as error:
            seen[error.resource] += 1
        except EXPECTED:
            seen["failed"] += 1
        else:
            seen["answered"] += 1

    async def worker() -> None:
        for n in numbers:
            await one(n)

    await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))
    return seen


async def live(seed: int) -> Counter[str]:
    """One run under a random budget, to a clean end."""
    rng, clock, durable = random.Random(seed), FakeClock(auto=True), [Spend()]
    budget = random_budget(rng)
    ledger, account = Ledger(budget), Account(budget)
    provider = CountingProvider(account, clock, rng)
    retry = RetryPolicy(base_s=rng.choice((0.0, 0.5)))
    context = CallContext(
        ledger, store=MemoryStore(), clock=clock, authorise=durable.append, retry=retry, slots=IN_FLIGHT
    )
    seen = await spend_all(client_of(provider, context, rng), clock, rng)
    assert context.authorisation is not None
    context.authorisation.close()
    assert provider.overspent is None, f"seed {seed}: {provider.overspent}"
    assert ledger.committed == ledger.spent == durable[-1]
    for name in RESOURCES:
        assert getattr(ledger.spent, name) >= getattr(account.total, name), f"seed {seed}: {name} billed and unknown"
    assert ledger.spent.calls == account.total.calls
    for name, cap in account.caps.items():
        assert getattr(ledger.spent, name) <= cap, f"seed {seed}"
    seen["full"] = provider.in_flight_max == IN_FLIGHT
    return seen + provider.raised


async def die_and_go_on(seed: int) -> bool:
    """A run that is killed at a random attempt, and its successor. Returns whether the successor could still call."""
    rng, clock, durable = random.Random(seed), FakeClock(auto=True), [Spend()]
    budget = random_budget(rng)
    account = Account(budget)
    first = CountingProvider(account, clock, rng, alive_for=rng.randrange(120))
    context = CallContext(Ledger(budget), clock=clock, authorise=durable.append, slots=IN_FLIGHT)
    work = asyncio.create_task(spend_all(client_of(first, context, rng), clock, rng))
    death = asyncio.create_task(first.death.wait())
    await asyncio.wait([work, death], return_when=asyncio.FIRST_COMPLETED)
    # What is durable at this moment is all that the successor knows.
    known, billed = durable[-1], account.total
    for task in (work, death):
        task.cancel()
    await asyncio.gather(work, death, return_exceptions=True)
    assert account.total == billed, "the dead send nothing"
    for name in RESOURCES:
        assert getattr(known, name) >= getattr(billed, name), f"seed {seed}: {name} billed and not authorised"
    second = CountingProvider(account, clock, rng)
    successor = CallContext(Ledger(budget, spent=known), clock=clock, authorise=durable.append, slots=IN_FLIGHT)
    await spend_all(client_of(second, successor, rng), clock, rng)
    assert (first.overspent, second.overspent) == (None, None), f"seed {seed}"
    return account.total.calls > billed.calls


def check_lives(seeds: range) -> None:
    seen = Counter[str]()
    for seed in seeds:
        seen += asyncio.run(live(seed))
    outcomes = ("answered", "failed", "cancelled", "usd", "tokens", "calls", "full")
    for seldom in (*outcomes, *(type(make()).__name__ for make in (*UNBILLED, *BILLED))):
        assert seen[seldom] > len(seeds) / 50, f"hardly any {seldom}: the test tests nothing"


def check_deaths(seeds: range) -> None:
    went_on = sum(asyncio.run(die_and_go_on(seed)) for seed in seeds)
    assert went_on > len(seeds) / 10


def test_no_cap_is_passed_under_random_budgets() -> None:
    check_lives(range(80))


def test_no_cap_is_passed_through_a_death() -> None:
    check_deaths(range(80))


@pytest.mark.slow
def test_no_cap_is_passed_under_a_thousand_random_budgets() -> None:
    check_lives(range(1000, 2000))


@pytest.mark.slow
def test_no_cap_is_passed_through_a_thousand_deaths() -> None:
    check_deaths(range(1000, 2000))


FAULTS = {"rate_limit": 0.04, "server_error": 0.04, "drop": 0.03, "cut": 0.03, "garbage": 0.03, "no_usage": 0.03}


@pytest.mark.parametrize(
    "budget",
    [
        Budget(max_calls=40),
        Budget(max_tokens=6_000),
        Budget(max_cost_usd="0.012"),
        Budget(max_calls=70, max_tokens=20_000, max_cost_usd="0.02"),
    ],
    ids=["calls", "tokens", "usd", "all"],
)
async def test_no_cap_is_passed_over_a_real_connection(budget: Budget) -> None:
    async with MockProvider(faults=FAULTS, seed=3, latency=0.001, tokenizer="bytes") as mock:
        endpoint = mock.endpoint(api_key="any").with_sampling(max_tokens=40)
        ledger = Ledger(budget)
        context = CallContext(ledger, retry=RetryPolicy(base_s=0.001, max_retry_after_s=0.05), slots=IN_FLIGHT)
        client = connect(endpoint, context)
        asked = [request(n) for n in range(120)]
        outcomes = await asyncio.gather(
            *(client.complete(type(one)(endpoint=endpoint, messages=one.messages)) for one in asked),
            return_exceptions=True,
        )
        await client.close()
        caps = {"micros": budget.max_micros, "tokens": budget.max_tokens, "calls": budget.max_calls}
        for name, cap in caps.items():
            billed, accounted = getattr(mock, name), getattr(ledger.spent, name)
            assert billed <= accounted, f"{name}: billed {billed}, accounted for {accounted}"
            assert cap is None or accounted <= cap
        assert any(isinstance(outcome, BudgetExhausted) for outcome in outcomes)
        assert mock.calls > 5
