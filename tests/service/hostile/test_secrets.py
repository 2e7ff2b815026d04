"""Planted keys are looked for everywhere that something is written or said."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from rollouts.cli import keys, runs
from rollouts.integrations.exports import FORMATS
from rollouts.testing import MockProvider
from tests.service.conftest import Service, Start, settings_at
from tests.service.world import body, config, reply

PROVIDER = "planted-provider-key-0123456789"
REFUSED = "planted-refused-key-0123456789"
APP = "planted-environment-key-0123456789"
STRAY = "planted-stray-key-0123456789"
"""A key that a user wrote where no key belongs."""


class Everything:
    """All texts that came out, by where they came from."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    def add(self, place: str, text: str | bytes) -> None:
        self.texts[place] = text if isinstance(text, str) else text.decode("utf-8", "replace")

    def add_files(self, folder: Path) -> None:
        for path in folder.rglob("*"):
            if path.is_file():
                self.add(str(path), path.read_bytes())

    async def add_answer(self, http: aiohttp.ClientSession, method: str, path: str, **options: Any) -> Any:
        async with http.request(method, path, **options) as answer:
            text = await answer.text()
            self.add(f"{method} {path}", f"{dict(answer.headers)} {text}")
        return text

    def places_of(self, secret: str) -> list[str]:
        """Where it is, also in parts, escaped, or in base64."""
        code = base64.b64encode(secret.encode()).decode()[:-4]
        forms = (secret, secret[:24], secret[8:], secret.replace("-", "%2D"), secret.replace("-", "\\u002d"), code)
        return [place for place, text in self.texts.items() if any(form in text for form in forms)]


@pytest.fixture
async def careless_app() -> AsyncIterator[str]:
    """A task app that puts the key it was sent into everything that it says."""

    async def answer(request: web.Request) -> web.Response:
        key = request.headers.get("X-API-Key", "")
        assert key == APP
        if request.path == "/rollout":
            problem = {"code": "failed", "message": f"allowed keys are {key}"}
            return web.json_response({"detail": {"error": problem}, "error": key, key: key}, status=500)
        return web.json_response({"status": "ok", "healthy": True, "service": key, "taskset": {"id": key, "name": key}})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.fixture
async def service(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Service]:
    """A service with two providers that put the key they are sent into every error: one fails once, one always."""
    monkeypatch.setenv("PLANTED_PROVIDER", PROVIDER)
    monkeypatch.setenv("PLANTED_REFUSED", REFUSED)
    async with (
        MockProvider(reply=reply, key=PROVIDER, echo_key=True, script=["server_error"]) as good,
        MockProvider(reply=reply, key="another", echo_key=True) as bad,
    ):
        tables = [settings_at(tmp_path, mock).models["*"].model_dump(exclude_unset=True) for mock in (good, bad)]
        models = {
            "openai/gpt-4.1-nano": {**tables[0], "api_key_env": "PLANTED_PROVIDER"},
            "openai/gpt-4.1-mini": {**tables[1], "api_key_env": "PLANTED_REFUSED"},
        }
        yield await start(models=models)


async def submit(http: aiohttp.ClientSession, found: Everything, given: dict[str, Any]) -> str:
    job_id: str = json.loads(await found.add_answer(http, "POST", "/api/v1/jobs", json=given))["id"]
    await found.add_answer(http, "GET", f"/api/v1/jobs/{job_id}/events/stream")
    for part in ("", "/events", "/results", "/best_prompt", "/candidates", "/spend"):
        await found.add_answer(http, "GET", f"/api/v1/jobs/{job_id}{part}")
    return job_id


async def wrong_requests(http: aiohttp.ClientSession, found: Everything) -> None:
    """Keys where no key belongs, in requests that are refused."""
    job = config()["prompt_learning"]
    for number, given in enumerate(
        (
            {"prompt_learning": {**job, "api_key": STRAY}},
            {"prompt_learning": {**job, "policy": {**job["policy"], "api_key": STRAY}}},
            {"prompt_learning": {**job, "policy": {**job["policy"], "base_url": f"http://user:{STRAY}@host/v1"}}},
            {"prompt_learning": {**job, "task_app_api_key": STRAY, "seed": -1}},
            STRAY,
        )
    ):
        await found.add_answer(http, "POST", f"/api/v1/jobs?{number}", json={"config": given, "rows": body()["rows"]})
    seeds = {"train_seeds": [1], "val_seeds": [2]}
    for url in (f"http://user:{STRAY}@host/", f"{STRAY}://host"):
        task_app = {"url": url, **seeds}
        await found.add_answer(http, "POST", "/api/v1/jobs?url", json={"config": config(), "task_app": task_app})
    await found.add_answer(http, "POST", "/api/v1/env-keys?clear", json={"name": "KEY", "ciphertext_b64": STRAY})
    await found.add_answer(http, "GET", "/api/v1/keys?wrong", headers={"X-API-Key": STRAY})
    await found.add_answer(http, "GET", "/api/v1/keys?bearer", headers={"Authorization": f"Bearer {STRAY}"})


def commands(service: Service, jobs: list[str], found: Everything, capfd: pytest.CaptureFixture[str]) -> None:
    """What the command line says of the store."""
    store = service.state.settings.store
    for job_id in jobs:
        for as_json in (False, True):
            runs.show(store, job_id, as_json=as_json)
            runs.show_events(store, job_id, limit=1000, as_json=as_json)
            runs.show_rollouts(store, job_id, failed=False, program=None, limit=1000, as_json=as_json)
    for form in (*FORMATS, runs.ROLLOUTS):
        runs.export(store, jobs[0], form=form, which="best", out=None)
    keys.list_keys(None, store, as_json=False)
    keys.list_keys(None, store, as_json=True)
    out, err = capfd.readouterr()
    found.add("commands and logs on stdout", out)
    found.add("commands and logs on stderr", err)


async def test_planted_keys_are_nowhere(
    service: Service,
    careless_app: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    found = Everything()
    refused = body(policy={"model": "gpt-4.1-mini"})
    app_job = {
        "config": {
            "prompt_learning": {name: table for name, table in config()["prompt_learning"].items() if name != "dataset"}
        },
        "task_app": {"url": careless_app, "train_seeds": [0, 1], "val_seeds": [2, 3, 4, 5], "test_seeds": [6, 7]},
    }
    async with service.client() as client:
        await client.upload_env_key(APP)
    async with service.http() as http:
        jobs = [await submit(http, found, given) for given in (body(), refused, app_job)]
        await wrong_requests(http, found)
        for path in ("/openapi.json", "/docs", "/health", "/api/v1/jobs", "/api/v1/keys", "/api/v1/env-keys"):
            await found.add_answer(http, "GET", path)
    statuses = [service.state.jobs.get(job_id).status for job_id in jobs]
    commands(service, jobs, found, capfd)
    found.add("log records", "\n".join(f"{record.getMessage()} {record.exc_text}" for record in caplog.records))
    found.add_files(tmp_path)

    assert statuses == ["succeeded", "failed", "failed"]
    for secret in (PROVIDER, REFUSED, APP, STRAY, service.key[16:]):
        assert found.places_of(secret) == []
    for job_id in jobs:  # what is there is found, and in many places
        assert len(found.places_of(job_id)) > 5
    assert any("service.db" in place for place in found.places_of(jobs[0]))
