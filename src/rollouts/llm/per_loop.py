"""One connection pool per event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PerLoop(Generic[T]):
    """A thing that belongs to the running event loop, made on first use and again when the loop is another one.

    It is closed by `close`, or by its loop: `asyncio.run` closes the async generators of its loop before it ends, and
    the thing lives in one. So `asyncio.run` can be used many times with one client and leaves no open connection.
    """

    def __init__(self, make: Callable[[], T], close: Callable[[T], Awaitable[None]]) -> None:
        self._make, self._close = make, close
        self._loop: asyncio.AbstractEventLoop | None = None
        self._held: AsyncGenerator[T, None] | None = None
        self._thing: T | None = None

    async def get(self) -> T:
        loop = asyncio.get_running_loop()
        if self._thing is None or self._loop is not loop:
            self._loop, self._held = loop, self._hold(thing := self._make())
            self._thing = thing
            await anext(self._held)
        return self._thing

    async def close(self) -> None:
        """Closes what this loop holds; nothing when there is nothing."""
        held, self._held, self._thing = self._held, None, None
        if held is not None and self._loop is asyncio.get_running_loop():
            await held.aclose()

    async def _hold(self, thing: T) -> AsyncGenerator[T, None]:
        try:
            yield thing
        finally:
            await self._close(thing)
