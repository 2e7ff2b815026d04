"""What every HTTP provider must do, over a real loopback server: OpenAI plain, OpenAI streamed, Anthropic."""

from __future__ import annotations

import asyncio
import json
import traceback
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import format_datetime
from typing import Any

import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rollouts.dtypes import (
    Choices,
    Endpoint,
    JsonSchema,
    Message,
    Price,
    Request,
    Sampling,
    Tool,
    ToolCall,
)
from rollouts.errors import (
    AuthenticationFailed,
    CallTimeout,
    InvalidRequest,
    MalformedResponse,
    ModelNotFound,
    NoCredit,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
)
from rollouts.llm.anthropic import AnthropicProvider
from rollouts.llm.client import Provider
from rollouts.llm.openai import OpenAIProvider
from rollouts.testing.mock_provider import PRICE, MockProvider
from tests.taskapp.kit import answering

KEY = "sk-secret/+key\"with'quotes"
WEATHER = Tool(
    name="weather",
    description="The weather of a city.",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)


@dataclass(frozen=True)
class Kind:
    """One way to talk to a provider."""

    name: str
    provider: str
    stream: bool = False

    def endpoint(self, mock: MockProvider, **settings: Any) -> Endpoint:
        return mock.endpoint("m-1", provider=self.provider, stream=self.stream, **settings)

    def client(self, endpoint: Endpoint, key: str | None = KEY) -> Provider:
        make = AnthropicProvider if self.provider == "anthropic" else OpenAIProvider
        return make(endpoint, price=endpoint.price, api_key=key)


KINDS = [
    Kind("openai", "openai"),
    Kind("openai-stream", "openai", stream=True),
    Kind("mistral-style", "openai_compatible"),
    Kind("anthropic", "anthropic"),
]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    return request.param


def ask(endpoint: Endpoint, *texts: str, **fields: Any) -> Request:
    roles = ("user", "assistant")
    messages = tuple(Message(roles[i % 2], text) for i, text in enumerate(texts or ("hello there",)))
    return Request(endpoint=endpoint, messages=(Message("system", "Be short."), *messages), **fields)


async def one(kind: Kind, mock: MockProvider, request: Request | None = None, **settings: Any) -> Any:
    endpoint = request.endpoint if request else kind.endpoint(mock, **settings)
    client = kind.client(endpoint)
    try:
        return await client.complete(request or ask(endpoint))
    finally:
        await client.close()


async def failure(kind: Kind, mock: MockProvider, **settings: Any) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await one(kind, mock, **settings)
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert KEY not in shown
    assert "secret" not in shown
    assert f"{kind.provider}/m-1" in str(caught.value)
    return caught.value


async def test_text_usage_cost_and_latency(kind: Kind) -> None:
    async with MockProvider(reply=lambda body: "a good day", latency=0.01) as mock:
        response = await one(kind, mock)
    assert (response.text, response.tool_calls, response.finish_reason) == ("a good day", (), "stop")
    assert response.usage.completion_tokens == 3
    assert response.usage.total_tokens == mock.tokens > 3
    assert response.cost_micros == mock.micros > 0
    assert 0.01 <= response.latency_s < 5


async def test_sampling_reaches_the_server(kind: Kind) -> None:
    sampling = Sampling(temperature=0.5, max_tokens=7, stop=("END",))
    async with MockProvider() as mock:
        await one(kind, mock, sampling=sampling, extra={"user": "me"})
    (body,) = mock.requests
    assert body["model"] == "m-1"
    assert body["temperature"] == 0.5
    assert body.get("stop", body.get("stop_sequences")) == ["END"]
    assert body.get("max_tokens", body.get("max_completion_tokens")) == 7
    assert body["user"] == "me"
    assert KEY in (mock.headers.get("x-api-key"), mock.headers.get("Authorization", "").removeprefix("Bearer "))


