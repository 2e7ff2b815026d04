"""Runs the application on a socket of this machine."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator

import uvicorn
from fastapi import FastAPI

from rollouts.service.guard import head_limit, logging_config
from rollouts.service.settings import ServiceSettings
from rollouts.taskapp.ports import listen

_BACKLOG = 2048
_LAST_ANSWERS_S = 5


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are for whoever runs the server."""
        yield


def bind(settings: ServiceSettings) -> socket.socket:
    """The listening socket; raises ConfigError when the address cannot be had."""
    return listen(settings.host, settings.port, backlog=_BACKLOG)


@contextlib.asynccontextmanager
async def serving(app: FastAPI, listener: socket.socket) -> AsyncIterator[None]:
    """Serves while the block runs. Raises the RolloutsError that keeps the service from starting.

    At the end listeners are sent away, other requests may end within five seconds, and jobs stop where they are.
    """
    # The lifespan is run here and not by uvicorn, which would log a traceback for a user's mistake.
    async with app.router.lifespan_context(app):
        keys = app.state.env_keys
        options = uvicorn.Config(
            app,
            lifespan="off",
            http=head_limit(app.state.service.settings.body_timeout_s),
            ws="none",
            log_config=logging_config(lambda: keys.opened),
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=_LAST_ANSWERS_S,
        )
        server = _Server(options)
        running = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            await server.ready.wait()
            yield
        finally:
            app.state.service.events.hang_up()
            server.should_exit = True
            await running
