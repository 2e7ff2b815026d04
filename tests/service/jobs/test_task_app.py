"""Jobs over a real task app: through the interceptor, by its own prompt or a given one."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest
from fastapi import FastAPI, Request

from rollouts.dtypes import PromptTemplate, Sample
from rollouts.errors import ServiceError
from rollouts.evaluation.metrics import exact_match
from rollouts.service.jobs.taskapp_runner import _untouched
from rollouts.taskapp import serve_program
from rollouts.testing import MockProvider
from tests.service.conftest import Start
from tests.service.world import config, label_of
from tests.taskapp.kit import served

SEEDS: dict[str, Any] = {
    "train_seeds": list(range(12)),
    "val_seeds": list(range(12, 24)),
    "test_seeds": list(range(24, 36)),
}


def app() -> FastAPI:
    texts = [f"ticket number {number} is open" for number in range(36)]
    samples = [Sample(inputs={"text": text}, ground_truth=label_of(text), id=text) for text in texts]
    prompt = PromptTemplate(system="Route the ticket.", user_template="Ticket: {text}")
    return serve_program("tickets", samples, prompt, exact_match(), keys=["app-key"])


def remote(**tables: Any) -> dict[str, Any]:
    made = config(**tables)
    del made["prompt_learning"]["dataset"]
    return made


@pytest.mark.parametrize("told", ["by the app", pytest.param("by the job", marks=pytest.mark.slow)])
async def test_a_job_over_an_app(start: Start, provider: MockProvider, told: str) -> None:
    service = await start()
    settings = remote()
    if told == "by the app":
        del settings["prompt_learning"]["initial_prompt"]
    async with served(app()) as url, service.client() as client:
        await client.upload_env_key("app-key", name="TICKETS_KEY")
        task_app = {"url": url, "key_name": "TICKETS_KEY", **SEEDS}
        job = await client.create_job(settings, task_app=task_app)
        done = await client.wait_for(job.id, poll_s=0.02, timeout_s=60)
        assert (done.status, done.error) == ("succeeded", None)
        assert done.data["verdict"] == "ship"
        best = await client.best_prompt(job.id)
        assert best["score"] == 1.0
        spent = await client.spend(job.id)
        assert spent["total"]["calls"] == provider.calls
        assert spent["total"]["micros"] == provider.micros
        assert "app-key" not in str(await client.results(job.id))


async def test_what_keeps_an_app_from_being_used(start: Start) -> None:
    service = await start()
    away = await start(host="127.0.0.2", store=str(service.state.settings.results_dir / "away.db"))
    async with served(app()) as url, service.client() as client:
        wrong: list[tuple[dict[str, Any], dict[str, Any], int, str]] = [
            (remote(), {"url": url}, 422, "refuses the environment key"),
            (remote(), {"url": url, "key_name": "NONE"}, 422, "no environment key 'NONE'"),
            (remote(), {"url": "http://127.0.0.1:9"}, 424, "no connection"),
            (remote(), {"url": "file:///etc/passwd"}, 422, "task_app.url must be a URL"),
            (remote(), {"url": "http://10.0.0.1"}, 422, "not a public address"),
            (remote(), {"url": url, "val_seeds": [1, 30]}, 422, "the search sees seed 30 too;"),
            (config(), {"url": url}, 422, "the task app has rows of its own"),
            (remote(score={"metric": "f1"}), {"url": url}, 422, "the task app scores by itself"),
        ]
        for settings, more, status, said in wrong:
            if "val_seeds" in more:
                await client.upload_env_key("app-key")
            with pytest.raises(ServiceError, match=said) as refused:
                await client.create_job(settings, task_app={**SEEDS, **more})
            assert refused.value.status == status
        assert await client.jobs() == []
    assert away.state.settings.loopback


@pytest.mark.parametrize(
    ("test", "size", "kept"),
    [
        ([30, 31], 36, [30, 31]),
        ([30, 40], 36, [30]),  # 40 is row 4, which the search sees
        ([30, 30, 66], 36, [30]),  # all are row 30
        ([30, 66], None, [30, 66]),
        ([36, 37], 36, []),
    ],
)
def test_rows_that_the_search_sees_by_another_number_are_not_tested(
    test: list[int], size: int | None, kept: list[int]
) -> None:
    found, notes = _untouched(range(24), test, size)
    assert found == kept
    assert bool(notes) == (found != test)
    assert all(f"{len(test) - len(kept)} test seeds were left out" in note for note in notes)


async def test_a_candidate_has_no_score_where_its_prompt_was_not_carried(start: Start) -> None:
    other = FastAPI()

    @other.get("/health")
    async def health() -> dict[str, bool]:
        return {"ok": True}

    @other.post("/rollout")
    async def rollout(request: Request) -> dict[str, Any]:
        asked = await request.json()
        seed, url = asked["env"]["seed"], asked["policy"]["config"]["inference_url"]
        text = f"ticket number {seed} is open"
        system = "Route the ticket." if seed % 4 == 0 else "Route the ticket.\nToday is Friday."
        messages = [{"role": "system", "content": system}, {"role": "user", "content": f"Ticket: {text}"}]
        async with aiohttp.ClientSession() as http:
            answer = await http.post(f"{url}/chat/completions", json={"messages": messages})
            said = (await answer.json())["choices"][0]["message"]["content"]
        return {"reward_info": {"outcome_reward": float(said == label_of(text))}}

    service = await start()
    async with served(other) as url, service.client() as client:
        job = await client.create_job(remote(), task_app={"url": url, **SEEDS})
        failed = await client.wait_for(job.id, poll_s=0.02, timeout_s=60)
    assert failed.status == "failed"
    assert "no call of the rollout carried the candidate's prompt" in str(failed.error)
    assert "Today is Friday" in str(failed.error)


@pytest.mark.slow
async def test_an_app_that_vanishes_fails_its_job_and_no_other(start: Start, provider: MockProvider) -> None:
    provider._latency = 0.005
    service = await start()
    async with service.client() as client:
        await client.upload_env_key("app-key")
        async with served(app()) as url:
            job = await client.create_job(remote(), task_app={"url": url, "max_attempts": 1, **SEEDS})
            other = await client.create_job(
                config(), rows=[{"text": f"t{n}", "label": label_of(f"t{n}")} for n in range(36)]
            )
            while provider.calls < 30:
                await client.job(job.id)
        failed = await client.wait_for(job.id, poll_s=0.02, timeout_s=60)
        assert failed.status == "failed"
        assert "task app" in str(failed.error)
        assert (await client.wait_for(other.id, poll_s=0.02, timeout_s=60)).status == "succeeded"
