"""Bodies, addresses and answers of the chat completions protocol, server by server."""

from __future__ import annotations

import contextlib
import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollouts.dtypes import Choices, Endpoint, JsonSchema, Message, Price, Request, Sampling, Tool, Usage
from rollouts.errors import ConfigError, MalformedResponse, ProviderError, ProviderUnavailable
from rollouts.llm import openai_wire as wire
from rollouts.llm.failures import Failures, retry_after
from rollouts.llm.openai import OpenAIProvider
from rollouts.llm.openai_answers import Answer, Stream, WireError, answer_of, usage_of
from rollouts.llm.registry import PROVIDERS, spec_of
from rollouts.llm.tokens import estimate, upper_bound
from rollouts.testing import mock_wire
from rollouts.testing.mock_provider import MockProvider

CHOICES = Choices(options=("a", 'b"'))


def body(provider: str, model: str = "m", *, price: Price | None = None, wanted: Any = None, **settings: Any) -> Any:
    endpoint = Endpoint(provider=provider, model=model, **settings)
    request = Request(endpoint=endpoint, messages=(Message("user", "hi"),), response_format=wanted)
    return wire.body_of(request, spec_of(provider), price)


def answer(data: Any, wanted: Any = None) -> Answer:
    endpoint = Endpoint(provider="openai", model="m")
    return answer_of(data, Request(endpoint=endpoint, messages=(), response_format=wanted))


def said(**message: Any) -> dict[str, Any]:
    return {"choices": [{"message": message}]}


def test_the_limit_has_the_name_that_the_server_knows() -> None:
    assert body("openai")["max_completion_tokens"] == body("mistral")["max_tokens"] == 1024
    assert "max_tokens" not in body("openai")
    assert "max_completion_tokens" not in body("mistral")


@pytest.mark.parametrize(
    ("provider", "model", "bare"),
    [
        ("openai", "o3-mini", True),
        ("openai", "gpt-5-nano", True),
        ("azure", "gpt-5", True),
        ("openai", "gpt-5-chat-latest", False),
        ("openai", "gpt-4.1-nano", False),
        ("openai", "omni", False),
        ("openai_compatible", "gpt-5", False),
    ],
)
def test_reasoning_models_get_no_sampling(provider: str, model: str, bare: bool) -> None:
    sent = body(provider, model, sampling=Sampling(top_p=0.5, stop=("x",), seed=0))
    assert ({"temperature", "top_p", "stop"} & set(sent) == set()) is bare
    assert sent["seed"] == 0


def test_seed_and_streaming_differ_by_server() -> None:
    assert body("mistral", sampling=Sampling(seed=3))["random_seed"] == 3
    assert body("openai", stream=True)["stream_options"] == {"include_usage": True}
    assert "stream_options" not in body("mistral", stream=True)


def test_choices_in_every_way_of_asking() -> None:
    assert body("vllm", wanted=CHOICES)["structured_outputs"] == {"choice": ["a", 'b"']}
    grammar = body("openai_compatible", wanted=CHOICES, extra={"structured": "grammar"})
    assert grammar["grammar"] == 'root ::= "a" | "b\\""'
    assert "structured" not in grammar
    strict = body("openai", wanted=CHOICES)["response_format"]["json_schema"]
    assert strict["strict"] is True
    assert strict["schema"]["properties"]["answer"]["enum"] == ["a", 'b"']
    told = body("deepseek", wanted=CHOICES)
    assert told["response_format"] == {"type": "json_object"}
    assert "JSON" in told["messages"][-1]["content"]
    with pytest.raises(ConfigError, match="structured"):
        body("openai", wanted=CHOICES, extra={"structured": "magic"})


def test_strict_only_where_the_schema_allows_it() -> None:
    closed = {
        "type": "object",
        "properties": {
            "a": {"type": "array", "items": {"type": "object", "properties": {}, "additionalProperties": False}}
        },
        "required": ["a"],
        "additionalProperties": False,
    }
    for schema, strict in ((closed, True), ({**closed, "required": []}, False), ({"type": "object"}, False)):
        sent = body("openai", wanted=JsonSchema(name="an answer!", schema=schema))["response_format"]["json_schema"]
        assert sent["strict"] is strict
        assert sent["name"] == "an_answer_"


def test_extra_is_merged_last_and_cannot_break_the_budget() -> None:
    sent = body("openai", extra={"temperature": None, "top_k": 3, "extra_headers": {"a": "b"}})
    assert sent["top_k"] == 3
    assert "temperature" not in sent
    assert "extra_headers" not in sent
    for name in ("n", "messages", "model", "stream"):
        with pytest.raises(ConfigError, match=name):
            body("openai", extra={name: 2})
        with pytest.raises(ConfigError, match=name):
            OpenAIProvider(Endpoint(provider="openai", model="m", extra={name: 2}))
    raised = Endpoint(provider="openai", model="m", extra={"max_tokens": 5000})
    assert wire.completion_limit(raised, spec_of("openai")) == 5000
    none = Endpoint(provider="openai", model="m", extra={"max_completion_tokens": None})
    with pytest.raises(ConfigError, match="limit"):
        wire.completion_limit(none, spec_of("openai"))


