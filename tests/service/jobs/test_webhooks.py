"""The end of a job is told to its webhook: signed, at least once, and to no address that it may not name."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from rollouts.errors import ServiceError
from rollouts.service.guard import UrlPolicy
from rollouts.service.jobs import webhooks
from rollouts.testing import MockProvider
from tests.service.conftest import Service, Start, settings_at, started
from tests.service.world import body, reply

SECRET = b"sixteen bytes or more of it"
TOKEN = "the-token-in-the-path"


@dataclass
class Receiver:
    """What a user's server hears. `answers` are used up first, then all is well."""

    url: str = ""
    answers: list[int] = field(default_factory=list)
    heard: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        self.heard.append(({name.lower(): value for name, value in request.headers.items()}, await request.read()))
        status = self.answers.pop(0) if self.answers else 204
        return web.Response(status=status, headers={"Location": "/elsewhere"} if status == 307 else None)

    @property
    def ids(self) -> list[str]:
        return [headers["webhook-id"] for headers, _ in self.heard]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver, app = Receiver(), web.Application()
    app.router.add_route("*", "/{path:.*}", receiver.take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/{TOKEN}"
    yield receiver
    await runner.cleanup()


async def run(service: Service, url: str, **hook: Any) -> str:
    async with service.client() as client:
        job = await client.create_job(**body(mipro={"num_iterations": 1}), webhook={"url": url, **hook})
        return (await client.wait_for(job.id, poll_s=0.01)).id


def told(service: Service, job: str) -> list[dict[str, Any]]:
    service.state.store.flush()
    return [dict(event.data) for event in service.state.events.page(job) if event.kind == "webhook"]


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.005)


async def delivered(service: Service, job: str) -> list[dict[str, Any]]:
    """What the log says of the deliveries, when none is due any more."""
    await until(lambda: service.state.jobs.get(job).webhook_due is None)
    return told(service, job)


@pytest.mark.parametrize("key", [SECRET.decode().replace(" ", "_"), f"whsec_{b64encode(SECRET).decode()}"])
async def test_the_end_of_a_job_is_told_and_signed(service: Service, receiver: Receiver, key: str) -> None:
    service.state.env_keys.put("default", "WEBHOOK_SECRET", key)
    job = await run(service, receiver.url)
    assert await delivered(service, job) == [{"attempt": 1, "delivered": True, "status": 204}]
    ((headers, sent),) = receiver.heard
    async with service.client() as client:
        now = (await client.job(job)).data
    message = json.loads(sent)
    assert message["type"] == "job.succeeded"
    assert message["data"] == {name: now[name] for name in message["data"]}
    assert set(message["data"]) == set(now) - {"phase"}
    secret = b64decode(key[6:]) if key.startswith("whsec_") else key.encode()
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + sent
    mac = hmac.new(secret, signed, hashlib.sha256).digest()
    assert headers["webhook-signature"] == f"v1,{b64encode(mac).decode()}"


async def test_a_delivery_that_fails_is_tried_again(
    service: Service, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "_WAITS_S", (0.0, 0.0, 0.0))
    receiver.answers += [500, 307]
    job = await run(service, receiver.url)
    events = await delivered(service, job)
    assert [(event["delivered"], event["status"]) for event in events] == [(False, 500), (False, 307), (True, 204)]
    assert len(receiver.heard) == 3
    assert len(set(receiver.ids)) == 1
    assert all("webhook-signature" not in headers for headers, _ in receiver.heard)


@pytest.mark.parametrize("answers", [[500, 502, 503], [410]])
async def test_deliveries_come_to_an_end(
    service: Service, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, answers: list[int]
) -> None:
    monkeypatch.setattr(webhooks, "_WAITS_S", (0.0, 0.0))
    receiver.answers += answers
    job = await run(service, receiver.url)
    events = await delivered(service, job)
    assert [event["status"] for event in events] == answers
    assert "again_in_s" not in events[-1]


async def test_an_address_that_nobody_listens_at_harms_no_job_and_is_not_told(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "_WAITS_S", ())
    (event,) = await delivered(service, await run(service, f"http://127.0.0.1:9/{TOKEN}"))
    assert not event["delivered"]
    assert TOKEN not in str(event)


async def test_a_host_that_no_name_can_be_is_a_delivery_that_fails(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "_WAITS_S", ())
    monkeypatch.setattr(UrlPolicy, "check", lambda self, url, what: url)
    (event,) = await delivered(service, await run(service, f"http://hooks..example.org/{TOKEN}"))
    assert not event["delivered"]
    assert TOKEN not in str(event)


async def test_a_delivery_outlives_the_service(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "_WAITS_S", (3600.0,))
    receiver.answers.append(500)
    async with MockProvider(reply=reply) as mock:
        settings = settings_at(tmp_path, mock)
        async with started(settings) as service:
            job = await run(service, receiver.url)
            await until(lambda: len(told(service, job)) == 1)
        async with started(settings) as service:
            assert [event["delivered"] for event in await delivered(service, job)] == [False, True]
        async with started(settings) as service:
            assert service.state.jobs.webhooks_due() == []
    assert len(set(receiver.ids)) == 1


async def test_a_job_that_goes_on_tells_its_next_end(
    service: Service, provider: MockProvider, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "_WAITS_S", (3600.0,))
    receiver.answers.append(500)
    provider._script.extend([401] * 50)
    job = await run(service, receiver.url)
    await until(lambda: len(told(service, job)) == 1)
    provider._script.clear()
    async with service.client() as client:
        await client.resume(job)
        await client.wait_for(job, poll_s=0.01)
    await delivered(service, job)
    assert [json.loads(sent)["type"] for _, sent in receiver.heard] == ["job.failed", "job.succeeded"]
    assert len(set(receiver.ids)) == 2


@pytest.mark.parametrize(
    ("hook", "says"),
    [
        ({"url": "http://169.254.169.254/latest"}, "webhook.url: 169.254.169.254 is not a public address"),
        ({"url": "http://localhost:1/"}, "webhook.url: localhost is not a public address"),
        ({"url": "ftp://example.org/"}, "webhook.url must be a URL"),
        ({"url": "https://hooks..example.org/"}, "webhook.url names no host"),
        ({"url": "https://me:secret@example.org/"}, "webhook.url holds a user or password"),
        ({"url": "https://example.org/", "key_name": "none"}, "webhook.key_name: there is no environment key 'none'"),
        ({"url": "https://example.org/", "secret": "s"}, "webhook.secret"),
    ],
)
async def test_webhooks_that_cannot_be_are_refused(start: Start, hook: dict[str, str], says: str) -> None:
    service = await start(host="0.0.0.0")
    async with service.client() as client:
        with pytest.raises(ServiceError, match="webhook") as caught:
            await client.create_job(**body(), webhook=hook)
        assert says in str(caught.value)
        assert await client.jobs() == []
