"""The SDK's routes by plain HTTP, for both families of paths."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from rollouts.testing import MockProvider
from tests.service.conftest import Service, Start
from tests.service.synth.world import GOOD, KEY, SYSTEM, body

LEGACY = "/api/prompt-learning/online/jobs"
CANONICAL = "/api/policy-optimization/online/jobs"
ENDS = {
    (LEGACY, "mipro"): "prompt.learning.mipro.complete",
    (LEGACY, "gepa"): "prompt.learning.gepa.complete",
    (CANONICAL, "mipro"): "learning.policy.mipro.job.completed",
    (CANONICAL, "gepa"): "learning.policy.gepa.job.completed",
}
BESTS = {LEGACY: "prompt.learning.best.prompt", CANONICAL: "learning.policy.gepa.candidate.new_best"}


async def ask(http: aiohttp.ClientSession, method: str, path: str, status: int = 200, **options: Any) -> Any:
    async with http.request(method, path, **options) as response:
        said = await response.json()
        assert response.status == status, said
        return said


async def until_over(http: aiohttp.ClientSession, path: str) -> dict[str, Any]:
    async with asyncio.timeout(60):
        while True:
            job = await ask(http, "GET", path)
            if job["status"] in ("succeeded", "failed", "cancelled"):
                return dict(job)
            await asyncio.sleep(0.02)


async def streamed(http: aiohttp.ClientSession, path: str, **headers: str) -> list[dict[str, Any]]:
    """The events of a stream, each as SSE clients read it: one line of data."""
    async with http.get(path, headers=headers) as response:
        assert response.status == 200
        assert response.content_type == "text/event-stream"
        text = await response.text()
    return [json.loads(line.removeprefix("data: ")) for line in text.split("\n") if line.startswith("data: ")]


@pytest.mark.parametrize("path", [LEGACY, CANONICAL])
@pytest.mark.parametrize("algorithm", ["mipro", "gepa"])
async def test_a_job_from_its_key_to_its_result(service: Service, app_url: str, path: str, algorithm: str) -> None:
    job_body = body(algorithm, app_url, task_app_api_key=KEY, unknown_of_the_sdk=1)
    async with service.http() as http:
        made = await ask(http, "POST", path, json=job_body)
        assert made["job_id"].startswith("pl_")
        assert len(made["job_id"]) == 19
        own = f"{path}/{made['job_id']}"
        events = await streamed(http, f"{own}/events/stream")
        job = await until_over(http, own)
        assert (job["status"], job["error"]) == ("succeeded", None)
        assert job["best_score"] == 1.0
        assert job["best_score"] > job["baseline_score"]
        assert job["best_prompt"]["messages"][0]["pattern"] == GOOD
        assert job["best_prompt"]["sections"][0]["content"] == GOOD

        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        types = [event["type"] for event in events]
        assert types[-1] == ENDS[path, algorithm]
        assert types.count(types[-1]) == 1
        best = [event for event in events if event["type"] == BESTS[path]][-1]
        assert best["data"]["best_prompt"] == job["best_prompt"]
        warnings = [event["message"] for event in events if event["level"] == "warn"]
        assert "prompt_learning.unknown_of_the_sdk has no effect here: nothing of that name is known" in warnings

        # Either family of paths reads the same job, in the words of the path that it was created on.
        for prefix in (LEGACY, CANONICAL, "/api/learning/jobs", "/api/orchestration/jobs"):
            there = f"{prefix}/{job['job_id']}"
            assert (await ask(http, "GET", f"{there}?include_events=false&_t=1"))["best_score"] == 1.0
            assert (await ask(http, "GET", f"{there}/events?since_seq=0&limit=10000"))["events"] == events
        page = await ask(http, "GET", f"{own}/events?since_seq=3&limit=2")
        assert (page["events"], page["next_seq"]) == (events[3:5], 5)
        assert await streamed(http, f"{own}/events/stream", **{"Last-Event-ID": "3"}) == events[3:]

        points = (await ask(http, "GET", f"{own}/metrics?limit=200"))["points"]
        assert {point["name"] for point in points} <= {f"{algorithm}.trial_score", f"{algorithm}.best_score"}
        state = await ask(http, "GET", f"/api/jobs/{job['job_id']}/workflow-state")
        assert state["workflow_state"]["status"] == "succeeded"
        artifacts = (await ask(http, "GET", f"{own}/artifacts"))["artifacts"]
        snapshot = await ask(http, "GET", f"{own}/snapshots/{artifacts[0]['id']}")
        assert snapshot["payload"]
        assert all([await ask(http, "GET", f"{own}/snapshots/{entry['id']}") for entry in artifacts])
        await ask(http, "GET", f"{own}/snapshots/none", 404)
        assert KEY not in json.dumps([events, job, artifacts, snapshot])
        assert service.state.env_keys.all("default") == [], "its key is kept no longer than the job"


async def test_a_running_job_is_cancelled(service: Service, provider: MockProvider, app_url: str) -> None:
    provider._latency = 0.05
    async with service.http() as http:
        made = await ask(http, "POST", CANONICAL, json=body("mipro", app_url, task_app_api_key=KEY))
        own = f"{CANONICAL}/{made['job_id']}"
        listening = asyncio.create_task(streamed(http, f"{own}/events/stream"))
        while provider.calls < 4:
            await asyncio.sleep(0.01)
        said = await ask(http, "POST", f"{own}/cancel", json={"reason": "enough"})
        assert (said["job_id"], said["status"]) == (made["job_id"], "succeeded")
        assert (await ask(http, "GET", own))["status"] == "cancelled"
        events = await listening
        assert service.state.env_keys.all("default") == []
        assert events[-1]["type"] == "learning.policy.mipro.job.cancelled"
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        assert (await ask(http, "GET", f"{own}/events"))["events"] == events
        again = await ask(http, "POST", f"{own}/cancel")
        assert again["status"] == "failed"


async def test_a_walkthrough_config_needs_no_seeds(service: Service, app_url: str) -> None:
    made = body("mipro", app_url, task_app_api_key=KEY, results_folder="results", display={"show_curve": True})
    section = made["config_body"]["prompt_learning"]
    section["initial_prompt"] = {"sections": [{"role": "system", "content": SYSTEM}]}
    section["termination_config"] = {"budget": 100, "max_time_seconds": 1800, "target_score": 0.95}
    section["mipro"] = {
        "num_iterations": 10,
        "top_k": 2,
        "num_bootstrap_seeds": 3,
        "num_instructions_per_module": 4,
        "num_demos": 2,
        "optimize_instructions": True,
        "optimize_demos": True,
    }
    async with service.http() as http:
        job = await ask(http, "POST", LEGACY, json=made)
        done = await until_over(http, f"{LEGACY}/{job['job_id']}")
        assert (done["status"], done["error"]) == ("succeeded", None)
        assert done["progress"]["completed"] <= done["progress"]["total"] == 100


async def test_a_failed_job_says_why(service: Service, provider: MockProvider, app_url: str) -> None:
    provider._faults = {"quota": 1.0}
    async with service.http() as http:
        made = await ask(http, "POST", LEGACY, json=body("mipro", app_url, task_app_api_key=KEY))
        own = f"{LEGACY}/{made['job_id']}"
        events = await streamed(http, f"{own}/events/stream")
        job = await until_over(http, own)
        assert job["status"] == "failed"
        assert events[-1]["type"] == "prompt.learning.mipro.failed"
        assert events[-1]["data"]["error"] == job["error"]


async def test_an_uploaded_key_serves_where_the_body_has_none(service: Service, app_url: str) -> None:
    async with service.http() as http, service.client() as client:
        refused = await ask(http, "POST", CANONICAL, 422, json=body("mipro", app_url))
        assert "refuses the environment key" in refused["detail"]
        await client.upload_env_key(KEY)
        await ask(http, "POST", CANONICAL, json=body("mipro", app_url))


async def test_keys_come_in_either_header_and_other_peoples_jobs_are_nobodys(service: Service, app_url: str) -> None:
    stranger = service.make_key(owner="somebody else")
    async with service.http() as http, service.http(stranger) as other, aiohttp.ClientSession(service.url) as nobody:
        made = await ask(http, "POST", CANONICAL, json=body("mipro", app_url, task_app_api_key=KEY))
        own = f"{CANONICAL}/{made['job_id']}"
        bearer = {"Authorization": f"Bearer {service.key}"}
        assert (await ask(nobody, "GET", own, headers=bearer))["job_id"] == made["job_id"]
        reads = ("", "/events", "/events/stream", "/metrics", "/artifacts", "/snapshots/best_prompt.json")
        for path in (*(own + read for read in reads), f"/api/jobs/{made['job_id']}/workflow-state"):
            await ask(other, "GET", path, 404)
            await ask(nobody, "GET", path, 401)
        await ask(other, "POST", f"{own}/cancel", 404)
        await ask(nobody, "POST", f"{own}/cancel", 401)
        await ask(nobody, "POST", CANONICAL, 401, json=body("mipro", app_url))


async def test_what_a_job_may_not_ask_for(start: Start, app_url: str) -> None:
    nano = {"provider": "local"}
    service = await start(models={"openai/*": nano})
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"policy": {"provider": "acme", "model": "m"}}, "acme"),
        ({"policy": {"provider": "openai_compatible", "model": "m"}}, "openai_compatible/m"),
        ({"mipro": {"bootstrap_train_seeds": [1], "online_pool": []}}, "no validation seeds"),
        ({"mipro": {"bootstrap_train_seeds": ["a"], "online_pool": [1]}}, "whole numbers"),
        ({"policy": {"provider": "openai", "model": "gpt-4.1-nano", "base_url": "http://127.0.0.1:1"}}, "base_url"),
        ({"algorithm": "rl"}, "cannot run here"),
        ({"task_app_url": "file:///etc/passwd"}, "must be a URL"),
        ({"task_app_url": None}, "task_app_url: missing"),
    ]
    async with service.http() as http:
        for section, said in wrong:
            made = body("mipro", app_url, task_app_api_key=KEY)
            made["algorithm"] = None
            made["config_body"]["prompt_learning"] |= section
            refused = await ask(http, "POST", CANONICAL, 422, json=made)
            assert said in refused["detail"]
            assert KEY not in refused["detail"]
        await ask(http, "POST", CANONICAL, 422, json={"config_body": {}})
        await ask(http, "POST", CANONICAL, 422, json={"config_body": []})
        assert service.state.env_keys.all("default") == []


async def test_an_unknown_model_is_named_with_those_that_are_known(start: Start, app_url: str) -> None:
    service = await start(models={"openai/gpt-4.1-mini": {"provider": "local"}})
    section = {"policy": {"provider": "together", "model": "nothing"}, "mipro": {}}
    async with service.http() as http:
        refused = await ask(http, "POST", CANONICAL, 422, json=body("mipro", app_url, **section))
        assert "does not know the model 'together/nothing'" in refused["detail"]
        assert "openai/gpt-4.1-mini" in refused["detail"]


async def test_demo_keys_are_for_this_machine(start: Start) -> None:
    service = await start(demo_keys=True)
    off = await start(store=str(service.state.settings.results_dir / "off.db"))
    async with aiohttp.ClientSession() as http:
        made = await ask(http, "POST", f"{service.url}/api/demo/keys", json={"ttl_hours": 4})
        headers = {"Authorization": f"Bearer {made['api_key']}"}
        await ask(http, "POST", f"{service.url}/api/v1/sdk-logs", 202, json={"entries": []}, headers=headers)
        await ask(http, "GET", f"{service.url}/api/v1/keys", 403, headers=headers)
        foreign = {"Host": "attacker.example:80"}
        await ask(http, "POST", f"{service.url}/api/demo/keys", 403, headers=foreign)
        await ask(http, "POST", f"{off.url}/api/demo/keys", 403)
        assert (await ask(http, "GET", f"{service.url}/health"))["status"] == "ok"