async def test_an_answer_is_cut_at_max_tokens(kind: Kind) -> None:
    async with MockProvider(reply=lambda body: "one two three four") as mock:
        response = await one(kind, mock, sampling=Sampling(max_tokens=2))
    assert (response.text, response.finish_reason) == ("one two", "length")
    assert response.usage.completion_tokens == 2


async def test_tools_round_trip(kind: Kind) -> None:
    def reply(body: dict[str, Any]) -> str | dict[str, Any]:
        if "12 degrees" in json.dumps(body["messages"]):
            return "It is cold."
        calls = [
            {"id": f"c{n}", "name": "weather", "arguments": {"city": city}} for n, city in enumerate(("Rome", "Ü"))
        ]
        return {"content": "Let me see", "tool_calls": calls}

    async with MockProvider(reply=reply) as mock:
        request = ask(kind.endpoint(mock), "Weather?", tools=(WEATHER,))
        first = await one(kind, mock, request)
        assert first.text == "Let me see"
        assert first.finish_reason == "tool_calls"
        assert [(c.id, c.name, json.loads(c.arguments)) for c in first.tool_calls] == [
            ("c0", "weather", {"city": "Rome"}),
            ("c1", "weather", {"city": "Ü"}),
        ]
        results = tuple(Message("tool", "12 degrees", tool_call_id=call.id) for call in first.tool_calls)
        second = await one(kind, mock, replace(request, messages=(*request.messages, first.message(), *results)))
    assert second.text == "It is cold."
    assert "c1" in json.dumps(mock.requests[-1])


async def test_choices_come_back_as_the_plain_option(kind: Kind) -> None:
    choices = Choices(options=("yes", "no", 'may "be"'))
    async with MockProvider(reply=lambda body: 'may "be"') as mock:
        response = await one(kind, mock, ask(kind.endpoint(mock), response_format=choices))
    assert (response.text, response.tool_calls, response.finish_reason) == ('may "be"', (), "stop")


async def test_json_schema_comes_back_as_json(kind: Kind) -> None:
    schema = JsonSchema(name="a point", schema={"type": "object", "properties": {"x": {"type": "integer"}}})
    async with MockProvider(reply=lambda body: '{"x": 3}') as mock:
        response = await one(kind, mock, ask(kind.endpoint(mock), response_format=schema))
    assert json.loads(response.text) == {"x": 3}
    assert '"integer"' in json.dumps(mock.requests[-1])


async def test_cached_tokens_are_counted_and_priced_as_cached(kind: Kind) -> None:
    async with MockProvider(prefix_cache=True) as mock:
        client = kind.client(kind.endpoint(mock))
        demos = ("a long demonstration " * 50, "answer")
        first = await client.complete(ask(client.endpoint, *demos, "q1"))
        second = await client.complete(ask(client.endpoint, *demos, "q2"))
        await client.close()
    assert first.usage.cached_tokens == 0
    assert second.usage.cached_tokens >= 150
    assert second.cost_micros < first.cost_micros / 2
    assert first.cost_micros + second.cost_micros == mock.micros


async def test_without_usage_the_worst_case_is_taken(kind: Kind) -> None:
    async with MockProvider(script=["no_usage"]) as mock:
        endpoint = kind.endpoint(mock)
        response = await one(kind, mock)
        worst = kind.client(endpoint).worst_case(ask(endpoint))
    assert response.usage.total_tokens == worst.tokens
    assert response.cost_micros == worst.micros


FAULTS = [
    ("rate_limit", RateLimited, 429, False),
    ("quota", NoCredit, 429, False),
    ("server_error", ProviderUnavailable, 500, False),
    (503, ProviderUnavailable, 503, False),
    (504, ProviderUnavailable, 504, True),
    (529, ProviderUnavailable, 529, False),
    (401, AuthenticationFailed, 401, False),
    (403, AuthenticationFailed, 403, False),
    (404, ModelNotFound, 404, False),
    (400, InvalidRequest, 400, False),
    (402, NoCredit, 402, False),
    (422, InvalidRequest, 422, False),
    (307, InvalidRequest, 307, False),
    (408, CallTimeout, 408, True),
    ("drop", ProviderUnavailable, None, True),
    ("cut", ProviderUnavailable, None, True),
    ("garbage", MalformedResponse, None, True),
    ("wrong_shape", MalformedResponse, None, True),
]


