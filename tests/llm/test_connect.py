from __future__ import annotations

import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

import rollouts.llm
from rollouts.budget import Budget, Ledger
from rollouts.dtypes import Endpoint, Price
from rollouts.errors import ConfigError, PriceUnknown
from rollouts.llm.connect import CallContext, connect, provider_for

PRICE = Price(input=Decimal(1), output=Decimal(4))
UNPRICED = Endpoint.parse("openai/no-such-model", api_key="k")


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_BASE", "ANTHROPIC_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


def context(budget: Budget | None = None) -> CallContext:
    return CallContext(Ledger(budget or Budget()))


@pytest.mark.parametrize("provider", ["openai", "anthropic", "groq", "ollama", "vllm"])
async def test_a_client_is_made_by_wire_protocol(provider: str) -> None:
    endpoint = Endpoint.parse(f"{provider}/model", api_key="k", price=PRICE)
    client = connect(endpoint, context(Budget(max_cost_usd=1)))
    await client.close()
    made = provider_for(endpoint, context())
    assert type(made).__name__ == ("AnthropicProvider" if provider == "anthropic" else "OpenAIProvider")
    assert made.count_tokens("some text") > 0
    await made.close()


async def test_the_embedded_model_is_free_and_needs_no_key() -> None:
    pytest.importorskip("xllamacpp")
    client = connect(Endpoint.parse("local"), context(Budget(max_cost_usd=0)))
    await client.close()


async def test_an_unknown_price_under_a_money_cap_stops_before_anything() -> None:
    with pytest.raises(PriceUnknown, match="price"):
        connect(UNPRICED, context(Budget(max_cost_usd=1)))
    keyless = Endpoint.parse("openai/no-such-model")
    with pytest.raises(PriceUnknown):
        connect(keyless, context(Budget(max_cost_usd=1)))
    await connect(UNPRICED, context(Budget(max_calls=1))).close()


def test_a_missing_key_and_an_unknown_provider_are_told() -> None:
    with pytest.raises(ConfigError, match="OPENAI_API_KEY"):
        connect(Endpoint.parse("openai/x", price=PRICE), context())
    with pytest.raises(ConfigError, match="did you mean 'openai'"):
        connect(Endpoint.parse("opena1/x"), context())


def test_every_exported_name_exists_and_loads() -> None:
    for name in rollouts.llm.__all__:
        assert getattr(rollouts.llm, name).__name__ == name
    assert set(rollouts.llm.__all__) <= set(dir(rollouts.llm))
    with pytest.raises(AttributeError):
        rollouts.llm.nonsense  # noqa: B018


def test_importing_the_package_or_the_fakes_loads_nothing_heavy() -> None:
    heavy = ["aiohttp", "sqlalchemy", "genai_prices", "pydantic", "optuna", "scipy", "anthropic"]
    modules = "rollouts.llm, rollouts.testing, rollouts.llm.connect"
    code = f"import sys, {modules}; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout
    assert found.strip() == "[]"
