"""Ctrl-C and SIGTERM: the first ends the run well, the second at once."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Calls `on_first` for the first signal; the second restores the terminal and ends the process.

    `exit_code` is None until a signal came, then 128 and its number.
    """

    def __init__(self, on_first: Callable[[], None], restore: Callable[[], None]) -> None:
        self._on_first, self._restore = on_first, restore
        self.exit_code: int | None = None

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Handles signals in the running event loop while the block runs."""
        loop = asyncio.get_running_loop()
        previous: dict[int, Any] = {}
        for number in _SIGNALS:
            try:
                loop.add_signal_handler(number, self._signal, number)
            except (NotImplementedError, RuntimeError, ValueError):  # Windows, or no main thread
                try:
                    previous[number] = signal.signal(
                        number, lambda n, _: loop.call_soon_threadsafe(self._signal, n) and None
                    )
                except ValueError:
                    return (yield)
        try:
            yield
        finally:
            for number in _SIGNALS:
                if number in previous:
                    signal.signal(number, previous[number])
                else:
                    loop.remove_signal_handler(number)

    def _signal(self, number: int) -> None:
        if self.exit_code is not None:
            self._restore()
            os._exit(128 + number)
        self.exit_code = 128 + number
        self._on_first()
