"""The end of a search: finalists on all validation samples, the winner against the start on untouched ones."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from rollouts.dtypes import Evaluation, Program, PromptTemplate, Sample
from rollouts.evaluation import Cell
from rollouts.evaluation.summary import scores_by_sample
from rollouts.prompt_optimization.constraints import Observed, violations
from rollouts.prompt_optimization.plan import Plan
from rollouts.prompt_optimization.search import results_of
from rollouts.prompt_optimization.selection import Candidate, Recommendation, Selector
from rollouts.prompt_optimization.selection import Cell as Asked
from rollouts.prompt_optimization.space import PromptSpace
from rollouts.prompt_optimization.study import Study
from rollouts.prompt_optimization.types import GenerationStats, OptimizationResult, TestReport
from rollouts.stats import Verdict, verdict


async def finalists(
    study: Study, selector: Selector, space: PromptSpace, val: Sequence[Sample], plan: Plan
) -> PromptTemplate:
    """The best candidates on the validation samples they have not seen, then the best of those that saw all.

    The start has seen all, so the winner is never worse than it on validation. A candidate that breaks a constraint on
    latency or cost is passed over, and the event says so.
    """
    entries: list[Recommendation] = []
    cells: list[Asked] = []
    for entry in selector.ranking():
        if len(entries) >= plan.top_k:
            break
        missing = selector.unseen(entry.candidate)
        if entry.candidate != space.start and len(cells) + len(missing) <= max(plan.finals, len(val)):
            entries.append(entry)
            cells += [Asked(entry.candidate, sample) for sample in missing]
    if not study.stopping and study.affords(len(cells) + plan.test):
        pairs = [Cell(space.program(cell.candidate), val[cell.sample]) for cell in cells]
        selector.record(results_of(cells, await study.evaluate(pairs, phase="validate")))
    for entry in selector.ranking():
        if selector.unseen(entry.candidate) and entry.candidate != space.start:
            continue
        if not _breaks(study, space, entry.candidate, val):
            return space.template(entry.candidate).replace(score=entry.estimate, id=space.template(entry.candidate).id)
    return space.start_template


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
) -> tuple[TestReport, Verdict]:
    """Start and winner on the same untouched samples. When the start itself won, nothing more is paid."""
    before = scores_by_sample(await baseline)
    if winner.digest == start.digest:
        after = before
    else:
        program = Program.single(winner)
        after = scores_by_sample(await study.evaluate([Cell(program, sample) for sample in test], phase="test"))
    decision = verdict(before, after, same=winner.digest == start.digest)
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
    population = tuple(
        space.template(entry.candidate).replace(score=entry.estimate, id=space.template(entry.candidate).id)
        for entry in selector.ranking()
    )
    baseline = next((t.score for t in population if t.digest == space.start_template.digest), None)
    phases = {name.removeprefix("task/"): spend for name, spend in study.ledger.by_phase.items()}
    summary: dict[str, Any] = {
        "best_score": winner.score,
        "baseline_score": baseline,
        "verdict": decision.to_json(),
        "trials": len(history),
        "stop_reason": study.why_ended(),
    }
    return OptimizationResult(
        best_template=winner,
        final_population=population,
        history=tuple(history),
        initial_template=space.start_template.replace(score=baseline, id=space.start_template.id),
        verdict=decision,
        test=report,
        spend=study.ledger.spent,
        spend_by_phase=phases,
        stop_reason=study.why_ended(),
        run_id=study.run_id,
        details={"summary": summary},
    )
