"""The client against a service that fails in every way it can."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from rollouts.client import AsyncClient, Client, Job
from rollouts.errors import ConfigError, ServiceError

KEY = "rk_0123456789ab_" + "K" * 43
JOB = "pl_0123456789abcdef"


def event(seq: int) -> dict[str, Any]:
    return {"seq": seq, "kind": "trial", "data": {"n": seq}, "created_at": 1.0}


def frame(seq: int) -> bytes:
    return f"id: {seq}\nevent: trial\ndata: {json.dumps(event(seq))}\n\n".encode()


END = b'event: end\ndata: {"status": "succeeded"}\n\n'
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Service:
    """Gives the answers in its script one by one, the last one for ever."""

    script: list[Answer] = field(default_factory=list)
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    url: str = ""
    now: float = 0.0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request.method, request.path_qs, request.headers.get("Last-Event-ID")))
        self.headers.append(dict(request.headers))
        answer = self.script[0] if len(self.script) == 1 else self.script.pop(0)
        return await answer(request)

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds

    def client(self) -> AsyncClient:
        return AsyncClient(self.url, KEY, sleep=self.sleep, clock=lambda: self.now)


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    made = Service()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


def says(body: Any, status: int = 200) -> Answer:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response(body, status=status)

    return answer


def streams(*chunks: bytes, cut: bool = False) -> Answer:
    """A stream; `cut` breaks the connection in its middle."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for chunk in chunks:
            await response.write(chunk)
        if cut and request.transport is not None:
            request.transport.abort()
        return response

    return answer


async def hangs_up(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def collect(client: AsyncClient, since_seq: int = 0) -> list[int]:
    async with client:
        return [found.seq async for found in client.stream(JOB, since_seq=since_seq)]


async def test_a_stream_that_breaks_goes_on_after_the_last_event(service: Service) -> None:
    service.script = [
        streams(b": hello\n\n", frame(1), frame(2)[:20], cut=True),
        hangs_up,
        says({"detail": "starting"}, 503),
        streams(frame(1), frame(2), frame(3)),
        streams(frame(4), END, frame(5)),
    ]
    assert await collect(service.client()) == [1, 2, 3, 4]
    assert [last for _, _, last in service.asked] == ["0", "1", "1", "1", "3"]


async def test_a_stream_begins_where_it_is_told_to(service: Service) -> None:
    service.script = [streams(frame(8), END)]
    assert await collect(service.client(), since_seq=7) == [8]
    assert service.asked[0][2] == "7"


async def test_patience_ends_and_progress_renews_it(service: Service) -> None:
    busy = says({"detail": "starting", "code": "busy"}, 503)
    service.script = [*[busy] * 15, streams(frame(1)), busy]
    seen: list[int] = []

    async def follow() -> None:
        async with service.client() as client:
            async for found in client.stream(JOB):
                seen.append(found.seq)

    with pytest.raises(ServiceError, match="starting"):
        await follow()
    assert seen == [1]
    assert len(service.asked) == 15 + 1 + 15
    assert max(service.waits) <= 5.0


async def test_a_service_that_never_answered_is_not_waited_for(service: Service) -> None:
    service.script = [hangs_up]
    async with service.client() as client:
        for attempt in (client.job(JOB), collect(client)):
            with pytest.raises(ServiceError, match="is it running"):
                await attempt
    assert service.waits == []


@pytest.mark.parametrize("status", [401, 403, 404, 409, 422])
async def test_a_refusal_is_final_and_says_what_the_service_said(service: Service, status: int) -> None:
    service.script = [says({"detail": f"no: {KEY}", "code": "some_code"}, status)]
    async with service.client() as client:
        for attempt in (client.job(JOB), collect(client), client.cancel(JOB)):
            with pytest.raises(ServiceError, match="no: ") as caught:
                await attempt
            assert (caught.value.status, caught.value.code) == (status, "some_code")
            assert KEY not in str(caught.value)
    assert len(service.asked) == 3


async def test_questions_are_asked_again_and_orders_are_not(service: Service) -> None:
    service.script = [hangs_up, says({}, 502), says({"id": JOB, "status": "running"})]
    async with service.client() as client:
        assert (await client.job(JOB)).status == "running"
        service.script = [says({}, 502), says({"id": JOB, "status": "cancelled"})]
        with pytest.raises(ServiceError):
            await client.cancel(JOB)
        assert len(service.script) == 1


@pytest.mark.parametrize("body", ["not json", "<html>", "", "[1]", '{"detail": [{"msg": "x"}]}'])
async def test_an_answer_of_another_program_is_told_as_it_is(service: Service, body: str) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=body, status=404)

    service.script = [answer]
    async with service.client() as client:
        with pytest.raises(ServiceError, match="answers 404") as caught:
            await client.job(JOB)
    assert caught.value.code == ""


