"""The OpenAPI document against the service: what it allows, and what it does not, is answered as it says."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import checks

from rollouts.client import Client
from rollouts.service import create_app
from tests.service.conftest import Service, settings_at, started
from tests.service.world import body

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

schema: Any = schemathesis.openapi.from_dict(create_app().openapi())
CHECKS: list[Any] = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.response_headers_conformance,
]
many = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)


@dataclass(frozen=True, kw_only=True)
class Target:
    """A service in a thread, and a job in it that is over."""

    url: str
    key: str
    job_id: str

    def check(self, case: Any) -> None:
        case.call_and_validate(
            base_url=self.url, headers={"X-API-Key": self.key}, checks=CHECKS, timeout=30, allow_redirects=False
        )


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    loop, ready, ended = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    made: list[Service] = []

    async def serve() -> None:
        folder: Path = tmp_path_factory.mktemp("service")
        async with started(settings_at(folder, max_queued=100_000)) as service:
            made.append(service)
            ready.set()
            await ended.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert ready.wait(60)
    url, key = made[0].url, made[0].key
    with Client(url, key) as client:
        job = client.create_job(**body())
        client.cancel(job.id)
        for _ in client.stream(job.id):
            pass
    yield Target(url=url, key=key, job_id=job.id)
    loop.call_soon_threadsafe(ended.set)
    thread.join()
    loop.close()


@schema.parametrize()
@many
def test_no_request_makes_the_service_fail(case: Any, target: Target) -> None:
    target.check(case)


@schema.include(path_regex="job_id").parametrize()
@many
def test_nor_does_one_about_a_job_that_exists(case: Any, target: Target) -> None:
    case.path_parameters["job_id"] = target.job_id
    target.check(case)
