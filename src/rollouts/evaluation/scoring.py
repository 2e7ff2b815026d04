"""A metric of the user's own, kept from holding up the event loop."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from queue import SimpleQueue
from typing import Any

from rollouts.dtypes import Sample, ScoreFn, Trajectory

_QUICK_S = 0.01


class Scoring:
    """Calls a metric, one call at a time.

    A plain function is called in the event loop until a call takes more than 10 ms: model calls would wait for the
    next ones, and seem slow. From then on it is called in a thread of its own, in the order of the calls. A function
    that returns something to await stays in the event loop.
    """

    def __init__(self, score_fn: ScoreFn) -> None:
        self._score_fn = score_fn
        self._thread: _Thread | None = None

    def __call__(self, trajectory: Trajectory, sample: Sample) -> Any:
        """What the metric returns, or something to await that becomes it."""
        if self._thread is not None:
            return self._apart(self._thread, trajectory, sample)
        result: Any = None
        started = time.perf_counter()
        try:
            result = self._score_fn(trajectory, sample)
        finally:
            if time.perf_counter() - started > _QUICK_S and not inspect.isawaitable(result):
                self._thread = _Thread()
        return result

    async def _apart(self, thread: _Thread, trajectory: Trajectory, sample: Sample) -> Any:
        result = await thread.run(lambda: self._score_fn(trajectory, sample))
        return await result if inspect.isawaitable(result) else result

    def close(self) -> None:
        """Ends the thread, when it has done its call."""
        if self._thread is not None:
            self._thread.close()
            self._thread = None


class _Thread:
    """Calls in their order. A daemon: a call that hangs does not keep the process from ending."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        threading.Thread(target=self._work, name="rollouts-metric", daemon=True).start()

    async def run(self, call: Callable[[], Any]) -> Any:
        """The result of `call`, or what it raises. Nothing is called for a caller who left before its turn."""
        loop, context = asyncio.get_running_loop(), copy_context()
        done: asyncio.Future[tuple[Any, BaseException | None]] = loop.create_future()

        def finish(result: Any, error: BaseException | None) -> None:
            if not done.done():
                done.set_result((result, error))

        def work() -> None:
            if done.done():
                return
            result, error = None, None
            try:
                result = context.run(call)
            except BaseException as raised:  # noqa: BLE001 - it belongs to the caller
                error = raised
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(finish, result, error)

        self._calls.put(work)
        result, error = await done
        if error is not None:
            raise error
        return result

    def close(self) -> None:
        self._calls.put(None)

    def _work(self) -> None:
        while (work := self._calls.get()) is not None:
            work()
