"""Key rings on every database, and an app that has nothing but keys."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from rollouts.errors import ServiceError
from rollouts.service.keys import EnvKeys, KeyRing, ServerKey
from rollouts.service.keys.routes import router
from rollouts.store.database import Database
from rollouts.testing import FakeClock
from tests.store.conftest import needs_postgres, postgres

__all__ = ["postgres"]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=needs_postgres)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    place = tmp_path / "store.db" if request.param == "sqlite" else str(request.getfixturevalue("postgres"))
    made = Database(place)
    yield made
    made.close()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(1e9)


@pytest.fixture
def ring(database: Database, clock: FakeClock) -> KeyRing:
    return KeyRing(database, clock=clock.now)


@pytest.fixture
def env_keys(database: Database, tmp_path: Path) -> EnvKeys:
    return EnvKeys(database, ServerKey.load(tmp_path / "server.key"))


@pytest.fixture
async def http(ring: KeyRing, env_keys: EnvKeys) -> AsyncIterator[httpx.AsyncClient]:
    """Speaks to the key routes."""
    app = FastAPI()
    app.state.keys, app.state.env_keys = ring, env_keys
    app.include_router(router)

    @app.exception_handler(ServiceError)
    async def refused(_: Request, error: ServiceError) -> JSONResponse:
        return JSONResponse({"detail": str(error), "code": error.code}, status_code=error.status)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse({"detail": [problem["msg"] for problem in error.errors()]}, status_code=422)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client:
        yield client
