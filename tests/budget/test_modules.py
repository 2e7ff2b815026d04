"""The caps of single modules hold like those of the whole: at any concurrency, through any death."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollouts.budget import Budget, Ledger, ModuleAccount, Spend, check_module_budgets
from rollouts.dtypes import Request, Response, Usage
from rollouts.errors import BudgetExhausted, CallTimeout, ConfigError, StoreError
from rollouts.llm import CallContext, wrap
from rollouts.testing import FakeClock
from tests.budget.counting import ENDPOINT, EXPECTED, Account, CountingProvider, request

MODULES = ("router", "writer", "free")
RESOURCES = ("micros", "tokens", "calls")

AMOUNTS = st.builds(
    Spend, micros=st.integers(0, 50), tokens=st.integers(0, 50), calls=st.integers(0, 3), seconds=st.floats(0, 5)
)
BUDGETS = st.builds(
    Budget,
    max_tokens=st.one_of(st.none(), st.integers(0, 200)),
    max_calls=st.one_of(st.none(), st.integers(0, 20)),
    max_seconds=st.one_of(st.none(), st.floats(0, 20)),
)
STEPS = st.lists(st.tuples(AMOUNTS, st.floats(0.1, 6), st.floats(0, 1), st.booleans()), max_size=40)


def within(budget: Budget, spend: Spend) -> bool:
    caps = {"micros": budget.max_micros, "tokens": budget.max_tokens, "calls": budget.max_calls}
    held = all(cap is None or getattr(spend, name) <= cap for name, cap in caps.items())
    return held and (budget.max_seconds is None or spend.seconds <= budget.max_seconds + 1e-6)


@given(BUDGETS, STEPS)
def test_settled_and_reserved_never_pass_a_cap_and_are_durable(
    budget: Budget, steps: list[tuple[Spend, float, float, bool]]
) -> None:
    account, durable, open_ones = ModuleAccount("router", budget), [Spend()], []
    refusals: list[tuple[str, bool]] = []
    account.authorise(durable.append)
    for worst, timeout, share, settle_now in steps:
        before = account.committed
        try:
            found = account.reserve(worst, timeout, phase="task")
        except BudgetExhausted as error:
            refusals.append((error.module, account.committed == before))
        else:
            if found is None:
                assert open_ones, "it only ever waits for others"
            else:
                open_ones.append((found, worst, share))
        committed = account.committed
        assert within(budget, committed)
        assert within(budget, durable[-1])
        for name in RESOURCES:
            assert getattr(durable[-1], name) >= getattr(committed, name)
        assert budget.max_seconds is None or durable[-1].seconds >= committed.seconds - 1e-6
        if settle_now and open_ones:
            found, worst, share = open_ones.pop(0)
            account.settle(found, Spend(tokens=int(worst.tokens * share), seconds=worst.seconds))
            account.settle(found, worst)  # ignored
    for found, *_ in open_ones:
        account.release(found)
    assert set(refusals) <= {("router", True)}, "all or nothing, and it says whose cap it is"
    assert account.committed == account.ledger.spent


@given(BUDGETS, st.lists(st.tuples(AMOUNTS, st.floats(0.1, 6)), max_size=30), st.integers(0, 29))
def test_a_successor_goes_on_from_what_is_durable(budget: Budget, steps: list[tuple[Spend, float]], death: int) -> None:
    """Two processes together stay within the caps, whenever the first one dies."""
    billed, durable = Spend(), [Spend()]
    for life in (steps[:death], steps):
        account = ModuleAccount("router", budget, spent=durable[-1])
        account.authorise(durable.append)
        for worst, timeout in life:
            try:
                found = account.reserve(worst, timeout, phase="task")
            except BudgetExhausted:
                continue
            if found is None:
                continue
            billed = billed + Spend(
                micros=worst.micros, tokens=worst.tokens, calls=worst.calls, seconds=min(worst.seconds, found.seconds)
            )
            if life is steps:  # those of the first life are in flight when it dies
                account.settle(found, worst)
    assert within(budget, billed)


def test_a_commit_that_fails_reserves_nothing() -> None:
    def full(_: Spend) -> None:
        raise StoreError("the disk is full")

    account = ModuleAccount("router", Budget(max_calls=5, max_seconds=10))
    account.authorise(full)
    with pytest.raises(StoreError):
        account.reserve(Spend(calls=1), 1.0, phase="task")
    assert account.committed == Spend()


def test_budgets_of_what_is_no_module() -> None:
    with pytest.raises(ConfigError, match=r"'ruoter', which is no module .*did you mean 'router'"):
        check_module_budgets({"ruoter": Budget(max_calls=1)}, MODULES)
    with pytest.raises(ConfigError, match="use max_trials or max_calls"):
        check_module_budgets({"router": Budget(max_rollouts=1)}, MODULES)
    check_module_budgets({"router": Budget(max_calls=1, max_trials=2)}, MODULES)


# ── through the client ──


class Charged(CountingProvider):
    """Also keeps an account for every module."""

    def __init__(self, accounts: Mapping[str, Account], *args: object, **settings: object) -> None:
        super().__init__(*args, **settings)  # type: ignore[arg-type]
        self.by_module, self.module = accounts, ""

    async def complete(self, asked: Request) -> Response:
        self.module = asked.module
        return await super().complete(asked)

    def _charge(self, amount: Spend) -> None:
        super()._charge(amount)
        try:
            self.by_module[self.module].charge(amount)
        except AssertionError as error:
            self.overspent = self.overspent or error  # type: ignore[assignment]


def caps(rng: random.Random) -> Budget:
    scale = rng.choice((0, 0.5, 3, 20, 60))
    kept = rng.sample(("max_tokens", "max_calls"), rng.randint(1, 2))
    wide = {"max_tokens": int(scale * rng.uniform(0, 400)), "max_calls": int(scale * rng.uniform(0, 2))}
    return Budget(**{name: wide[name] for name in kept})


async def spend_all(context: CallContext, provider: CountingProvider, clock: FakeClock, rng: random.Random) -> int:
    """Everything asked for by 16 workers; how many calls were refused."""
    client, numbers, refused = wrap(provider, context), iter(range(120)), 0

    async def worker() -> None:
        nonlocal refused
        for n in numbers:
            asked = request(n)
            asked = Request(
                endpoint=ENDPOINT, messages=asked.messages, phase="task", module=rng.choice((*MODULES, "other"))
            )
            try:
                await client.complete(asked)
            except BudgetExhausted as error:
                refused += error.module in MODULES
            except EXPECTED:
                pass

    await asyncio.gather(*(worker() for _ in range(16)))
    return refused


async def two_lives(seed: int) -> int:
    rng, clock = random.Random(seed), FakeClock(auto=True)
    whole, budgets = caps(rng) if seed % 2 else Budget(), {name: caps(rng) for name in MODULES}
    charged = {name: Account(budgets.get(name, Budget())) for name in (*MODULES, "other", "")}
    durable: dict[str, Spend] = {}
    refused = 0
    total = Account(whole)
    for life in range(2):
        accounts = {name: ModuleAccount(name, b, spent=durable.get(name)) for name, b in budgets.items()}
        for name, account in accounts.items():
            account.authorise(partial(durable.__setitem__, name))
        context = CallContext(
            Ledger(whole, spent=durable.get("")),
            clock=clock,
            authorise=partial(durable.__setitem__, ""),
            slots=16,
            modules=accounts,
        )
        alive = rng.randrange(60) if life == 0 else 10**9
        provider = Charged(charged, total, clock, rng, alive_for=alive)
        work = asyncio.create_task(spend_all(context, provider, clock, rng))
        death = asyncio.create_task(provider.death.wait())
        await asyncio.wait([work, death], return_when=asyncio.FIRST_COMPLETED)
        refused += work.result() if work.done() else 0
        known = dict(durable)
        for task in (work, death):
            task.cancel()
        await asyncio.gather(work, death, return_exceptions=True)
        durable.clear()
        durable.update(known)
        assert provider.overspent is None, f"seed {seed}: {provider.overspent}"
        if work.done() and not work.cancelled():
            for account in accounts.values():
                assert account.committed == account.ledger.spent, "nothing stays reserved"
    return refused


def check_lives(seeds: range) -> None:
    assert sum(asyncio.run(two_lives(seed)) for seed in seeds) > len(seeds)


def test_no_cap_of_a_module_is_passed_through_a_death() -> None:
    check_lives(range(30))


@pytest.mark.slow
def test_no_cap_of_a_module_is_passed_through_a_thousand_deaths() -> None:
    check_lives(range(1000, 2000))


class Slow:
    """A provider that takes `seconds` of virtual time, and honours the time limit of its endpoint."""

    def __init__(self, seconds: list[float], clock: FakeClock) -> None:
        self._seconds, self._clock = seconds, clock
        self.model_time = 0.0
        self.in_flight = self.most = 0

    async def complete(self, asked: Request) -> Response:
        wished = self._seconds.pop() if self._seconds else 1.0
        taken = min(wished, asked.endpoint.timeout_s)
        self.model_time += taken
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        try:
            await self._clock.sleep(taken)
        finally:
            self.in_flight -= 1
        if taken < wished:
            raise CallTimeout("no answer")
        return Response(text="x", usage=Usage(), cost_micros=0, latency_s=taken)

    async def close(self) -> None: ...

    def worst_case(self, asked: Request) -> Spend:
        return Spend(tokens=1, calls=1)

    def count_tokens(self, text: str) -> int:
        return len(text)


@pytest.mark.parametrize("seed", range(8))
async def test_model_time_is_never_passed_and_calls_wait_for_each_other(seed: int) -> None:
    rng, clock = random.Random(seed), FakeClock(auto=True)
    cap = rng.uniform(5, 200)
    endpoint = ENDPOINT.with_sampling(max_tokens=1)
    endpoint = type(endpoint)(provider=endpoint.provider, model=endpoint.model, timeout_s=20.0)
    account = ModuleAccount("router", Budget(max_seconds=cap))
    provider = Slow([rng.lognormvariate(1, 1) for _ in range(100)], clock)
    client = wrap(provider, CallContext(Ledger(Budget()), clock=clock, slots=16, modules={"router": account}))
    asked = [
        Request(endpoint=endpoint, messages=request(n).messages, phase="task", module="router") for n in range(100)
    ]
    outcomes = await asyncio.gather(*(client.complete(one) for one in asked), return_exceptions=True)
    assert provider.model_time <= cap + 1e-6
    assert provider.most <= max(1, cap / 20 + 1)
    refused = [outcome for outcome in outcomes if isinstance(outcome, BudgetExhausted)]
    assert refused
    assert {error.resource for error in refused} == {"seconds"}
    assert account.committed.seconds <= cap + 1e-6


async def test_other_modules_are_not_held_up() -> None:
    ledger, account = Ledger(Budget(max_calls=10)), ModuleAccount("router", Budget(max_calls=0))
    provider, clock = Slow([], FakeClock(auto=True)), FakeClock(auto=True)
    client = wrap(provider, CallContext(ledger, clock=clock, modules={"router": account}))
    with pytest.raises(BudgetExhausted, match="the cap of module 'router' of 0 calls"):
        await client.complete(Request(endpoint=ENDPOINT, messages=request(1).messages, module="router"))
    await client.complete(Request(endpoint=ENDPOINT, messages=request(2).messages, module="writer"))
    assert ledger.spent.calls == 1
