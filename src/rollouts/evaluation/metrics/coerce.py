"""What a user's metric returned, made a `Score` or refused with a clear message."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from numbers import Real
from typing import Any

from rollouts.dtypes import Metric, Score
from rollouts.errors import EvaluationError

_RETURN = "return a number, a bool, a dict of numbers, or a rollouts.dtypes.Score"


def to_score(value: Any) -> Score:
    """A `Score` from what a metric may return.

    A `Score` is passed through. A number or bool becomes the metric `score`. A pair `(number, text)` is a score with
    feedback. A mapping of names to numbers becomes one metric each, with equal weights; if one of them is called
    `score`, that one alone is the score and the others are reported with weight 0; `feedback` in it is text.

    Raises EvaluationError for None, NaN, infinities and anything else, and says what to return.
    """
    match value:
        case Score():
            return _checked(value)
        case Mapping():
            return _from_mapping(value)
        case (number, str() as feedback):
            return Score(metrics=(Metric("score", _finite(number, "a score")),), feedback=feedback)
        case _:
            return Score(metrics=(Metric("score", _finite(value, "")),))


def _checked(score: Score) -> Score:
    for metric in score.metrics:
        _finite(metric.value, f"{metric.name!r} =")
        _finite(metric.weight, f"the weight of {metric.name!r} =")
    if not math.isfinite(score.value):
        raise EvaluationError("the metric returned a Score in which no metric has weight; give one a weight above 0")
    return score


def _from_mapping(values: Mapping[Any, Any]) -> Score:
    feedback = values.get("feedback")
    if feedback is not None and not isinstance(feedback, str):
        raise EvaluationError(f"the metric returned a 'feedback' of type {type(feedback).__name__}; it must be text")
    numbers = {str(name): _finite(number, f"{name!r} =") for name, number in values.items() if name != "feedback"}
    if not numbers:
        raise EvaluationError(f"the metric returned a dict without numbers; {_RETURN}")
    weight = 0.0 if "score" in numbers else 1.0
    metrics = tuple(Metric(name, number, 1.0 if name == "score" else weight) for name, number in numbers.items())
    return Score(metrics=metrics, feedback=feedback)


def _finite(value: Any, what: str) -> float:
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()
    if not isinstance(value, Real | Decimal):
        kind = "None" if value is None else f"a {type(value).__name__}"
        raise EvaluationError(f"the metric returned {what + ' ' if what else ''}{kind}; {_RETURN}")
    number = float(value)
    if not math.isfinite(number):
        raise EvaluationError(
            f"the metric returned {what + ' ' if what else ''}{number}, which is no score; return a finite number, "
            "or raise an error when the answer can't be scored"
        )
    return number
