"""The end of a search: the leaders race on validation samples, the winner meets the start on untouched ones."""

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
from rollouts.prompt_optimization.selection.finals import Finals
from rollouts.prompt_optimization.space import PromptSpace
from rollouts.prompt_optimization.study import Study
from rollouts.prompt_optimization.types import GenerationStats, MIPROConfig, OptimizationResult, TestReport
from rollouts.stats import Verdict, verdict


async def finalists(
    study: Study, selector: Selector, space: PromptSpace, val: Sequence[Sample], plan: Plan
) -> PromptTemplate:
    """The leaders race on validation samples they have not seen; the best of them, or the start, is the winner.

    The start races like any other, so a winner's estimate is never below the start's. A candidate that breaks a
    constraint on latency or cost is passed over, and an event says so.
    """
    finals = Finals(selector, top_k=plan.top_k, budget=_payable(study, plan))
    while not study.stopping and (cells := finals.ask()):
        selector.record(results_of(cells, await study.evaluate(pairs_of(space, val, cells), phase="validate")))
        finals.halve()
    contenders = {*finals.alive, space.start}
    for entry in selector.ranking():
        if entry.candidate in contenders and not _breaks(study, space, entry.candidate, val):
            return space.scored(entry.candidate, entry.mean)
    return space.start_template


def _payable(study: Study, plan: Plan) -> int:
    """As much of the planned finals as is left when the final check is paid: a run that was killed may have less."""
    payable = plan.finals
    while payable and not study.affords(payable + plan.unstarted_check):
        payable = payable * 3 // 4
    return payable


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
    baseline: Sequence[asyncio.Task[list[Evaluation]]],
    config: MIPROConfig,
    *,
    tried: bool,
) -> tuple[TestReport, Verdict]:
    """Start and winner on the same untouched samples. When the start itself won, nothing more is paid.

    `tried` says whether anything else was: a start without rivals is no reason to say `keep`.
    """
    before = scores_by_sample([evaluation for part in baseline for evaluation in await part])
    same = winner.digest == start.digest
    if same:
        after = before
    else:
        program = Program.single(winner)
        after = scores_by_sample(await study.evaluate([Cell(program, sample) for sample in test], phase="test"))
    decision = verdict(
        before,
        after,
        confidence=config.confidence,
        min_effect=config.min_effect,
        same=same and tried,
    )
    if same and not tried:
        decision = replace(decision, decision="undecided", reason="the run ended before anything else was tried")
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
    population = tuple(space.scored(entry.candidate, entry.mean) for entry in selector.ranking())
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
