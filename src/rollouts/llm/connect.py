"""From an endpoint to a client that is safe to call. The one place that knows the order of the wrappers:

    cache -> retry -> rate limit -> module's budget -> budget -> latency cap -> provider

A cached answer spends nothing and waits for nothing. A retry queues, reserves and is counted again, so no attempt
escapes the rate limit or the budget. The budget is the last to be asked: what it reserves leaves at once, and time
spent waiting holds no money of the run back. The latency cap is the innermost, so that no wait counts against it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field

from rollouts.budget import Authorisation, Ledger, ModuleAccount, Spend
from rollouts.dtypes import Endpoint
from rollouts.llm.budgeted import BudgetedClient, RunClock
from rollouts.llm.cache import CachedClient
from rollouts.llm.capped import CappedProvider
from rollouts.llm.client import Client, Provider
from rollouts.llm.clock import Clock, SystemClock
from rollouts.llm.keys import key_of
from rollouts.llm.module_budget import ModuleBudgetedClient
from rollouts.llm.pricing import price_of, require_price
from rollouts.llm.rate_limit import ConcurrencyLimiter, RateLimitedClient
from rollouts.llm.registry import spec_of
from rollouts.llm.retry import RetryingClient, RetryPolicy
from rollouts.llm.turns import Turns
from rollouts.store.base import Store

_RUN = ""


@dataclass(frozen=True)
class CallContext:
    """What all calls of one run in this process share, whatever their endpoint. Make one per run.

    `authorise` stores a durable upper bound of the run's spend before it returns (see `Authorisation`); None leaves
    that out, for runs that are not stored. `slots` is the greatest number of calls in flight per endpoint. Time starts
    to count against the cap on seconds when the context is made. `modules` are the accounts of modules that have a
    budget of their own. `retries` counts the failed attempts that were sent again, by the name of the error.
    """

    ledger: Ledger
    _: KW_ONLY
    store: Store | None = None
    run_id: str = ""
    clock: Clock = field(default_factory=SystemClock)
    authorise: Callable[[Spend], None] | None = None
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    slots: int = 16
    modules: Mapping[str, ModuleAccount] = field(default_factory=dict)
    retries: Counter[str] = field(default_factory=Counter)
    run_clock: RunClock = field(init=False)
    authorisation: Authorisation | None = field(init=False)
    turns: Mapping[str, Turns] = field(init=False)

    def __post_init__(self) -> None:
        authorisation = None
        if self.authorise is not None:
            headroom = max(16, self.slots)
            authorisation = Authorisation(self.ledger, self.authorise, headroom_calls=headroom, now=self.clock.now)
        object.__setattr__(self, "run_clock", RunClock(self.clock, self.ledger, self.clock.now()))
        object.__setattr__(self, "authorisation", authorisation)
        object.__setattr__(self, "turns", {name: Turns() for name in (_RUN, *self.modules)})


def connect(endpoint: Endpoint, context: CallContext) -> Client:
    """A client for `endpoint`: `wrap` around its provider.

    Raises ConfigError for an unknown provider or a missing key, and PriceUnknown when money is capped and nobody
    knows what the model costs.
    """
    return wrap(provider_for(endpoint, context), context)


def provider_for(endpoint: Endpoint, context: CallContext) -> Provider:
    """The bare provider of `endpoint`, for its `count_tokens` and `worst_case`; its calls escape the budget.

    Raises like `connect`.
    """
    wire = spec_of(endpoint.provider).wire
    if wire == "local":
        from rollouts.llm.local import LocalProvider  # optional packages

        return LocalProvider(endpoint, clock=context.clock)
    budgets = (context.ledger.budget, *(account.budget for account in context.modules.values()))
    capped = any(budget.max_micros is not None for budget in budgets)
    price = require_price(endpoint) if capped else price_of(endpoint)
    api_key = key_of(endpoint)
    if wire == "anthropic":
        from rollouts.llm.anthropic import AnthropicProvider  # aiohttp takes long to import

        return AnthropicProvider(endpoint, price=price, api_key=api_key, clock=context.clock)
    from rollouts.llm.openai import OpenAIProvider

    return OpenAIProvider(endpoint, price=price, api_key=api_key, clock=context.clock)


def wrap(provider: Provider, context: CallContext) -> Client:
    """A client around a provider that is there already. Closing it closes the provider."""
    clock = context.run_clock
    retrying = RetryingClient(
        metered(provider, context),
        context.retry,
        clock,
        on_retry=lambda request, error, attempt, wait: context.retries.update((type(error).__name__,)),
        stopped=lambda: clock.stopped,
    )
    return CachedClient(retrying, context.store, context.run_id)


def metered(provider: Provider, context: CallContext) -> Client:
    """What `wrap` makes without cache and retry: one attempt for every call, rate-limited and budgeted."""
    clock = context.run_clock
    budgeted: Client = BudgetedClient(
        CappedProvider(provider),
        context.ledger,
        clock,
        turns=context.turns[_RUN],
        authorisation=context.authorisation,
    )
    if context.modules:
        budgeted = ModuleBudgetedClient(budgeted, provider, context.modules, clock, context.turns)
    limiter = ConcurrencyLimiter(context.slots, max_pause_s=context.retry.max_retry_after_s)
    return RateLimitedClient(budgeted, limiter, clock)
