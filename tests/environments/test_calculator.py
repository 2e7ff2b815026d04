"""Exact arithmetic with limits."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollouts.environments.arithmetic import MAX_BITS, evaluate, show


def close(value: Fraction) -> bool:
    return max(value.numerator.bit_length(), value.denominator.bit_length()) <= MAX_BITS


def joined(parts: tuple[tuple[str, Fraction], str, tuple[str, Fraction]]) -> tuple[str, Fraction] | None:
    (left, a), sign, (right, b) = parts
    if sign in ("/", "//", "%") and b == 0:
        return None
    results: dict[str, Any] = {
        "+": lambda: a + b,
        "-": lambda: a - b,
        "*": lambda: a * b,
        "/": lambda: a / b,
        "//": lambda: Fraction(a // b),
        "%": lambda: a % b,
    }
    value = results[sign]()
    return (f"({left} {sign} {right})", value) if close(value) else None


numbers = st.one_of(
    st.integers(0, 10**12).map(lambda n: (str(n), Fraction(n))),
    st.tuples(st.integers(0, 10**6), st.integers(0, 999)).map(
        lambda p: (f"{p[0]}.{p[1]:03}", Fraction(p[0]) + Fraction(p[1], 1000))
    ),
    st.tuples(st.integers(1, 99), st.integers(-20, 20)).map(lambda p: (f"{p[0]}e{p[1]}", p[0] * Fraction(10) ** p[1])),
)
trees = st.recursive(
    numbers,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "//", "%"]), inner).map(joined).filter(bool),
        inner.map(lambda pair: (f"-{pair[0]}", -pair[1])),
        inner.map(lambda pair: (f"abs({pair[0]})", abs(pair[1]))),
        st.tuples(inner, inner).map(lambda pair: (f"max({pair[0][0]}, {pair[1][0]})", max(pair[0][1], pair[1][1]))),
    ),
    max_leaves=12,
)


@given(trees)
def test_it_computes_what_fractions_compute(tree: tuple[str, Fraction]) -> None:
    text, value = tree
    assert evaluate(text) == value


@given(st.fractions(), st.integers(0, 60))
def test_what_is_shown_is_exact_and_can_be_read_again(value: Fraction, power: int) -> None:
    for number in (value, value / 2**power, value / 5**power, value * 10**power):
        exact, _, near = show(number).partition(" (about ")
        assert evaluate(exact) == number
        if near:
            assert abs(evaluate(near.removesuffix(")")) - number) <= abs(number) / 10**18


@given(st.fractions(min_value=0, max_value=1000, max_denominator=1000), st.integers(2, 9))
def test_roots_of_perfect_powers_are_exact(value: Fraction, degree: int) -> None:
    assert evaluate(f"({value**degree}) ** (1 / {degree})") == value
    assert evaluate(f"({value}) ** {degree}") == value**degree


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("0.1 + 0.2", "0.3"),
        ("1/3", "1/3 (about 0.33333333333333333333)"),
        ("-1/8", "-0.125"),
        ("2 ** 100", "1267650600228229401496703205376"),
        ("2 ^ 10", "1024"),
        ("2 ** -2", "0.25"),
        ("7 // 2 + 7 % 4", "6"),
        ("1,234,567 + 1_000", "1235567"),
        ("$5 × 3 =", "15"),
        ("max(1,200)", "200"),
        ("gcd(12, 18) + lcm(4, 6)", "18"),
        ("sqrt(16/9)", "4/3 (about 1.3333333333333333333)"),
        ("27 ** (2/3)", "9"),
        ("round(2.675, 2)", "2.68"),
        ("round(2.5) + floor(-1.5) + ceil(1.2)", "2"),
        ("factorial(20)", "2432902008176640000"),
        ("(-1) ** 1000001", "-1"),
        ("0 ** 0", "1"),
        (" + ".join(["1"] * 500), "500"),
    ],
)
def test_results(text: str, shown: str) -> None:
    assert show(evaluate(text)) == shown


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "cannot read"),
        ("2 +", "cannot read"),
        ("two", "two is not known"),
        ("__import__('os').system('true')", "not known"),
        ("().__class__", "not known"),
        ("[1][0]", "not known"),
        ("lambda: 1", "not known"),
        ("max(*[1])", "not known"),
        ("round(1, ndigits=2)", "not known"),
        ("1 if 1 else 2", "not known"),
        ("'a' * 3", "not a number"),
        ("True + 1", "not a number"),
        ("2j", "not a number"),
        ("1 << 3", "no bit operations"),
        ("1 / 0", "division by zero"),
        ("1 % 0", "division by zero"),
        ("0 ** -1", "division by zero"),
        ("sqrt(2)", "no fraction; go on with the number 1.4142135623730950488"),
        ("sqrt(-1)", "no real number"),
        ("factorial(-1)", "whole number from 0"),
        ("factorial(2.5)", "whole numbers"),
        ("gcd(1.5, 2)", "whole numbers"),
        ("sqrt(1, 2)", "takes 1 numbers, not 2"),
        ("max()", "takes 1 or more"),
        # Limits.
        ("9 ** 9 ** 9", "out of range"),
        ("9 ** 9999999999999", "out of range"),
        ("2 ** 2 ** 0.5 ** 99", ""),
        ("1e999999999", "out of range"),
        ("1e-999999999", "out of range"),
        ("factorial(100000)", "from 0 to 500"),
        ("1e1000 * 1e1000", "digits"),
        ("round(1, 10 ** 9)", "places"),
        ("(" * 1500 + "1", "cannot read"),
        ("-" * 1999 + "1", ""),
        ("1" * 3000, "2000 are read"),
        ("2 ** (1/99999)", ""),
    ],
)
def test_what_it_does_not_compute_is_said(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=r"\w") as raised:
        evaluate(text)
    assert words in str(raised.value)
    assert len(str(raised.value)) < 400


@given(st.text(max_size=60) | st.text("0123456789.+-*/%^() ,einfmaxsqrt", max_size=40))
def test_any_text_is_a_number_or_a_value_error(text: str) -> None:
    try:
        value = evaluate(text)
    except ValueError:
        return
    assert isinstance(value, Fraction)
    assert show(value)
