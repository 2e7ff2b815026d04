"""Apps made by `create_task_app`: routes, keys, answers, and what becomes of a rollout that fails."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from aiohttp import web

from rollouts.dtypes import Message, Metric, Sample, Score
from rollouts.errors import ConfigError, DataError, ProviderUnavailable, RateLimited
from rollouts.taskapp import Rollout, create_task_app
from rollouts.taskapp.auth import keys_of
from rollouts.taskapp.calls import endpoint_of

from .kit import KEY, answering, rollout_body, served

SAMPLES = [Sample(inputs={"text": word}, ground_truth=word.upper(), id=word) for word in ("a", "b", "c", "a2")]
OLD_REQUEST = {
    "run_id": "prompt-learning-1-abcdef01",
    "env": {"env_name": "words", "seed": 1, "config": {"split": "train"}},
    "policy": {"policy_name": "p", "config": {"model": "m", "inference_url": "http://127.0.0.1:9/v1"}},
    "ops": [],
    "mode": "eval",
    "record": {"trajectories": True},
}


async def half(rollout: Rollout) -> Any:
    return 0.5, f"saw {rollout.sample['text']}"


def app(rollout: Any = half, keys: tuple[str, ...] = (KEY, "other")) -> Any:
    return create_task_app("words", SAMPLES, rollout, description="Words.", keys=keys)


async def client_of(application: Any) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=application)
    async with httpx.AsyncClient(transport=transport, base_url="http://app", headers={"X-API-Key": KEY}) as client:
        yield client


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async for one in client_of(app()):
        yield one


async def posted(rollout: Any, body: dict[str, Any]) -> httpx.Response:
    async for client in client_of(app(rollout)):
        return await client.post("/rollout", json=body)
    raise AssertionError


ROUTES = [("GET", "/info"), ("GET", "/task_info"), ("POST", "/rollout"), ("POST", "/done")]


@pytest.mark.parametrize(
    "headers",
    [
        {"X-API-Key": KEY},
        {"X-API-Key": "other"},
        {"X-API-Keys": f"wrong, {KEY}"},
        {"Authorization": f"Bearer {KEY}"},
        {"authorization": f"bearer {KEY}"},
    ],
)
async def test_a_right_key_is_taken_from_three_headers(headers: dict[str, str], client: httpx.AsyncClient) -> None:
    client.headers.pop("X-API-Key")
    assert (await client.get("/task_info", headers=headers)).status_code == 200
    assert (await client.get("/health", headers=headers)).json()["authorized"] is True


@pytest.mark.parametrize(
    "headers",
    [{}, {"X-API-Key": KEY[:-1]}, {"X-API-Key": ""}, {"Authorization": KEY}, {"Authorization": f"Basic {KEY}"}],
)
@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_a_wrong_key_is_refused_and_told_nothing(
    headers: dict[str, str], method: str, path: str, client: httpx.AsyncClient
) -> None:
    client.headers.pop("X-API-Key")
    answer = await client.request(method, path, headers=headers, json=rollout_body())
    assert answer.status_code == 400
    assert answer.json()["detail"]["error"]["code"] == "unauthorised"
    assert KEY[:8] not in answer.text
    assert "other" not in answer.text
    assert (await client.get("/health", headers=headers)).json()["authorized"] is False


async def test_an_app_without_a_key_lets_nobody_in() -> None:
    async for client in client_of(app(keys=())):
        answer = await client.get("/task_info")
        assert answer.status_code == 503
        assert answer.json()["detail"]["error"]["code"] == "missing_environment_api_key"


def test_keys_come_from_the_environment() -> None:
    assert keys_of({"ENVIRONMENT_API_KEY": " a ", "ENVIRONMENT_API_KEY_ALIASES": "b, ,c"}) == ("a", "b", "c")
    assert keys_of({"DEV_ENVIRONMENT_API_KEY": "d"}) == ("d",)
    assert keys_of({}) == ()


async def test_the_task_set_and_its_rows(client: httpx.AsyncClient) -> None:
    tasks = (await client.get("/task_info")).json()
    assert (tasks["task_app_id"], tasks["dataset_size"]) == ("words", 4)
    assert tasks["taskset"]["description"] == "Words."
    one = (await client.get("/task_info?seed=1")).json()
    assert one["task_metadata"] == {"seed": 1, "inputs": {"text": "b"}, "ground_truth": "B"}
    several = (await client.get("/task_info?seed=0&seeds=2")).json()
    assert [row["task_metadata"]["seed"] for row in several] == [0, 2]
    assert {"task", "environment", "dataset", "rubric", "inference", "limits"} <= one.keys()


@pytest.mark.parametrize("body", [OLD_REQUEST, rollout_body(seed=1), {**OLD_REQUEST, **rollout_body(seed=1)}])
async def test_the_answer_has_what_both_generations_require(body: dict[str, Any], client: httpx.AsyncClient) -> None:
    answer = (await client.post("/rollout", json=body)).json()
    assert answer["trace_correlation_id"] == body.get("trace_correlation_id", body.get("run_id"))
    assert answer["reward_info"]["outcome_reward"] == 0.5
    assert answer["reward_info"]["outcome_objectives"]["reward"] == 0.5
    assert answer["reward_info"]["details"]["feedback"] == "saw b"
    assert answer["success_status"] == "success"
    assert answer["run_id"]
    metrics = answer["metrics"]
    assert (metrics["episode_returns"], metrics["mean_return"], metrics["num_steps"]) == ([0.5], 0.5, 1)
    (trajectory,) = answer["trajectories"]
    assert {"env_id", "policy_id", "steps", "length", "inference_url"} <= trajectory.keys()
    assert trajectory["steps"][0]["obs"] == {"seed": 1}
    assert trajectory["steps"][0]["reward"] == 0.5


@pytest.mark.parametrize(("seed", "text"), [(0, "a"), (5, "b"), (-1, "a2"), (4_000_000_000, "a")])
async def test_seeds_beyond_the_data_start_again(seed: int, text: str, client: httpx.AsyncClient) -> None:
    answer = await client.post("/rollout", json=rollout_body(seed=seed))
    assert answer.json()["reward_info"]["details"]["feedback"] == f"saw {text}"


async def test_a_seed_may_stand_in_the_config(client: httpx.AsyncClient) -> None:
    answer = await client.post("/rollout", json={**rollout_body(), "env": {"config": {"seed": 2}}})
    assert answer.json()["reward_info"]["details"]["feedback"] == "saw c"


async def test_a_score_of_several_metrics_keeps_their_names() -> None:
    async def scored(rollout: Rollout) -> Score:
        return Score(metrics=(Metric("right", 1.0), Metric("seconds", 9.0, 0.0)))

    info = (await posted(scored, rollout_body())).json()["reward_info"]
    assert info["outcome_objectives"] == {"right": 1.0, "seconds": 9.0, "reward": 1.0}


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (ProviderUnavailable("down"), 502, "down"),
        (RateLimited("slow down", retry_after=7.0), 429, "slow down"),
        (ConfigError("set x"), 422, "set x"),
        (KeyError("sk-planted"), 500, "KeyError"),
    ],
)
async def test_a_rollout_that_raises_has_no_reward(error: Exception, status: int, said: str) -> None:
    async def failing(rollout: Rollout) -> float:
        raise error

    answer = await posted(failing, rollout_body())
    assert answer.status_code == status
    assert said in answer.json()["detail"]
    assert "reward" not in answer.text
    assert "sk-planted" not in answer.text
    assert answer.headers.get("Retry-After") == ("7" if status == 429 else None)


@pytest.mark.parametrize("reward", [float("nan"), None, "high"])
async def test_what_is_no_number_is_no_reward(reward: Any) -> None:
    async def odd(rollout: Rollout) -> Any:
        return reward

    answer = await posted(odd, rollout_body())
    assert answer.status_code == 500
    assert "return a" in answer.json()["detail"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"env": {"seed": "x"}, "policy": {"config": {"api_key": "sk-planted"}}},
        {"env": {}, "policy": {"config": {}}},
        {**rollout_body(), "env": {"config": {"seed": "3"}}},
        {"env": {}, "policy": {"config": {"inference_url": "file:///etc/passwd"}}},
        {"env": {}, "policy": {"config": {"inference_url": ["http://x"]}}},
        rollout_body(temperature="hot", api_key="sk-planted"),
    ],
)
async def test_a_wrong_body_is_a_422_that_does_not_repeat_it(body: dict[str, Any], client: httpx.AsyncClient) -> None:
    answer = await client.post("/rollout", json=body)
    assert answer.status_code == 422
    assert answer.json()["detail"]
    assert "sk-planted" not in answer.text


@pytest.mark.parametrize(("key", "status"), [(KEY, 413), ("wrong", 400)])
async def test_a_body_has_a_limit_and_is_not_read_for_strangers(
    key: str, status: int, client: httpx.AsyncClient
) -> None:
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        while True:
            read += 100_000
            yield b" " * 100_000

    answer = await client.post("/rollout", content=endless(), headers={"X-API-Key": key})
    assert answer.status_code == status
    assert read <= (1_200_000 if status == 413 else 0)


def test_an_app_needs_samples() -> None:
    with pytest.raises(DataError, match="no samples"):
        create_task_app("empty", [], half)


@pytest.mark.parametrize(
    ("url", "base", "query"),
    [
        ("http://h:1/v1/t1/trace_t1", "http://h:1/v1/t1/trace_t1", {}),
        ("http://h:1/v1/t1/trace_t1/chat/completions", "http://h:1/v1/t1/trace_t1", {}),
        ("http://h:1/v1/t1?cid=trace_t1", "http://h:1/v1/t1", {"cid": "trace_t1"}),
        ("https://api.example.com/v1/", "https://api.example.com/v1", {}),
    ],
)
def test_every_form_of_inference_url_is_understood(url: str, base: str, query: dict[str, str]) -> None:
    endpoint = endpoint_of({"inference_url": url, "model": "m", "max_tokens": 7, "temperature": 0.5})
    assert endpoint.base_url == base
    assert endpoint.extra.get("extra_query", {}) == query
    assert (endpoint.sampling.max_tokens, endpoint.sampling.temperature) == (7, 0.5)


async def test_the_model_is_asked_at_the_url_of_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """And it gets the key of the request alone, never one of this machine."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-this-machine")
    monkeypatch.setenv("OPENAI_COMPATIBLE_API_KEY", "sk-of-this-machine")

    async def asks(rollout: Rollout) -> float:
        response = await rollout.ask(Message("system", "Shout."), Message("user", rollout.sample["text"]))
        return float(response.text == rollout.sample.ground_truth)

    sent: list[tuple[str, str | None]] = []

    async def model(request: web.Request) -> web.Response:
        sent.append((request.path_qs, request.headers.get("Authorization")))
        text = (await request.json())["messages"][-1]["content"].upper()
        return web.json_response({"choices": [{"message": {"role": "assistant", "content": text}}]})

    async with answering(model) as upstream, served(app(asks)) as url, httpx.AsyncClient() as client:
        for policy in ({}, {"api_key": "sk-of-the-request"}):
            body = rollout_body(f"{upstream}/v1?cid=trace_1", seed=2, **policy)
            answer = (await client.post(f"{url}/rollout", json=body, headers={"X-API-Key": KEY})).json()
            assert answer["reward_info"]["outcome_reward"] == 1.0
    path = "/v1/chat/completions?cid=trace_1"
    assert sent == [(path, None), (path, "Bearer sk-of-the-request")]
