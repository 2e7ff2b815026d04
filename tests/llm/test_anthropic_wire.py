"""Bodies and answers of Anthropic's messages."""

from __future__ import annotations

import json
import sys
from decimal import Decimal
from typing import Any

import pytest

from rollouts.dtypes import Choices, Endpoint, JsonSchema, Message, Price, Request, Sampling, Tool, ToolCall, Usage
from rollouts.errors import ConfigError
from rollouts.llm import anthropic_wire as wire
from rollouts.llm.anthropic import AnthropicProvider
from rollouts.llm.openai_answers import WireError

TOOL = Tool(name="f", description="d", parameters={"type": "object"})
MARK = {"type": "ephemeral"}


def asked(*messages: Message, sampling: Sampling | None = None, extra: Any = None, **fields: Any) -> Request:
    endpoint = Endpoint(provider="anthropic", model="m", sampling=sampling or Sampling(), extra=extra or {})
    return Request(endpoint=endpoint, messages=messages, **fields)


def test_system_stands_apart_and_roles_alternate() -> None:
    call = ToolCall(id="c", name="f", arguments='{"x": 1}')
    body = wire.body_of(
        asked(
            Message("system", "one"),
            Message("system", "two"),
            Message("user", "a"),
            Message("user", "b"),
            Message("assistant", "", (call,)),
            Message("tool", "r", tool_call_id="c"),
            Message("user", "more"),
        )
    )
    assert [block["text"] for block in body["system"]] == ["one", "two"]
    assert [turn["role"] for turn in body["messages"]] == ["user", "assistant", "user"]
    assert body["messages"][1]["content"] == [{"type": "tool_use", "id": "c", "name": "f", "input": {"x": 1}}]
    kinds = [block["type"] for block in body["messages"][2]["content"]]
    assert kinds == ["tool_result", "text"]


def test_what_samples_share_is_marked_for_the_cache() -> None:
    demos = (Message("user", "d1"), Message("assistant", "a1"))
    body = wire.body_of(asked(Message("system", "s"), *demos, Message("user", "q")))
    marked = [b for turn in body["messages"] for b in turn["content"] if "cache_control" in b]
    assert [block["text"] for block in marked] == ["a1"]
    assert body["system"][-1]["cache_control"] == MARK
    alone = wire.body_of(asked(Message("user", "q")))
    assert "cache_control" not in json.dumps(alone)
    assert json.dumps(wire.body_of(asked(Message("user", "q"), tools=(TOOL,)))).count("cache_control") == 1


def test_sampling() -> None:
    body = wire.body_of(asked(Message("user", "q"), sampling=Sampling(temperature=1.7, stop=("x",), seed=4)))
    assert (body["temperature"], body["stop_sequences"]) == (1.0, ["x"])
    assert "seed" not in body
    nucleus = wire.body_of(asked(Message("user", "q"), sampling=Sampling(top_p=0.9), extra={"top_k": 3}))
    assert "temperature" not in nucleus
    assert (nucleus["top_p"], nucleus["top_k"]) == (0.9, 3)
    with pytest.raises(ConfigError, match="model"):
        wire.body_of(asked(Message("user", "q"), extra={"model": "other"}))


def test_empty_texts_and_broken_arguments_can_be_sent() -> None:
    broken = ToolCall(id="c", name="f", arguments="{not json")
    body = wire.body_of(asked(Message("user", ""), Message("assistant", " ", (broken,))))
    assert body["messages"][0]["content"][0]["text"].strip()
    assert body["messages"][1]["content"][0]["input"] == {"arguments": "{not json"}


def test_a_schema_is_a_forced_tool() -> None:
    choices = Choices(options=("a", "b"))
    body = wire.body_of(asked(Message("user", "q"), response_format=choices))
    assert body["tool_choice"] == {"type": "tool", "name": "answer"}
    both = wire.body_of(asked(Message("user", "q"), response_format=choices, tools=(TOOL,)))
    assert both["tool_choice"] == {"type": "any"}
    assert [tool["name"] for tool in both["tools"]] == ["f", "answer"]


def reply(*content: dict[str, Any], stop: str = "end_turn") -> dict[str, Any]:
    return {"type": "message", "content": list(content), "stop_reason": stop}


def test_answers() -> None:
    numbers = JsonSchema(name="n", schema={"type": "array", "items": {"type": "integer"}})
    request = asked(Message("user", "q"), response_format=numbers)
    used = {"type": "tool_use", "id": "1", "name": "n", "input": {"answer": [1, 2]}}
    answer, _ = wire.answer_of(reply(used, stop="tool_use"), request)
    assert (answer.text, answer.tool_calls, answer.finish_reason) == ("[1, 2]", (), "stop")
    thinking = {"type": "thinking", "thinking": "hm"}
    plain, _ = wire.answer_of(reply(thinking, {"type": "text", "text": "x"}, stop="refusal"), asked())
    assert (plain.text, plain.finish_reason, plain.usage) == ("x", "content_filter", None)
    for wrong in (None, [], {}, {"type": "message"}, reply({"type": "tool_use", "name": "f"})):
        with pytest.raises(WireError):
            wire.answer_of(wrong, asked())


def test_usage_adds_up_what_the_cache_read_and_wrote() -> None:
    data = {"input_tokens": 5, "output_tokens": 2, "cache_read_input_tokens": 7, "cache_creation_input_tokens": 11}
    assert wire.usage_of(data) == (Usage(prompt_tokens=23, completion_tokens=2, cached_tokens=7), 11)
    assert wire.usage_of({"input_tokens": 5}) == (None, 0)
    nulls = {"input_tokens": 5, "output_tokens": 2, "cache_read_input_tokens": None}
    assert wire.usage_of(nulls) == (Usage(prompt_tokens=5, completion_tokens=2), 0)


def test_the_worst_case_includes_writing_to_the_cache() -> None:
    request = asked(Message("user", "q" * 1000), sampling=Sampling(max_tokens=10))
    price = Price(input=Decimal(4), output=Decimal(10))
    worst = AnthropicProvider(request.endpoint, price=price, api_key="k").worst_case(request)
    assert worst.micros >= (worst.tokens - 10) * 5 + 100


def test_without_the_sdk_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "anthropic", None)
    with pytest.raises(ConfigError, match=r"pip install 'rollouts-optimizer\[anthropic\]'"):
        AnthropicProvider(Endpoint(provider="anthropic", model="m"))
