"""cache -> retry -> rate limit -> budget -> provider: what the order means, seen from outside."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest

from rollouts.budget import Budget, Ledger, Spend
from rollouts.dtypes import Endpoint, Message, Price, Request
from rollouts.errors import BudgetExhausted, CallTimeout, ProviderUnavailable, RateLimited
from rollouts.llm import CallContext, Client, RetryPolicy, wrap
from rollouts.store import MemoryStore
from rollouts.testing import FakeClock, ScriptedLLM

PRICE = Price(input=Decimal(1), output=Decimal(4))
STEADY = RetryPolicy(base_s=0.0)


def request(text: str) -> Request:
    return Request(endpoint=Endpoint.parse("openai/x"), messages=(Message("user", text),))


def stack(llm: ScriptedLLM, budget: Budget | None = None, **changes: object) -> tuple[Client, CallContext]:
    settings = {"store": MemoryStore(), "clock": FakeClock(auto=True), "retry": STEADY, **changes}
    context = CallContext(Ledger(budget or Budget()), **settings)
    return wrap(llm, context), context


async def test_a_cached_answer_spends_nothing_and_needs_no_budget() -> None:
    llm = ScriptedLLM(["a"], price=PRICE)
    client, context = stack(llm, Budget(max_calls=1))
    paid = await client.complete(request("q"))
    spent = context.ledger.spent
    served = await client.complete(request("q"))
    assert (served.cached, served.text, served.usage, served.cost_micros) == (True, "a", paid.usage, 0)
    assert context.ledger.spent == spent
    assert spent.calls == 1
    with pytest.raises(BudgetExhausted):
        await client.complete(request("another"))


async def test_a_cached_answer_waits_for_no_rate_limit() -> None:
    clock = FakeClock()
    llm = ScriptedLLM(["a", RateLimited("429", retry_after=60)], price=PRICE)
    client, _ = stack(llm, clock=clock)
    await client.complete(request("q"))
    refused = asyncio.create_task(client.complete(request("p")))
    await clock.advance(1)
    assert (await asyncio.wait_for(client.complete(request("q")), 5)).cached
    refused.cancel()


async def test_every_retry_reserves_and_counts_again() -> None:
    llm = ScriptedLLM([ProviderUnavailable("503"), CallTimeout("lost"), "a"], price=PRICE)
    client, context = stack(llm)
    response = await client.complete(request("q"))
    worst, spent = llm.worst_case(request("q")), context.ledger.spent
    assert spent.calls == llm.calls == 3
    assert spent.micros == worst.micros + response.cost_micros
    assert spent.tokens == worst.tokens + response.usage.total_tokens


async def test_retries_end_when_the_budget_does() -> None:
    llm = ScriptedLLM([ProviderUnavailable("503")] * 9)
    client, _ = stack(llm, Budget(max_calls=2))
    with pytest.raises(BudgetExhausted):
        await client.complete(request("q"))
    assert llm.calls == 2


async def test_a_waiting_retry_leaves_its_slot_to_others() -> None:
    clock = FakeClock(auto=True)
    times: dict[str, float] = {}

    def reply(asked: Request) -> str | ProviderUnavailable:
        text = asked.messages[0].content
        if text == "a" and "a" not in times:
            times["a"] = clock.now()
            return ProviderUnavailable("503", retry_after=100)
        times[text] = clock.now()
        return "ok"

    client, _ = stack(ScriptedLLM(reply), clock=clock, slots=1)
    await asyncio.gather(*(client.complete(request(text)) for text in "abc"))
    assert times == {"a": 100, "b": 0, "c": 0}


async def test_waiting_for_a_slot_holds_no_budget_and_is_no_latency() -> None:
    clock = FakeClock()
    llm = ScriptedLLM(lambda _: "ok", price=PRICE, latency_s=2, clock=clock)
    client, context = stack(llm, clock=clock, slots=3)
    tasks = [asyncio.create_task(client.complete(request(str(n)))) for n in range(9)]
    await clock.advance(1)
    assert context.ledger.committed.calls == 3
    await clock.advance(10)
    assert {task.result().latency_s for task in tasks} == {2}
    assert llm.max_in_flight == 3


async def test_a_shared_answer_is_paid_once_and_accounted_once() -> None:
    clock = FakeClock(auto=True)
    llm = ScriptedLLM(["a"], price=PRICE, latency_s=1, clock=clock)
    client, context = stack(llm, clock=clock)
    responses = await asyncio.gather(*(client.complete(request("q")) for _ in range(5)))
    assert sum(response.cost_micros for response in responses) == context.ledger.spent.micros > 0


async def test_no_wait_in_any_layer_outlasts_the_run() -> None:
    clock = FakeClock()
    llm = ScriptedLLM([RateLimited("429", retry_after=200)] * 3)
    client, _ = stack(llm, Budget(max_seconds=5), clock=clock)
    retries = asyncio.create_task(client.complete(request("retries")))
    await clock.advance(1)
    queues = asyncio.create_task(client.complete(request("queues")))
    await clock.advance(3)
    assert not retries.done()
    assert not queues.done()
    await clock.advance(1)
    outcomes = await asyncio.gather(retries, queues, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [BudgetExhausted] * 2
    assert llm.calls == 1


async def test_a_failed_answer_is_asked_again_next_time() -> None:
    llm = ScriptedLLM([ProviderUnavailable("503")] * 5 + ["a"])
    client, _ = stack(llm)
    with pytest.raises(ProviderUnavailable):
        await client.complete(request("q"))
    assert (await client.complete(request("q"))).text == "a"


async def test_two_endpoints_share_one_authorisation() -> None:
    durable: list[Spend] = []
    ledger = Ledger(Budget(max_calls=10))
    context = CallContext(ledger, clock=FakeClock(auto=True), authorise=durable.append)
    clients = [wrap(ScriptedLLM(lambda _: "ok", price=PRICE), context) for _ in range(2)]
    await asyncio.gather(*(client.complete(request(str(n))) for n in range(5) for client in clients))
    assert durable[-1].calls == 10
    assert context.authorisation is not None
    context.authorisation.close()
    assert durable[-1] == ledger.spent


async def test_closing_closes_the_provider() -> None:
    llm = ScriptedLLM([])
    client, _ = stack(llm)
    await client.close()
    assert llm.closed
