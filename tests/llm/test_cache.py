from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from rollouts.dtypes import Choices, Endpoint, Message, Request, Response, Tool, ToolCall, Usage
from rollouts.errors import ProviderUnavailable, StoreError
from rollouts.llm.cache import CachedClient
from rollouts.store import MemoryStore
from rollouts.store.base import GenerationRow, Row
from rollouts.testing import FakeClock, ScriptedLLM


class CountingStore(MemoryStore):
    """Keeps the keys of every look-up."""

    def __init__(self) -> None:
        super().__init__()
        self.lookups: list[list[str]] = []

    def generations(self, keys: Sequence[str]) -> Mapping[str, GenerationRow]:
        self.lookups.append(list(keys))
        return super().generations(keys)


def request(text: str, **changes: object) -> Request:
    return Request(endpoint=Endpoint.parse("openai/x"), messages=(Message("user", text),), **changes)


def echo(clock: FakeClock | None = None, latency_s: float = 0.0) -> ScriptedLLM:
    return ScriptedLLM(lambda r: r.messages[-1].content.upper(), clock=clock, latency_s=latency_s)


async def test_an_answer_is_paid_once_and_served_whole_ever_after() -> None:
    store = MemoryStore()
    paid = Response(
        text="é\ud800",
        tool_calls=(ToolCall(id="1", name="add", arguments="{"),),
        finish_reason="tool_calls",
        usage=Usage(prompt_tokens=10, completion_tokens=2, cached_tokens=4),
        cost_micros=7,
        latency_s=0.5,
    )
    llm = ScriptedLLM([paid])
    assert await CachedClient(llm, store, "a").complete(request("q")) is paid
    served = await CachedClient(llm, store, "b").complete(request("q"))
    assert llm.calls == 1
    assert (served.cached, served.cost_micros, served.saved_micros) == (True, 0, 7)
    for name in ("text", "tool_calls", "finish_reason", "usage", "latency_s"):
        assert getattr(served, name) == getattr(paid, name)


async def test_a_different_repeat_endpoint_or_text_is_a_different_answer() -> None:
    llm, store = echo(), MemoryStore()
    client = CachedClient(llm, store, "r")
    warm = Endpoint.parse("openai/x").with_sampling(temperature=0.7)
    for asked in (request("q"), request("q", repeat=1), request("p"), Request(endpoint=warm, messages=())):
        if not asked.messages:
            asked = Request(endpoint=warm, messages=(Message("user", "q"),))
        for _ in range(2):
            await client.complete(asked)
    assert llm.calls == 4


async def test_rows_hold_the_request_only_where_it_cannot_be_known_otherwise() -> None:
    store, tool = MemoryStore(), Tool(name="t", description="d", parameters={"type": "object"})
    client = CachedClient(echo(), store, "r", wall=lambda: 12.5)
    asked = [request("a"), request("b", phase="judge", tools=(tool,), response_format=Choices(options=("x", "y")))]
    for one in asked:
        await client.complete(one)
    task, judge = (store.generations([one.key()])[one.key()] for one in asked)
    assert (task.request, task.phase, task.run_id, task.model, task.created_at) == (None, "task", "r", "openai/x", 12.5)
    assert judge.request == {
        "messages": [{"role": "user", "content": "b"}],
        "tools": [{"name": "t", "description": "d", "parameters": {"type": "object"}}],
        "response_format": {"choices": ["x", "y"]},
    }


@pytest.mark.parametrize("store", [None, MemoryStore()], ids=["no store", "store"])
async def test_identical_requests_in_flight_are_sent_once(store: MemoryStore | None) -> None:
    clock = FakeClock(auto=True)
    llm = ScriptedLLM([Response(text="x", cost_micros=9)], latency_s=1, clock=clock)
    client = CachedClient(llm, store, "r")
    responses = await asyncio.gather(*(client.complete(request("q")) for _ in range(10)))
    assert llm.calls == 1
    assert sorted(response.cost_micros for response in responses) == [0] * 9 + [9]
    assert sum(response.cached for response in responses) == 9
    assert {response.cost_micros + response.saved_micros for response in responses} == {9}, "its price is the same"


@pytest.mark.parametrize("store", [None, MemoryStore()], ids=["no store", "store"])
async def test_a_call_is_shared_only_where_it_may_last_as_long(store: MemoryStore | None) -> None:
    sent: list[float | None] = []

    def answer(asked: Request) -> str:
        sent.append(asked.max_latency_s)
        return "x"

    client = CachedClient(ScriptedLLM(answer), store, "r")
    await asyncio.gather(*(client.complete(request("q", max_latency_s=cap)) for cap in (0.5, None, 0.5, 2.0)))
    assert sent == [0.5, None, 2.0]


