from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal

import pytest

from rollouts.budget import Authorisation, Budget, Ledger, Spend
from rollouts.dtypes import Endpoint, Message, Price, Request, Response
from rollouts.errors import (
    AuthenticationFailed,
    BudgetExhausted,
    CallTimeout,
    InvalidRequest,
    MalformedResponse,
    ModelNotFound,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
    StoreError,
)
from rollouts.llm.budgeted import BudgetedClient, RunClock
from rollouts.llm.clock import SystemClock
from rollouts.llm.turns import Turns
from rollouts.testing import FakeClock, ScriptedLLM

PRICE = Price(input=Decimal(1), output=Decimal(4))
REQUEST = Request(endpoint=Endpoint.parse("openai/x"), messages=(Message("user", "question"),), phase="judge")


def client_of(llm: ScriptedLLM, ledger: Ledger, **changes: object) -> BudgetedClient:
    clock = changes.pop("clock", None) or FakeClock()
    return BudgetedClient(llm, ledger, RunClock(clock, ledger, clock.now()), **changes)


def billed_cut() -> ProviderError:
    error = ProviderUnavailable("cut")
    error.billed = True
    return error


async def test_an_answer_is_settled_at_what_it_took() -> None:
    llm, ledger = ScriptedLLM(["answer"], price=PRICE), Ledger(Budget())
    response = await client_of(llm, ledger).complete(REQUEST)
    usage = response.usage
    expected = Spend(micros=usage.prompt_tokens + 4 * usage.completion_tokens, tokens=usage.total_tokens, calls=1)
    assert ledger.spent == ledger.committed == expected
    assert ledger.by_phase == {"judge": expected}


@pytest.mark.parametrize(
    ("error", "billed"),
    [
        (RateLimited("x"), False),
        (ProviderUnavailable("x"), False),
        (AuthenticationFailed("x"), False),
        (ModelNotFound("x"), False),
        (InvalidRequest("x"), False),
        (billed_cut(), True),
        (CallTimeout("x"), True),
        (MalformedResponse("x"), True),
        (RuntimeError("a bug"), True),
        (asyncio.CancelledError(), True),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_a_failure_is_settled_by_its_error(error: BaseException, billed: bool) -> None:
    llm, ledger = ScriptedLLM([error], price=PRICE), Ledger(Budget())
    with pytest.raises(type(error)):
        await client_of(llm, ledger).complete(REQUEST)
    assert ledger.spent == (llm.worst_case(REQUEST) if billed else Spend(calls=1))
    assert ledger.committed == ledger.spent


async def test_nothing_is_sent_that_might_not_fit() -> None:
    llm = ScriptedLLM(["a", "b"], price=PRICE)
    worst = llm.worst_case(REQUEST)
    ledger = Ledger(Budget(max_tokens=worst.tokens * 2 - 1))
    client = client_of(llm, ledger)
    ledger.settle(ledger.reserve(worst), worst)
    with pytest.raises(BudgetExhausted, match="tokens"):
        await client.complete(REQUEST)
    assert llm.calls == 0


@pytest.mark.parametrize("slots", [2, 5, 32])
async def test_as_many_calls_are_paid_for_at_once_as_one_by_one(slots: int) -> None:
    """What a call sets aside and does not take is no loss to those that come while it is out."""
    clock = FakeClock()
    llm = ScriptedLLM(lambda request: "a", latency_s=1, clock=clock, price=PRICE)
    worst, took = llm.worst_case(REQUEST), (await ScriptedLLM(["a"]).complete(REQUEST)).usage.total_tokens
    assert took < worst.tokens / 4
    ledger = Ledger(Budget(max_tokens=worst.tokens + 39 * took))
    turns = Turns()
    clients = [client_of(llm, ledger, clock=clock, turns=turns) for _ in range(2)]
    gate = asyncio.Semaphore(slots)

    async def call(number: int) -> Response:
        async with gate:
            return await clients[number % 2].complete(REQUEST)

    tasks = [asyncio.create_task(call(number)) for number in range(60)]
    await clock.advance(100)
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(end, Response) for end in ends] == [True] * 40 + [False] * 20
    assert all(isinstance(end, BudgetExhausted) for end in ends[40:])
    assert ledger.spent.tokens == 40 * took


async def test_nobody_waits_for_calls_which_never_come_back() -> None:
    clock = FakeClock()
    llm, ledger = ScriptedLLM(lambda request: "a", latency_s=1, clock=clock), Ledger(Budget(max_calls=1))
    client = client_of(llm, ledger, clock=clock)
    first = asyncio.create_task(client.complete(REQUEST))
    await clock.advance(0.5)
    with pytest.raises(BudgetExhausted, match="1 calls is used up"):
        await client.complete(REQUEST)
    await clock.advance(1)
    await first


async def test_a_small_call_does_not_pass_a_large_one_that_waits() -> None:
    clock = FakeClock()
    llm = ScriptedLLM(lambda request: "a", latency_s=1, clock=clock)
    large = replace(REQUEST, messages=(Message("user", "question " * 300),))
    ledger = Ledger(Budget(max_tokens=llm.worst_case(large).tokens + llm.worst_case(REQUEST).tokens - 1))
    client = client_of(llm, ledger, clock=clock)
    ends: list[str] = []

    async def call(request: Request, name: str) -> None:
        await client.complete(request)
        ends.append(name)

    requests = {"first": REQUEST, "large": large, "small": REQUEST}
    tasks = [asyncio.create_task(call(request, name)) for name, request in requests.items()]
    for after in (["first"], ["first", "large"], ["first", "large", "small"]):
        await clock.advance(1)
        assert ends == after
    await asyncio.gather(*tasks)


async def test_a_wait_ends_with_the_run_and_holds_nobody_up_that_comes_after() -> None:
    clock = FakeClock()
    llm = ScriptedLLM(lambda request: "a", latency_s=4, clock=clock)
    ledger = Ledger(Budget(max_tokens=llm.worst_case(REQUEST).tokens * 2 - 1, max_seconds=8))
    client = client_of(llm, ledger, clock=clock)
    tasks = [asyncio.create_task(client.complete(REQUEST)) for _ in range(4)]
    await clock.advance(1)
    tasks[1].cancel()
    await clock.advance(4)
    assert [task.done() for task in tasks] == [True, True, False, False]
    await clock.advance(20)
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(end) for end in ends] == [Response, asyncio.CancelledError, Response, BudgetExhausted]
    assert ends[3].resource == "seconds"
    assert ledger.committed == ledger.spent


