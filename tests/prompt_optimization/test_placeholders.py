"""What in a prompt is a placeholder, and what is plain text."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollouts.dtypes import PromptTemplate, fill, pieces, placeholders, render, unescaped, value_text
from rollouts.errors import TemplateError

VALUES = {"x": "1", "y": "{x}"}


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("{x} {{x}} {{ x }}", "1 1 1"),
        ("{y}", "{x}"),
        ('{"x": 1} {} {1} { x } {x-y}', '{"x": 1} {} {1} { x } {x-y}'),
        (r"\{x} \{{x}} \{z}", "{x} {{x}} {z}"),
        (r"C:\\{x}\\\{x}\\\\{{x}}", r"C:\1\{x}\\1"),
        (r"\frac{1}{2} \n \{1\} \\", r"\frac{1}{2} \n \{1\} \\"),
        ("", ""),
    ],
)
def test_what_is_filled(text: str, filled: str) -> None:
    assert fill(text, VALUES) == filled


@given(st.text("\\{}xy ", max_size=20))
def test_pieces_placeholders_and_plain_text_agree(text: str) -> None:
    cut = pieces(text)
    assert cut[-1][1] is None
    assert placeholders(text) == {name for _, name in cut if name is not None}
    if not placeholders(text):
        assert fill(text, {}) == unescaped(text) == cut[0][0]
    if "\\" not in text:
        assert unescaped(text) == text


class Place:
    def __str__(self) -> str:
        return "hall"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as {it} is\n", "as {it} is\n"),
        (7, "7"),
        (5.0, "5.0"),
        (1e-7, "1e-07"),
        (True, "true"),
        (None, "null"),
        ({"team": "bücher", "a": None, "urgent": [True, 1.5]}, '{"team": "bücher", "a": null, "urgent": [true, 1.5]}'),
        (("a", 1), '["a", 1]'),
        (Decimal("1.50"), "1.50"),
        (Place(), "hall"),
        ([Place()], '["hall"]'),
        ({(1, 2): "x"}, "{(1, 2): 'x'}"),
    ],
)
def test_values_are_shown_as_text_or_as_json(value: object, text: str) -> None:
    assert value_text(value) == fill("{x}", {"x": value}) == text


@given(st.text() | st.integers() | st.floats())
def test_texts_and_numbers_are_shown_as_python_writes_them(value: object) -> None:
    assert value_text(value) == str(value)


def test_an_unknown_placeholder_is_named() -> None:
    with pytest.raises(TemplateError, match=r"uses \{z\}.*it has: x, y"):
        fill(r"\{x} {z}", VALUES)


def test_escapes_are_gone_from_what_is_sent() -> None:
    system, user = render(PromptTemplate(r"Answer as \{label}.", "{x}"), VALUES)
    assert (system.content, user.content) == ("Answer as {label}.", "1")


def test_a_long_row_of_backslashes_is_read_once() -> None:
    """One look at each place where a placeholder may begin: with one at each backslash this took minutes."""
    text = "\\" * 200_000
    assert pieces(text) == ((text, None),)
