"""Ctrl-C and SIGTERM: the first ends what is under way well.

Handlers are Python's own, not the event loop's: they run between two steps of the main thread, also while a user's code
holds the loop up.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from threading import Thread, current_thread, main_thread
from types import FrameType
from typing import Any

from rollouts.errors import ConfigError

INTERRUPTED = "interrupted"
GRACE_S = 30.0
"""So long may rollouts in flight take to end after the first signal."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_KEEP_S = 5.0


class Interrupts:
    """Calls `on_first` in the event loop for the first signal; the second ends the process, whatever the loop does.

    Before that it calls `restore`, which gives the terminal back, and `keep`, which may take five seconds to write what
    waits to be stored. `exit_code` is None until a signal came, then 128 and its number.
    """

    def __init__(
        self,
        on_first: Callable[[], None],
        restore: Callable[[], None] = lambda: None,
        keep: Callable[[], None] = lambda: None,
    ) -> None:
        self._on_first, self._restore, self._keep = on_first, restore, keep
        self.exit_code: int | None = None

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Handles signals while the block runs in the event loop; outside of the main thread nothing does."""
        loop = asyncio.get_running_loop()

        def handle(number: int, frame: FrameType | None) -> None:
            if self.exit_code is not None:
                self._end(128 + number)
            self.exit_code = 128 + number
            loop.call_soon_threadsafe(self._on_first)

        try:
            previous = {number: signal.signal(number, handle) for number in _SIGNALS}
        except ValueError:
            return (yield)
        try:
            yield
        finally:
            for number, handler in previous.items():
                _put_back(number, handler)

    def _end(self, code: int) -> None:
        try:
            # In a thread: the signal may have come while the main thread holds a lock that writing needs.
            keeping = Thread(target=self._keep, daemon=True)
            keeping.start()
            self._restore()
            keeping.join(_KEEP_S)
        finally:
            os._exit(code)


class RunInterrupts:
    """The runs of this process that the first Ctrl-C stops, all of them. A second one is Python's own again."""

    def __init__(self) -> None:
        self._stops: list[Callable[[], Any]] = []
        self._previous: Any = None
        self._installed = False

    @contextmanager
    def around(self, stop: Callable[[], None]) -> Iterator[None]:
        """Calls `stop` in the running event loop when Ctrl-C comes while the block runs, in the main thread."""
        told = partial(asyncio.get_running_loop().call_soon_threadsafe, stop)
        if not self._installed:
            self._previous, self._installed = signal.signal(signal.SIGINT, self._handle), True
        self._stops.append(told)
        try:
            yield
        finally:
            self._stops.remove(told)
            if not self._stops:
                self._restore()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._restore()
        for stop in self._stops:
            stop()

    def _restore(self) -> None:
        if self._installed:
            self._installed = False
            _put_back(signal.SIGINT, self._previous)


RUNS = RunInterrupts()


def check_main_thread() -> None:
    """Raises ConfigError where no signal comes."""
    if current_thread() is not main_thread():
        raise ConfigError(
            "stop_on_interrupt: Python gives signals to the main thread only, and this run is in another one; leave it "
            "out, and end the run with study.stop(...)"
        )


def _put_back(number: int, handler: Any) -> None:
    signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: it was not one of Python's
