"""Exact arithmetic on a text: a walk over its expression tree, with limits. Nothing is executed."""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

MAX_CHARS = 2_000
MAX_DEPTH = 60
"""Nested parentheses, functions and powers."""
MAX_BITS = 4_096
"""Bits of a numerator or a denominator: about 1,200 digits."""
MAX_EXPONENT = 1_200
"""Of a number such as `1e1200`."""
MAX_FACTORIAL = 500
MAX_DECIMALS = 40
"""Digits after the point of a result that is written as a decimal number."""
DIGITS = 20
"""Significant digits of an approximation."""

_SIGNS = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-", "^": "**", "$": None})
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")
_KNOWN = "numbers, + - * / // % **, parentheses, and abs, ceil, factorial, floor, gcd, lcm, max, min, round, sqrt"


def evaluate(text: str) -> Fraction:
    """The exact value of an arithmetic expression.

    It may hold whole and decimal numbers (also `1e3`, `1_000`, and `1,000` where no function is called), `+ - * / // %
    **` (`^` is a power, `%` the remainder), parentheses, and abs, ceil, factorial, floor, gcd, lcm, max, min, round
    (half to even), sqrt. Decimal numbers are exact. Raises ValueError, in words for a model, for anything else, for a
    value that no fraction is, and for what passes the limits of this module.
    """
    if len(text) > MAX_CHARS:
        raise ValueError(f"the expression has {len(text)} characters, at most {MAX_CHARS} are read; do it in steps")
    source = " ".join(text.translate(_SIGNS).split()).removesuffix("=").strip()
    if not re.search("[a-z]", source):
        source = _THOUSANDS.sub(lambda number: number[0].replace(",", ""), source)
    try:
        tree = ast.parse(source, mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise ValueError(f"cannot read {_short(text)}; an expression is made of {_KNOWN}") from None
    try:
        return _Evaluator(source).value(tree.body, MAX_DEPTH)
    except ZeroDivisionError:
        raise ValueError("division by zero") from None


def show(value: Fraction) -> str:
    """A number for a reader: `12`, `0.125`, or `1/3 (about 0.33333333333333333333)` where no short decimal is exact."""
    if value.denominator == 1:
        return str(value.numerator)
    rest = value.denominator
    twos = (rest & -rest).bit_length() - 1
    rest >>= twos
    fives = 0
    while rest % 5 == 0:
        rest //= 5
        fives += 1
    places = max(twos, fives)
    if rest > 1 or places > MAX_DECIMALS:
        return f"{value.numerator}/{value.denominator} (about {about(value)})"
    digits = str(abs(value.numerator) * 10**places // value.denominator).rjust(places + 1, "0")
    return f"{'-' if value < 0 else ''}{digits[:-places]}.{digits[-places:]}"


def about(value: Fraction) -> str:
    """`value` to `DIGITS` significant digits."""
    with localcontext() as context:
        context.prec, context.Emax, context.Emin = DIGITS, 10 * MAX_BITS, -10 * MAX_BITS
        return str(Decimal(value.numerator) / Decimal(value.denominator))


class _Evaluator:
    """Values of the nodes of one expression; `depth` is how much deeper a node may be nested."""

    def __init__(self, source: str) -> None:
        self._source = source

    def value(self, node: ast.expr, depth: int) -> Fraction:
        if depth == 0:
            raise ValueError(f"more than {MAX_DEPTH} levels of nesting; do it in steps")
        match node:
            case ast.Constant():
                return self._number(node)
            case ast.UnaryOp(op=ast.UAdd() | ast.USub() as sign, operand=operand):
                value = self.value(operand, depth - 1)
                return -value if isinstance(sign, ast.USub) else value
            case ast.BinOp():
                return self._chain(node, depth)
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in _FUNCTIONS:
                return _call(name, [self.value(argument, depth - 1) for argument in arguments])
        raise ValueError(f"{_short(ast.unparse(node))} is not known here; an expression is made of {_KNOWN}")

    def _chain(self, node: ast.expr, depth: int) -> Fraction:
        """`a + b + c ...` is nested to the left, as deep as it is long: walked, not recursed into."""
        links = []
        while isinstance(node, ast.BinOp):
            links.append((node.op, node.right))
            node = node.left
        total = self.value(node, depth - 1)
        for sign, operand in reversed(links):
            combine = _OPERATORS.get(type(sign))
            if combine is None:
                raise ValueError(f"there are no bit operations here; an expression is made of {_KNOWN}")
            total = _bounded(combine(total, self.value(operand, depth - 1)))
        return total

    def _number(self, node: ast.Constant) -> Fraction:
        if type(node.value) is int:
            return _bounded(Fraction(node.value))
        if type(node.value) is not float:
            raise ValueError(f"{_short(ast.unparse(node))} is not a number")
        # The text, not the float: decimal numbers are exact.
        text = self._source.encode()[node.col_offset : node.end_col_offset].decode().replace("_", "")
        number = Decimal(text)
        exponent = number.as_tuple().exponent
        if not isinstance(exponent, int) or abs(exponent) > MAX_EXPONENT or number.adjusted() > MAX_EXPONENT:
            raise ValueError(f"{text} is out of range: at most 1e{MAX_EXPONENT}, and {MAX_EXPONENT} decimal places")
        return _bounded(Fraction(number))


def _bounded(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
        raise ValueError(f"a number on the way has more than {MAX_BITS * 3 // 10} digits; that is out of range")
    return value


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if base == 0 and exponent < 0:
        raise ZeroDivisionError
    if exponent.denominator > 1:
        base, exponent = _root(base, exponent.denominator), Fraction(exponent.numerator)
    if abs(base) in (0, 1):
        return base if exponent.numerator % 2 else abs(base) if exponent else Fraction(1)
    if abs(exponent) > MAX_BITS or abs(exponent) * math.log2(max(abs(base.numerator), base.denominator)) > MAX_BITS:
        raise ValueError(f"{_brief(base)} to the power of {_brief(exponent)} is out of range")
    return Fraction(base**exponent)


def _root(value: Fraction, degree: int) -> Fraction:
    """The exact root; a ValueError with the approximation where there is none."""
    if value < 0 or degree > MAX_BITS:
        raise ValueError(f"{_brief(value)} to the power of 1/{degree} is no real number, or out of range")
    roots = [_whole_root(part, degree) for part in (value.numerator, value.denominator)]
    if [root**degree for root in roots] == [value.numerator, value.denominator]:
        return Fraction(*roots)
    with localcontext() as context:
        context.prec = DIGITS + 10
        near = Fraction((Decimal(value.numerator) / Decimal(value.denominator)) ** (Decimal(1) / degree))
    name = "the square root" if degree == 2 else f"root {degree}"
    raise ValueError(f"{name} of {_brief(value)} is no fraction; go on with the number {about(near)}")


def _whole_root(value: int, degree: int) -> int:
    """The greatest whole number whose `degree`-th power is at most `value`."""
    low, high = 0, 1 << (value.bit_length() // degree + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if middle**degree <= value else (low, middle)
    return low


def _call(name: str, arguments: list[Fraction]) -> Fraction:
    function, least, most = _FUNCTIONS[name]
    if not least <= len(arguments) <= most:
        wanted = str(least) if least == most else f"{least} or more" if most > 2 else f"{least} or {most}"
        raise ValueError(f"{name} takes {wanted} numbers, not {len(arguments)}")
    return _bounded(Fraction(function(*arguments)))


def _factorial(number: Fraction) -> int:
    if not 0 <= number <= MAX_FACTORIAL:
        raise ValueError(f"factorial takes a whole number from 0 to {MAX_FACTORIAL}, not {_brief(number)}")
    return math.factorial(_whole("factorial", number))


def _round(number: Fraction, places: Fraction = Fraction(0)) -> Fraction:
    if abs(places) > MAX_EXPONENT:
        raise ValueError(f"round takes at most {MAX_EXPONENT} places")
    return Fraction(round(number, _whole("round", places)))


def _of_whole(name: str, function: Callable[..., int]) -> Callable[..., int]:
    return lambda *numbers: function(*(_whole(name, number) for number in numbers))


def _whole(name: str, number: Fraction) -> int:
    if number.denominator != 1:
        raise ValueError(f"{name} takes whole numbers, not {_brief(number)}")
    return number.numerator


def _brief(value: Fraction) -> str:
    return _short(show(value))


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:80]} ..."


_OPERATORS: dict[type[ast.operator], Callable[[Fraction, Fraction], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: lambda left, right: Fraction(left // right),
    ast.Mod: operator.mod,
    ast.Pow: _power,
}
_MANY = 1_000
_FUNCTIONS: dict[str, tuple[Callable[..., Any], int, int]] = {
    "abs": (abs, 1, 1),
    "ceil": (math.ceil, 1, 1),
    "factorial": (_factorial, 1, 1),
    "floor": (math.floor, 1, 1),
    "gcd": (_of_whole("gcd", math.gcd), 1, _MANY),
    "lcm": (_of_whole("lcm", math.lcm), 1, _MANY),
    "max": (lambda *numbers: max(numbers), 1, _MANY),
    "min": (lambda *numbers: min(numbers), 1, _MANY),
    "round": (_round, 1, 2),
    "sqrt": (lambda number: _root(number, 2), 1, 1),
}
"""Name -> function, fewest and most arguments."""
