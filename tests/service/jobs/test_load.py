"""Many jobs at once: each gets its share, and every listener hears everything."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from rollouts.testing import MockProvider
from tests.service.conftest import Service, settings_at, started
from tests.service.world import body, reply


async def order(service: Service, new: dict[str, Any], key: str | None = None) -> str:
    async with service.client(key) as client:
        return (await client.create_job(new["config"], rows=new["rows"])).id


@pytest.mark.slow
async def test_a_job_that_comes_later_gets_its_share(tmp_path: Path) -> None:
    asked: list[str] = []

    def noted(request: dict[str, Any]) -> str:
        text = request["messages"][-1]["content"]
        if text.startswith("Ticket: "):
            asked.append(text.split()[1])
        return reply(request)

    async with MockProvider(reply=noted, latency=0.002) as mock:
        async with started(settings_at(tmp_path, mock, slots=4)) as service, service.client() as client:
            first = await order(service, body("early"))
            while len(asked) < 20:
                await asyncio.sleep(0.001)
            second = await order(service, body("late"))
            for job in (first, second):
                assert (await client.wait_for(job, poll_s=0.02, timeout_s=60)).status == "succeeded"
        assert mock.in_flight_max <= 4 + 2  # proposals are no rollouts
    start = asked.index("late")
    end = len(asked) - 1 - asked[::-1].index("early")
    both = Counter(asked[start : end + 1])
    assert both["late"] >= 0.3 * both.total() > 5


async def test_owners_take_turns_at_the_queue(tmp_path: Path) -> None:
    async with MockProvider(reply=reply) as mock:
        mock._faults = {"hang": 1.0}
        async with started(settings_at(tmp_path, mock, max_jobs=1, grace_s=0.0)) as service:
            other = service.make_key(owner="other")
            mine = [await order(service, body()) for _ in range(3)]
            theirs = await order(service, body(), other)
            mock._faults = {}
            async with service.client() as client, service.client(other) as their_client:
                await client.cancel(mine[0])
                for job in mine[1:]:
                    await client.wait_for(job, poll_s=0.02, timeout_s=60)
                await their_client.wait_for(theirs, poll_s=0.02, timeout_s=60)
            jobs = [*mine, theirs]
            begun = sorted(jobs, key=lambda job: service.state.jobs.get(job).started_at or 0.0)
            assert begun == [mine[0], theirs, *mine[1:]]


@pytest.mark.slow
async def test_twenty_jobs_and_two_hundred_listeners(tmp_path: Path) -> None:
    """No event is lost or doubled, however slowly a listener reads, and wherever it begins."""
    async with MockProvider(reply=reply, latency=0.02) as mock, started(settings_at(tmp_path, mock)) as service:
        jobs = [await order(service, body(f"queue{number}")) for number in range(20)]
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(service.client()) for _ in range(10)]

            async def listen(number: int) -> tuple[str, int, list[int]]:
                job, since = jobs[number % 20], number % 7
                heard = []
                async for event in clients[number // 20].stream(job, since_seq=since):
                    heard.append(event.seq)
                    await asyncio.sleep(0.01 * (number % 3))
                return job, since, heard

            everything = await asyncio.gather(*map(listen, range(200)))
        for job, since, heard in everything:
            log = [event.seq for event in service.state.events.page(job, limit=10_000)]
            assert heard == log[since:]
            assert service.state.jobs.get(job).status == "succeeded"
