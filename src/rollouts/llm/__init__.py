"""Models behind one seam: `Client.complete(Request) -> Response`.

`rollouts.llm.connect.connect` makes a client from an `Endpoint`. Names are loaded when they are first used, because
some of their modules take long to import.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rollouts.llm.budgeted import BudgetedClient, RunClock
    from rollouts.llm.cache import CachedClient
    from rollouts.llm.client import Client, Provider
    from rollouts.llm.clock import Clock, SystemClock
    from rollouts.llm.connect import CallContext, provider_for, wrap
    from rollouts.llm.rate_limit import ConcurrencyLimiter, RateLimitedClient
    from rollouts.llm.retry import RetryingClient, RetryPolicy

__all__ = [
    "BudgetedClient",
    "CachedClient",
    "CallContext",
    "Client",
    "Clock",
    "ConcurrencyLimiter",
    "Provider",
    "RateLimitedClient",
    "RetryPolicy",
    "RetryingClient",
    "RunClock",
    "SystemClock",
    "provider_for",
    "wrap",
]

_MODULES = {
    "budgeted": ("BudgetedClient", "RunClock"),
    "cache": ("CachedClient",),
    "client": ("Client", "Provider"),
    "clock": ("Clock", "SystemClock"),
    "connect": ("CallContext", "provider_for", "wrap"),
    "rate_limit": ("ConcurrencyLimiter", "RateLimitedClient"),
    "retry": ("RetryPolicy", "RetryingClient"),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
