"""The proxy counts what the model bills, for everyone alike, and changes nothing."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from benchmarks.mipro_comparison.outcome import Counts
from benchmarks.mipro_comparison.proxy import Proxy, Tally, Upstream
from benchmarks.mipro_comparison.served import Served
from hypothesis import given
from hypothesis import strategies as st

from rollouts.dtypes import Endpoint
from rollouts.errors import ConfigError
from rollouts.testing import MockProvider
from tests.benchmarks.proxies import propose, upstream


async def ask(
    proxy: Proxy, text: str, *, run: str = "a", phase: str = "search", model: str = "task", **body: Any
) -> tuple[int, str]:
    url = f"{Served(proxy.url).base_url('tickets-0', run, phase)}/chat/completions"
    sent = {"model": model, "temperature": 0, "messages": [{"role": "user", "content": text}], **body}
    async with aiohttp.ClientSession() as session, session.post(url, json=sent) as response:
        return response.status, (await response.read()).decode("utf-8", "replace")


def tokens(*counts: Counts) -> int:
    return sum(entry.prompt_tokens + entry.completion_tokens for entry in counts)


async def test_counts_are_the_models_own_however_many_calls_are_in_flight() -> None:
    async with MockProvider(prefix_cache=True) as mock, Proxy(upstream(mock), propose=propose) as proxy:
        calls = [("a", "search")] * 12 + [("a", "test")] * 5 + [("b", "search")] * 7
        answers = await asyncio.gather(
            *(ask(proxy, f"words {n % 9}", run=run, phase=phase) for n, (run, phase) in enumerate(calls))
        )
        assert {status for status, _ in answers} == {200}
        a, b = proxy.counts("a"), proxy.counts("b")
        assert (a["search"].calls, a["test"].calls, b["search"].calls, mock.calls) == (12, 5, 7, 24)
        assert tokens(*a.values(), *b.values()) == mock.tokens
        assert {body["model"] for body in mock.requests} == {"the-model"}
        for entry in (a["search"], a["test"], b["search"]):
            assert entry.in_flight_s > 0
            assert entry.failed == entry.replayed == 0
        assert a["propose"] == b["test"] == Counts()
        async with aiohttp.ClientSession() as session, session.get(f"{proxy.url}/a/counts") as response:
            assert await response.json() == {phase: asdict(entry) for phase, entry in a.items()}


async def test_failures_are_passed_on_and_counted() -> None:
    script: list[Any] = [500, "rate_limit", "garbage", "wrong_shape", "drop", None]
    async with MockProvider(script=script) as mock, Proxy(upstream(mock), propose=propose) as proxy:
        statuses = [(await ask(proxy, "a few words"))[0] for _ in script]
        assert statuses == [500, 429, 200, 200, 502, 200]
        counts = proxy.counts("a")["search"]
        assert (counts.calls, counts.failed) == (6, 5)


async def test_what_it_cannot_count_it_refuses() -> None:
    async with MockProvider() as mock, Proxy(upstream(mock), propose=propose) as proxy:
        assert (await ask(proxy, "hi", phase="train"))[0] == 404
        assert (await ask(proxy, "hi", stream=True))[0] == 400
        assert mock.calls == 0


async def test_the_key_is_sent_and_never_passed_on() -> None:
    async with (
        MockProvider(key="sk-very-secret", echo_key=True, script=[500, None]) as mock,
        Proxy(upstream(mock, api_key="sk-very-secret"), propose=propose) as proxy,
    ):
        status, text = await ask(proxy, "hi")
        assert status == 500
        assert "sk-very-secret" not in text
        assert (await ask(proxy, "hi"))[0] == 200
        assert "sk-very-secret" not in repr(upstream(mock, api_key="sk-very-secret"))


async def test_everyones_proposer_deals_from_the_same_pool() -> None:
    async with MockProvider() as mock, Proxy(upstream(mock), propose=propose) as proxy:
        said = [await ask(proxy, "hi", run=run, model="proposer") for run in ("a", "b", "a")]
        assert ["tickets-0 0" in said[0][1], "tickets-0 0" in said[1][1], "tickets-0 1" in said[2][1]] == [True] * 3
        assert (proxy.counts("a")["propose"].calls, proxy.counts("a")["search"].calls, mock.calls) == (2, 0, 0)
    async with MockProvider() as mock, Proxy(upstream(mock), propose=None) as proxy:
        assert (await ask(proxy, "hi", model="proposer"))[0] == 200
        assert (proxy.counts("a")["propose"].calls, mock.calls, mock.requests[0]["model"]) == (1, 1, "the-model")


async def test_a_repeated_request_is_answered_from_the_file_and_counted_the_same(tmp_path: Path) -> None:
    file = tmp_path / "answers.db"
    async with MockProvider(script=[500]) as mock:
        async with Proxy(upstream(mock), propose=propose, answers=file) as proxy:
            assert [(await ask(proxy, "one"))[0] for _ in range(3)] == [500, 200, 200]
            first = proxy.counts("a")["search"]
            assert (first.calls, first.failed, first.replayed, mock.calls) == (3, 1, 1, 2)
        async with Proxy(upstream(mock), propose=propose, answers=file) as proxy:
            _, text = await ask(proxy, "one", run="b")
            _, warm = await ask(proxy, "one", run="b", temperature=0.7)
            again = proxy.counts("b")["search"]
            assert "one" in text
            assert "one" in warm
            assert (again.calls, again.replayed, mock.calls) == (2, 1, 3)
            assert tokens(again) == tokens(first)
            assert again.call_s > 0


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 20)), min_size=1, max_size=12))
def test_time_in_flight_is_the_time_with_a_call_under_way(calls: list[tuple[int, int]]) -> None:
    tally = Tally()
    moments = [(start, 1) for start, _ in calls] + [(start + length, 0) for start, length in calls]
    for now, begins in sorted(moments, key=lambda moment: (moment[0], -moment[1])):
        if begins:
            tally.begin(float(now))
        else:
            tally.end(float(now), Counts(calls=1, prompt_tokens=2))
    busy = {second for start, length in calls for second in range(start, start + length)}
    assert tally.counts == Counts(calls=len(calls), prompt_tokens=2 * len(calls), in_flight_s=float(len(busy)))


def test_a_model_that_speaks_another_protocol_is_refused() -> None:
    with pytest.raises(ConfigError, match="openai_compatible"):
        Upstream.of(Endpoint(provider="anthropic", model="any", api_key="sk-any"))


def test_a_server_gets_its_own_name_for_the_limit() -> None:
    one = Upstream.of(Endpoint(provider="openai", model="gpt", api_key="sk-any"))
    assert one.body({"model": "task", "max_tokens": 3}) == {"model": "gpt", "max_completion_tokens": 3}