def test_openrouter_may_not_route_above_the_price() -> None:
    price = Price(input=Decimal("0.1"), output=Decimal(2))
    sent = body("openrouter", price=price, extra={"provider": {"order": ["x"]}})
    assert sent["provider"] == {"max_price": {"prompt": 0.1, "completion": 2.0}, "order": ["x"]}
    assert "provider" not in body("openrouter")


@pytest.mark.parametrize(
    ("base", "extra", "url", "query"),
    [
        ("https://n.openai.azure.com", {}, "https://n.openai.azure.com/openai/v1/chat/completions", {}),
        ("https://openai-n.openai.azure.com", {}, "https://openai-n.openai.azure.com/openai/v1/chat/completions", {}),
        ("https://n.openai.azure.com/openai/v1", {}, "https://n.openai.azure.com/openai/v1/chat/completions", {}),
        (
            "https://n.openai.azure.com",
            {"api_version": "2024-10-21"},
            "https://n.openai.azure.com/openai/deployments/m/chat/completions",
            {"api-version": "2024-10-21"},
        ),
        (
            "https://n.openai.azure.com/openai/deployments/d",
            {"api_version": "v"},
            "https://n.openai.azure.com/openai/deployments/d/chat/completions",
            {"api-version": "v"},
        ),
    ],
)
def test_azure_addresses(base: str, extra: dict[str, Any], url: str, query: dict[str, str]) -> None:
    endpoint = Endpoint(provider="azure", model="m", extra=extra)
    assert wire.url_of(endpoint, base) == url
    assert wire.query_of(endpoint) == query
    assert wire.headers_of(endpoint, spec_of("azure"), "k")["api-key"] == "k"
    assert "api_version" not in body("azure", extra=extra)


async def test_azure_over_the_wire() -> None:
    async with MockProvider(key="k") as mock:
        endpoint = Endpoint(provider="azure", model="dep", base_url=mock.url, extra={"api_version": "v1"})
        client = OpenAIProvider(endpoint, api_key="k")
        response = await client.complete(Request(endpoint=endpoint, messages=(Message("user", "hi"),)))
        await client.close()
    assert response.text == "hi"


def test_content_may_be_text_parts_or_null() -> None:
    assert answer(said(content="x")).text == "x"
    assert answer(said(content=None)).text == ""
    assert answer(said(content=[{"type": "text", "text": "a"}, {"type": "image"}, "b"])).text == "ab"
    assert answer(said(content=None, refusal="I will not")).text == "I will not"


def test_tool_calls_of_careless_servers() -> None:
    (call,) = answer(said(content=None, tool_calls=[{"function": {"name": "f", "arguments": {"x": 1}}}])).tool_calls
    assert (call.id, call.name, json.loads(call.arguments)) == ("call_0", "f", {"x": 1})
    assert answer(said(tool_calls=[{"function": {"name": "f"}}])).finish_reason == "tool_calls"


def test_a_choice_that_was_not_kept_is_the_text_as_it_is() -> None:
    for text in ("a", '{"answer": "z"}', "[]", '{"answer": ["a"]}', "{"):
        assert answer(said(content=text), CHOICES).text == text
    assert answer(said(content=' {"answer": "a"}\n'), CHOICES).text == "a"


