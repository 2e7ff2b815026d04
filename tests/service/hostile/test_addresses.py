"""A job's URL must not make the service knock on doors that its user cannot reach."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.service.conftest import Service, Start
from tests.service.world import config


@dataclass
class Inner:
    """A server that only this machine should reach. `target` is where it redirects, if anywhere."""

    port: int = 0
    target: str = ""
    asked: list[str] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        if self.target:
            return web.Response(status=307, headers={"Location": self.target + request.path})
        return web.json_response({"status": "ok", "taskset": {"id": "inner-secret"}})


@pytest.fixture
async def inner() -> AsyncIterator[list[Inner]]:
    """Two such servers."""
    runners, servers = [], [Inner(), Inner()]
    for server in servers:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", server.answer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        server.port = runner.addresses[0][1]
        runners.append(runner)
    yield servers
    for runner in runners:
        await runner.cleanup()


async def submit(service: Service, url: str) -> tuple[int, dict[str, Any]]:
    job = {name: table for name, table in config()["prompt_learning"].items() if name != "dataset"}
    task_app = {"url": url, "train_seeds": [1], "val_seeds": [2], "timeout_s": 5}
    async with service.http() as http:
        answer: aiohttp.ClientResponse = await http.post(
            "/api/v1/jobs", json={"config": {"prompt_learning": job}, "task_app": task_app}
        )
        return answer.status, await answer.json()


async def test_a_service_for_others_calls_no_inner_address(start: Start, inner: list[Inner]) -> None:
    service = await start(host="0.0.0.0")
    service = Service(app=service.app, url=service.url.replace("0.0.0.0", "127.0.0.1"), key=service.key)
    port = inner[0].port
    for host in ("127.0.0.1", "localhost", "[::1]", "169.254.169.254", "10.0.0.1", "[::ffff:127.0.0.1]"):
        status, problem = await submit(service, f"http://{host}:{port}")
        assert (status, "allow_networks" in problem["detail"]) == (422, True), host
    for host in ("2130706433", "0x7f000001", "127.1", "localhost."):  # told by the resolver, judged at the connection
        status, problem = await submit(service, f"http://{host}:{port}")
        assert status in (422, 424), host
        assert "inner-secret" not in problem["detail"]
    for url in (f"ftp://127.0.0.1:{port}", "file:///etc/passwd", f"http://a:b@127.0.0.1:{port}", "http://"):
        assert (await submit(service, url))[0] == 422, url
    assert inner[0].asked == []


async def test_an_allowed_network_is_called(start: Start, inner: list[Inner]) -> None:
    service = await start(host="0.0.0.0", allow_networks=("127.0.0.0/8",))
    service = Service(app=service.app, url=service.url.replace("0.0.0.0", "127.0.0.1"), key=service.key)
    await submit(service, f"http://127.0.0.1:{inner[0].port}")
    assert inner[0].asked


async def test_a_redirect_is_not_followed(service: Service, inner: list[Inner]) -> None:
    first, second = inner
    first.target = f"http://127.0.0.1:{second.port}"
    status, problem = await submit(service, f"http://127.0.0.1:{first.port}")
    assert status in (422, 424)
    assert "redirect" in problem["detail"]
    assert first.asked
    assert second.asked == []
