"""What models write as arguments."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollouts.agents.arguments import read_arguments


def schema(kind: Any, **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"x": {"type": kind, **more}}, "required": ["x"]}


@pytest.mark.parametrize(
    ("kind", "written", "meant"),
    [
        ("integer", 2, 2),
        ("integer", 2.0, 2),
        ("integer", "2", 2),
        ("number", "2.5", 2.5),
        ("number", 3, 3),
        ("boolean", "true", True),
        ("array", "[1, 2]", [1, 2]),
        ("object", '{"a": 1}', {"a": 1}),
        ("string", 5, "5"),
        ("string", "[1]", "[1]"),
        (["string", "null"], None, None),
        (["integer", "null"], "null", None),
        (None, {"any": "thing"}, {"any": "thing"}),
        ("made-up", 1, 1),
    ],
)
def test_a_value_that_can_only_mean_one_thing_is_taken_for_it(kind: Any, written: Any, meant: Any) -> None:
    read = read_arguments(json.dumps({"x": written}), schema(kind))
    assert read == {"x": meant}
    assert type(read["x"]) is type(meant)


@pytest.mark.parametrize(
    ("kind", "written"),
    [
        ("integer", 2.5),
        ("integer", True),
        ("integer", "two"),
        ("integer", float("inf")),
        ("number", "1e"),
        ("boolean", 1),
        ("array", "x"),
        ("object", [1]),
        ("string", True),
        ("string", None),
        ("null", 0),
    ],
)
def test_any_other_is_refused_in_words(kind: str, written: Any) -> None:
    with pytest.raises(ValueError, match=f"argument 'x' must be {kind}, not "):
        read_arguments(json.dumps({"x": written}), schema(kind))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[1]", r"must be a JSON object, not \[1\]"),
        ('"x"', "must be a JSON object"),
        ("{}", "missing argument 'x'; the arguments are: x"),
        ('{"x": 1, "y": 2}', "unknown argument 'y'; the arguments are: x"),
        ('{"x": 4}', r"must be one of \[1, 2\], not 4"),
    ],
)
def test_what_is_wrong_is_said(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_arguments(text, {**schema("integer", enum=[1, 2]), "additionalProperties": False})


@pytest.mark.parametrize("text", ["", "  ", "{}", "null"])
def test_no_arguments_may_be_written_in_any_way(text: str) -> None:
    assert read_arguments(text, {"type": "object"}) == {}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(st.text(max_size=30) | json_values.map(json.dumps), st.sampled_from(["integer", "string", "array", "null"]))
def test_it_returns_an_object_or_says_no(text: str, kind: str) -> None:
    with suppress(ValueError):
        assert isinstance(read_arguments(text, schema(kind)), dict)
