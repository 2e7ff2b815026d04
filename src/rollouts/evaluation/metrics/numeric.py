"""The metric for answers that are a number."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from rollouts.dtypes import Sample, Score, Trajectory
from rollouts.errors import ConfigError, EvaluationError
from rollouts.evaluation.metrics.base import BuiltIn, expected, score_of, shown, truths

_DIGITS = r"(?:\d{1,3}(?:[,_\u00a0\u202f]\d{3})+(?![\d,_]\d)|\d+)"
_NUMBER = re.compile(
    r"(?<![\w.])(?<!\d/)"
    r"(?P<sign>(?<![)\]])[-+](?=[\d.$€£¥]))?[$€£¥]?(?P<inner>(?<=[$€£¥])-)? ?"
    r"(?:(?P<whole>\d+)\s+(?=\d+/\d))?"
    rf"(?P<value>(?:{_DIGITS}(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d{{1,3}}(?!\w))?)"
    r"(?:\s?/\s?(?P<under>\d+)(?![\d/]))?"
    r"\s?(?P<percent>%|percent\b)?"
)
_MARKS = (
    re.compile(r"#{4}\s*([-+$€£¥]*[\d.]\S*(?: \d+/\d+)?)"),
    re.compile(r"\\boxed\s*\{([^{}]*)\}"),
    re.compile(r"\banswer\s*(?:is|:|=)[*:\s]*([^\n]+?)(?=[.!?](?:\s|$)|\n|$)", re.IGNORECASE),
)
_LATEX_FRACTION = re.compile(r"\\[dt]?frac\s*\{\s*(\d+)\s*\}\s*\{\s*(\d+)\s*\}")
_LATEX_SPACE = re.compile(r"\{,\}|\\[,;!]")
_LONGEST = 400


@dataclass(frozen=True, slots=True)
class Number:
    """A number as written: its exact value and whether a percent sign followed."""

    value: Fraction
    percent: bool = False


def numeric_match(*, tolerance: float = 0.0, rel_tol: float = 1e-6) -> BuiltIn:
    """1 when the answer's number equals the ground truth's within the tolerance, else 0.

    The number of a text is read by `parse_number`. `tolerance` is the largest difference that counts as right,
    `rel_tol` the same relative to the larger of the two numbers. Where only one side carries a percent sign, 50% equals
    both 50 and 0.5.

    Raises ConfigError for a negative or infinite tolerance; EvaluationError when a ground truth holds no number.
    """
    if not 0 <= tolerance < math.inf or not 0 <= rel_tol < math.inf:
        raise ConfigError(f"tolerance = {tolerance!r} and rel_tol = {rel_tol!r} must be finite and at least 0")
    relative, absolute = Fraction(repr(float(rel_tol))), Fraction(repr(float(tolerance)))

    def close(a: Fraction, b: Fraction) -> bool:
        return abs(a - b) <= max(relative * max(abs(a), abs(b)), absolute)

    def same(a: Number, b: Number) -> bool:
        if close(a.value, b.value):
            return True
        if a.percent == b.percent:
            return False
        return close(a.value / 100, b.value) if a.percent else close(a.value, b.value / 100)

    def score(trajectory: Trajectory, sample: Sample) -> Score:
        accepted = truths(sample)
        wanted = [_truth(one, sample) for one in accepted]
        got = parse_number(trajectory.output)
        if got is None:
            written = tuple(_written(one) for one in wanted)
            return score_of("numeric_match", False, f"{expected(written, trajectory.output)} It holds no number.")
        right = any(same(got, one) for one in wanted)
        wrong = f"Expected {' or '.join(map(_written, wanted))}, got {_written(got)} (from {shown(trajectory.output)})."
        return score_of("numeric_match", right, "Correct." if right else wrong)

    return BuiltIn(name="numeric_match", options={"tolerance": tolerance, "rel_tol": rel_tol}, score=score, any_of=True)


def parse_number(text: str) -> Number | None:
    r"""The number that a text gives as its answer; None when it holds none.

    The number after the last `####` (GSM8K) or in the last `\boxed{}`; else the one that the last "answer is" or
    "Answer:" announces in its sentence (the last of a calculation with `=`); else the last number of the text.
    Understood are thousands separators (comma, no-break space, underscore; the decimal mark is the point),
    currency signs, fractions (`3/4`, `1 1/2`, `\frac{3}{4}`), exponents and percent signs. Digits inside a word such
    as `B2` are no number; the hyphen of `3-5` is no sign. Words (`twelve`, `2 million`) are not read.
    """
    plain = _LATEX_SPACE.sub(
        "", _LATEX_FRACTION.sub(r"\1/\2", text.replace("−", "-").replace("\\$", "$").replace("\\%", "%"))
    )
    for mark in _MARKS:
        announced = mark.findall(plain)
        numbers = _numbers(announced[-1]) if announced else []
        if numbers:
            return numbers[-1] if "=" in announced[-1] else numbers[0]
    numbers = _numbers(plain)
    return numbers[-1] if numbers else None


def _numbers(text: str) -> list[Number]:
    return [number for found in _NUMBER.finditer(text) if (number := _number(found)) is not None]


def _number(found: re.Match[str]) -> Number | None:
    under = found["under"]
    if len(found[0]) > _LONGEST or (under is not None and not int(under)):
        return None
    value = Fraction(re.sub(r"[,_\s]", "", found["value"])) / int(under or 1) + int(found["whole"] or 0)
    negative = (found["sign"] or "").strip() == "-" or found["inner"] is not None
    return Number(-value if negative else value, found["percent"] is not None)


def _truth(value: Any, sample: Sample) -> Number:
    if isinstance(value, str):
        number = parse_number(value)
    else:
        try:
            number = Number(Fraction(repr(value) if isinstance(value, float) else value))
        except (TypeError, ValueError, OverflowError):
            number = None
    if number is None:
        raise EvaluationError(f"the ground truth {shown(str(value))} of sample {sample.id!r} holds no number")
    return number


def _written(number: Number) -> str:
    value = number.value
    try:
        text = str(value.numerator) if value.denominator == 1 else f"{float(value):.10g}"
    except OverflowError:
        text = str(value)
    return text + ("%" if number.percent else "")
