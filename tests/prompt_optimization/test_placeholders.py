"""What in a prompt is a placeholder, and what is plain text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollouts.dtypes import PromptTemplate, fill, pieces, placeholders, render, unescaped
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
