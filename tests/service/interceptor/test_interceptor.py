"""The interceptor over HTTP: what reaches the model, what comes back, what is charged."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from rollouts.budget import Budget, Spend
from rollouts.dtypes import Endpoint, Program, PromptTemplate, Request, Response, ToolCall, Usage
from rollouts.errors import (
    AuthenticationFailed,
    BudgetExhausted,
    ConfigError,
    ModelNotFound,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
    TaskAppError,
    TemplateError,
)
from rollouts.service.interceptor import PREFIX
from rollouts.testing import ScriptedLLM
from rollouts.testing.mock_provider import MockProvider
from tests.service.interceptor.kit import ASKED, SENT, world

KEY = "sk-the-operators-key"
SCRIPTED = Endpoint.parse("openai/scripted")


def endpoint_of(mock: MockProvider, **settings: Any) -> Endpoint:
    return mock.endpoint("m", provider="openai", api_key=KEY, **settings)


async def test_the_candidates_prompt_reaches_the_model_and_its_bytes_come_back() -> None:
    async with MockProvider(reply=lambda body: "ok") as mock, world(endpoint_of(mock)) as w:
        with w.trial() as url:
            status, body = await w.post(f"{url}/chat/completions")
        assert mock.requests[-1]["messages"] == SENT
        assert mock.requests[-1]["model"] == "m"
        assert (status, body["choices"][0]["message"]["content"]) == (200, "ok")
        (call,), (trace,) = w.heard.calls, w.heard.traces
        assert call.cost_micros == mock.micros == w.study.ledger.spent.micros
        assert call.usage.total_tokens == mock.tokens
        assert (trace.module, trace.values, trace.output) == ("main", {"query": "where is it?"}, "ok")


@pytest.mark.parametrize(
    "form",
    [
        "{trial}/chat/completions",
        "{trial}/{cid}/chat/completions",
        "{trial}/{cid}/chat/completions/chat/completions",
        "{trial}/chat/completions?cid={cid}",
        "{trial}/any_other_id/chat/completions/",
    ],
)
async def test_all_forms_of_the_url(form: str) -> None:
    async with MockProvider() as mock, world(endpoint_of(mock)) as w:
        spec = w.heard.spec()
        with w.desk.open(spec):
            path = form.format(trial=spec.trial_id, cid=spec.correlation_id)
            status, _ = await w.post(w.url + PREFIX + path)
        assert status == 200
        assert len(w.heard.calls) == 1


async def test_the_callers_key_goes_nowhere_and_the_operators_does_not_come_back() -> None:
    headers = {"Authorization": "Bearer sk-caller", "X-API-Key": "sk-env", "api-key": "sk-other", "OpenAI-Beta": "x"}
    async with MockProvider(key="wrong", echo_key=True) as mock, world(endpoint_of(mock)) as w:
        with w.trial(AuthenticationFailed) as url:
            async with w.http.post(f"{url}/chat/completions", json={"messages": ASKED}, headers=headers) as response:
                text = await response.text() + str(response.headers)
                assert response.status == 401
        assert mock.headers["Authorization"] == f"Bearer {KEY}"
        assert not {"X-API-Key", "api-key", "OpenAI-Beta"} & set(mock.headers)
        assert KEY not in text
        assert "[redacted]" in text


@pytest.mark.parametrize(
    ("fault", "status", "error"),
    [
        ("rate_limit", 429, RateLimited),
        ("server_error", 500, ProviderUnavailable),
        (503, 503, ProviderUnavailable),
        (404, 404, ModelNotFound),
        (307, 307, ProviderError),
        (418, 418, ProviderError),
    ],
)
async def test_the_models_errors_pass_through(fault: Any, status: int, error: type[Exception]) -> None:
    async with MockProvider(script=[fault], retry_after=7) as mock, world(endpoint_of(mock)) as w:
        with w.trial(error) as url:
            async with w.http.post(
                f"{url}/chat/completions", json={"messages": ASKED}, allow_redirects=False
            ) as response:
                body = await response.json()
                assert response.status == status
                assert body["error"]["message"] == "as the test wished"
                assert response.headers.get("Retry-After") == ("7" if status == 429 else None)
                assert "Location" not in response.headers
        assert w.heard.calls == []
        assert w.study.ledger.spent == Spend(calls=1, seconds=w.study.ledger.spent.seconds)


@pytest.mark.parametrize(("fault", "code"), [("drop", "upstream_error"), ("cut", "upstream_error")])
async def test_an_answer_that_is_lost_is_charged_at_its_worst(fault: Any, code: str) -> None:
    async with MockProvider(script=[fault]) as mock, world(endpoint_of(mock)) as w:
        with w.trial(ProviderUnavailable) as url:
            status, body = await w.post(f"{url}/chat/completions")
        assert (status, body["error"]["code"]) == (502, code)
        (call,) = w.heard.calls
        assert call.cost_micros == w.study.ledger.spent.micros >= mock.micros > 0


@pytest.mark.parametrize("fault", ["garbage", "wrong_shape"])
async def test_an_answer_that_is_no_completion_passes_through_and_is_charged(fault: Any) -> None:
    async with MockProvider(script=[fault]) as mock, world(endpoint_of(mock)) as w:
        with w.trial(ProviderError) as url:
            async with w.http.post(f"{url}/chat/completions", json={"messages": ASKED}) as response:
                assert response.status == 200
                assert (b"not what you think" in await response.read()) == (fault == "garbage")
        assert w.heard.calls[0].cost_micros == w.study.ledger.spent.micros >= mock.micros > 0


async def test_a_model_that_is_not_there_or_does_not_answer() -> None:
    endpoint = Endpoint(provider="openai_compatible", model="m", base_url="http://127.0.0.1:9/v1")
    async with world(endpoint) as w:
        with w.trial(ProviderUnavailable) as url:
            assert (await w.post(f"{url}/chat/completions"))[0] == 502
        assert w.heard.calls == []
    async with MockProvider(script=["hang"]) as mock, world(endpoint_of(mock, timeout_s=0.05)) as w:
        with w.trial(ProviderError) as url:
            status, body = await w.post(f"{url}/chat/completions")
        assert (status, body["error"]["code"]) == (504, "upstream_timeout")
        assert w.heard.calls[0].cost_micros == w.study.ledger.spent.micros >= mock.micros


async def test_a_call_that_the_budget_cannot_pay_is_refused_before_it_leaves() -> None:
    async with MockProvider() as mock, world(endpoint_of(mock), budget=Budget(max_calls=1)) as w:
        with w.trial(BudgetExhausted) as url:
            assert (await w.post(f"{url}/chat/completions"))[0] == 200
            async with w.http.post(f"{url}/chat/completions", json={"messages": ASKED}) as response:
                assert response.status == 402
                assert response.headers["x-should-retry"] == "false"
                assert (await response.json())["error"]["code"] == "budget_exhausted"
        assert mock.calls == 1


async def test_a_module_with_a_budget_of_its_own() -> None:
    limits = {"method": "rmipro", "module_budgets": {"main": Budget(max_calls=1)}}
    async with MockProvider() as mock, world(endpoint_of(mock), study=limits) as w:
        with w.trial(BudgetExhausted, match="module 'main'") as url:
            assert (await w.post(f"{url}/chat/completions"))[0] == 200
            assert (await w.post(f"{url}/chat/completions"))[0] == 402
        assert mock.calls == 1
        assert w.study.accounts["main"].ledger.spent.micros == mock.micros


async def test_no_budget_is_passed_whatever_goes_wrong() -> None:
    """Plain and streamed calls at once, with faults, until the money is gone."""
    faults = {"rate_limit": 0.1, "cut": 0.1, "drop": 0.1, "no_usage": 0.1, "garbage": 0.05, "server_error": 0.05}
    budget = Budget(max_cost_usd="0.02")
    async with MockProvider(faults=faults, seed=3) as mock, world(endpoint_of(mock), budget=budget) as w:

        async def call(url: str, number: int) -> None:
            body = {"messages": ASKED, "stream": number % 2 == 0, "max_tokens": 50 + number}
            try:
                async with w.http.post(f"{url}/chat/completions", json=body) as response:
                    await response.read()
            except aiohttp.ClientError:
                pytest.fail("the interceptor ends what it began")

        with w.trial(BudgetExhausted) as url:
            for start in range(0, 160, 16):
                await asyncio.gather(*(call(url, number) for number in range(start, start + 16)))
        spent = w.study.ledger.spent
        assert mock.micros <= spent.micros <= 20_000
        assert sum(call.cost_micros for call in w.heard.calls) == spent.micros
        assert w.study.ledger.committed.micros == spent.micros


async def test_a_stream_comes_in_pieces_without_the_usage_that_was_not_asked_for() -> None:
    async with MockProvider(script=["slow_stream"], chunk_delay=0.01) as mock, world(endpoint_of(mock)) as w:
        with w.trial() as url:
            body = {"messages": ASKED, "stream": True}
            async with w.http.post(f"{url}/chat/completions", json=body) as response:
                assert response.content_type == "text/event-stream"
                pieces = [piece async for piece in response.content.iter_any()]
        assert mock.requests[-1]["stream_options"] == {"include_usage": True}
        assert len(pieces) > 3
        events = [event for event in b"".join(pieces).split(b"\n\n") if event]
        assert events[-1] == b"data: [DONE]"
        assert all(json.loads(event[5:])["choices"] for event in events[:-1])
        assert w.heard.calls[0].cost_micros == mock.micros
        assert w.heard.traces[0].output == "Read this: where is it?\nAnswer:"


async def test_a_stream_that_breaks_ends_with_an_error() -> None:
    async with MockProvider(script=["cut"]) as mock, world(endpoint_of(mock)) as w:
        with w.trial(ProviderUnavailable) as url:
            async with w.http.post(f"{url}/chat/completions", json={"messages": ASKED, "stream": True}) as response:
                last = (await response.read()).strip().split(b"\n\n")[-1]
        assert json.loads(last[5:])["error"]["code"] == "upstream_error"
        assert w.heard.calls[0].cost_micros == w.study.ledger.spent.micros >= mock.micros


async def test_an_app_that_hangs_up_stops_the_call() -> None:
    async with MockProvider(latency=30) as mock, world(endpoint_of(mock)) as w:
        with w.trial() as url:
            with pytest.raises(TimeoutError):
                await w.post(f"{url}/chat/completions", timeout=aiohttp.ClientTimeout(total=0.1))
            await until(lambda: w.heard.calls and not mock.in_flight)
        assert w.heard.calls[0].cost_micros == w.study.ledger.spent.micros > 0


async def test_a_trial_that_ends_stops_its_calls_and_says_so() -> None:
    async with MockProvider(latency=30) as mock, world(endpoint_of(mock)) as w:
        with w.trial() as url:
            asking = asyncio.create_task(w.post(f"{url}/chat/completions"))
            await until(lambda: mock.in_flight)
        assert len(w.heard.calls) == 1
        status, body = await asking
        assert (status, body["error"]["code"]) == (410, "trial_ended")
        await until(lambda: not mock.in_flight)
        assert w.study.ledger.spent.micros == w.heard.calls[0].cost_micros
        assert (await w.post(f"{url}/chat/completions"))[0] == 410


async def test_paths_methods_and_bodies_that_are_wrong() -> None:
    async with MockProvider() as mock, world(endpoint_of(mock), max_body_bytes=1000) as w:
        prefix = w.url + PREFIX
        spec = w.heard.spec()
        with w.desk.open(spec) as url:
            ask = f"{url}/chat/completions"
            assert (await w.post(f"{prefix}nobody/chat/completions"))[0] == 404
            for path in ("", "chat/completions", spec.trial_id, f"{spec.trial_id}/a/b/chat/completions", "a/models"):
                assert (await w.post(prefix + path))[1]["error"]["code"] in ("not_found", "trial_not_found")
            async with w.http.get(ask) as response:
                assert response.status == 405
            for body in ([], "text", {}, {"messages": "hi"}, {"messages": ["hi"]}, {"messages": ASKED, "n": "2"}):
                status, said = await w.post(ask, body)
                assert (status, said["error"]["type"]) == (400, "invalid_request_error")
            for raw in (b"", b"{", b"\xff", b"[" * 900, b'{"messages": [], "top_p": NaN}'):
                async with w.http.post(ask, data=raw) as response:
                    assert response.status == 400
            assert (await w.post(ask, {"messages": ASKED, "pad": "x" * 1000}))[0] == 413
            assert mock.calls == 0
            await w.post(ask)


async def test_calls_can_be_read_back() -> None:
    async with MockProvider(script=[None, 500]) as mock, world(endpoint_of(mock)) as w:
        spec = w.heard.spec()
        read = f"{w.url}{PREFIX}trace/by-correlation/{spec.correlation_id}"
        with w.desk.open(spec) as url:
            await w.post(f"{url}/chat/completions")
            await w.post(f"{url}/chat/completions")
            await w.post(f"{url}/chat/completions")
        async with w.http.get(read) as response:
            first, second, third = (await response.json())["calls"]
        assert first["request"]["messages"] == SENT
        assert first["response"]["choices"][0]["message"]["content"] == mock.requests[0]["messages"][-1]["content"]
        assert first["response"]["usage"]["total_tokens"] == w.heard.calls[0].usage.total_tokens
        assert (first["job_id"], first["prompt"], first["correlation_id"]) == (
            "pl_1",
            "substituted",
            spec.correlation_id,
        )
        assert (second["status"], third["status"]) == (500, 200)
        async with w.http.get(read + "x") as response:
            assert response.status == 404


async def test_what_is_kept_of_calls_is_bounded() -> None:
    async with MockProvider() as mock, world(endpoint_of(mock), log_bytes=2500) as w:
        specs = [w.heard.spec() for _ in range(4)]
        for spec in specs:
            with w.desk.open(spec) as url:
                await w.post(f"{url}/chat/completions", {"messages": ASKED, "pad": "x" * 100})
        statuses = []
        for spec in specs:
            async with w.http.get(f"{w.url}{PREFIX}trace/by-correlation/{spec.correlation_id}") as found:
                statuses.append(found.status)
        assert statuses == [404, 404, 200, 200]


async def test_the_last_call_decides_unless_an_error_lasts() -> None:
    async with MockProvider(script=[500, None, 401, None]) as mock, world(endpoint_of(mock)) as w:
        with w.trial() as url:
            await w.post(f"{url}/chat/completions")
            await w.post(f"{url}/chat/completions")
        with w.trial(AuthenticationFailed) as url:
            await w.post(f"{url}/chat/completions")
            await w.post(f"{url}/chat/completions")
            raise ValueError("the app says that its model failed")


async def test_a_job_whose_prompt_is_never_found_is_told() -> None:
    async with MockProvider() as mock, world(endpoint_of(mock)) as w:
        other = {"messages": [{"role": "system", "content": "Something else."}, *ASKED[1:]]}
        with w.trial(TaskAppError) as url:
            for _ in range(4):
                async with w.http.post(f"{url}/chat/completions", json=other) as response:
                    assert response.headers["x-rollouts-prompt"] == "unmatched"
        assert mock.requests[-1]["messages"] == other["messages"]
        assert w.heard.traces == []
        with (
            pytest.raises(ConfigError, match=r"from character 0 on.*Classify the query.*Something else"),
            w.desk.open(w.heard.spec()) as url,
        ):
            assert (await w.post(f"{url}/chat/completions", other))[0] == 500
        assert mock.calls == 4


@pytest.mark.parametrize("live", [False, True])
async def test_calls_that_carry_no_prompt_count_where_an_app_must_carry_one(live: bool) -> None:
    done = {"id": "r", "status": "completed", "usage": {"input_tokens": 3, "output_tokens": 4}, "output": []}

    async def answer(request: web.Request) -> web.Response:
        return web.json_response(done)

    async with serving_models(answer) as base, MockProvider() as mock:
        endpoint = Endpoint(provider="openai", model="m", base_url=base, api_key=KEY, price=endpoint_of(mock).price)
        async with world(endpoint) as w:
            w.desk = w.interceptor.desk("pl_2", w.study, {"main": endpoint}, live=live)
            error = TaskAppError if live else ConfigError
            with w.trial(error, match="calls of /responses carry no prompt.*must use chat/completions") as url:
                statuses = [(await w.post(f"{url}/responses", {"input": "x"}))[0] for _ in range(6)]
            assert statuses == ([200] * 6 if live else [200] * 4 + [500] * 2)


async def test_a_rollout_is_the_candidates_when_an_answered_call_carried_its_prompt() -> None:
    beside = {"messages": [{"role": "system", "content": "Classify the query. Today."}, *ASKED[1:]]}
    carried = {"messages": ASKED}
    told = "no call of the rollout carried.*from character 19 on.*Today"
    async with MockProvider() as mock, world(endpoint_of(mock)) as w:

        async def rollout(*bodies: Any, raises: type[Exception] | None = None, match: str = "") -> None:
            with w.trial(raises, match) as url:
                for body in bodies:
                    await w.post(f"{url}/chat/completions", body)

        await rollout()
        await rollout(carried)
        await rollout(beside, carried)
        await rollout(carried, beside)
        await rollout({"messages": SENT}, beside)
        await rollout(beside, raises=TaskAppError, match=told)
        await rollout({"messages": []}, raises=TaskAppError, match="sends no messages")
        mock._script.append(500)
        await rollout(carried, beside, raises=TaskAppError, match=told)
        mock._script.append(500)
        await rollout(beside, raises=ProviderUnavailable)
        with w.trial(ValueError, "the app gave up") as url:
            await w.post(f"{url}/chat/completions", beside)
            raise ValueError("the app gave up")


async def test_a_job_whose_prompt_was_found_once_may_make_other_calls() -> None:
    async with MockProvider() as mock, world(endpoint_of(mock)) as w, asyncio.timeout(30):
        with w.trial() as url:
            await w.post(f"{url}/chat/completions")
            for _ in range(10):
                await w.post(f"{url}/chat/completions", {"messages": [{"role": "user", "content": "other"}]})
        assert mock.calls == 11


@pytest.mark.parametrize(
    "step",
    [
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]},
        {"role": "robot", "content": "x"},
    ],
)
async def test_turns_that_are_no_text_leave_no_trace(step: dict[str, Any]) -> None:
    async with MockProvider(reply=lambda body: "ok") as mock, world(endpoint_of(mock)) as w:
        last = {"role": "user", "content": "and?"}
        with w.trial() as url:
            status, _ = await w.post(f"{url}/chat/completions", {"messages": [*ASKED, step, last]})
        assert (status, mock.calls, len(w.heard.calls)) == (200, 1, 1)
        assert w.heard.traces == []


async def test_every_module_has_its_model_and_its_turns() -> None:
    plan, act = PromptTemplate("Plan.", "{q}"), PromptTemplate("Act.", "{q} by {plan}")
    own = Program(modules={"plan": plan, "act": act})
    candidate = own.with_modules({"act": PromptTemplate("Act now.", "{plan}: {q}")})
    tail = [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "1", "content": "seen"},
    ]
    async with MockProvider() as mock:
        endpoints = {"plan": endpoint_of(mock), "act": mock.endpoint("other", provider="openai", api_key=KEY)}
        async with world(endpoints["plan"], endpoints=endpoints) as w:
            with w.trial(candidate=candidate, baseline=own, module="plan") as url:
                asked = [{"role": "system", "content": "Act."}, {"role": "user", "content": "a by b"}, *tail]
                await w.post(f"{url}/chat/completions", {"messages": asked})
            assert (mock.requests[-1]["model"], mock.requests[-1]["messages"][1]["content"]) == ("other", "b: a")
            assert (w.heard.calls[0].module, w.heard.calls[0].turn) == ("act", 2)
            assert [step.role for step in w.heard.traces[0].steps] == ["assistant", "tool", "assistant"]


async def test_trials_that_cannot_be_opened() -> None:
    async with MockProvider() as mock, world(endpoint_of(mock)) as w:
        spec = w.heard.spec()
        with w.desk.open(spec), pytest.raises(ConfigError, match="opened before"), w.desk.open(spec):
            pass
        with pytest.raises(TemplateError), w.desk.open(w.heard.spec(PromptTemplate("", "{nothing}"))):
            pass
        with pytest.raises(ConfigError, match="no endpoint"), w.desk.open(w.heard.spec(module="other")):
            pass


async def test_responses_are_passed_through() -> None:
    """`/responses`, plain and streamed, with usage charged; nothing is exchanged in it."""
    seen: list[Any] = []
    done = {"id": "r", "status": "completed", "usage": {"input_tokens": 30, "output_tokens": 4}}
    done["output"] = [{"type": "message", "content": [{"type": "output_text", "text": "hi"}]}]

    async def answer(request: web.Request) -> web.StreamResponse:
        seen.append(await request.json())
        if not seen[-1].get("stream"):
            return web.json_response(done)
        event = json.dumps({"type": "response.completed", "response": done})
        return web.Response(text=f"event: response.completed\ndata: {event}\n\n", content_type="text/event-stream")

    async with serving_models(answer) as base, MockProvider() as mock:
        endpoint = endpoint_of(mock)
        endpoint = Endpoint(provider="openai", model="m", base_url=base, api_key=KEY, price=endpoint.price)
        async with world(endpoint) as w:
            with w.trial(TaskAppError, match="must use chat/completions") as url:
                assert (await w.post(f"{url}/responses", {"input": "x", "previous_response_id": "r"}))[0] == 400
                status, body = await w.post(f"{url}/responses", {"model": "x", "input": "hello"})
                assert (status, body) == (200, done)
                async with w.http.post(f"{url}/responses", json={"input": "hello", "stream": True}) as response:
                    assert b"response.completed" in await response.read()
            assert seen[0] == {"model": "m", "input": "hello", "max_output_tokens": 1024}
            assert [call.cost_micros for call in w.heard.calls] == [46, 46]
            assert w.heard.traces == []


@pytest.mark.parametrize("end", ["keeps the connection open", "closes it without an end"])
async def test_a_stream_is_whole_with_its_last_event(end: str) -> None:
    """However the provider's server goes on after it."""
    events = [{"choices": [{"delta": {"content": "ok"}}]}, {"choices": [], "usage": {"total_tokens": 7}}]
    events[1]["usage"] |= {"prompt_tokens": 5, "completion_tokens": 2}  # type: ignore[operator]
    ended = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for event in events:
            await response.write(b"data: " + json.dumps(event).encode() + b"\n\n")
        await response.write(b"data: [DONE]\n")
        await asyncio.sleep(0)
        await response.write(b"\n")
        if end.startswith("keeps"):
            await ended.wait()
        elif request.transport is not None:
            request.transport.close()
        return response

    async with serving_models(answer) as base, MockProvider() as mock:
        price = endpoint_of(mock).price
        async with world(Endpoint(provider="openai", model="m", base_url=base, api_key=KEY, price=price)) as w:
            with w.trial() as url:
                body = {"messages": ASKED, "stream": True}
                async with w.http.post(f"{url}/chat/completions", json=body) as response:
                    assert (await response.read()).endswith(b"data: [DONE]\n\n")
            ended.set()
            assert w.heard.calls[0].usage == Usage(prompt_tokens=5, completion_tokens=2)
            assert w.heard.calls[0].cost_micros == w.study.ledger.spent.micros


