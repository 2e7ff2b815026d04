"""`rollouts jobs` and `rollouts keys upload`, against a service."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest

from rollouts.cli.app import run
from tests.service.conftest import Service, provider, service, start
from tests.service.world import body

__all__ = ["provider", "service", "start"]

Command = Callable[..., Awaitable[tuple[int, str, str]]]


@pytest.fixture
def command(service: Service, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command beside the service; gives exit code, stdout and stderr."""
    monkeypatch.setenv("ROLLOUTS_URL", service.url)
    monkeypatch.setenv("ROLLOUTS_API_KEY", service.key)
    monkeypatch.setenv("COLUMNS", "160")

    async def call(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = await asyncio.to_thread(run, words)
        return code, *capsys.readouterr()

    return call


async def test_a_job_is_followed_shown_and_listed(service: Service, command: Command) -> None:
    async with service.client() as client:
        job = await client.create_job(**body(), name="mine")
        code, out, _ = await command("jobs", "follow", job.id)
        lines = out.splitlines()
        assert (code, lines[-1].startswith(f"{job.id} (mine): succeeded, best ")) == (0, True)
        assert len(lines) - 1 == len([event async for event in client.events(job.id)])
    code, out, _ = await command("jobs", "follow", job.id, "--json")
    assert [json.loads(line)["seq"] for line in out.splitlines()] == list(range(1, len(lines)))
    _, out, _ = await command("jobs", "show", job.id, "--json")
    shown = json.loads(out)
    assert shown["spend"]["total"]["calls"] > 0
    assert shown["best_prompt"]["prompt"]["messages"]
    _, out, _ = await command("jobs", "show", job.id)
    assert "succeeded" in out
    _, out, _ = await command("jobs", "list")
    assert job.id in out
    _, out, _ = await command("jobs", "list", "--status", "failed", "--json")
    assert json.loads(out) == {"jobs": []}


async def test_a_job_is_paused_resumed_and_cancelled(service: Service, command: Command) -> None:
    async with service.client() as client:
        job = await client.create_job(**body())
    for order, status in (("pause", "paused"), ("resume", "queued"), ("cancel", "cancelled")):
        code, out, _ = await command("jobs", order, job.id, "--json")
        assert (code, json.loads(out)["status"]) == (0, status)
    code, out, _ = await command("jobs", "follow", job.id)
    assert code == 1
    assert "cancelled" in out
    code, _, err = await command("jobs", "resume", job.id)
    assert (code, "error:" in err) == (1, True)


async def test_what_the_service_refuses_is_said_in_its_words(service: Service, command: Command) -> None:
    code, _, err = await command("jobs", "show", "pl_ffffffffffffffff")
    assert (code, "no job has the id" in err) == (1, True)
    code, _, err = await command("jobs", "list", "--backend", "http://127.0.0.1:9")
    assert (code, "rollouts serve" in err) == (1, True)


async def test_a_task_apps_key_is_uploaded_under_its_name(
    service: Service, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_APP_KEY", "planted-app-key")
    code, out, err = await command("keys", "upload", "MY_APP_KEY")
    assert code == 0
    assert "planted-app-key" not in out + err
    assert service.app.state.env_keys.get("default", "MY_APP_KEY") == "planted-app-key"
