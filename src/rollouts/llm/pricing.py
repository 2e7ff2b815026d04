"""What a model costs, and what a call cost. Dollars per million tokens are micro-dollars per token.

Prices come from the endpoint, or from the tables of the `genai-prices` package, which is loaded on the first look-up.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from rollouts.dtypes import Endpoint, Price, Usage
from rollouts.errors import PriceUnknown
from rollouts.llm.keys import address_of
from rollouts.llm.registry import ProviderSpec, is_loopback, spec_of

FREE = Price(input=Decimal(0), output=Decimal(0))
CACHE_WRITE_FACTOR = Decimal("1.25")
"""Anthropic charges tokens that it writes to its five-minute cache this many times the input price (its price list)."""
_LOOK_AHEAD = timedelta(hours=48)
_LOOK_STEP = timedelta(minutes=15)


@dataclass(frozen=True, slots=True, kw_only=True)
class TieredPrice(Price):
    """A price that rises with the length of the prompt.

    `above` holds (prompt tokens, price from there on) in rising order; the fields of `Price` are the first tier.
    `cost_micros` picks the tier, so that a bound on the tokens is also a bound on the cost.
    """

    above: tuple[tuple[int, Price], ...] = ()


def price_of(endpoint: Endpoint) -> Price | None:
    """The endpoint's price; None when it is not known.

    `endpoint.price` wins. Self-hosted providers are free. Otherwise the `genai-prices` tables: by the host of
    `base_url` where that is some provider's, else by the endpoint's provider. A model that the tables do not know is
    free when it runs on this machine; one they know has its list price even there, because a gateway on this machine
    may pass calls on to whoever charges for them.

    Prices that depend on the time are the highest of the next two days. Prices that rise with the prompt's length
    are a `TieredPrice`. Where writing to the provider's own cache costs more than plain input, input has that price.
    Models with charges other than tokens (per request) have no known price.
    """
    if endpoint.price is not None:
        return endpoint.price
    spec = spec_of(endpoint.provider)
    if spec.self_hosted:
        return FREE
    address = address_of(endpoint)
    price = _listed(endpoint.model, spec, address)
    return FREE if price is None and is_loopback(address) else price


def require_price(endpoint: Endpoint) -> Price:
    """`price_of`, or PriceUnknown that says how to give one."""
    price = price_of(endpoint)
    if price is None:
        raise PriceUnknown(
            f"the price of {endpoint.name} is not known, and a cap on money needs one: give the endpoint "
            "price = {input = ..., output = ...} in dollars per million tokens, or cap calls or tokens instead"
        )
    return price


def cost_micros(price: Price | None, usage: Usage, *, written_tokens: int = 0) -> int:
    """Millionths of a dollar for `usage` of one call, rounded up; 0 without a price.

    `written_tokens` is the part of the uncached prompt tokens that went into a cache at `CACHE_WRITE_FACTOR`.
    """
    if price is None:
        return 0
    if isinstance(price, TieredPrice):
        price = _tier(price, usage.prompt_tokens)
    cached_price = price.input if price.cached_input is None else price.cached_input
    cached = min(usage.cached_tokens, usage.prompt_tokens)
    total = (
        price.input * (usage.prompt_tokens - cached) + cached_price * cached + price.output * usage.completion_tokens
    )
    if written_tokens:
        total += (CACHE_WRITE_FACTOR - 1) * price.input * written_tokens
    return int(total.to_integral_value(ROUND_CEILING))


def _tier(price: TieredPrice, prompt_tokens: int) -> Price:
    chosen: Price = price
    for start, tier in price.above:
        if prompt_tokens >= start:
            chosen = tier
    return chosen


def _listed(model: str, spec: ProviderSpec, address: str) -> Price | None:
    own_host = spec.base_url is not None and urlsplit(address).hostname == urlsplit(spec.base_url).hostname
    if not own_host and not is_loopback(address):
        price = _look_up(model, None, address, spec.wire)
        if price is not None:
            return price
    return _look_up(model, spec.prices, None, spec.wire) if spec.prices else None


@lru_cache(maxsize=256)
def _look_up(model: str, provider: str | None, url: str | None, wire: str) -> Price | None:
    import genai_prices  # loads tables of 30,000 lines

    usage = genai_prices.Usage(input_tokens=1, output_tokens=1)
    try:
        if provider is not None:
            found = genai_prices.calc_price(usage, model, provider_id=provider).model
        else:
            found = genai_prices.calc_price(usage, model, provider_api_url=url).model
    except LookupError:
        return None
    now = datetime.now(tz=UTC)
    times = (now + _LOOK_STEP * step for step in range(_LOOK_AHEAD // _LOOK_STEP + 1))
    return _highest([found.get_prices(time) for time in times], writes=wire != "anthropic")


def _highest(listed: Iterable[Any], *, writes: bool) -> Price | None:
    """One price that no price of `listed` (`genai_prices.types.ModelPrice`) exceeds at any prompt length."""
    prices = list({id(price): price for price in listed}.values())
    if any(price.input_mtok is None or price.output_mtok is None or _charges_requests(price) for price in prices):
        return None
    starts = sorted({start for price in prices for field in _fields(price) for start in _starts(field)})
    first, *rest = [_highest_at(prices, start, writes=writes) for start in (0, *starts)]
    if not rest:
        return first
    return TieredPrice(
        input=first.input,
        output=first.output,
        cached_input=first.cached_input,
        above=tuple(zip(starts, rest, strict=True)),
    )


def _highest_at(prices: Iterable[Any], tokens: int, *, writes: bool) -> Price:
    inputs, outputs, cached = [], [], []
    for price in prices:
        plain = _at(price.input_mtok, tokens)
        written = getattr(price, "cache_write_mtok", None) if writes else None
        read = getattr(price, "cache_read_mtok", None)
        inputs.append(plain if written is None else max(plain, _at(written, tokens)))
        outputs.append(max(_at(price.output_mtok, tokens), _at(getattr(price, "output_reasoning_mtok", None), tokens)))
        cached.append(plain if read is None else _at(read, tokens))
    return Price(input=max(inputs), output=max(outputs), cached_input=max(cached))


def _fields(price: Any) -> tuple[Any, ...]:
    names = ("input_mtok", "output_mtok", "cache_read_mtok", "cache_write_mtok")
    return tuple(getattr(price, name, None) for name in names)


def _starts(value: Any) -> tuple[int, ...]:
    return tuple(tier.start for tier in getattr(value, "tiers", ()))


def _at(value: Any, tokens: int) -> Decimal:
    """The highest of a plain price, or of all tiers that begin at or below `tokens`."""
    if value is None:
        return Decimal(0)
    if not hasattr(value, "tiers"):
        return Decimal(value)
    return max([Decimal(value.base), *(Decimal(tier.price) for tier in value.tiers if tier.start <= tokens)])


def _charges_requests(price: Any) -> bool:
    return bool(getattr(price, "requests_kcount", None))
