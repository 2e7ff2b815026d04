"""A service for the pages that speak to one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

from rollouts.service import ServiceSettings
from tests.service.conftest import started


@contextmanager
def in_thread(folder: Path) -> Iterator[tuple[str, str]]:
    """URL and key of a service on the folder's usual store, in a thread of its own."""
    settings = ServiceSettings(
        port=0, store=str(folder / ".rollouts" / "rollouts.db"), results_dir=folder / ".rollouts" / "jobs"
    )
    ready: Future[tuple[str, str]] = Future()
    loop = asyncio.new_event_loop()
    ended = asyncio.Event()

    async def serve() -> None:
        try:
            async with started(settings) as service:
                ready.set_result((service.url, service.key))
                await ended.wait()
        except BaseException as error:
            if not ready.done():
                ready.set_exception(error)
            raise

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), name="service", daemon=True)
    thread.start()
    try:
        yield ready.result(30)
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(30)
        loop.close()
