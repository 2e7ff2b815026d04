"""The ASGI application: what serves which path, and how errors look."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from anyio.to_thread import current_default_thread_limiter
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

import rollouts
from rollouts.errors import (
    BudgetExhausted,
    ConfigError,
    DataError,
    RolloutsError,
    RunNotFound,
    ServiceError,
    StoreError,
    TaskAppError,
)
from rollouts.llm.client import Provider
from rollouts.service import api, synth
from rollouts.service.guard import BodyLimit
from rollouts.service.interceptor import PREFIX, Interceptor
from rollouts.service.keys import routes as key_routes
from rollouts.service.online import OnlineProxy
from rollouts.service.settings import ServiceSettings
from rollouts.service.state import open_state

log = logging.getLogger(__name__)

_READERS = 4
"""Threads of the routes that read the store: more would take the interpreter from the event loop, and gain nothing."""

_PROBLEMS: tuple[tuple[type[RolloutsError], int, str], ...] = (
    (ConfigError, 422, "config_error"),
    (DataError, 422, "data_error"),
    (RunNotFound, 404, "not_found"),
    (StoreError, 503, "store_error"),
    (BudgetExhausted, 402, "budget_exhausted"),
    (TaskAppError, 424, "task_app_error"),
    (RolloutsError, 502, "failed"),
)
_CODES = {404: "not_found", 405: "method_not_allowed"}


def create_app(settings: ServiceSettings | None = None, *, providers: Mapping[str, Provider] | None = None) -> FastAPI:
    """The service as an ASGI application. It opens its store when it is started, and takes up unfinished jobs.

    `providers` are used, by `Endpoint.name`, instead of making some: for tests.
    """
    chosen = settings or ServiceSettings()
    interceptor = Interceptor(chosen.url, max_body_bytes=chosen.max_body_bytes, body_timeout_s=chosen.body_timeout_s)
    proxy = OnlineProxy(interceptor)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        current_default_thread_limiter().total_tokens = _READERS
        state = open_state(chosen, interceptor, providers)
        try:
            app.state.service, app.state.keys, app.state.env_keys = state, state.keys, state.env_keys
            proxy.systems = state.online
            state.start()
            yield
        finally:
            await state.close()

    app = FastAPI(
        title="rollouts",
        version=rollouts.__version__,
        summary="Better prompts for LLM programs within a hard budget, with an honest verdict.",
        lifespan=lifespan,
    )
    app.add_middleware(BodyLimit, max_bytes=chosen.max_body_bytes, timeout_s=chosen.body_timeout_s)
    app.add_middleware(_Front, interceptor=proxy)
    app.add_exception_handler(RolloutsError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _no_route)
    app.add_exception_handler(Exception, _bug)
    app.include_router(api.router)
    app.include_router(key_routes.router)
    app.include_router(synth.jobs)
    app.include_router(synth.online)
    app.include_router(synth.extras)
    app.add_api_route("/health", _health, tags=["service"], summary="Whether the service is up")
    return app


class _Front:
    """Takes calls of task apps to the interceptor, past everything that they need not pass."""

    def __init__(self, app: ASGIApp, interceptor: ASGIApp) -> None:
        self._app, self._interceptor = app, interceptor

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        inner = scope["type"] == "http" and scope["path"].startswith(PREFIX)
        await (self._interceptor if inner else self._app)(scope, receive, send)


async def _health() -> dict[str, str]:
    """Needs no key."""
    return {"status": "ok", "version": rollouts.__version__}


def _problem(status: int, code: str, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    detail = detail.encode(errors="backslashreplace").decode()  # it may quote half a character of the request
    return JSONResponse({"detail": detail, "code": code}, status_code=status, headers=headers)


async def _refused(request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, ServiceError):
        headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else None
        return _problem(error.status or 502, error.code or "failed", str(error), headers)
    status, code = next((status, code) for kind, status, code in _PROBLEMS if isinstance(error, kind))
    if status >= 500:
        log.error("%s %s: %s", request.method, request.url.path, error)
    return _problem(status, code, str(error))


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    """Where and what, without what was sent: it may hold a key."""
    assert isinstance(error, RequestValidationError)
    found = [f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()]
    return _problem(422, "invalid_request", "; ".join(found[:20]))


async def _no_route(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    detail = f"{error.detail}; /docs lists the routes"
    return _problem(error.status_code, _CODES.get(error.status_code, "refused"), detail, error.headers)


async def _bug(request: Request, error: Exception) -> JSONResponse:
    log.error("%s %s", request.method, request.url.path, exc_info=error)
    return _problem(500, "internal", "the service failed; its log has the reason")
