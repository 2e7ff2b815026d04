"""Bodies of other programs: what is passed on, what is refused, what they can cost; and their streams."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollouts.dtypes import Endpoint, Sampling
from rollouts.errors import InvalidRequest
from rollouts.llm import relay_wire as relay
from rollouts.llm.openai_answers import WireError
from rollouts.llm.registry import spec_of

JSON = dict[str, Any]
ENDPOINT = Endpoint(provider="openai", model="gpt-x", sampling=Sampling(temperature=0.3, max_tokens=100, seed=7))
ASKED: JSON = {"model": "theirs", "messages": [{"role": "user", "content": "hi"}]}


def sent(body: JSON, endpoint: Endpoint = ENDPOINT, route: relay.Route = "chat/completions") -> JSON:
    return relay.outgoing(body, endpoint, spec_of(endpoint.provider), None, route)


def test_the_endpoint_fills_what_the_body_leaves_open() -> None:
    assert sent(ASKED) == {
        "model": "gpt-x",
        "messages": ASKED["messages"],
        "max_completion_tokens": 100,
        "temperature": 0.3,
        "seed": 7,
    }


def test_the_body_wins_where_it_says_something() -> None:
    said = {"temperature": 1.0, "tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "required"}
    said |= {"response_format": {"type": "json_object"}, "logprobs": True, "n": 2, "user": "u", "anything": {"else": 1}}
    assert said.items() <= sent({**ASKED, **said}).items()


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"max_tokens": 10}, 10),
        ({"max_completion_tokens": 10, "max_tokens": 20}, 10),
        ({"max_tokens": 1000}, 100),
        ({"max_tokens": None}, 100),
        ({"max_tokens": -1}, 100),
        ({"max_tokens": "5000"}, 100),
        ({"max_tokens": True}, 100),
    ],
)
def test_the_lower_limit_counts(limits: JSON, expected: int) -> None:
    out = sent({**ASKED, **limits})
    assert out["max_completion_tokens"] == expected
    assert "max_tokens" not in out
    responses = {"max_output_tokens": limits.get("max_tokens")}
    assert sent({"input": "hi", **responses}, route="responses")["max_output_tokens"] == min(
        100, expected if "max_completion_tokens" not in limits else 20
    )


def test_what_the_operator_says_comes_last() -> None:
    endpoint = Endpoint(provider="groq", model="m", extra={"temperature": 0, "reasoning_effort": "low", "user": None})
    out = sent({**ASKED, "temperature": 1, "user": "u"}, endpoint)
    assert (out["temperature"], out["reasoning_effort"], "user" in out) == (0, "low", False)


def test_a_reasoning_model_is_not_sent_what_it_refuses() -> None:
    out = sent({**ASKED, "temperature": 0, "stop": ["x"]}, Endpoint(provider="openai", model="gpt-5-nano"))
    assert "temperature" not in out
    assert "stop" not in out


@pytest.mark.parametrize(
    "said",
    [
        {"web_search_options": {"search_context_size": "low"}},
        {"prediction": {"type": "content", "content": "x"}},
        {"audio": {"voice": "alloy", "format": "wav"}},
        {"previous_response_id": "resp_1"},
        {"models": ["expensive"]},
        {"provider": {"order": ["x"]}},
        {"service_tier": "priority"},
        {"n": "9"},
        {"n": 2.0},
        {"tools": [{"type": "web_search"}]},
        {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}]},
        {"input": [{"type": "item_reference", "id": "x"}]},
        {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]},
    ],
)
def test_what_has_no_bound_of_cost_is_refused(said: JSON) -> None:
    with pytest.raises(InvalidRequest):
        sent({**ASKED, **said})


def test_numbers_that_are_no_json_are_refused_and_half_characters_are_not() -> None:
    with pytest.raises(InvalidRequest):
        relay.encoded({"temperature": float("nan")})
    assert json.loads(relay.encoded({"x": "\ud83d"})) == {"x": "\ud83d"}
    assert relay.encoded({"x": "日"}) == '{"x": "日"}'.encode()


@given(text=st.text(max_size=50), n=st.integers(1, 4), images=st.integers(0, 2))
def test_the_most_is_above_every_byte(text: str, n: int, images: int) -> None:
    parts: list[JSON] = [{"type": "text", "text": text}]
    parts += [{"type": "image_url", "image_url": {"url": "https://x/y"}}] * images
    out = sent({"messages": [{"role": "user", "content": parts}], "n": n, "max_tokens": 9})
    most = relay.most(out, len(relay.encoded(out)), ENDPOINT)
    assert most.prompt_tokens >= len(text.encode("utf-8", "surrogatepass")) + images * relay.PER_IMAGE
    assert most.completion_tokens == 9 * n


def test_a_stream_is_asked_for_its_usage() -> None:
    assert sent({**ASKED, "stream": True})["stream_options"] == {"include_usage": True}
    told = sent({**ASKED, "stream": True, "stream_options": {"include_obfuscation": False}})["stream_options"]
    assert told == {"include_obfuscation": False, "include_usage": True}
    assert "stream_options" not in sent({**ASKED, "stream": True}, Endpoint(provider="mistral", model="m"))


CHUNK = b'data: {"choices":[{"delta":{"content":"\\"usage\\""}}],"usage":null}'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":1}}'
FILTER = b'data: {"choices":[],"prompt_filter_results":[],"usage":null}'


@given(
    cuts=st.lists(st.integers(0, 400), max_size=8).map(sorted),
    blank=st.sampled_from([b"\n\n", b"\r\n\r\n"]),
)
def test_only_the_event_with_the_usage_is_kept_back(cuts: list[int], blank: bytes) -> None:
    kept = [FILTER, CHUNK, b": a comment", CHUNK, b"data: [DONE]"]
    stream = blank.join([*kept[:4], USAGE, kept[4]]) + blank
    gate = relay.UsageGate()
    edges = [0, *cuts, len(stream)]
    passed = b"".join(gate.feed(stream[start:end]) for start, end in pairwise(edges))
    assert passed + gate.rest == blank.join(kept) + blank


def test_the_last_event_of_a_responses_stream_is_the_answer() -> None:
    done = {"status": "completed", "output": [{"type": "message", "content": [{"type": "output_text", "text": "hi"}]}]}
    done["usage"] = {"input_tokens": 3, "output_tokens": 1, "input_tokens_details": {"cached_tokens": 2}}
    stream = relay.ResponsesStream()
    raw = b'event: x\ndata: {"type": "response.created"}\n\n'
    raw += b"data: " + json.dumps({"type": "response.completed", "response": done}).encode() + b"\n\n"
    stream.feed(raw[:30])
    assert not stream.done
    stream.feed(raw[30:])
    assert stream.done
    answer = relay.answer_of(stream.answer(), None, "responses")  # type: ignore[arg-type]
    assert answer.usage is not None
    assert (answer.text, answer.usage.prompt_tokens, answer.usage.cached_tokens) == ("hi", 3, 2)


def test_streams_that_are_none_are_told() -> None:
    stream = relay.ResponsesStream()
    with pytest.raises(WireError):
        stream.feed(b"data: {no\n")
    with pytest.raises(WireError):
        relay.answer_of({"choices": []}, None, "responses")  # type: ignore[arg-type]
    stream.feed(b'data: {"type": "error", "message": "x"}\n')
    assert stream.error["message"] == "x"
