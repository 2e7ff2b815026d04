"""The client of task apps: whatever an app does, there is an answer or a clear error, in bounded time and memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from rollouts.dtypes import Program, PromptTemplate, Sample
from rollouts.errors import ConfigError, TaskAppError
from rollouts.taskapp import AppInfo, AppLimits, RemoteApp, create_task_app

from .kit import KEY, answering, rollout_body, served

LIMITS = AppLimits(timeout_s=5.0, max_body_bytes=1 << 20)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def remote(handler: Handler, limits: AppLimits = LIMITS) -> AsyncIterator[RemoteApp]:
    async with answering(handler) as url:
        app = RemoteApp(url, KEY, limits=limits)
        try:
            yield app
        finally:
            await app.close()


async def error_of(handler: Handler, limits: AppLimits = LIMITS) -> Exception:
    async with remote(handler, limits) as app:
        with pytest.raises((TaskAppError, ConfigError)) as caught:
            await app.rollout(rollout_body())
    assert KEY not in str(caught.value)
    return caught.value


def says(status: int, body: Any = None, **headers: str) -> Handler:
    async def handler(request: web.Request) -> web.Response:
        text = body if isinstance(body, str) else json.dumps(body)
        return web.Response(status=status, text=text, headers=headers, content_type="application/json")

    return handler


async def hang(request: web.Request) -> web.Response:
    await asyncio.sleep(60)
    raise AssertionError


async def hang_in_the_body(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b'{"metrics": ')
    await asyncio.sleep(60)
    raise AssertionError


async def endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" " * 100_000)


async def vanish(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def vanish_in_the_body(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"metrics": ')
    assert request.transport is not None
    request.transport.abort()
    return response


REFUSED = {"detail": {"error": {"code": "unauthorised", "message": "no"}}}
UNSET = {"detail": {"error": {"code": "missing_environment_api_key", "message": "no"}}}


@pytest.mark.parametrize(
    ("handler", "said", "retryable"),
    [
        (says(200, "<html>"), "no JSON: <html>", False),
        (says(200, "[" * 100_000), "no JSON", False),
        (says(200, [1]), "no JSON object", False),
        (says(200, "x" * 10_000_000), "longer than 1,048,576 bytes", False),
        (endless, "longer than 1,048,576 bytes", False),
        (vanish, "the connection broke", True),
        (vanish_in_the_body, "the connection broke", True),
        (says(500, "Internal Server Error"), "status 500 at /rollout: Internal Server Error", False),
        (says(422, {"detail": [{"loc": ["env"], "msg": "missing"}]}), "missing", False),
        (says(400, {"detail": "no such seed"}), "status 400 at /rollout: no such seed", False),
        (says(502, {"detail": {"error": {"message": "model down"}}}), "model down", True),
        (says(503, "busy"), "busy", True),
        (says(500, f"I was given {KEY}"), "I was given [redacted]", False),
    ],
)
async def test_what_one_rollout_may_meet(handler: Handler, said: str, retryable: bool) -> None:
    error = await error_of(handler)
    assert isinstance(error, TaskAppError)
    assert said in str(error)
    assert "127.0.0.1:" in str(error)
    assert len(str(error)) < 500
    assert error.retryable is retryable


@pytest.mark.parametrize(
    ("handler", "said"),
    [
        (says(401, {"detail": "Unauthorized"}), "refuses the environment key"),
        (says(403, ""), "refuses the environment key"),
        (says(400, REFUSED), "refuses the environment key"),
        (says(503, UNSET), "refuses the environment key"),
        (says(404, ""), "no /rollout"),
        (says(405, ""), "no /rollout"),
        (says(302, "", Location="http://user:pw@elsewhere.example/rollout"), "redirects to elsewhere.example;"),
        (says(307, "", Location="/v2/rollout"), "redirects to another path"),
    ],
)
async def test_what_every_rollout_would_meet_is_a_wrong_setting(handler: Handler, said: str) -> None:
    error = await error_of(handler)
    assert isinstance(error, ConfigError)
    assert said in str(error)


@pytest.mark.parametrize("handler", [hang, hang_in_the_body])
async def test_an_app_that_hangs_is_left_at_the_limit_and_not_tried_again(handler: Handler) -> None:
    error = await error_of(handler, replace(LIMITS, timeout_s=0.05))
    assert isinstance(error, TaskAppError)
    assert "no answer to /rollout in 0.05 s" in str(error)
    assert not error.retryable


async def test_an_app_that_is_not_there_may_come_back() -> None:
    app = RemoteApp("http://127.0.0.1:9", KEY)
    with pytest.raises(TaskAppError, match="is it running") as caught:
        await app.check()
    assert caught.value.retryable
    await app.close()


async def test_a_wait_that_the_app_asks_for_is_passed_on() -> None:
    error = await error_of(says(429, {"detail": "slow"}, **{"Retry-After": "3"}))
    assert isinstance(error, TaskAppError)
    assert (error.retry_after, error.status, error.retryable) == (3.0, 429, True)


async def test_no_more_requests_run_at_once_than_there_are_slots() -> None:
    running, most = 0, 0
    free = asyncio.Event()

    async def slow(request: web.Request) -> web.Response:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == 3:
            free.set()
        await free.wait()
        running -= 1
        return web.json_response({})

    async with remote(slow, replace(LIMITS, slots=3)) as app:
        await asyncio.gather(*(app.rollout(rollout_body()) for _ in range(12)))
    assert most == 3


async def test_the_key_goes_out_in_the_headers_and_stands_in_no_text() -> None:
    seen: list[Any] = []

    async def note(request: web.Request) -> web.Response:
        seen.append((request.headers["X-API-Key"], request.headers["Authorization"]))
        return web.json_response({})

    async with remote(note) as app:
        await app.rollout(rollout_body())
        assert KEY not in repr(app)
    assert seen == [(KEY, f"Bearer {KEY}")]


@pytest.mark.parametrize("url", ["127.0.0.1:8002", "ftp://host", "http://", "file:///x", "", "http://[", "http://h:x"])
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="for example http"):
        RemoteApp(url)


@pytest.mark.parametrize("name", ["timeout_s", "slots", "max_attempts", "max_body_bytes"])
def test_limits_are_above_0(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        AppLimits(**{name: 0})


async def test_the_given_connector_makes_the_connections() -> None:
    made = []

    def connector() -> aiohttp.BaseConnector:
        made.append(aiohttp.TCPConnector())
        return made[-1]

    async with answering(says(200, {})) as url:
        app = RemoteApp(url, connector=connector)
        assert await app.rollout({}) == {}
        await app.close()
    assert len(made) == 1


SAMPLES = [Sample(inputs={"text": str(n)}, ground_truth=f"label{n % 2}", id=str(n)) for n in range(6)]


async def nothing(rollout: Any) -> float:
    return 0.0


async def test_an_app_of_this_toolkit_tells_its_rows_and_prompts() -> None:
    template = PromptTemplate("Label it.", "Text: {text}")
    served_app = create_task_app("t", SAMPLES, nothing, description="Labels.", baseline=template, keys=[KEY])
    async with served(served_app) as url:
        app = RemoteApp(url, KEY)
        await app.check()
        info = await app.info()
        assert info.baseline is not None
        assert info.baseline.digest == Program.single(template).digest
        assert replace(info, baseline=None) == AppInfo(
            name="t", description="Labels.", size=6, labels=("label0", "label1")
        )
        for seeds in ([4], [1, 3, 1], [], list(range(500))):
            samples = await app.samples(seeds)
            assert [s.inputs for s in samples] == [{"seed": n, "text": str(n % 6)} for n in seeds]
            assert [s.ground_truth for s in samples] == [f"label{n % 2}" for n in seeds]
        await app.close()


@pytest.mark.parametrize(
    "body",
    [{}, [], None, '"x"', {"task_metadata": 3}, [{"task_metadata": {"seed": 2}}, 7], {"taskset": [], "labels": 1}],
)
async def test_an_app_that_tells_nothing_is_driven_by_its_seeds(body: Any) -> None:
    async with remote(says(200, body)) as app:
        assert [s.inputs for s in await app.samples([2, 5])] == [{"seed": 2}, {"seed": 5}]
        assert await app.info() == AppInfo()


async def test_an_app_may_have_health_and_rollout_alone() -> None:
    async def least(request: web.Request) -> web.Response:
        if request.path not in ("/health", "/rollout"):
            raise web.HTTPNotFound
        return web.json_response({})

    async with remote(least) as app:
        await app.check()
        assert await app.info() == AppInfo()
        assert [s.inputs for s in await app.samples([2])] == [{"seed": 2}]


async def test_no_input_takes_the_place_of_the_seed() -> None:
    async with remote(says(200, {"task_metadata": {"seed": 2, "inputs": {"seed": 5, "text": "x"}}})) as app:
        with pytest.raises(ConfigError, match="rename the input"):
            await app.samples([2])
    async with remote(says(200, {"task_metadata": {"seed": 2, "inputs": {"seed": 2.0, "text": "x"}}})) as app:
        (sample,) = await app.samples([2])
        assert repr(sample.inputs) == repr({"seed": 2, "text": "x"})


@pytest.mark.parametrize("host", ["a..b", f"{'a' * 64}.example.org"])
async def test_a_host_that_no_name_can_be_is_a_wrong_setting(host: str) -> None:
    app = RemoteApp(f"http://{host}:8001", KEY)
    with pytest.raises(ConfigError, match="no name of a host"):
        await app.check()
    await app.close()


@pytest.mark.parametrize(("told", "size"), [(7, 7), (0, None), (-3, None), (True, None), ("5", None), (2.5, None)])
async def test_the_size_is_what_can_be_one(told: Any, size: int | None) -> None:
    for body in ({"dataset_size": told}, {"taskset": {"size": told}}):
        async with remote(says(200, body)) as app:
            assert await app.size() == (await app.info()).size == size


async def test_a_server_without_health_is_no_task_app() -> None:
    async with remote(says(404, "")) as app:
        with pytest.raises(ConfigError, match="no /health"):
            await app.check()


def test_one_client_serves_many_loops() -> None:
    app = RemoteApp("http://127.0.0.1:9", limits=replace(LIMITS, slots=1))

    async def both() -> None:
        for result in await asyncio.gather(app.rollout({}), app.rollout({}), return_exceptions=True):
            assert isinstance(result, TaskAppError)

    asyncio.run(both())
    asyncio.run(both())