async def test_a_model_of_another_protocol_answers_as_openai_would() -> None:
    forced = {"type": "function", "function": {"name": "pick", "parameters": {"type": "object", "properties": {}}}}
    asked: list[Request] = []

    def reply(request: Request) -> Response:
        asked.append(request)
        calls = (ToolCall(id="c", name="pick", arguments='{"n": 1}'),) if request.tools else ()
        return Response(text="" if calls else "{}", tool_calls=calls, usage=Usage(prompt_tokens=5, completion_tokens=2))

    async with scripted(reply) as w:
        with w.trial() as url:
            ask = f"{url}/chat/completions"
            for wrong in (
                {"temperature": "hot"},
                {"tools": [1]},
                {"n": 2},
                {"tool_choice": {"function": {"name": "x"}}},
            ):
                assert (await w.post(ask, {"messages": ASKED, **wrong}))[0] == 400
            called = {"id": "1", "function": {"name": "f", "arguments": {}}}
            for message in ({"role": "robot"}, {"role": "assistant", "tool_calls": [called]}, {"content": "x"}):
                assert (await w.post(ask, {"messages": [message]}))[0] == 400
            assert (await w.post(f"{url}/responses", {"input": "x"}))[0] == 400
            _, plain = await w.post(ask, {"messages": ASKED, "temperature": 0.5, "max_tokens": 9, "stop": "x"})
            _, tool = await w.post(ask, {"messages": ASKED, "tools": [forced]})
            _, must = await w.post(ask, {"messages": ASKED, "tools": [forced], "tool_choice": "required"})
            await w.post(ask, {"messages": ASKED, "response_format": {"type": "json_object"}})
    assert [(message.role, message.content) for message in asked[0].messages] == [
        (message["role"], message["content"]) for message in SENT
    ]
    sampling = asked[0].endpoint.sampling
    assert (sampling.temperature, sampling.max_tokens, sampling.stop) == (0.5, 9, ("x",))
    assert plain["usage"] == {
        "prompt_tokens": 5,
        "completion_tokens": 2,
        "total_tokens": 7,
        "prompt_tokens_details": {"cached_tokens": 0},
    }
    assert tool["choices"][0]["message"]["tool_calls"][0]["function"] == {"name": "pick", "arguments": '{"n": 1}'}
    assert asked[1].tools[0].name == "pick"
    assert must["choices"][0]["message"]["tool_calls"][0]["function"] == {"name": "pick", "arguments": "{}"}
    assert must["choices"][0]["finish_reason"] == "tool_calls"
    assert asked[2].response_format is not None


async def test_the_same_question_again_is_another_answer_only_when_it_may_differ() -> None:
    llm: list[Request] = []
    async with scripted(lambda request: llm.append(request) or f"{len(llm)}") as w:
        with w.trial(repeat=3) as url:
            for temperature in (0, 0, 0.7, 0.7):
                await w.post(f"{url}/chat/completions", {"messages": ASKED, "temperature": temperature})
    assert [request.repeat for request in llm] == [0, 3, 1003]
    assert [call.cached for call in w.heard.calls] == [False, True, False, False]


def scripted(reply: Any) -> Any:
    return world(SCRIPTED, providers={SCRIPTED.name: ScriptedLLM(reply)})


async def until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def serving_models(handler: Any) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/v1/{route:.*}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()
