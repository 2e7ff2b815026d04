from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest

from rollouts.dtypes import Endpoint, Message, Price, Request, Response
from rollouts.errors import ConfigError, RateLimited
from rollouts.testing import FakeClock, ScriptedLLM

PRICE = Price(input=Decimal(2), output=Decimal(8))


def request(text: str, max_tokens: int = 64) -> Request:
    endpoint = Endpoint.parse("openai/scripted").with_sampling(max_tokens=max_tokens)
    return Request(endpoint=endpoint, messages=(Message("user", text),))


async def test_replies_come_in_order_by_text_or_by_function() -> None:
    ready = Response(text="ready")
    in_order = ScriptedLLM(["a", RateLimited("slow down"), ready])
    assert (await in_order.complete(request("1"))).text == "a"
    with pytest.raises(RateLimited):
        await in_order.complete(request("2"))
    assert await in_order.complete(request("3")) is ready
    assert [r.messages[0].content for r in in_order.requests] == ["1", "2", "3"]
    assert (await ScriptedLLM({"x": "y"}).complete(request("x"))).text == "y"
    assert (await ScriptedLLM(lambda r: r.messages[0].content * 2).complete(request("ab"))).text == "abab"


async def test_an_unforeseen_call_fails_loudly() -> None:
    with pytest.raises(ConfigError, match="more was asked for: 'q'"):
        await ScriptedLLM([]).complete(request("q"))
    with pytest.raises(ConfigError, match="'q'"):
        await ScriptedLLM({}).complete(request("q"))


async def test_latency_and_concurrency_are_seen() -> None:
    clock = FakeClock(auto=True)
    llm = ScriptedLLM(lambda _: "ok", latency_s=2, clock=clock)
    responses = await asyncio.gather(*(llm.complete(request(str(n))) for n in range(7)))
    assert (clock.now(), llm.calls, llm.in_flight, llm.max_in_flight) == (2, 7, 0, 7)
    assert {response.latency_s for response in responses} == {2}
    await llm.close()
    assert llm.closed


@pytest.mark.parametrize("text", ["", "hello world", "ü" * 100, "\ud800", "日本語" * 30])
@pytest.mark.parametrize("reply", ["", "x", "word " * 1000])
async def test_the_worst_case_is_never_passed(text: str, reply: str) -> None:
    llm = ScriptedLLM([reply], price=PRICE)
    worst, response = llm.worst_case(request(text)), await llm.complete(request(text))
    assert response.usage.total_tokens <= worst.tokens
    assert 0 < response.cost_micros <= worst.micros
    assert worst.calls == 1
    assert (response.finish_reason == "length") == (len(reply) > 256)
