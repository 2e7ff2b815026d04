"""The mock bills what it says it bills, and fails as it was told, whatever the order of arrival."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import urllib.request

import pytest

from rollouts.dtypes import Message, Request
from rollouts.errors import ConfigError, ProviderError
from rollouts.llm.openai import OpenAIProvider
from rollouts.testing.mock_provider import MockProvider


async def outcomes(order: list[int], **settings: object) -> tuple[dict[int, str], MockProvider]:
    async with MockProvider(faults={"rate_limit": 0.3, "server_error": 0.2, "cut": 0.1}, **settings) as mock:
        endpoint = mock.endpoint()
        client = OpenAIProvider(endpoint, price=endpoint.price)
        found: dict[int, str] = {}

        async def one(number: int) -> None:
            request = Request(endpoint=endpoint, messages=(Message("user", f"n{number}"),))
            try:
                found[number] = (await client.complete(request)).text
            except ProviderError as error:
                found[number] = type(error).__name__

        await asyncio.gather(*map(one, order))
        await client.close()
    return found, mock


async def test_faults_depend_on_seed_and_content_not_on_order() -> None:
    first, mock = await outcomes(list(range(100)), seed=1)
    again, _ = await outcomes(list(reversed(range(100))), seed=1)
    other, _ = await outcomes(list(range(100)), seed=2)
    assert first == again != other
    failed = sum(mock.faulted.values())
    assert 40 <= failed <= 80
    assert mock.calls == 100
    assert mock.faulted["rate_limit"] == list(first.values()).count("RateLimited")


async def test_a_repeated_request_may_have_another_fate() -> None:
    async with MockProvider(faults={"server_error": 0.5}, seed=3) as mock:
        endpoint = mock.endpoint()
        client = OpenAIProvider(endpoint)
        request = Request(endpoint=endpoint, messages=(Message("user", "same"),))
        results = await asyncio.gather(*(client.complete(request) for _ in range(20)), return_exceptions=True)
        await client.close()
    assert 0 < mock.faulted["server_error"] < 20
    assert sum(isinstance(result, ProviderError) for result in results) == mock.faulted["server_error"]


async def test_it_bills_answers_and_lost_answers_but_not_refusals() -> None:
    for fault, billed in (("rate_limit", False), ("server_error", False), (503, False), ("cut", True), (None, True)):
        async with MockProvider(script=[fault]) as mock:
            endpoint = mock.endpoint()
            client = OpenAIProvider(endpoint)
            request = Request(endpoint=endpoint, messages=(Message("user", "q"),))
            await asyncio.gather(client.complete(request), return_exceptions=True)
            await client.close()
        assert (mock.calls, mock.micros > 0, mock.tokens > 0) == (1, billed, billed)


async def test_latency_is_drawn_by_seed_and_in_flight_is_counted() -> None:
    drawn = []
    async with MockProvider(latency=lambda rng: drawn.append(rng.random()) or 0.02, keep=3) as mock:
        endpoint = mock.endpoint()
        client = OpenAIProvider(endpoint)
        asked = [Request(endpoint=endpoint, messages=(Message("user", str(n)),)) for n in range(8)]
        answers = await asyncio.gather(*map(client.complete, asked))
        await client.close()
    assert len(set(drawn)) == 8
    assert mock.in_flight_max == 8
    assert mock.in_flight == 0
    assert len(mock.requests) == 3
    assert all(answer.latency_s >= 0.02 for answer in answers)


def test_in_a_thread_it_serves_other_processes() -> None:
    code = (
        "import sys, json, urllib.request as u\n"
        "body = json.dumps({'messages': [{'role': 'user', 'content': 'from afar'}]}).encode()\n"
        "r = u.Request(sys.argv[1] + '/chat/completions', body, {'Content-Type': 'application/json'})\n"
        "print(json.load(u.urlopen(r))['choices'][0]['message']['content'])\n"
    )
    with MockProvider.in_thread() as mock:
        out = subprocess.run([sys.executable, "-c", code, mock.base_url], capture_output=True, text=True, check=True)
        assert out.stdout.strip() == "from afar"
        assert mock.calls == 1


def test_in_a_thread_it_ends_with_an_error_inside() -> None:
    with pytest.raises(ZeroDivisionError), MockProvider.in_thread() as mock:
        raise ZeroDivisionError
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(mock.url)


def test_the_text_of_a_reply_may_be_a_whole_message() -> None:
    with MockProvider.in_thread(reply=lambda body: {"content": "x", "finish_reason": "content_filter"}) as mock:
        data = json.dumps({"messages": []}).encode()
        with urllib.request.urlopen(f"{mock.base_url}/chat/completions", data) as response:
            choice = json.load(response)["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("x", "content_filter")


def test_an_unknown_fault_is_refused() -> None:
    with pytest.raises(ConfigError, match="explode"):
        MockProvider(faults={"explode": 1.0})