async def test_the_worst_case_is_held_while_the_call_is_out() -> None:
    clock = FakeClock()
    llm, ledger = ScriptedLLM(["a"], price=PRICE, latency_s=1, clock=clock), Ledger(Budget())
    task = asyncio.create_task(client_of(llm, ledger, clock=clock).complete(REQUEST))
    await clock.advance(0.5)
    assert (ledger.committed, ledger.spent) == (llm.worst_case(REQUEST), Spend())
    await clock.advance(1)
    await task
    assert ledger.committed == ledger.spent
    assert ledger.spent.seconds == 1


async def test_a_cut_attempt_keeps_its_worst_case_and_the_seconds_it_ran() -> None:
    clock = FakeClock()
    llm, ledger = ScriptedLLM(["a"], latency_s=9, clock=clock), Ledger(Budget())
    task = asyncio.create_task(client_of(llm, ledger, clock=clock).complete(REQUEST))
    await clock.advance(2)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (ledger.spent.tokens, ledger.spent.seconds) == (llm.worst_case(REQUEST).tokens, 2)
    assert llm.in_flight == 0


async def test_the_time_cap_cuts_the_attempt_and_stops_the_next() -> None:
    llm, ledger = ScriptedLLM(["a", "b"], latency_s=5.0), Ledger(Budget(max_seconds=0.02))
    client = client_of(llm, ledger, clock=SystemClock())
    for _ in range(2):
        with pytest.raises(BudgetExhausted) as caught:
            await client.complete(REQUEST)
        assert (caught.value.resource, caught.value.cap) == ("seconds", 0.02)
    assert (llm.calls, llm.in_flight) == (1, 0)
    assert ledger.spent.tokens == llm.worst_case(REQUEST).tokens


async def test_the_provider_is_told_what_time_is_left() -> None:
    """It goes by the run's clock, which need not be the system's."""

    class Slow(ScriptedLLM):
        async def complete(self, request: Request) -> Response:
            self.limit = request.endpoint.timeout_s
            raise CallTimeout("no answer in time")

    for cap, error in ((40.0, BudgetExhausted), (90.0, CallTimeout)):
        llm = Slow([])
        with pytest.raises(error):
            await client_of(llm, Ledger(Budget(max_seconds=cap))).complete(REQUEST)
        assert llm.limit == min(cap, REQUEST.endpoint.timeout_s)


async def test_a_timeout_inside_the_provider_is_not_the_time_cap() -> None:
    ledger = Ledger(Budget(max_seconds=60))
    with pytest.raises(TimeoutError):
        await client_of(ScriptedLLM([TimeoutError()]), ledger, clock=SystemClock()).complete(REQUEST)


async def test_no_wait_outlasts_the_run() -> None:
    clock = FakeClock(auto=True)
    ledger = Ledger(Budget(max_seconds=10), elapsed=4)
    run_clock = RunClock(clock, ledger, clock.now())
    assert run_clock.left() == 6
    await run_clock.sleep(100)
    assert clock.now() == 6
    await run_clock.sleep(100)
    assert clock.now() == 6
    with pytest.raises(BudgetExhausted):
        run_clock.left()


async def test_a_call_leaves_only_when_its_worst_case_is_durable() -> None:
    durable: list[Spend] = []
    ledger = Ledger(Budget(max_calls=100))

    def reply(_: Request) -> str:
        assert ledger.within(durable[-1])
        return "ok"

    authorisation = Authorisation(ledger, durable.append)
    client = client_of(ScriptedLLM(reply, price=PRICE), ledger, authorisation=authorisation)
    for _ in range(100):
        await client.complete(REQUEST)
    authorisation.close()
    assert durable[-1] == ledger.spent
    assert len(durable) < 10


@pytest.mark.parametrize("calls", [1, 4, 20, 1000])
def test_a_killed_run_loses_a_quarter_of_what_is_left_at_most(calls: int) -> None:
    """A worst case can be many times what a call takes: sixteen of them may be all that a small cap holds."""
    worst = Spend(tokens=5000, calls=1)
    ledger = Ledger(Budget(max_tokens=calls * worst.tokens))
    durable: list[Spend] = []
    ledger.reserve(worst)
    Authorisation(ledger, durable.append).cover(worst)
    left = ledger.left("tokens")
    assert left is not None
    assert worst.tokens <= durable[-1].tokens <= worst.tokens + min(left, left // 4 + worst.tokens // 32)


async def test_what_cannot_be_authorised_is_not_sent_and_not_held() -> None:
    def full(_: Spend) -> None:
        raise StoreError("the disk is full")

    llm, ledger = ScriptedLLM(["a"]), Ledger(Budget(max_calls=5))
    client = client_of(llm, ledger, authorisation=Authorisation(ledger, full))
    with pytest.raises(StoreError):
        await client.complete(REQUEST)
    assert (llm.calls, ledger.committed) == (0, Spend())