async def test_without_a_store_nothing_is_kept() -> None:
    llm = echo()
    client = CachedClient(llm, None, "r")
    await client.complete(request("q"))
    await client.complete(request("q"))
    assert llm.calls == 2


@pytest.mark.parametrize("leaver", [0, 1, 2])
async def test_a_cancelled_waiter_leaves_the_call_to_the_others(leaver: int) -> None:
    clock = FakeClock()
    llm = ScriptedLLM([Response(text="x", cost_micros=9)], latency_s=1, clock=clock)
    client = CachedClient(llm, MemoryStore(), "r")
    waiters = [asyncio.create_task(client.complete(request("q"))) for _ in range(3)]
    await clock.advance(0.5)
    waiters[leaver].cancel()
    await clock.advance(0.5)
    outcomes = await asyncio.gather(*waiters, return_exceptions=True)
    assert isinstance(outcomes.pop(leaver), asyncio.CancelledError)
    assert [outcome.cost_micros for outcome in outcomes if isinstance(outcome, Response)] == [9, 0]
    assert llm.calls == 1


async def test_the_last_to_leave_stops_the_call_and_a_new_one_can_start() -> None:
    clock = FakeClock()
    llm = echo(clock, latency_s=1)
    client = CachedClient(llm, MemoryStore(), "r")
    waiters = [asyncio.create_task(client.complete(request("q"))) for _ in range(3)]
    await clock.advance(0.5)
    for waiter in waiters:
        waiter.cancel()
    late = asyncio.create_task(client.complete(request("q")))
    await asyncio.gather(*waiters, return_exceptions=True)
    await clock.advance(2)
    assert (await late).text == "Q"
    assert (llm.calls, llm.in_flight) == (2, 0)


async def test_leaving_before_the_look_up_sends_nothing() -> None:
    llm, store = echo(), CountingStore()
    client = CachedClient(llm, store, "r")
    waiter = asyncio.create_task(client.complete(request("q")))
    other = asyncio.create_task(client.complete(request("p")))
    asyncio.get_running_loop().call_soon(waiter.cancel)
    assert (await other).text == "P"
    await asyncio.gather(waiter, return_exceptions=True)
    assert (await client.complete(request("q"))).text == "Q"
    assert [r.messages[0].content for r in llm.requests].count("q") <= 2


async def test_a_failure_goes_to_all_waiters_and_is_not_kept() -> None:
    clock = FakeClock(auto=True)
    llm = ScriptedLLM([ProviderUnavailable("down"), "up"], latency_s=1, clock=clock)
    client = CachedClient(llm, MemoryStore(), "r")
    outcomes = await asyncio.gather(*(client.complete(request("q")) for _ in range(3)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ProviderUnavailable] * 3
    assert (await client.complete(request("q"))).text == "up"


async def test_look_ups_of_one_turn_are_one_call_to_the_store() -> None:
    store = CountingStore()
    client = CachedClient(echo(), store, "r")
    asked = [request(str(n % 40)) for n in range(50)]
    await asyncio.gather(*map(client.complete, asked))
    assert [len(keys) for keys in store.lookups] == [40]
    await client.complete(request("later"))
    assert store.lookups[1:] == [[request("later").key()]]


async def test_a_broken_store_fails_the_calls_that_need_it() -> None:
    class Unreadable(MemoryStore):
        def generations(self, keys: Sequence[str]) -> Mapping[str, GenerationRow]:
            raise StoreError("cannot read")

    class Unwritable(MemoryStore):
        def record(self, *rows: Row) -> None:
            raise StoreError("disk full")

    for store, calls in ((Unreadable(), 0), (Unwritable(), 1)):
        llm = echo()
        client = CachedClient(llm, store, "r")
        outcomes = await asyncio.gather(*(client.complete(request("q")) for _ in range(2)), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [StoreError] * 2
        assert llm.calls == calls


async def test_close_ends_what_is_in_flight() -> None:
    llm = echo(FakeClock(), latency_s=1)
    client = CachedClient(llm, MemoryStore(), "r")
    waiters = [asyncio.create_task(client.complete(request(text))) for text in "aab"]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    late = asyncio.create_task(client.complete(request("c")))
    await asyncio.sleep(0)
    await client.close()
    outcomes = await asyncio.gather(*waiters, late, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError] * 4
    assert llm.closed
    assert llm.in_flight == 0