@pytest.mark.parametrize(("fault", "error", "status", "billed"), FAULTS, ids=str)
async def test_every_fault_is_its_error(
    kind: Kind, fault: Any, error: type[ProviderError], status: int | None, billed: bool
) -> None:
    async with MockProvider(script=[fault], echo_key=True, retry_after=2.5) as mock:
        raised = await failure(kind, mock)
    assert type(raised) is error
    assert (raised.status, raised.billed) == (status, billed)
    assert mock.url.removeprefix("http://") in str(raised)
    assert raised.retry_after == (2.5 if error is RateLimited else None)
    assert mock.calls == 1
    assert billed or mock.micros == 0


async def test_a_hanging_server_is_a_timeout(kind: Kind) -> None:
    async with MockProvider(script=["hang"]) as mock:
        raised = await failure(kind, mock, timeout_s=0.05)
    assert type(raised) is CallTimeout
    assert raised.billed
    assert "timeout_s" in str(raised)


async def test_a_slow_answer_is_an_answer(kind: Kind) -> None:
    async with MockProvider(script=["slow_stream"], chunk_delay=0.001) as mock:
        assert (await one(kind, mock)).text == "hello there"


async def test_a_refused_connection_is_not_billed(kind: Kind) -> None:
    async with MockProvider() as mock:
        pass
    raised = await failure(kind, mock)
    assert type(raised) is ProviderUnavailable
    assert raised.billed is False
    assert "is the server running" in str(raised)


async def test_an_http_date_is_a_time_to_wait(kind: Kind) -> None:
    moment = format_datetime(datetime.now(tz=UTC) + timedelta(seconds=30), usegmt=True)
    async with MockProvider(script=["rate_limit"], retry_after=moment) as mock:
        raised = await failure(kind, mock)
    assert raised.retry_after is not None
    assert 20 < raised.retry_after <= 31


async def test_a_wrong_key_is_not_shown(kind: Kind) -> None:
    async with MockProvider(key="right", echo_key=True) as mock:
        raised = await failure(kind, mock)
    assert type(raised) is AuthenticationFailed
    assert "[redacted]" in str(raised)


async def test_a_secret_in_the_query_is_not_shown(kind: Kind) -> None:
    async def echo(request: web.Request) -> web.Response:
        return web.json_response({"error": {"message": f"bad request for {request.url}"}}, status=400)

    async with answering(echo) as url:
        extra = {"extra_query": {"key": "QUERY/SECRET"}}
        endpoint = Endpoint(provider=kind.provider, model="m-1", base_url=f"{url}/v1", extra=extra, price=PRICE)
        client = kind.client(endpoint)
        with pytest.raises(InvalidRequest, match=r"key=\[redacted\]") as caught:
            await client.complete(ask(endpoint))
        assert "SECRET" not in str(caught.value)
        await client.close()


async def test_256_in_flight(kind: Kind) -> None:
    async with MockProvider(latency=0.05) as mock:
        client = kind.client(kind.endpoint(mock))
        answers = await asyncio.gather(*(client.complete(ask(client.endpoint, f"say {n}")) for n in range(256)))
        await client.close()
    assert [answer.text for answer in answers] == [f"say {n}" for n in range(256)]
    assert mock.in_flight_max >= (200 if kind.provider != "anthropic" else 64)
    assert sum(answer.cost_micros for answer in answers) == mock.micros


