"""A service on a free port of this machine, in the test's event loop, before a provider that bills."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from fastapi import FastAPI

from rollouts.client import AsyncClient
from rollouts.service import ServiceSettings, create_app
from rollouts.service.server import bind, serving
from rollouts.service.state import ServiceState
from rollouts.testing import MockProvider
from tests.service.world import reply


@dataclass(frozen=True, kw_only=True)
class Service:
    """A running service. `key` may do everything."""

    app: FastAPI
    url: str
    key: str

    @property
    def state(self) -> ServiceState:
        state: ServiceState = self.app.state.service
        return state

    def make_key(self, owner: str = "default", scopes: Sequence[Any] = ("jobs",)) -> str:
        key: str = self.app.state.keys.create(name="test", owner=owner, scopes=scopes)[0]
        return key

    def client(self, key: str | None = None) -> AsyncClient:
        """Use it as an async context."""
        return AsyncClient(self.url, key or self.key)

    def http(self, key: str | None = None) -> aiohttp.ClientSession:
        """A plain session with the key; use it as an async context."""
        return aiohttp.ClientSession(self.url, headers={"X-API-Key": key or self.key})


@asynccontextmanager
async def started(settings: ServiceSettings) -> AsyncIterator[Service]:
    """The service that these settings make."""
    with bind(settings) as listener:
        host, port = listener.getsockname()[:2]
        app = create_app(settings.model_copy(update={"port": port}))
        async with serving(app, listener):
            key, _ = app.state.keys.create(name="test", scopes=("admin",))
            yield Service(app=app, url=f"http://{host}:{port}", key=key)


def settings_at(folder: Path, mock: MockProvider | None = None, **more: Any) -> ServiceSettings:
    """Settings of a service that keeps everything in `folder`, and takes every model for that of `mock`."""
    price = {"input": 1.0, "output": 4.0}
    url = "http://127.0.0.1:9/v1" if mock is None else mock.base_url
    model = {"provider": "openai_compatible", "model": "mock", "base_url": url, "price": price}
    places = {"store": str(folder / "service.db"), "results_dir": folder / "jobs"}
    return ServiceSettings(**{"port": 0, "models": {"*": model}, **places, **more})


@pytest.fixture
async def provider() -> AsyncIterator[MockProvider]:
    """What all models of the service mean."""
    async with MockProvider(reply=reply) as mock:
        yield mock


Start = Callable[..., Awaitable[Service]]


@pytest.fixture
async def start(tmp_path: Path, provider: MockProvider) -> AsyncIterator[Start]:
    """Starts a service with more settings; it ends with the test."""
    async with AsyncExitStack() as stack:

        async def begin(**more: Any) -> Service:
            return await stack.enter_async_context(started(settings_at(tmp_path, provider, **more)))

        yield begin


@pytest.fixture
async def service(start: Start) -> Service:
    """A service with the usual settings."""
    return await start()
