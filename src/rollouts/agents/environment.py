"""An environment's life: made, reset, used, closed."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from rollouts.agents.deadline import Overtime, within
from rollouts.agents.limits import AgentLimits
from rollouts.dtypes import Environment, EnvironmentFactory, Tool
from rollouts.errors import ConfigError, EnvironmentFailed
from rollouts.llm.clock import Clock, SystemClock

_METHODS = ("reset", "tools", "call", "close")


@asynccontextmanager
async def opened(
    factory: EnvironmentFactory, sample: Mapping[str, Any], limits: AgentLimits, clock: Clock | None = None
) -> AsyncIterator[Environment]:
    """A fresh environment, reset for `sample`, and closed at the end however that comes.

    Raises ConfigError for a factory that makes no environment, EnvironmentFailed when `reset` takes too long, and what
    factory or `reset` raise. An error of `close` is dropped: the result is good whatever was left behind.
    """
    clock = clock or SystemClock()
    environment = factory(dict(sample))
    missing = [name for name in _METHODS if not callable(getattr(environment, name, None))]
    if missing:
        raise ConfigError(
            f"environment_factory made a {type(environment).__name__} without {', '.join(missing)}; "
            "see rollouts.dtypes.Environment for the methods it needs"
        )
    limit = limits.tool_timeout_s
    try:
        try:
            await within(limit, clock, environment.reset(dict(sample)))
        except Overtime:
            raise EnvironmentFailed(
                f"{type(environment).__name__}.reset took longer than {limit:g} s; raise AgentLimits.tool_timeout_s"
            ) from None
        yield environment
    finally:
        with contextlib.suppress(Exception):
            await within(limit, clock, environment.close())


async def tools_of(
    factory: EnvironmentFactory | None, sample: Mapping[str, Any], limits: AgentLimits
) -> tuple[Tool, ...]:
    """The tools that a model may call on `sample`. None of an environment that cannot be made or reset for it: its
    rollouts say why."""
    if factory is None:
        return ()
    try:
        async with opened(factory, sample, limits) as environment:
            return tuple(environment.tools())
    except (Exception, SystemExit):  # noqa: BLE001 - whatever the user's code raises
        return ()