@pytest.mark.parametrize(
    ("data", "usage"),
    [
        ({"prompt_tokens": 5, "completion_tokens": 2}, (5, 2, 0)),
        ({"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}, (5, 2, 4)),
        ({"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": None}, (5, 2, 0)),
        ({"prompt_tokens": 5, "completion_tokens": 2, "prompt_cache_hit_tokens": 3}, (5, 2, 3)),
        ({"prompt_tokens": 5, "completion_tokens": 2, "prompt_cache_hit_tokens": 9}, (5, 2, 5)),
        ({"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 17}, (5, 12, 0)),
        ({"prompt_tokens": 5, "total_tokens": 7}, (5, 2, 0)),
        ({"input_tokens": 5, "output_tokens": 2}, (5, 2, 0)),
    ],
)
def test_usage_in_many_spellings(data: Any, usage: tuple[int, int, int]) -> None:
    prompt, completion, cached = usage
    assert usage_of(data) == Usage(prompt_tokens=prompt, completion_tokens=completion, cached_tokens=cached)


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {"prompt_tokens": 5},
        {"prompt_tokens": "5", "completion_tokens": 1},
        {"prompt_tokens": -1, "total_tokens": 4},
    ],
)
def test_usage_that_says_too_little_is_none(data: Any) -> None:
    assert usage_of(data) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["choices", "message", "content", "tool_calls", "function", "name", "delta", "usage", "index"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(json_values)
def test_any_json_is_an_answer_or_a_wire_error(data: Any) -> None:
    for value in (data, {"choices": [data]}, {"choices": [{"message": data}]}):
        with contextlib.suppress(WireError):
            assert isinstance(answer(value), Answer)
    stream = Stream()
    try:
        for value in (data, {"choices": [{"delta": data}]}):
            stream.feed(b"data: " + json.dumps(value).encode() + b"\n\n")
        answer(stream.answer())
    except WireError:
        pass


@given(st.data())
def test_a_stream_reads_the_same_in_any_pieces(data: st.DataObject) -> None:
    events = [
        {"choices": [{"delta": {"content": "Grüß "}}]},
        {
            "choices": [
                {"delta": {"content": "Gott", "tool_calls": [{"index": 0, "id": "i", "function": {"name": "f"}}]}}
            ]
        },
        {"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"arguments": '{"a":'}}]}}]},
        {
            "choices": [
                {"delta": {"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]}, "finish_reason": "stop"}
            ]
        },
        {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}},
    ]
    raw = b": hello\r\n\r\n" + b"".join(
        b"data: " + json.dumps(e, ensure_ascii=False).encode() + b"\r\n\r\n" for e in events
    )
    raw += b"data: [DONE]\n\n"
    stream = Stream()
    while raw:
        size = data.draw(st.integers(1, len(raw)))
        stream.feed(raw[:size])
        raw = raw[size:]
    made = answer(stream.answer())
    assert stream.done
    assert (made.text, made.finish_reason) == ("Grüß Gott", "stop")
    assert [(c.id, c.name, c.arguments) for c in made.tool_calls] == [("i", "f", '{"a":1}')]
    assert made.usage == Usage(prompt_tokens=1, completion_tokens=2)


async def test_an_error_inside_a_200_is_an_error() -> None:
    failures = Failures(name="openrouter/m", host="h", secrets=("topsecret",))
    overloaded = failures.inside_answer({"code": 502, "message": "model down topsecret"})
    assert type(overloaded) is ProviderUnavailable
    assert overloaded.billed
    assert "topsecret" not in str(overloaded)
    assert failures.inside_answer({"code": 429}).retryable
    assert failures.inside_answer("text only").status == 500
    endpoint = Endpoint(provider="openai", model="m")
    client = OpenAIProvider(endpoint)
    with pytest.raises(ProviderError, match="model down"):
        client._response(Request(endpoint=endpoint, messages=()), {"error": {"message": "model down"}}, 0.0, failures)


async def test_a_plain_answer_to_a_streamed_request_is_read() -> None:
    async with MockProvider(script=["garbage", "no_usage"]) as mock:
        endpoint = mock.endpoint(stream=True)
        client = OpenAIProvider(endpoint)
        request = Request(endpoint=endpoint, messages=(Message("user", "hi"),))
        with pytest.raises(MalformedResponse):
            await client.complete(request)
        response = await client.complete(request)
        await client.close()
    assert response.text == "hi"
    assert response.usage.prompt_tokens == upper_bound(request)


async def test_a_stream_that_ends_politely_but_early_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = mock_wire.stream_events
    monkeypatch.setattr(mock_wire, "stream_events", lambda said, usage: whole(said, usage)[:-1])
    async with MockProvider() as mock:
        endpoint = mock.endpoint(stream=True)
        client = OpenAIProvider(endpoint)
        with pytest.raises(ProviderUnavailable, match="DONE") as caught:
            await client.complete(Request(endpoint=endpoint, messages=(Message("user", "hi"),)))
        await client.close()
    assert caught.value.billed


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "3"}, 3.0),
        ({"retry-after-ms": "250", "retry-after": "3"}, 0.25),
        ({"Retry-After": "nonsense"}, None),
        ({"Retry-After": "-3"}, None),
        ({"Retry-After": "inf"}, None),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:10 GMT", "Date": "Wed, 21 Oct 2015 07:28:00 GMT"}, 10.0),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:10 GMT"}, 0.0),
        ({"x-ratelimit-reset-requests": "6m1s", "x-ratelimit-remaining-requests": "0"}, 361.0),
        ({"x-ratelimit-reset-requests": "6m0s", "x-ratelimit-reset-tokens": "20ms"}, 0.02),
        (
            {"x-ratelimit-reset-requests": "9s", "x-ratelimit-reset-tokens": "2s", "x-ratelimit-remaining-tokens": "0"},
            2.0,
        ),
        ({"x-ratelimit-reset": "1.5"}, 1.5),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == (seconds if seconds is None else pytest.approx(seconds))


def test_tokens() -> None:
    assert estimate("") == 0
    assert estimate("12345") == 2
    endpoint = Endpoint(provider="openai", model="m")
    short = Request(endpoint=endpoint, messages=(Message("user", "é" * 10),))
    tool = Tool(name="t", description="d" * 500, parameters={})
    with_tool = Request(endpoint=endpoint, messages=short.messages, tools=(tool,))
    assert upper_bound(short) >= 20
    assert upper_bound(with_tool) >= upper_bound(short) + 500


def test_every_provider_is_complete() -> None:
    for name, spec in PROVIDERS.items():
        assert spec.name == name
        assert spec.key_env or not spec.needs_key
        assert spec.base_url or spec.base_url_env or name in ("openai_compatible", "local")
    with pytest.raises(ConfigError, match="did you mean 'openai'"):
        spec_of("opnai")
