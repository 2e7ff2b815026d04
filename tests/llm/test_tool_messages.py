"""Conversations with tool calls, as each protocol takes them."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollouts.dtypes import (
    Endpoint,
    FewShotExample,
    Message,
    PromptTemplate,
    Request,
    Response,
    Tool,
    ToolCall,
    render,
)
from rollouts.errors import ConfigError
from rollouts.llm import anthropic_wire, openai_wire
from rollouts.llm.registry import spec_of
from rollouts.llm.text_tools import as_text, with_calls
from rollouts.llm.tokens import upper_bound
from rollouts.llm.tool_messages import sendable

TOOL = Tool(name="calculate", description="d", parameters={"type": "object"})
IDS = {
    "openai": re.compile(r"[A-Za-z0-9_.:-]{1,40}"),
    "mistral": re.compile(r"[A-Za-z0-9]{9}"),
    "anthropic": re.compile(r"[A-Za-z0-9_-]{1,40}"),
}


def demo(*ids: str, question: str = "2 + 3") -> FewShotExample:
    """One turn with a call per id, answered in the opposite order."""
    calls = tuple(ToolCall(id=name, name="calculate", arguments=f'{{"n": {n}}}') for n, name in enumerate(ids))
    results = tuple(Message("tool", f"result {n}", (), name) for n, name in reversed(list(enumerate(ids))))
    return FewShotExample(question, "5", (Message("assistant", "", calls), *results, Message("assistant", "5")))


def shown(*demos: FewShotExample) -> tuple[Message, ...]:
    return render(PromptTemplate("Compute.", "{q}", demos), {"q": "4 + 4"})


def body(provider: str, messages: tuple[Message, ...], tools: tuple[Tool, ...] = (TOOL,), **extra: Any) -> Any:
    request = Request(endpoint=Endpoint(provider=provider, model="m", extra=extra), messages=messages, tools=tools)
    return (
        anthropic_wire.body_of(request) if provider == "anthropic" else openai_wire.body_of(request, spec_of(provider))
    )


def calls_and_results(provider: str, sent: Any) -> list[tuple[str, str, str]]:
    """(kind, id, what it says) of every tool call and result, in order, whatever the protocol."""
    out = []
    for message in sent["messages"]:
        if provider == "anthropic":
            for block in message["content"]:
                if block["type"] == "tool_use":
                    out.append(("call", block["id"], json.dumps(block["input"])))
                elif block["type"] == "tool_result":
                    out.append(("result", block["tool_use_id"], block["content"]))
        else:
            for call in message.get("tool_calls", ()):
                out.append(("call", call["id"], call["function"]["arguments"]))
            if message["role"] == "tool":
                out.append(("result", message["tool_call_id"], message["content"]))
    return out


@pytest.mark.parametrize("provider", IDS)
@pytest.mark.parametrize(
    "demos",
    [
        (demo("call_0"),),
        (demo("call_0"), demo("call_0")),
        (demo("call_0", "call_1"), demo("call_1", "call_0")),
        (demo("a b/c", "ü", "x" * 99),),
        (demo(""), demo("")),
        (demo("call00000"), demo("!")),
    ],
    ids=["one", "repeated", "collide", "refused", "none", "looks made"],
)
def test_ids_are_allowed_unique_and_each_result_answers_its_call(
    provider: str, demos: tuple[FewShotExample, ...]
) -> None:
    found = calls_and_results(provider, body(provider, shown(*demos)))
    called = {name: said for kind, name, said in found if kind == "call"}
    assert len(called) == sum(kind == "call" for kind, _, _ in found) > 0
    assert all(IDS[provider].fullmatch(name) for name in called)
    for kind, name, said in found:
        if kind == "result":
            assert said == f"result {json.loads(called.pop(name))['n']}"
    assert called == {}


def test_what_is_right_stays_as_it_is() -> None:
    messages = shown(demo("call_abc", "call_def"), demo("toolu_1"))
    assert sendable(messages, "openai") == messages
    assert sendable(messages, "anthropic") == messages
    plain = shown(FewShotExample("1 + 1", "2"))
    assert sendable(plain, "mistral") == plain


calls = st.builds(
    ToolCall,
    id=st.sampled_from(["", "call_0", "call_1", "ü", "x" * 50, "call00001"]),
    name=st.sampled_from(["calculate", "", "no such/tool", "n" * 99]),
    arguments=st.sampled_from(["", "{}", '{"a": 1}', "{", "[1]", "null", '{"a": NaN}', '"\\ud800"'])
    | st.text(max_size=9),
)
turns = st.one_of(
    st.builds(lambda text: Message("user", text), st.text(max_size=5)),
    st.builds(
        lambda text, made: Message("assistant", text, tuple(made)), st.text(max_size=5), st.lists(calls, max_size=3)
    ),
    st.builds(
        lambda text, name: Message("tool", text, (), name), st.text(max_size=5), st.sampled_from(["", "call_0", "ü"])
    ),
)


@given(st.lists(turns, max_size=8), st.lists(turns, max_size=3), st.sampled_from(sorted(IDS)))
def test_any_conversation_can_be_sent_and_a_longer_one_begins_alike(
    start: list[Message], more: list[Message], provider: str
) -> None:
    sent = sendable(start, provider)
    assert sendable([*start, *more], provider)[: len(start)] == sent
    assert sendable(sent, provider) == sent or any(m.role == "tool" for m in start)
    ids = [call.id for message in sent for call in message.tool_calls]
    assert len(set(ids)) == len(ids)
    for message in sent:
        for call in message.tool_calls:
            assert IDS[provider].fullmatch(call.id)
            assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", call.name)
            assert isinstance(json.loads(call.arguments), dict)
            assert "NaN" not in call.arguments or '"' in call.arguments


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_arguments_that_are_no_object_are_wrapped(provider: str) -> None:
    call = ToolCall(id="c", name="calculate", arguments="{not json")
    found = calls_and_results(provider, body(provider, (Message("user", "q"), Message("assistant", "", (call,)))))
    assert json.loads(found[0][2]) == {"arguments": "{not json"}


def test_a_demonstration_in_openais_shape() -> None:
    sent = body("openai", shown(demo("c1")))["messages"]
    assert [message["role"] for message in sent] == ["system", "user", "assistant", "tool", "assistant", "user"]
    function = {"name": "calculate", "arguments": '{"n": 0}'}
    assert sent[2] == {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c1", "type": "function", "function": function}],
    }
    assert sent[3] == {"role": "tool", "content": "result 0", "tool_call_id": "c1"}


def test_a_demonstration_in_anthropics_shape() -> None:
    sent = body("anthropic", shown(demo("c1", "c2"), demo("c1")))["messages"]
    assert [turn["role"] for turn in sent] == ["user", "assistant"] * 4 + ["user"]
    assert [block["type"] for block in sent[1]["content"]] == ["tool_use", "tool_use"]
    results = [(block["type"], block["tool_use_id"]) for block in sent[2]["content"]]
    assert results == [("tool_result", "c2"), ("tool_result", "c1")]
    assert sent[5]["content"][0]["id"] == sent[6]["content"][0]["tool_use_id"] != "c1"


def test_anthropic_is_told_of_tools_that_were_called_but_are_not_on_offer() -> None:
    """It refuses calls of tools that the request does not name."""
    sent = body("anthropic", shown(demo("c1")), tools=())
    assert [tool["name"] for tool in sent["tools"]] == ["calculate"]
    assert sent["tool_choice"] == {"type": "none"}
    assert "tools" not in body("anthropic", shown(), tools=())
    assert "tool_choice" not in body("anthropic", shown(demo("c1")))
    assert "tools" not in body("openai", shown(demo("c1")), tools=())


# Tools in the text.


def request(*messages: Message, tools: tuple[Tool, ...] = (TOOL,)) -> Request:
    endpoint = Endpoint(
        provider="openai_compatible", model="m", base_url="http://x/v1", extra={"tool_protocol": "text"}
    )
    return Request(endpoint=endpoint, messages=messages, tools=tools)


def test_tools_are_told_in_the_system_message_and_calls_are_texts() -> None:
    plain = as_text(request(*shown(demo("c1", "c2"))))
    assert plain.tools == ()
    assert [message.role for message in plain.messages] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert plain.messages[0].content.startswith("Compute.\n\n")
    assert '"name": "calculate"' in plain.messages[0].content
    assert plain.messages[2].content.splitlines() == [
        '<tool_call>{"name": "calculate", "arguments": {"n": 0}}</tool_call>',
        '<tool_call>{"name": "calculate", "arguments": {"n": 1}}</tool_call>',
    ]
    assert plain.messages[3].content.splitlines() == [
        "<tool_response>result 1</tool_response>",
        "<tool_response>result 0</tool_response>",
    ]
    assert as_text(request(Message("user", "q"))).messages[0].role == "system"
    untouched = request(Message("user", "q"), tools=())
    assert as_text(untouched) is untouched


@pytest.mark.parametrize(
    ("text", "left", "calls"),
    [
        ('<tool_call>{"name": "f", "arguments": {"a": {"b": 1}}}</tool_call>', "", [("f", '{"a": {"b": 1}}')]),
        ('Let me see. <tool_call>\n{"name": "f"}', "Let me see.", [("f", "{}")]),
        ('<tool_call>{"name": "f"}</tool_call><tool_call>{"name": "g"}</tool_call>', "", [("f", "{}"), ("g", "{}")]),
        ('<tool_call>{"name": "f", "arguments": "{\\"a\\": 1}"}', "", [("f", '{"a": 1}')]),
        ("<tool_call>{not json}</tool_call>", "<tool_call>{not json}</tool_call>", []),
        ("<tool_call>[1]</tool_call>", "<tool_call>[1]</tool_call>", []),
        ("42", "42", []),
    ],
)
def test_calls_are_read_from_the_text(text: str, left: str, calls: list[tuple[str, str]]) -> None:
    response = with_calls(Response(text=text), request())
    assert response.text == left
    assert [(call.name, call.arguments) for call in response.tool_calls] == calls
    assert (response.finish_reason == "tool_calls") == bool(calls)
    assert with_calls(Response(text=text), request(tools=())).text == text


@given(st.lists(calls, min_size=1, max_size=3))
def test_what_is_written_is_read_again(made: list[ToolCall]) -> None:
    asked = request(*sendable([Message("user", "q"), Message("assistant", "", tuple(made))], "openai"))
    text = as_text(asked).messages[-1].content
    read = with_calls(Response(text=text), asked).tool_calls
    assert [(c.name, json.loads(c.arguments)) for c in read] == [
        (c.name, json.loads(c.arguments)) for c in asked.messages[-1].tool_calls
    ]


def test_a_server_without_tools_gets_none_and_the_bound_holds() -> None:
    asked = request(*shown(demo("c1", "c2"), demo("c3")))
    sent = openai_wire.body_of(asked, spec_of("openai_compatible"))
    assert "tools" not in sent
    assert "tool_protocol" not in sent
    assert {message["role"] for message in sent["messages"]} == {"system", "user", "assistant"}
    assert sum(len(message["content"].encode()) + 16 for message in sent["messages"]) <= upper_bound(asked)
    with pytest.raises(ConfigError, match='"native" or "text"'):
        body("openai", shown(), tool_protocol="xml")
