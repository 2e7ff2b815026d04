from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollouts.dtypes import Endpoint, Message, Request, Response
from rollouts.errors import ConfigError, RateLimited
from rollouts.llm.rate_limit import ConcurrencyLimiter, RateLimitedClient
from rollouts.testing import FakeClock, ScriptedLLM


def request(text: str) -> Request:
    return Request(endpoint=Endpoint.parse("openai/x"), messages=(Message("user", text),))


@given(st.integers(1, 64), st.lists(st.sampled_from(["start", "ok", "fail", "429", "429 wait", "time"]), max_size=200))
def test_the_limit_stays_within_its_bounds(slots: int, steps: list[str]) -> None:
    limiter, tickets, now = ConcurrencyLimiter(slots), [], 0.0
    for step in steps:
        before, refused = limiter.limit, step.startswith("429")
        if step == "time":
            now += 1.5
        elif step == "start":
            if limiter.ready(now):
                assert limiter.in_flight < limiter.limit
                tickets.append(limiter.start())
        elif tickets:
            ticket = tickets.pop(0)
            if refused:
                limiter.refused(ticket, now, 3.0 if "wait" in step else None)
                assert limiter.limit in (before, max(1, int(before * 0.8)))
                assert "wait" not in step or limiter.pause_left(now) >= 3.0
            elif step == "ok":
                limiter.succeeded(ticket)
                assert before <= limiter.limit <= before + 1
            else:
                limiter.failed()
                assert limiter.limit == before
        assert 1 <= limiter.limit <= slots
        assert limiter.in_flight == len(tickets)
        assert not (limiter.pause_left(now) and limiter.ready(now))


def test_it_starts_at_twenty_or_at_the_slots() -> None:
    assert ConcurrencyLimiter(64).limit == 20
    assert ConcurrencyLimiter(7).limit == 7
    with pytest.raises(ConfigError):
        ConcurrencyLimiter(0)


def run_full_window(limiter: ConcurrencyLimiter) -> None:
    ticket = 0
    while limiter.ready(0):
        ticket = limiter.start()
    for _ in range(limiter.limit):
        limiter.succeeded(ticket)
        ticket = limiter.start()
    for _ in range(limiter.in_flight):
        limiter.failed()


def test_until_the_first_refusal_it_grows_by_one_per_success_while_the_window_is_full() -> None:
    limiter = ConcurrencyLimiter(64)
    tickets = [limiter.start() for _ in range(20)]
    for expected in range(21, 41):
        limiter.succeeded(tickets.pop(0))
        assert limiter.limit == expected
        tickets += [limiter.start(), limiter.start()]
    limiter.succeeded(tickets.pop())
    limiter.succeeded(tickets.pop())  # the window was not full
    assert limiter.limit == 41


def test_after_a_refusal_it_grows_by_one_per_full_window_up_to_the_slots() -> None:
    limiter = ConcurrencyLimiter(24)
    limiter.refused(limiter.start(), 0.0, None)
    assert limiter.limit == 16
    limits = []
    for _ in range(10):
        run_full_window(limiter)
        limits.append(limiter.limit)
    assert limits == [17, 18, 19, 20, 21, 22, 23, 24, 24, 24]


def test_an_idle_limiter_learns_nothing() -> None:
    limiter = ConcurrencyLimiter(64)
    for _ in range(1000):
        limiter.succeeded(limiter.start())
    assert limiter.limit == 20


def test_one_round_of_refusals_is_one_cut() -> None:
    limiter = ConcurrencyLimiter(64)
    tickets = [limiter.start() for _ in range(20)]
    for ticket in tickets:
        limiter.refused(ticket, 0.0, None)
    assert limiter.limit == 16
    limiter.refused(limiter.start(), 0.0, None)
    assert limiter.limit == 12


def test_successes_of_before_a_cut_do_not_undo_it() -> None:
    limiter = ConcurrencyLimiter(64)
    tickets = [limiter.start() for _ in range(20)]
    limiter.refused(tickets.pop(), 0.0, None)
    for ticket in tickets:
        limiter.succeeded(ticket)
    assert limiter.limit == 16


def test_at_the_floor_refusals_pause_longer_and_longer_until_a_success() -> None:
    limiter, pauses, now = ConcurrencyLimiter(1), [], 0.0
    for _ in range(7):
        limiter.refused(limiter.start(), now, None)
        pauses.append(limiter.pause_left(now))
        now += pauses[-1]
    assert pauses == [1, 2, 4, 8, 16, 30, 30]
    limiter.succeeded(limiter.start())
    limiter.refused(limiter.start(), now, None)
    assert limiter.pause_left(now) == 1


def test_a_pause_that_is_too_long_is_left_to_the_retries() -> None:
    limiter = ConcurrencyLimiter(8, max_pause_s=60)
    limiter.refused(limiter.start(), 0.0, 3600)
    assert limiter.ready(0.0)


