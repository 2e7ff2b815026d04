"""Does a candidate satisfy what the shipped prompt must satisfy? Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rollouts.budget import Constraints
from rollouts.dtypes import Evaluation


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """Latencies (seconds) and costs (micro-dollars) of a candidate's scored rollouts."""

    latencies: tuple[float, ...]
    costs: tuple[int, ...]

    @classmethod
    def of(cls, evaluations: Sequence[Evaluation]) -> Observed:
        scored = [evaluation for evaluation in evaluations if evaluation.score is not None]
        return cls(latencies=tuple(e.latency_s for e in scored), costs=tuple(e.cost_micros for e in scored))


def percentile_95(values: Sequence[float]) -> float:
    """The smallest value that at least 95 % of `values` do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-95 * len(ordered) // 100) - 1)]


def violations(constraints: Constraints, observed: Observed) -> list[str]:
    """What is broken, in words; empty when nothing is, or nothing was observed."""
    out: list[str] = []
    if constraints.max_p95_latency_s is not None and observed.latencies:
        p95 = percentile_95(observed.latencies)
        if p95 > constraints.max_p95_latency_s:
            out.append(f"p95 latency {p95:.2f} s is above {constraints.max_p95_latency_s:g} s")
    if constraints.max_cost_per_call_usd is not None and observed.costs:
        mean = sum(observed.costs) / len(observed.costs) / 1e6
        if mean > constraints.max_cost_per_call_usd:
            out.append(f"${mean:.6f} a rollout is above ${constraints.max_cost_per_call_usd:g}")
    return out
