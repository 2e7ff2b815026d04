"""What the built-in metrics share: their type, the ground truth, and the wording of feedback."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rollouts.dtypes import Metric, Sample, Score, Trajectory, canonical_json, value_text
from rollouts.errors import EvaluationError

_SHOWN = 200


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class BuiltIn:
    """A built-in score function. `options` (JSON values) and `version` are part of what it computes, so of its key.

    `asks` says that it calls a model, `any_of` that it takes a list in the ground truth for several accepted answers.
    """

    name: str
    options: Mapping[str, Any]
    score: Callable[[Trajectory, Sample], Score | Awaitable[Score]]
    version: int = 1
    asks: bool = False
    any_of: bool = False

    def __call__(self, trajectory: Trajectory, sample: Sample) -> Score | Awaitable[Score]:
        return self.score(trajectory, sample)

    @property
    def identity(self) -> str:
        """Name, version and options: two metrics with the same identity score alike."""
        return f"{self.name}@{self.version}{canonical_json(dict(self.options))}"

    def unscorable(self, sample: Sample) -> str | None:
        """Why no answer to `sample` can be scored; None where one can, or where only a model could tell."""
        if self.asks:
            return None
        try:
            self.score(Trajectory(messages=(), output=""), sample)
        except EvaluationError as error:
            return str(error)
        return None

    def __repr__(self) -> str:
        return f"<metric {self.identity}>"


def score_of(name: str, value: float | bool, feedback: str) -> Score:
    """A score of one metric."""
    return Score(metrics=(Metric(name, float(value)),), feedback=feedback)


def truths(sample: Sample) -> tuple[Any, ...]:
    """The accepted answers: a list, tuple or set in the ground truth means "any of these".

    Raises EvaluationError when there is none.
    """
    truth = sample.ground_truth
    accepted: tuple[Any, ...] = tuple(truth) if isinstance(truth, list | tuple) else (truth,)
    if isinstance(truth, set | frozenset):
        accepted = tuple(sorted(truth, key=as_text))
    if not accepted or any(one is None for one in accepted):
        raise EvaluationError(
            f"sample {sample.id!r} has no ground truth, and the metric compares with it; "
            "name the ground-truth column of the data set, or use a metric that needs none"
        )
    return accepted


def as_text(value: Any) -> str:
    """A ground truth as answers are compared with it: as a model is shown it, but `5` for 5.0 and JSON without spaces,
    its keys sorted."""
    match value:
        case float() if value.is_integer():
            return str(int(value))
        case dict() | list():
            return canonical_json(value)
        case _:
            return value_text(value)


def shown(text: str) -> str:
    """`text` quoted for feedback, its middle left out when it is long."""
    text = text.strip()
    if len(text) > _SHOWN:
        text = f"{text[: _SHOWN // 2]} ... {text[-_SHOWN // 2 :]}"
    return repr(text)


def expected(accepted: tuple[Any, ...], got: str) -> str:
    """`Expected X, got Y.`"""
    wanted = " or ".join(shown(as_text(one)) for one in accepted[:3])
    more = f" (or {len(accepted) - 3} more)" if len(accepted) > 3 else ""
    return f"Expected {wanted}{more}, got {shown(got) if got.strip() else 'an empty answer'}."