async def test_requests_wait_in_the_order_of_arrival_and_the_wait_is_no_latency() -> None:
    clock, order = FakeClock(auto=True), []

    def reply(asked: Request) -> str:
        order.append(asked.messages[0].content)
        return "ok"

    llm = ScriptedLLM(reply, latency_s=1, clock=clock)
    client = RateLimitedClient(llm, ConcurrencyLimiter(3), clock)
    responses = await asyncio.gather(*(client.complete(request(str(n))) for n in range(12)))
    assert order == [str(n) for n in range(12)]
    assert (llm.max_in_flight, clock.now()) == (3, 4)
    assert {response.latency_s for response in responses} == {1}


async def test_without_contention_nothing_is_awaited() -> None:
    client = RateLimitedClient(ScriptedLLM(["ok"]), ConcurrencyLimiter(1), FakeClock())
    step = client.complete(request("q"))
    with pytest.raises(StopIteration):
        step.send(None)


async def test_retry_after_stops_all_new_starts() -> None:
    clock = FakeClock(auto=True)
    starts: list[float] = []

    def reply(asked: Request) -> str | RateLimited:
        starts.append(clock.now())
        return RateLimited("429", retry_after=30) if asked.messages[0].content == "0" else "ok"

    client = RateLimitedClient(ScriptedLLM(reply, latency_s=1, clock=clock), ConcurrencyLimiter(2), clock)
    outcomes = await asyncio.gather(*(client.complete(request(str(n))) for n in range(5)), return_exceptions=True)
    assert isinstance(outcomes[0], RateLimited)
    assert starts == [0, 0, 31, 32, 32]  # the pause, then one (2 was cut to 1), then two (1 succeeded)
    assert client.limiter.in_flight == 0


async def test_a_pause_that_is_extended_is_waited_out() -> None:
    clock = FakeClock()
    limiter = ConcurrencyLimiter(4)
    first, second = limiter.start(), limiter.start()
    limiter.refused(first, 0.0, 10)
    client = RateLimitedClient(ScriptedLLM(lambda _: "ok"), limiter, clock)
    waiting = asyncio.create_task(client.complete(request("q")))
    await clock.advance(5)
    limiter.refused(second, 5.0, 40)
    await clock.advance(39)
    assert not waiting.done()
    await clock.advance(1)
    assert (await waiting).text == "ok"


async def test_a_cancelled_waiter_gives_its_place_up() -> None:
    clock = FakeClock()
    llm = ScriptedLLM(lambda _: "ok", latency_s=1, clock=clock)
    client = RateLimitedClient(llm, ConcurrencyLimiter(1), clock)
    tasks = [asyncio.create_task(client.complete(request(str(n)))) for n in range(4)]
    await clock.advance(0.5)
    tasks[1].cancel()
    await clock.advance(0.5)  # the slot has been handed to task 2, which may not have run yet
    tasks[2].cancel()
    await clock.advance(5)
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(outcome, Response) for outcome in outcomes] == [True, False, False, True]
    assert client.limiter.in_flight == 0


async def test_a_waiter_cancelled_in_the_moment_of_its_turn_loses_no_slot() -> None:
    clock = FakeClock()
    client = RateLimitedClient(ScriptedLLM(lambda _: "ok"), ConcurrencyLimiter(1), clock)
    ticket = client.limiter.start()
    first, second = (asyncio.create_task(client.complete(request(text))) for text in "ab")
    await asyncio.sleep(0)
    client.limiter.failed()
    client._admit()
    first.cancel()
    assert (await second).text == "ok"
    assert first.cancelled()
    assert (client.limiter.in_flight, ticket) == (0, 0)


async def test_close_ends_the_waiting() -> None:
    clock, llm = FakeClock(), ScriptedLLM([])
    limiter = ConcurrencyLimiter(1)
    limiter.refused(limiter.start(), 0.0, 100)
    client = RateLimitedClient(llm, limiter, clock)
    waiting = asyncio.create_task(client.complete(request("q")))
    await clock.advance(1)
    await client.close()
    await asyncio.gather(waiting, return_exceptions=True)
    assert waiting.cancelled()
    assert llm.closed


async def test_it_finds_what_the_endpoint_takes() -> None:
    """An endpoint that serves 5 at once and refuses the rest: nearly all calls get through, 5 at a time."""
    clock = FakeClock(auto=True)

    class Narrow:
        in_flight = refused = served = 0

        async def complete(self, _: Request) -> Response:
            if self.in_flight >= 5:
                self.refused += 1
                raise RateLimited("429")
            self.in_flight += 1
            try:
                await clock.sleep(1)
            finally:
                self.in_flight -= 1
            self.served += 1
            return Response(text="ok")

        async def close(self) -> None: ...

    narrow = Narrow()
    client = RateLimitedClient(narrow, ConcurrencyLimiter(64), clock)

    async def persist(n: int) -> None:
        while True:
            try:
                await client.complete(request(str(n)))
                return
            except RateLimited:
                await clock.sleep(1)

    await asyncio.gather(*(persist(n) for n in range(500)))
    assert narrow.served == 500
    assert narrow.refused < 150
    assert clock.now() < 500 / 5 * 1.4