async def test_a_cancelled_call_frees_its_connection(kind: Kind) -> None:
    async with MockProvider(script=["hang"]) as mock:
        client = kind.client(kind.endpoint(mock))
        task = asyncio.create_task(client.complete(ask(client.endpoint)))
        while not mock.in_flight:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(2):
            while mock.in_flight:
                await asyncio.sleep(0.001)
        assert (await client.complete(ask(client.endpoint))).text == "hello there"
        await client.close()


def test_one_client_in_several_event_loops(kind: Kind) -> None:
    with MockProvider.in_thread() as mock:
        client = kind.client(kind.endpoint(mock))
        for text in ("first", "second"):
            assert asyncio.run(client.complete(ask(client.endpoint, text))).text == text
        assert mock.calls == 2


def test_the_repr_shows_no_key(kind: Kind) -> None:
    endpoint = Endpoint(provider=kind.provider, model="m", base_url="http://user:pass@127.0.0.1:1/v1", api_key=KEY)
    shown = repr(kind.client(endpoint))
    assert KEY not in shown
    assert "pass" not in shown


LONG = "ü€𝄞x" * 500
LONG_TOOL = replace(WEATHER, description=LONG)
roles = st.sampled_from(["system", "user", "assistant", "tool"])
calls = st.builds(
    ToolCall, id=st.text(max_size=9), name=st.text(min_size=1, max_size=9), arguments=st.text(max_size=30)
)
messages = st.builds(
    lambda role, text, made: Message(
        role, text, tuple(made) if role == "assistant" else (), "c1" if role == "tool" else None
    ),
    roles,
    st.text(st.characters(codec="utf-8"), max_size=200),
    st.lists(calls, max_size=3),
)
formats = st.one_of(
    st.none(),
    st.builds(Choices, options=st.lists(st.text(max_size=20), min_size=1, max_size=20, unique=True).map(tuple)),
    st.just(JsonSchema(name="s", schema={"type": "object", "properties": {"a": {"type": "string"}}})),
)


@pytest.mark.parametrize("provider", ["openai", "vllm", "deepseek", "anthropic"])
def test_the_worst_case_is_never_below_the_bill(provider: str) -> None:
    """With a tokenizer that makes a token of every byte, as bad as it gets."""
    with MockProvider.in_thread(
        tokenizer="bytes", prefix_cache=True, reply=lambda body: '{"a": "' + "b " * 60 + '"}'
    ) as mock:
        endpoint = replace(mock.endpoint(provider=provider), sampling=Sampling(max_tokens=50))
        client = Kind(provider, provider).client(endpoint)
        with asyncio.Runner() as runner:

            @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
            @given(st.lists(messages, min_size=1, max_size=6), formats, st.lists(st.just(LONG_TOOL), max_size=3))
            def check(asked: list[Message], wanted: Any, tools: list[Tool]) -> None:
                turns = (*asked, Message("user", LONG))  # long enough to outweigh all fixed allowances
                request = Request(endpoint=endpoint, messages=turns, response_format=wanted, tools=tuple(tools))
                before = mock.tokens, mock.micros
                worst = client.worst_case(request)
                try:
                    response = runner.run(client.complete(request))
                except MalformedResponse:
                    response = None  # the canned reply does not fit every schema; it is billed all the same
                assert 0 < mock.tokens - before[0] <= worst.tokens
                assert 0 < mock.micros - before[1] <= worst.micros
                assert worst.calls == 1
                if response is not None:
                    assert response.cost_micros == mock.micros - before[1]

            check()
            runner.run(client.close())


def test_the_worst_case_counts_the_answer_at_its_price() -> None:
    endpoint = Endpoint(provider="openai", model="m", sampling=Sampling(max_tokens=1000))
    price = Price(input=Decimal(0), output=Decimal(4))
    worst = OpenAIProvider(endpoint, price=price).worst_case(ask(endpoint))
    assert (worst.micros, worst.calls, worst.seconds) == (4000, 1, 60.0)
    assert PRICE.output == 4
