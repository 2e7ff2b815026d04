"""Many evaluations in a few numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from rollouts.dtypes import Evaluation, Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSummary:
    """`mean` is over scored rollouts only (None when there are none); failures are counted, never scored."""

    mean: float | None
    scored: int
    failed: int
    missing: int
    usage: Usage
    cost_micros: int
    failures: Mapping[str, int] = field(default_factory=dict)


def is_missing(evaluation: Evaluation) -> bool:
    """True when the rollout did not take place: the budget or the run ended before it."""
    return evaluation.failure is not None and evaluation.failure.stage == "budget"


def scores_by_sample(evaluations: Iterable[Evaluation]) -> dict[str, float]:
    """Sample id -> score, of the scored ones; repeats of a sample are averaged."""
    sums: dict[str, list[float]] = {}
    for evaluation in evaluations:
        if evaluation.score is not None:
            sums.setdefault(evaluation.sample_id, []).append(evaluation.score.value)
    return {sample: sum(values) / len(values) for sample, values in sums.items()}


def summarise(evaluations: Iterable[Evaluation]) -> EvaluationSummary:
    """The mean, how many had no score and why, and what it took."""
    values: list[float] = []
    failures: Counter[str] = Counter()
    missing, cost = 0, 0
    usage = Usage()
    for evaluation in evaluations:
        usage, cost = usage + evaluation.usage, cost + evaluation.cost_micros
        if evaluation.score is not None:
            values.append(evaluation.score.value)
        elif is_missing(evaluation):
            missing += 1
        elif evaluation.failure is not None:
            failures[f"{evaluation.failure.kind}: {evaluation.failure.message}"] += 1
    return EvaluationSummary(
        mean=sum(values) / len(values) if values else None,
        scored=len(values),
        failed=failures.total(),
        missing=missing,
        usage=usage,
        cost_micros=cost,
        failures=dict(failures.most_common()),
    )
