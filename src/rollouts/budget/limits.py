"""What may be spent, what was spent, and what the shipped prompt must satisfy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from decimal import ROUND_FLOOR, Decimal, InvalidOperation
from numbers import Real
from typing import Any

from rollouts.errors import ConfigError

MICROS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Hard caps of one run; None means no cap.

    `max_cost_usd` covers every model call (task, judge, proposer, retries), `max_tokens` prompt and completion tokens
    together, `max_calls` attempts sent to a provider, `max_rollouts` runs of the program on a sample that were not
    already known, `max_seconds` wall-clock time, `max_trials` the trials of a search (r-MIPRO only).
    """

    max_cost_usd: Decimal | float | int | str | None = None
    max_tokens: int | None = None
    max_calls: int | None = None
    max_rollouts: int | None = None
    max_seconds: float | None = None
    max_trials: int | None = None

    def __post_init__(self) -> None:
        for name in ("max_tokens", "max_calls", "max_rollouts", "max_seconds", "max_trials"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, Real) and float(value) >= 0):
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

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Spend:
        """The inverse of `to_json`; what is no amount of a resource is left out."""
        return cls(**{field.name: data[field.name] for field in fields(cls) if field.name in data})


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraints:
    """What the shipped prompt must satisfy; None means anything goes.

    A candidate longer than `max_prompt_tokens` (prompt without the sample, counted by the endpoint's client) is
    rejected before it costs anything. A call after which a rollout has taken more than `max_latency_s` is cut: the
    rollout has no score and counts as a violation of its candidate. A candidate ships only when the 95th percentile of
    the latency of its rollouts is at most `max_p95_latency_s`, and their mean cost at most `max_cost_per_call_usd`,
    with `confidence` each; one that breaks a limit with confidence is dropped while the search runs. Latency is the
    time of model calls, added up over a rollout, without waits for rate limits, retries and tools.

    `modules` holds the limits of single modules by name. There a latency is that of one run of the module (the slowest
    one of a rollout, for the percentile), a cost that of all its calls in a rollout. Each has a
    `confidence` of its own.

    Raises ConfigError for limits that are not above 0, contradict each other, or are nested deeper.
    """

    max_prompt_tokens: int | None = None
    max_latency_s: float | None = None
    max_p95_latency_s: float | None = None
    max_cost_per_call_usd: float | None = None
    confidence: float = 0.95
    modules: Mapping[str, Constraints] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("max_prompt_tokens", "max_latency_s", "max_p95_latency_s", "max_cost_per_call_usd"):
            value, free = getattr(self, name), name == "max_cost_per_call_usd"
            if value is not None and not (value >= 0 if free else value > 0):
                raise ConfigError(
                    f"{name} = {value!r}: must be a number {'of at least' if free else 'above'} 0; "
                    "leave it out for no limit"
                )
        if not 0 < self.confidence < 1:
            raise ConfigError(f"confidence = {self.confidence!r}: must lie between 0 and 1, for example 0.95")
        cut, p95 = self.max_latency_s, self.max_p95_latency_s
        if cut is not None and p95 is not None and p95 > cut:
            raise ConfigError(f"max_p95_latency_s = {p95:g} is more than max_latency_s = {cut:g}, where calls are cut")
        for name, limits in self.modules.items():
            if limits.modules:
                raise ConfigError(f"the constraints of module {name!r} have modules of their own; name them beside it")

    def of(self, module: str) -> Constraints:
        """The limits of one module; none where it has none."""
        return self.modules.get(module, _UNLIMITED)

    @property
    def cuts(self) -> bool:
        """Whether any call may be cut for its latency."""
        return any(limits.max_latency_s is not None for limits in (self, *self.modules.values()))


_UNLIMITED = Constraints()