async def test_a_200_that_is_no_json_is_an_error(service: Service) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text="<html>", content_type="text/html")

    service.script = [answer]
    async with service.client() as client:
        with pytest.raises(ServiceError, match="no answer from the service"):
            await client.cancel(JOB)


async def test_a_redirect_is_not_followed_with_the_key(service: Service) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": f"{service.url}/elsewhere"})

    service.script = [answer]
    async with service.client() as client:
        with pytest.raises(ServiceError, match="307"):
            await client.create_job({})
    assert [path for _, path, _ in service.asked] == ["/api/v1/jobs"]


@pytest.mark.parametrize("job_id", ["", "../keys", "a/b?c=d#e", "é", "..", "\r\nX: y", "a b", "%2e"])
async def test_no_job_id_leads_to_another_path(service: Service, job_id: str) -> None:
    async with service.client() as client:
        for attempt in (client.cancel(job_id), client.job(job_id), client.revoke_key(job_id)):
            with pytest.raises(ConfigError, match="is no id"):
                await attempt
    assert service.asked == []


async def test_waiting_ends_with_the_job_or_with_patience(service: Service) -> None:
    running, done = {"id": JOB, "status": "running"}, {"id": JOB, "status": "failed", "error": "why"}
    ending = {"id": JOB, "status": "cancelled", "finished_at": None}
    service.script = [says(running), says(ending), says(done)]
    async with service.client() as client:
        job = await client.wait_for(JOB, poll_s=2.0)
        assert (job.status, job.error, job.ended) == ("failed", "why", True)
        assert service.waits == [2.0, 2.0]
        service.script = [says(running)]
        with pytest.raises(TimeoutError, match="it goes on"):
            await client.wait_for(JOB, timeout_s=10, poll_s=3.0)
    assert service.now == 4.0 + 9.0


async def test_events_come_in_pages(service: Service) -> None:
    pages = [{"events": [event(1), event(2)]}, {"events": [event(3)]}, {"events": []}]
    service.script = [says(page) for page in pages]
    async with service.client() as client:
        assert [found.seq async for found in client.events(JOB)] == [1, 2, 3]
    assert [path.partition("?")[2] for _, path, _ in service.asked] == [
        f"since_seq={since}&limit=1000" for since in (0, 2, 3)
    ]


async def test_what_is_sent(service: Service) -> None:
    service.script = [says({"id": JOB, "status": "queued", "name": "n", "best_score": 0.5})]
    async with service.client() as client:
        job = await client.create_job({"prompt_learning": {}}, name="n", rows=[{"a": 1}])
    assert (job.id, job.name, job.best_score, job.ended) == (JOB, "n", 0.5, False)
    assert service.headers[0]["X-API-Key"] == KEY


def test_url_and_key_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROLLOUTS_URL", "https://service.example/")
    assert AsyncClient().url == "https://service.example"
    assert AsyncClient("http://other").url == "http://other"
    monkeypatch.setenv("ROLLOUTS_URL", "service.example")
    with pytest.raises(ConfigError, match="ROLLOUTS_URL"):
        AsyncClient()


async def test_the_sync_client_works_inside_a_running_loop(service: Service) -> None:
    """As in a notebook; a thread stands for the other side."""
    import asyncio

    service.script = [says({"jobs": [{"id": JOB, "status": "queued"}]})]

    def script() -> list[Job]:
        with Client(service.url, KEY) as client:
            found = client.jobs(limit=1)
            service.script = [streams(frame(1), frame(2), END)]
            assert [one.seq for one in client.stream(JOB)] == [1, 2]
            client.close()
        return found

    (job,) = await asyncio.to_thread(script)
    assert job.id == JOB


def test_every_method_of_one_client_is_one_of_the_other() -> None:
    import inspect

    def public(kind: type) -> dict[str, list[str]]:
        members = inspect.getmembers(kind, inspect.isfunction)
        return {name: list(inspect.signature(one).parameters) for name, one in members if not name.startswith("_")}

    assert public(AsyncClient) == public(Client)
