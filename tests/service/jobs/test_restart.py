"""The service ends, by a signal or without one, and goes on where it was when it is started again."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rollouts.client import AsyncClient
from rollouts.errors import RunLocked, ServiceError
from rollouts.service.keys import KeyRing
from rollouts.store.database import Database
from rollouts.testing import MockProvider
from tests.service.conftest import Service, settings_at, started
from tests.service.jobs.test_lifecycle import until
from tests.service.world import body, reply, rows

SLOTS, PROPOSALS = 4, 2
COMMAND = [sys.executable, "-c", "from rollouts.cli import main; main()", "serve"]


def told(results: dict[str, Any]) -> Any:
    """What a run has to say, without what depends on how long things took and on what was paid when."""
    files, summary = results["files"], results["summary"]
    kept = ("best_score", "baseline_score", "verdict", "best_program", "trials")
    # Estimates in the history are refined while others are under way, so only what was tried is compared.
    history = [trial["score"] for trial in files["score_history.json"]["trials"]]
    return {name: summary[name] for name in kept}, files["best_prompt.json"], history


async def undisturbed(folder: Path, new: dict[str, Any]) -> tuple[Any, int]:
    """What the job says in the end, and how many calls it takes."""
    folder.mkdir()
    async with MockProvider(reply=reply) as mock, started(settings_at(folder, mock)) as service:
        results = await finished(service, await order(service, new))
        return told(results), mock.calls


async def order(service: Service, new: dict[str, Any]) -> str:
    async with service.client() as client:
        return (await client.create_job(new["config"], rows=new["rows"])).id


async def finished(service: Service, job_id: str) -> dict[str, Any]:
    async with service.client() as client:
        job = await client.wait_for(job_id, poll_s=0.02, timeout_s=60)
        assert job.status == "succeeded", job.error
        return await client.results(job_id)


async def test_a_restart_goes_on_where_it_was(tmp_path: Path) -> None:
    new = body()
    expected, calls = await undisturbed(tmp_path / "whole", new)
    async with MockProvider(reply=reply, latency=0.005) as mock:
        settings = settings_at(tmp_path, mock, max_jobs=1)
        async with started(settings) as service:
            job_id, paused = [await order(service, new) for _ in range(2)]
            service.state.engine.pause(paused, "default")
            await until(lambda: mock.calls > 40)
        async with started(settings) as service:
            assert told(await finished(service, job_id)) == expected
            async with service.client() as client:
                assert (await client.job(paused)).status == "paused"
                await client.resume(paused)
            assert told(await finished(service, paused)) == expected
            events = service.state.events.page(job_id)
            assert [event.seq for event in events] == list(range(1, len(events) + 1))
            kinds = [event.data["status"] for event in events if event.kind == "job"]
            assert kinds == ["queued", "running", "running", "succeeded"]
        assert calls <= mock.calls <= calls + SLOTS + PROPOSALS


async def test_a_cancel_that_was_cut_off_stays_a_cancel(tmp_path: Path) -> None:
    async with MockProvider(faults={"hang": 1.0}) as mock:
        async with started(settings_at(tmp_path, mock)) as service:
            job_id = await order(service, body())
            await until(lambda: mock.in_flight)
            # As if the process had died between the order and its end.
            service.state.jobs.change(job_id, status="cancelled")
        async with started(settings_at(tmp_path, mock)) as service:
            job = service.state.jobs.get(job_id)
            assert job.over
            assert job.status == "cancelled"


async def test_one_service_works_on_a_store(tmp_path: Path) -> None:
    async with started(settings_at(tmp_path)):
        with pytest.raises(RunLocked, match=str(os.getpid()) + "|this process"):
            async with started(settings_at(tmp_path)):
                pass


class Process:
    """`rollouts serve` as a process of its own, on a port that stays the same over its lives."""

    def __init__(self, folder: Path, mock: MockProvider) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        settings = settings_at(folder, mock)
        alias = settings.models["*"].model_dump(exclude_none=True)
        lines = [f"{name} = {json.dumps(value)}" for name, value in alias.items() if name != "price"]
        (folder / "serve.toml").write_text(
            f'port = {self.port}\nstore = "service.db"\nresults_dir = "jobs"\n\n[models."*"]\n'
            + "\n".join([*lines, "price = { input = 1.0, output = 4.0 }"])
        )
        database = Database(folder / "service.db")
        self.key, _ = KeyRing(database).create(name="test")
        database.close()
        self._folder = folder
        self.running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.running = subprocess.Popen([*COMMAND, "--config", "serve.toml"], cwd=self._folder)

    def end(self, number: signal.Signals) -> int:
        assert self.running is not None
        self.running.send_signal(number)
        return self.running.wait(20)

    def client(self) -> AsyncClient:
        return AsyncClient(f"http://127.0.0.1:{self.port}", self.key)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
async def test_five_kills(tmp_path: Path) -> None:
    """Same result; paid twice is only what was in flight; and a listener that comes back loses and doubles nothing."""
    new = body(mipro={"num_iterations": 12}, dataset={"train": 40, "val": 40, "test": 40})
    new["rows"] = rows(count=120)
    expected, calls = await undisturbed(tmp_path / "whole", new)
    async with MockProvider(reply=reply, latency=0.02) as mock:
        process = Process(tmp_path, mock)
        process.start()
        try:
            async with process.client() as client:
                await _answers(client)
                job_id = (await client.create_job(new["config"], rows=new["rows"])).id
                listener = asyncio.create_task(_listen(client, job_id))
                for kill in range(1, 6):
                    await until(lambda kill=kill: mock.calls > kill * calls // 7)
                    assert process.end(signal.SIGKILL) == -signal.SIGKILL
                    process.start()
                job = await client.wait_for(job_id, poll_s=0.1, timeout_s=60)
                assert job.status == "succeeded", job.error
                assert told(await client.results(job_id)) == expected
                assert calls < mock.calls <= calls + 5 * (SLOTS + PROPOSALS)
                heard = await listener
                assert [seq for seq, _ in heard] == list(range(1, len(heard) + 1))
                assert heard == [(event.seq, event.kind) async for event in client.events(job_id)]
        finally:
            code = process.end(signal.SIGTERM)
        assert code == 0


async def _answers(client: AsyncClient) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                await client.jobs()
                return
            except ServiceError as error:
                if error.status:
                    raise
            await asyncio.sleep(0.05)


async def _listen(client: AsyncClient, job_id: str) -> list[tuple[int, str]]:
    return [(event.seq, event.kind) async for event in client.stream(job_id)]
