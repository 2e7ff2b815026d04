"""What may be spent, what was spent, and what the shipped prompt must satisfy."""

from __future__ import annotations

from dataclasses import dataclass, fields
from decimal import ROUND_FLOOR, Decimal, InvalidOperation
from typing import Any

from rollouts.errors import ConfigError

MICROS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Hard caps of one run; None means no cap.

    `max_cost_usd` covers every model call (task, judge, proposer, retries), `max_tokens` prompt and completion tokens
    together, `max_calls` attempts sent to a provider, `max_rollouts` runs of the program on a sample that were not
    already known, `max_seconds` wall-clock time.
    """

    max_cost_usd: Decimal | float | int | str | None = None
    max_tokens: int | None = None
    max_calls: int | None = None
    max_rollouts: int | None = None
    max_seconds: float | None = None

    def __post_init__(self) -> None:
        for name in ("max_tokens", "max_calls", "max_rollouts", "max_seconds"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise ConfigError(f"{name} = {value!r}: a cap is a number of at least 0; leave it out for no cap")
        if self.max_cost_usd is not None:
            _micros(self.max_cost_usd)

    @property
    def max_micros(self) -> int | None:
        """The money cap in millionths of a dollar, rounded down."""
        return None if self.max_cost_usd is None else _micros(self.max_cost_usd)


def _micros(dollars: Decimal | float | int | str) -> int:
    try:
        amount = Decimal(str(dollars))
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or amount < 0:
        raise ConfigError(f"max_cost_usd = {dollars!r}: must be an amount in dollars of at least 0, for example 2.50")
    return int((amount * MICROS).to_integral_value(ROUND_FLOOR))


@dataclass(frozen=True, slots=True, kw_only=True)
class Spend:
    """An amount of every resource. `micros` are millionths of a dollar; `seconds` is time spent in calls."""

    micros: int = 0
    tokens: int = 0
    calls: int = 0
    rollouts: int = 0
    seconds: float = 0.0

    def __add__(self, other: Spend) -> Spend:
        return Spend(
            micros=self.micros + other.micros,
            tokens=self.tokens + other.tokens,
            calls=self.calls + other.calls,
            rollouts=self.rollouts + other.rollouts,
            seconds=self.seconds + other.seconds,
        )

    @property
    def usd(self) -> float:
        """Dollars, for display; `micros` is the exact amount."""
        return self.micros / MICROS

    def to_json(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraints:
    """What the shipped prompt must satisfy; None means anything goes.

    A candidate longer than `max_prompt_tokens` (prompt without the sample, counted by the endpoint's client) is
    rejected before it costs anything. A rollout that outlives `max_latency_s` is cut and counts as failed. A candidate
    ships only when the mean cost of its rollouts is at most `max_cost_per_call_usd` and the 95th percentile of their
    latency at most `max_p95_latency_s`.
    """

    max_prompt_tokens: int | None = None
    max_latency_s: float | None = None
    max_p95_latency_s: float | None = None
    max_cost_per_call_usd: float | None = None
