"""Time limits by an injected clock."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from rollouts.llm.clock import Clock

T = TypeVar("T")
_GRACE_S = 1.0  # for what has been cancelled to end; what ignores it is left behind


class Overtime(Exception):
    """The time is up."""


async def within(seconds: float, clock: Clock, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, or what it raises. Raises Overtime after `seconds`, when `work` is cancelled.

    A `work` that cancels itself, or wants to end the process, is a RuntimeError: neither is the caller's business.
    """
    task = asyncio.create_task(_tamed(work))
    timer = asyncio.create_task(clock.sleep(seconds))
    try:
        await asyncio.wait((task, timer), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Overtime
    finally:
        timer.cancel()
        if not task.done():
            task.cancel()
            task.add_done_callback(_looked_at)
        await asyncio.wait((task, timer), timeout=_GRACE_S)
    if task.cancelled():
        raise RuntimeError("it was cancelled from inside")
    return task.result()


async def _tamed(work: Coroutine[Any, Any, T]) -> T:
    try:
        return await work
    except SystemExit as error:
        raise RuntimeError(f"it tried to end the process: {error!r}") from error


def _looked_at(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()
