"""Reading values back is the inverse of filling a template."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rollouts.dtypes import fill
from rollouts.service.interceptor.matching import read_back

NASTY = st.text(alphabet=st.sampled_from(list('ab {}\n"\\é日😀$\u2028')), max_size=12) | st.text(max_size=20)


@given(query=NASTY, context=NASTY)
def test_values_survive_whatever_they_hold(query: str, context: str) -> None:
    template = "Query: {query}\n--- context ---\n{{context}}\nIntent:"
    assume("\n--- context ---\n" not in query)
    text = fill(template, {"query": query, "context": context})
    assert read_back(template, text, {}) == {"query": query, "context": context}


@given(literals=st.lists(NASTY, min_size=1, max_size=4), values=st.lists(NASTY, min_size=4, max_size=4))
def test_what_is_read_fills_the_template_to_the_same_text(literals: list[str], values: list[str]) -> None:
    names = ["a", "b", "c"]
    template = "".join(word + f"{{{name}}}" for word, name in zip(literals, names, strict=False)) + "."
    assume(set(re.findall(r"\{+\w+\}+", template)) <= {f"{{{name}}}" for name in names})
    text = fill(template, dict(zip(names, values, strict=False)))
    read = read_back(template, text, {})
    assert read is not None
    assert fill(template, read) == text


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("Query: {q}", "query: x"),
        ("Query: {q}", "Query:"),
        ("{q} end", "begin"),
        ("no placeholder", "no placeholder!"),
        ("no placeholder", " no placeholder"),
        ("{a}, {a}", "one, two"),
        ("{a}|{b}|{c}", "one|two"),
        ("<{a}>{b}>", "<x>"),
    ],
)
def test_other_texts_are_not_read(template: str, text: str) -> None:
    assert read_back(template, text, {}) is None


def test_a_value_that_is_known_must_be_the_same() -> None:
    template = "{domain}: {query}"
    assert read_back(template, "bank: card lost", {"domain": "bank"}) == {"domain": "bank", "query": "card lost"}
    assert read_back(template, "shop: card lost", {"domain": "bank"}) is None
    assert read_back("{q} / {q}", "a / a", {}) == {"q": "a"}


def test_a_value_ends_where_the_next_words_begin() -> None:
    assert read_back("{a}\n{b}", "1\n2\n3", {}) == {"a": "1", "b": "2\n3"}
    assert read_back("{a}{b}", "xyz", {}) == {"a": "", "b": "xyz"}


def test_a_text_that_does_not_fit_is_told_in_one_pass() -> None:
    """A search that went back would not end before the suite's time limit."""
    template = "\n".join(f"{{v{number}}}" for number in range(20)) + "\nEND"
    assert read_back(template, "\n" * 200_000 + "no", {}) is None
