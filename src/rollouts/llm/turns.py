"""Who may reserve next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Turns:
    """Those whose reservation does not fit yet, in the order in which they came. One line for each account.

    Refusing them would lose what calls under way are about to give back: they set their worst case aside, and mostly
    take far less. Nobody passes the first of the line, so a large reservation is not starved by small ones.
    """

    def __init__(self) -> None:
        self._waiting, self._first, self._changed = 0, asyncio.Lock(), asyncio.Event()

    async def wait(self, reserve: Callable[[], T | None]) -> T:
        """What `reserve` returns or raises; while it returns None, it is asked again after each `settled`."""
        if not self._waiting and (found := reserve()) is not None:
            return found
        self._waiting += 1
        try:
            async with self._first:
                while True:
                    self._changed.clear()
                    if (found := reserve()) is not None:
                        return found
                    await self._changed.wait()
        finally:
            self._waiting -= 1

    def settled(self) -> None:
        """Something was given back."""
        self._changed.set()
