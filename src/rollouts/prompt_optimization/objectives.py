"""What a candidate is measured by beside its score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rollouts.dtypes import Evaluation, Program, Sample
from rollouts.prompt_optimization.configs import Objective
from rollouts.prompt_optimization.pareto import front
from rollouts.prompt_optimization.study import Study, cells_of
from rollouts.prompt_optimization.types import ScoredProgram


def objectives(
    study: Study, program: Program, evaluations: Sequence[Evaluation], names: Sequence[str]
) -> dict[str, float]:
    """What `names` other than the score come to: micro-dollars and seconds of a scored rollout, prompt tokens."""
    scored = [evaluation for evaluation in evaluations if evaluation.score is not None]
    out: dict[str, float] = {}
    if scored and "cost" in names:
        out["cost"] = sum(e.full_micros for e in scored) / len(scored)
    if scored and "latency" in names:
        out["latency"] = sum(e.latency_s for e in scored) / len(scored)
    if "length" in names:
        out["length"] = float(sum(map(study.prompt_tokens, program.modules.values())))
    return out


def with_objectives(
    study: Study, population: Sequence[ScoredProgram], val: Sequence[Sample], names: Sequence[Objective] = ("score",)
) -> tuple[list[ScoredProgram], list[ScoredProgram]]:
    """The candidates with what else than the score is wanted of them, by `names` or by the study's constraints, over
    all their validation rollouts; and the front of them, empty where nothing else is."""
    limits = study.constraints
    every = (limits, *limits.modules.values())
    asked: dict[Objective, bool] = {
        "cost": any(one.max_cost_per_call_usd is not None for one in every),
        "latency": any(one.max_p95_latency_s is not None or one.max_latency_s is not None for one in every),
        "length": any(one.max_prompt_tokens is not None for one in every),
    }
    wanted = list(dict.fromkeys([*names, *(name for name, is_asked in asked.items() if is_asked)]))
    if len(wanted) < 2:
        return list(population), []
    measured = [
        replace(entry, objectives=objectives(study, entry.program, study.known(cells_of(entry.program, val)), wanted))
        for entry in population
    ]
    return measured, objective_front(measured, wanted)


def objective_front(population: Sequence[ScoredProgram], names: Sequence[str]) -> list[ScoredProgram]:
    """The scored candidates that no other one beats on all of `names`; empty when there is one objective only."""
    if len(names) < 2:
        return []
    measured = [
        entry
        for entry in population
        if entry.score is not None and all(name == "score" or name in entry.objectives for name in names)
    ]
    points = [
        tuple(entry.score or 0.0 if name == "score" else -entry.objectives[name] for name in names)
        for entry in measured
    ]
    return [measured[i] for i in front(points)]
