"""Online mode: prompts for live traffic, rewards, the better one is learnt; sessions and systems."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from rollouts.dtypes import Endpoint, Request, Response
from rollouts.errors import ModelNotFound, ServiceError
from rollouts.prompt_optimization import Study
from rollouts.prompt_optimization.proposers import LLMProposer
from rollouts.service.online import runner
from rollouts.service.online.bandit import Bandit
from rollouts.service.online.proxy import live_of
from rollouts.testing import MockProvider
from tests.service.conftest import Service, Start, settings_at, started
from tests.service.synth.test_routes import ask
from tests.service.synth.world import GOOD, SYSTEM, body
from tests.service.world import label_of

BASE = "/api/prompt-learning/online/mipro"
TEXTS = [f"ticket number {number} is open" for number in range(400)]


def session_body(**mipro: Any) -> dict[str, Any]:
    made = body("mipro", "http://127.0.0.1:9")
    section = made["config_body"]["prompt_learning"]
    del section["task_app_url"]
    del section["termination_config"]
    section["mipro"] = {"online_proposer_min_rollouts": 8, "proposer": section["mipro"]["proposer"], **mipro}
    return {"config_body": made["config_body"], "overrides": {}, "metadata": {}}


async def call(url: str, text: str) -> tuple[int, str, str]:
    """Status, answer and candidate of one call of the live application, which knows its own prompt alone."""
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": f"Ticket: {text}"}]
    async with aiohttp.ClientSession() as app, app.post(url, json={"model": "any", "messages": messages}) as response:
        said = await response.json()
        answer = said["choices"][0]["message"]["content"] if response.status == 200 else said["error"]["message"]
        return response.status, answer, response.headers.get("x-mipro-candidate-id", "")


async def traffic(http: aiohttp.ClientSession, session: dict[str, Any], texts: list[str]) -> list[float]:
    rewards = []
    own = f"{BASE}/sessions/{session['session_id']}"
    for text in texts:
        name = f"trace_{text.replace(' ', '_')}"
        prompt = await ask(http, "GET", f"{own}/prompt", params={"correlation_id": name})
        status, answer, candidate = await call(prompt["chat_completions_url"], text)
        assert (status, candidate) == (200, prompt["candidate_id"])
        rewards.append(float(answer == label_of(text)))
        told = {"reward_info": {"outcome_reward": rewards[-1]}, "correlation_id": name}
        credited = await ask(http, "POST", f"{own}/reward", json=told)
        assert credited["candidate_id"] == candidate
    return rewards


async def test_a_session_learns_a_better_prompt(service: Service) -> None:
    async with service.http() as http:
        session = await ask(http, "POST", f"{BASE}/sessions", json=session_body())
        own = f"{BASE}/sessions/{session['session_id']}"
        rewards = await traffic(http, session, TEXTS[:60])
        assert sum(rewards[-20:]) > sum(rewards[:8]) * 1.5
        state = (await ask(http, "GET", own))["state"]
        best = state["candidates"][state["best_candidate_id"]]
        assert best["deltas"]["instruction_text"] == GOOD
        await ask(http, "POST", f"{own}/reward", json={"reward_info": {"reward": 1}, "stop": True})
        done = await until(http, own, "succeeded")
        assert done["best_prompt"]["messages"][0]["content"] == GOOD
        assert (await ask(http, "GET", f"{own}/prompt", 409))["code"] == "wrong_state"
        status, said, _ = await call(f"{session['proxy_url']}/trace_late/chat/completions", TEXTS[0])
        assert (status, "not running" in said) == (409, True)


async def test_traffic_is_served_whatever_becomes_of_proposals(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(study: Study, *_: Any) -> list[Any]:
        async def refused(request: Request) -> Response:
            raise ModelNotFound("no such proposer")

        return [LLMProposer(refused, Endpoint.parse("openai/none"), tell=study.proposed)]

    monkeypatch.setattr(runner, "default_proposers", failing)
    async with service.http() as http:
        session = await ask(http, "POST", f"{BASE}/sessions", json=session_body())
        own = f"{BASE}/sessions/{session['session_id']}"
        assert len(await traffic(http, session, TEXTS[:30])) == 30
        await ask(http, "POST", f"{own}/reward", json={"reward_info": {"reward": 1}, "stop": True})
        await until(http, own, "succeeded")
        (note,) = service.state.store.runs(limit=1)[0].summary["notes"]
        assert note.endswith("ModelNotFound (such as: no such proposer); the search had no text that a model wrote")


async def until(http: aiohttp.ClientSession, path: str, status: str) -> dict[str, Any]:
    while True:
        found = await ask(http, "GET", path)
        if found["status"] == status:
            return dict(found)
        assert found["status"] in ("queued", "running"), found


async def test_what_was_learnt_survives_a_pause_and_a_restart(tmp_path: Any, provider: MockProvider) -> None:
    async with started(settings_at(tmp_path, provider)) as service, service.http() as http:
        session = await ask(http, "POST", f"{BASE}/sessions", json=session_body())
        own = f"{BASE}/sessions/{session['session_id']}"
        await traffic(http, session, TEXTS[:30])
        open_one = await ask(http, "GET", f"{own}/prompt", params={"correlation_id": "trace_open"})
        before = (await ask(http, "GET", own))["state"]
        assert len(before["candidates"]) > 1
        assert (await ask(http, "POST", f"{own}/pause", json={}))["status"] == "paused"
        await ask(http, "GET", f"{own}/prompt", 409)
        while True:
            status, _, _ = await call(open_one["chat_completions_url"], TEXTS[0])
            if status == 409:
                break
        await ask(http, "POST", f"{own}/resume", json={})
        assert (await ask(http, "GET", own))["state"] == before
    async with started(settings_at(tmp_path, provider)) as service, service.http() as http:
        await service.state.online.begun(session["session_id"], 5)
        assert (await ask(http, "GET", own))["state"] == before
        told = {"reward_info": {"outcome_objectives": {"reward": 0.5}}, "rollout_id": "trace_open"}
        first = await ask(http, "POST", f"{own}/reward", json=told)
        assert first["candidate_id"] == open_one["candidate_id"]
        after = (await ask(http, "GET", own))["state"]
    async with started(settings_at(tmp_path, provider)) as service, service.http() as http:
        await service.state.online.begun(session["session_id"], 5)
        told = {"reward_info": {"outcome_objectives": {"reward": 0.9}}, "rollout_id": "trace_open"}
        assert await ask(http, "POST", f"{own}/reward", json=told) == first
        assert (await ask(http, "GET", own))["state"] == after
        await ask(http, "POST", f"{own}/pause", json={})
        assert (await ask(http, "POST", f"{own}/cancel", json={}))["status"] == "cancelled"
        assert (await ask(http, "POST", f"{own}/cancel", 409, json={}))["code"] == "wrong_state"
        job_id = session["session_id"]
        while not service.state.engine.over(job_id):
            await asyncio.sleep(0.01)
        assert (await asyncio.to_thread(service.state.jobs.get, job_id, None)).result is not None


async def test_a_system_of_an_ordinary_create(service: Service) -> None:
    made = body("mipro", "http://127.0.0.1:9")
    made["config_body"]["prompt_learning"]["mipro"] = {"mode": "online", "online_proposer_mode": "none"}
    async with service.http() as http:
        job = await ask(http, "POST", "/api/prompt-learning/online/jobs", json=made)
        system = f"{BASE}/systems/{job['metadata']['mipro_system_id']}"
        await service.state.online.begun(job["job_id"], 5)
        replacement = {"old_text": SYSTEM, "new_text": GOOD, "apply_to_role": "system", "apply_to_order": 0}
        change = {"deltas": {"transformation": {"text_replacements": [replacement], "example_injections": []}}}
        added = await ask(http, "POST", f"{system}/candidates", json=change)
        assert await ask(http, "POST", f"{system}/candidates", json=change) == added
        for number, text in enumerate(TEXTS[:40]):
            rollout = f"trace_rollout_{number}_abc123"
            url = f"{job['metadata']['mipro_proxy_url']}/{rollout}/chat/completions/chat/completions"
            _, answer, candidate = await call(url, text)
            told = {"rollout_id": rollout, "status": "reward", "reward": float(answer == label_of(text))}
            assert (await ask(http, "POST", f"{system}/status", json=told))["candidate_id"] == candidate
            await ask(http, "POST", f"{system}/status", json={"rollout_id": rollout, "status": "done"})
        state = await ask(http, "GET", f"{system}/state")
        assert state["best_candidate_id"] == added["candidate_id"]
        assert state["candidates"]["baseline"]["deltas"]["instruction_text"] == SYSTEM
        wrong: list[tuple[str, dict[str, Any], int]] = [
            ("candidates", {"deltas": {}}, 422),
            ("candidates", {"deltas": {"text_replacements": [{"old_text": "not there", "new_text": "x"}]}}, 422),
            ("candidates", {"deltas": {"text_replacements": [{"old_text": SYSTEM, "new_text": "For {team}."}]}}, 422),
            ("status", {"rollout_id": "never seen", "status": "reward", "reward": 1}, 404),
            ("status", {"rollout_id": rollout, "status": "reward"}, 422),
        ]
        for route, sent, status in wrong:
            await ask(http, "POST", f"{system}/{route}", status, json=sent)


async def test_a_rollout_is_rewarded_once_each_time_that_it_is_served(service: Service) -> None:
    async with service.http() as http:
        session = await ask(http, "POST", f"{BASE}/sessions", json=session_body(online_proposer_mode="none"))
        own, system = (f"{BASE}/{kind}/{session['session_id']}" for kind in ("sessions", "systems"))

        async def serve() -> None:
            assert (await call(f"{session['proxy_url']}/trace_1/chat/completions", TEXTS[0]))[0] == 200

        async def told(value: float, **named: str) -> dict[str, Any]:
            return dict(await ask(http, "POST", f"{own}/reward", json={"reward_info": {"reward": value}, **named}))

        async def counted() -> tuple[int, float]:
            state = await ask(http, "GET", f"{system}/state")
            return state["rewards"], state["candidates"]["baseline"]["mean_reward"]

        await serve()
        first = await told(1.0, rollout_id="trace_1")
        assert await told(0.0, rollout_id="trace_1") == await told(1.0, correlation_id="trace_1") == first
        again = {"rollout_id": "trace_1", "status": "reward", "reward": 0.0}
        assert (await ask(http, "POST", f"{system}/status", json=again))["candidate_id"] == first["candidate_id"]
        assert await counted() == (1, 1.0)
        await serve()
        await told(0.0, rollout_id="trace_1")
        assert await counted() == (2, 0.5)
        for _ in range(2):
            await told(1.0)
            await told(1.0, candidate_id="baseline")
            await told(1.0, rollout_id="trace_unknown", candidate_id="baseline")
        assert (await counted())[0] == 8


async def test_calls_beside_the_prompt_are_traffic_like_any_other(service: Service) -> None:
    async with service.http() as http:
        session = await ask(http, "POST", f"{BASE}/sessions", json=session_body(online_proposer_mode="none"))
        own = f"{BASE}/sessions/{session['session_id']}"
        for number in range(2):
            url = f"{session['proxy_url']}/trace_{number}/chat/completions"
            async with http.post(url, json={"messages": [{"role": "user", "content": "Is this polite?"}]}) as answer:
                assert (answer.status, answer.headers["x-rollouts-prompt"]) == (200, "unmatched")
            told = {"reward_info": {"reward": 1}, "rollout_id": f"trace_{number}"}
            assert (await ask(http, "POST", f"{own}/reward", json=told))["candidate_id"] == "baseline"
        assert (await call(f"{session['proxy_url']}/trace_2/chat/completions", TEXTS[0]))[0] == 200


async def test_the_budget_and_the_address_hold(service: Service) -> None:
    made = session_body()
    made["config_body"]["prompt_learning"]["termination_config"] = {"budget": 3}
    stranger = service.make_key(owner="somebody else")
    async with service.http() as http, service.http(stranger) as other:
        session = await ask(http, "POST", f"{BASE}/sessions", json=made)
        own = f"{BASE}/sessions/{session['session_id']}"
        for number in range(5):
            url = f"{session['proxy_url']}/trace_{number}/chat/completions"
            assert (await call(url, TEXTS[number]))[0] == (200 if number < 3 else 402)
        guessed = session["proxy_url"][:-4] + "AAAA"
        assert (await call(f"{guessed}/chat/completions", TEXTS[0]))[0] == 404
        await ask(other, "GET", own, 404)
        await ask(other, "POST", f"{own}/reward", 404, json={"reward_info": {"reward": 1}})
        for number in range(3):
            told = {"reward_info": {"score": 1}, "rollout_id": f"trace_{number}"}
            await ask(http, "POST", f"{own}/reward", json=told)
        done = await until(http, own, "succeeded")
        assert done["state"] == {}
        assert done["best_score"] == 1.0


async def test_what_cannot_be_served(start: Start) -> None:
    service = await start()
    nowhere = session_body()
    del nowhere["config_body"]["prompt_learning"]["initial_prompt"]
    async with service.http() as http:
        for sent in (nowhere, {"config_name": "mine"}, session_body(online_proposer_min_rollouts=-1)):
            await ask(http, "POST", f"{BASE}/sessions", 422, json=sent)
        session = await ask(http, "POST", f"{BASE}/sessions", json=session_body())
        own = f"{BASE}/sessions/{session['session_id']}"
        for info in ({}, {"reward": "high"}, {"reward": None}):
            await ask(http, "POST", f"{own}/reward", 422, json={"reward_info": info})


def test_the_bandit_prefers_what_earns_more() -> None:
    bandit = Bandit(seed=1)
    for name in ("a", "b", "c"):
        bandit.add(name)
    chances = {"a": 0.3, "b": 0.8, "c": 0.5}
    served = []
    for number in range(400):
        served.append(bandit.choose())
        bandit.reward(served[-1], float((number * 0.6180339887) % 1 < chances[served[-1]]))
    assert bandit.best == "b"
    assert served[-100:].count("b") > 80
    assert sum(arm.n for arm in bandit.arms.values()) == 400


@pytest.mark.parametrize("value", [-3.0, 7.0])
def test_rewards_beyond_the_ends_count_as_the_ends(value: float) -> None:
    bandit = Bandit()
    bandit.add("a")
    bandit.reward("a", value)
    assert bandit.arms["a"].mean == min(1.0, max(0.0, value))


@pytest.mark.parametrize(
    ("path", "live"),
    [
        ("t/r/chat/completions", ("t", "r", "chat/completions")),
        ("t/r/chat/completions/chat/completions", ("t", "r", "chat/completions")),
        ("t/chat/completions", ("t", "", "chat/completions")),
        ("t/trace_1/responses", ("t", "trace_1", "responses")),
        ("t/r/models", None),
        ("t", None),
        ("", None),
        ("t/r/s/chat/completions", None),
        ("t/r\r\nx-evil: 1/chat/completions", None),
        (f"t/{'r' * 201}/chat/completions", None),
    ],
)
def test_what_an_address_names(path: str, live: tuple[str, str, str] | None) -> None:
    if live is not None:
        assert live_of(path) == live
        return
    with pytest.raises(ServiceError) as refused:
        live_of(path)
    assert refused.value.status == 404
