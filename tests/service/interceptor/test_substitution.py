"""Prompts are exchanged to the letter, and once."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollouts.dtypes import FewShotExample, Message, Program, PromptTemplate, ToolCall
from rollouts.errors import TemplateError
from rollouts.service.interceptor import Substitution

JSON = dict[str, Any]
DEMO = FewShotExample("Query: old", "old_intent")
OTHER = FewShotExample("Read: new", "new_intent")
CALLED = FewShotExample(
    "Query: tool",
    "done",
    (
        Message("assistant", "", (ToolCall(id="c1", name="look", arguments='{"at": "x"}'),)),
        Message("tool", "seen", (), "c1"),
        Message("assistant", "done"),
    ),
)
TEMPLATES = [
    PromptTemplate("Classify.", "Query: {query}"),
    PromptTemplate("Classify. Be brief.", "Query: {query}\nIntent:"),
    PromptTemplate("", "{query}"),
    PromptTemplate("Classify.", "{query}"),
    PromptTemplate("For {query}: classify.", "Go on."),
    PromptTemplate("Classify.", "Query: {query}", (DEMO,)),
    PromptTemplate("Classify well.", "Read: {query}", (OTHER, DEMO)),
    PromptTemplate("Classify.", "Query: {query}", (CALLED, OTHER)),
]
TEXTS = st.sampled_from(
    ["Classify.", "Classify. Be brief.", "Query: x", "Query: Query: x", "x", "", "Query: x\nIntent:", "Read: new"]
) | st.builds("Query: {}".format, st.text(max_size=10))
PLAIN = st.builds(
    lambda role, text: {"role": role, "content": text},
    st.sampled_from(["system", "developer", "user", "assistant"]),
    TEXTS,
)
PARTS = st.builds(
    lambda text: {
        "role": "user",
        "content": [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": "data:,"}}],
    },
    TEXTS,
)
MESSAGES = st.lists(PLAIN | PARTS, max_size=6)
PAIRS = [(own, other) for own in TEMPLATES for other in TEMPLATES if other.placeholders <= own.placeholders]


def single(template: PromptTemplate) -> Program:
    return Program.single(template)


def sent(template: PromptTemplate, query: str) -> list[JSON]:
    """What an app sends that renders `template`."""
    layout = Substitution(single(PromptTemplate("-", "-{query}")), single(template))
    asked = [{"role": "system", "content": "-"}, {"role": "user", "content": f"-{query}"}]
    applied = layout.apply(asked)
    assert applied.outcome == "substituted"
    return list(applied.messages)


@given(pair=st.sampled_from(PAIRS), messages=MESSAGES)
def test_twice_is_as_good_as_once(pair: tuple[PromptTemplate, PromptTemplate], messages: list[JSON]) -> None:
    substitution = Substitution(single(pair[0]), single(pair[1]))
    once = substitution.apply(messages)
    again = substitution.apply(once.messages)
    assert again.messages == once.messages
    assert again.outcome != "substituted"


@given(pair=st.sampled_from(PAIRS), messages=MESSAGES)
def test_what_is_not_the_prompt_is_not_touched(
    pair: tuple[PromptTemplate, PromptTemplate], messages: list[JSON]
) -> None:
    before = copy.deepcopy(messages)
    applied = Substitution(single(pair[0]), single(pair[1])).apply(messages)
    assert messages == before
    if applied.outcome != "substituted":
        assert applied.messages is messages


@given(pair=st.sampled_from(PAIRS), query=st.text(alphabet=st.sampled_from(list("ab{}\n é😀")), min_size=1, max_size=9))
def test_the_apps_prompt_becomes_the_candidates(pair: tuple[PromptTemplate, PromptTemplate], query: str) -> None:
    own, candidate = pair
    applied = Substitution(single(own), single(candidate)).apply(sent(own, query))
    assert list(applied.messages) == sent(candidate, query)
    assert applied.values == ({"query": query} if own.placeholders else {})


def test_the_rest_of_the_conversation_stays() -> None:
    tail = [
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function", "function": {}}]},
        {"role": "tool", "tool_call_id": "1", "content": "42"},
        {"role": "user", "content": "Query: and now?"},
    ]
    own, candidate = TEMPLATES[0], TEMPLATES[6]
    applied = Substitution(single(own), single(candidate)).apply([*sent(own, "why"), *tail])
    assert list(applied.messages) == [*sent(candidate, "why"), *tail]
    assert list(applied.steps) == tail


def test_roles_names_parts_and_other_leading_messages_stay() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://x/y.png"}}
    asked = [
        {"role": "developer", "content": "House rules."},
        {"role": "developer", "content": [{"type": "text", "text": "Classify.", "cache_control": {}}]},
        {"role": "user", "name": "bo", "content": [image, {"type": "text", "text": "Query: why"}]},
    ]
    applied = Substitution(single(TEMPLATES[0]), single(TEMPLATES[1])).apply(asked)
    assert list(applied.messages) == [
        {"role": "developer", "content": "House rules."},
        {"role": "developer", "content": [{"type": "text", "text": "Classify. Be brief.", "cache_control": {}}]},
        {"role": "user", "name": "bo", "content": [image, {"type": "text", "text": "Query: why\nIntent:"}]},
    ]


def test_the_prompt_with_more_words_of_its_own_counts() -> None:
    """The candidate's user message takes any text, and yet the app's prompt is recognized."""
    substitution = Substitution(single(TEMPLATES[0]), single(TEMPLATES[3]))
    asked = [{"role": "system", "content": "Classify."}, {"role": "user", "content": "Query: why"}]
    assert substitution.apply(asked).messages[1] == {"role": "user", "content": "why"}


def test_a_value_that_looks_like_the_apps_prompt_is_left_alone() -> None:
    substitution = Substitution(single(TEMPLATES[0]), single(TEMPLATES[3]))
    asked = [{"role": "system", "content": "Classify."}, {"role": "user", "content": "Query: Query: why"}]
    applied = substitution.apply(asked)
    assert applied.outcome == "unmatched"
    assert applied.messages is asked


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [{"role": "system", "content": "Classify."}],
        [{"role": "user", "content": "Query: x"}],
        [{"role": "system", "content": "classify."}, {"role": "user", "content": "Query: x"}],
        [{"role": "system", "content": "Classify."}, {"role": "user", "content": None}],
        [{"role": "system", "content": "Classify."}, {"role": "user"}],
        [{"content": "Classify."}, {"role": "user", "content": "Query: x"}],
        [{"role": "system", "content": "Classify."}, {"role": "assistant", "content": "Query: x"}],
        [
            {"role": "system", "content": "Classify."},
            {"role": "user", "content": "Query: a"},
            {"role": "assistant", "content": "b"},
        ][::-1],
        [
            {"role": "system", "content": "Classify."},
            {"role": "user", "content": [{"type": "text", "text": "Query:"}, {"type": "text", "text": " x"}]},
        ],
    ],
)
def test_other_messages_do_not_match(messages: list[JSON]) -> None:
    assert Substitution(single(TEMPLATES[0]), single(TEMPLATES[1])).apply(messages).outcome == "unmatched"


def test_every_module_is_found_by_its_own_prompt() -> None:
    own = Program(modules={"plan": PromptTemplate("Plan.", "{q}"), "act": PromptTemplate("Act.", "{q} by {plan}")})
    other = own.with_modules({"plan": PromptTemplate("Plan well.", "{q}"), "act": PromptTemplate("Do.", "{plan}: {q}")})
    substitution = Substitution(own, other)
    plan = substitution.apply([{"role": "system", "content": "Plan."}, {"role": "user", "content": "a"}])
    act = substitution.apply([{"role": "system", "content": "Act."}, {"role": "user", "content": "a by b"}])
    assert (plan.module, plan.messages[0]["content"]) == ("plan", "Plan well.")
    assert (act.module, act.messages[1]["content"]) == ("act", "b: a")


def test_a_candidate_must_be_fillable() -> None:
    with pytest.raises(TemplateError, match=r"uses \{other\}"):
        Substitution(single(TEMPLATES[0]), single(PromptTemplate("", "{other}")))
    with pytest.raises(TemplateError, match="'new' is not known"):
        Substitution(single(TEMPLATES[0]), Program(modules={"new": TEMPLATES[0]}))
