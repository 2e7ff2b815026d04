"""Prices and costs: exact, rounded up, never silently 0."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal

import pytest
from genai_prices import Usage as ListedUsage
from genai_prices import calc_price
from hypothesis import given
from hypothesis import strategies as st

from rollouts.dtypes import Endpoint, Price, Usage
from rollouts.errors import PriceUnknown
from rollouts.llm.pricing import FREE, TieredPrice, cost_micros, price_of, require_price

amounts = st.decimals(0, 100, places=4)
counts = st.integers(0, 10**7)


@given(amounts, amounts, st.none() | amounts, counts, counts, counts)
def test_cost_is_exact_and_rounded_up(
    input: Decimal, output: Decimal, cached: Decimal | None, prompt: int, completion: int, read: int
) -> None:
    read = min(read, prompt)
    price = Price(input=input, output=output, cached_input=cached)
    cost = cost_micros(price, Usage(prompt_tokens=prompt, completion_tokens=completion, cached_tokens=read))
    exact = input * (prompt - read) + (input if cached is None else cached) * read + output * completion
    assert 0 <= cost - exact < 1


def test_written_tokens_cost_a_quarter_more() -> None:
    price = Price(input=Decimal(4), output=Decimal(0))
    usage = Usage(prompt_tokens=100)
    assert cost_micros(price, usage, written_tokens=100) == 500
    assert cost_micros(price, usage) == 400
    assert cost_micros(None, usage, written_tokens=9) == 0


@given(st.integers(0, 400_000), st.integers(0, 400_000))
def test_more_tokens_never_cost_less(one: int, other: int) -> None:
    low = Price(input=Decimal(1), output=Decimal(1))
    high = Price(input=Decimal(2), output=Decimal(3))
    price = TieredPrice(input=low.input, output=low.output, above=((200_000, high),))
    less, more = sorted((one, other))
    assert cost_micros(price, Usage(prompt_tokens=less)) <= cost_micros(price, Usage(prompt_tokens=more))
    assert cost_micros(price, Usage(prompt_tokens=200_000)) == 400_000
    assert cost_micros(price, Usage(prompt_tokens=199_999)) == 199_999


def test_the_endpoint_s_own_price_wins() -> None:
    price = Price(input=Decimal(7), output=Decimal(8))
    assert price_of(Endpoint(provider="openai", model="gpt-4.1-nano", price=price)) is price


def test_self_hosted_is_free() -> None:
    for provider in ("ollama", "vllm", "local"):
        assert price_of(Endpoint(provider=provider, model="gpt-4.1-nano")) == FREE
    assert price_of(Endpoint(provider="openai_compatible", model="m", base_url="http://127.0.0.1:1/v1")) == FREE
    assert price_of(Endpoint(provider="openai", model="my-own-model", base_url="http://localhost:8000/v1")) == FREE


def test_a_known_model_behind_a_local_gateway_is_not_free() -> None:
    endpoint = Endpoint(provider="openai", model="gpt-4.1-nano", base_url="http://localhost:4000/v1")
    assert price_of(endpoint) == price_of(Endpoint(provider="openai", model="gpt-4.1-nano")) != FREE


def test_the_tables() -> None:
    assert price_of(Endpoint(provider="openai", model="gpt-4.1-nano", base_url="https://api.openai.com/v1")) == Price(
        input=Decimal("0.1"), output=Decimal("0.4"), cached_input=Decimal("0.025")
    )
    by_host = Endpoint(
        provider="openai_compatible", model="llama-3.1-8b-instant", base_url="https://api.groq.com/openai/v1"
    )
    assert price_of(by_host) == price_of(Endpoint(provider="groq", model="llama-3.1-8b-instant"))
    assert price_of(by_host) is not None


LISTED = [
    ("anthropic", "anthropic", "claude-sonnet-4-5"),
    ("gemini", "google", "gemini-2.5-pro"),
    ("openai", "openai", "o3"),
    ("deepseek", "deepseek", "deepseek-chat"),
    ("xai", "x-ai", "grok-4"),
]


@pytest.mark.parametrize(("provider", "listed", "model"), LISTED)
@pytest.mark.parametrize("prompt", [10, 100_000, 200_000, 250_000, 900_000])
def test_never_below_the_tables_own_sum(provider: str, listed: str, model: str, prompt: int) -> None:
    price = price_of(Endpoint(provider=provider, model=model))
    theirs = calc_price(ListedUsage(input_tokens=prompt, output_tokens=1000), model, provider_id=listed).total_price
    ours = cost_micros(price, Usage(prompt_tokens=prompt, completion_tokens=1000))
    assert ours >= theirs * 10**6
    if provider in ("anthropic", "gemini", "openai") and prompt != 200_000:
        assert ours - theirs * 10**6 < 1  # and not above it where nothing depends on the hour


def test_an_unknown_price_is_unknown() -> None:
    for endpoint in (
        Endpoint(provider="openai", model="no-such-model-x"),
        Endpoint(provider="openai_compatible", model="gpt-4.1-nano", base_url="https://models.example/v1"),
        Endpoint(provider="openai_compatible", model="sonar", base_url="https://api.perplexity.ai"),
    ):
        assert price_of(endpoint) is None
        with pytest.raises(PriceUnknown, match=r"price = \{input = \.\.\., output = \.\.\.\}"):
            require_price(endpoint)


def test_the_tables_are_loaded_only_when_needed() -> None:
    code = "import sys, rollouts.llm.pricing; print(*(name in sys.modules for name in ('genai_prices', 'aiohttp')))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["False", "False"]
