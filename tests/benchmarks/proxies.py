"""A counting proxy in a thread of its own, for code that is not async."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.mipro_comparison.proxy import Propose, Proxy, Upstream

from rollouts.testing import MockProvider


def upstream(mock: MockProvider, **settings: str) -> Upstream:
    """The mock as the proxy's model."""
    return Upstream.of(mock.endpoint("the-model", **settings))


def propose(messages: object, deal: str, number: int) -> tuple[str, bool]:
    """A proposer that says which instruction of which deal it is."""
    return f"<instruction>{deal} {number}</instruction>", True


@contextmanager
def proxy_in_thread(
    mock: MockProvider, *, proposer: Propose | None = propose, answers: Path | None = None
) -> Iterator[Proxy]:
    """A running proxy in front of `mock`."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="proxy", daemon=True)
    thread.start()
    proxy = Proxy(upstream(mock), propose=proposer, answers=answers)
    try:
        asyncio.run_coroutine_threadsafe(proxy.__aenter__(), loop).result(10)
        try:
            yield proxy
        finally:
            asyncio.run_coroutine_threadsafe(proxy.__aexit__(), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
