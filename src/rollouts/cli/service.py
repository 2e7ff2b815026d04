"""`rollouts serve`."""

from __future__ import annotations

import asyncio
import gc
import sys
from pathlib import Path
from typing import Any

from rollouts.cli import words
from rollouts.prompt_optimization.interrupts import Interrupts
from rollouts.service import ServiceSettings, create_app, load_settings
from rollouts.service.server import bind, serving


def serve(config: Path | None, **flags: Any) -> int:
    """Serves until a signal comes; jobs that are not over go on at the next start."""
    settings = load_settings(config, **flags)
    # A collection stops all jobs and requests for as long as it looks at objects: leave out the libraries' own, which
    # stay for ever, look at few at a time, and at all of them seldom.
    gc.collect()
    gc.freeze()
    gc.set_threshold(2_000, 5, 1_000)
    # Threads that read the store for a request wait this long, and more than once, for the busy loop to let them go on.
    sys.setswitchinterval(0.001)
    return asyncio.run(_serve(settings))


async def _serve(settings: ServiceSettings) -> int:
    console = words.make_console()
    with bind(settings) as listener:
        host, port = listener.getsockname()[:2]
        url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        app = create_app(settings.model_copy(update={"port": port}))
        ended = asyncio.Event()
        with Interrupts(ended.set).installed():
            async with serving(app, listener):
                console.print(f"rollouts at {url} (routes: {url}/docs); Ctrl-C ends it", soft_wrap=True)
                if not await asyncio.to_thread(app.state.keys.all):
                    console.print("there is no API key yet: make one with `rollouts keys create`", soft_wrap=True)
                await ended.wait()
    return 0
