"""The end of a search: finalists on all validation samples, the winner against the start on untouched ones."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rollouts.dtypes import Evaluation, Program, PromptTemplate, Sample
from rollouts.evaluation import Cell
from rollouts.evaluation.summary import scores_by_sample
from rollouts.prompt_optimization.constraints import Observed, violations
from rollouts.prompt_optimization.plan import Plan
from rollouts.prompt_optimization.search import pairs_of, results_of
from rollouts.prompt_optimization.selection import Candidate, Selector
from rollouts.prompt_optimization.selection import Cell as Asked
from rollouts.prompt_optimization.space import PromptSpace
from rollouts.prompt_optimization.study import Study
from rollouts.prompt_optimization.types import GenerationStats, MIPROConfig, OptimizationResult, TestReport
from rollouts.stats import Verdict, verdict


async def finalists(
    study: Study, selector: Selector, space: PromptSpace, val: Sequence[Sample], plan: Plan
) -> PromptTemplate:
    """The best candidates on the validation samples they have not seen, then the best of those that saw all.

    The start has seen all, so the winner is never worse than it on validation; only when the budget paid for no
    finalist the best estimate decides. A candidate that breaks a constraint on latency or cost is passed over, and an
    event says so.
    """
    cells = _missing_cells(study, selector, space, len(val), plan)
    if cells and not study.stopping:
        selector.record(results_of(cells, await study.evaluate(pairs_of(space, val, cells), phase="validate")))
    ranking = selector.ranking()
    complete = [entry for entry in ranking if entry.candidate == space.start or not selector.unseen(entry.candidate)]
    unseen_ahead = ranking[: ranking.index(complete[0])] if len(complete) == 1 else []
    for entry in (*unseen_ahead, *complete):
        if not _breaks(study, space, entry.candidate, val):
            return space.scored(entry.candidate, entry.estimate)
    return space.start_template


def _missing_cells(study: Study, selector: Selector, space: PromptSpace, samples: int, plan: Plan) -> list[Asked]:
    """What the finalists have not seen: as many of the best `top_k` as `plan.finals` and the budget pay for."""
    cells: list[Asked] = []
    finalists = 0
    for entry in selector.ranking():
        if finalists == plan.top_k:
            break
        if entry.candidate == space.start:
            continue
        missing = [Asked(entry.candidate, sample) for sample in selector.unseen(entry.candidate)]
        if len(cells) + len(missing) <= max(plan.finals, samples) and study.affords(
            len(cells) + len(missing) + plan.test
        ):
            finalists += 1
            cells += missing
    return cells


def _breaks(study: Study, space: PromptSpace, candidate: Candidate, val: Sequence[Sample]) -> bool:
    if candidate == space.start:
        return False
    observed = Observed.of(study.known([Cell(space.program(candidate), sample) for sample in val]))
    broken = violations(study.constraints, observed)
    if broken:
        study.emit("infeasible", **space.describe(candidate), broken=broken)
    return bool(broken)


async def final_check(
    study: Study,
    start: PromptTemplate,
    winner: PromptTemplate,
    test: Sequence[Sample],
    baseline: asyncio.Task[list[Evaluation]],
    config: MIPROConfig,
) -> tuple[TestReport, Verdict]:
    """Start and winner on the same untouched samples. When the start itself won, nothing more is paid."""
    before = scores_by_sample(await baseline)
    if winner.digest == start.digest:
        after = before
    else:
        program = Program.single(winner)
        after = scores_by_sample(await study.evaluate([Cell(program, sample) for sample in test], phase="test"))
    decision = verdict(
        before,
        after,
        confidence=config.confidence,
        min_effect=config.min_effect,
        same=winner.digest == start.digest,
    )
    study.emit("verdict", **decision.to_json())
    return TestReport(baseline=before, best=after), decision


def result_of(
    study: Study,
    space: PromptSpace,
    selector: Selector,
    winner: PromptTemplate,
    history: Sequence[GenerationStats],
    report: TestReport,
    decision: Verdict,
) -> OptimizationResult:
    """Everything that a run has to say."""
    population = tuple(space.scored(entry.candidate, entry.estimate) for entry in selector.ranking())
    baseline = next((t.score for t in population if t.digest == space.start_template.digest), None)
    phases = {name.removeprefix("task/"): spend for name, spend in study.ledger.by_phase.items()}
    summary: dict[str, Any] = {
        "best_score": winner.score,
        "baseline_score": baseline,
        "verdict": decision.to_json(),
        "trials": len(history),
        "stop_reason": study.why_ended(),
        "start_program": Program.single(space.start_template).digest,
        "best_program": Program.single(winner).digest,
        "spend_by_phase": {name: spend.to_json() for name, spend in phases.items()},
    }
    return OptimizationResult(
        best_template=winner,
        final_population=population,
        history=tuple(history),
        initial_template=replace(space.start_template, score=baseline),
        verdict=decision,
        test=report,
        spend=study.ledger.spent,
        spend_by_phase=phases,
        stop_reason=study.why_ended(),
        run_id=study.run_id,
        details={"summary": summary},
    )
