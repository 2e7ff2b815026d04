"""The end of a search: the leaders race on validation samples, the winner meets the start on untouched ones."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from rollouts.dtypes import Evaluation, Program, Sample
from rollouts.errors import TooManyFailures
from rollouts.evaluation.summary import scores_by_sample
from rollouts.prompt_optimization.constraints import ENOUGH_SEEN
from rollouts.prompt_optimization.plan import Plan
from rollouts.prompt_optimization.search import leading, pairs_of, results_of, tell_infeasible, watch
from rollouts.prompt_optimization.selection import Candidate, Selector
from rollouts.prompt_optimization.selection import Cell as Asked
from rollouts.prompt_optimization.selection.finals import Finals
from rollouts.prompt_optimization.space import Programs
from rollouts.prompt_optimization.study import Study, cells_of
from rollouts.prompt_optimization.types import GenerationStats, OptimizationResult, ScoredProgram, TestReport
from rollouts.stats import Verdict, remarks, verdict


async def finalists(
    study: Study, selector: Selector, space: Programs, val: Sequence[Sample], plan: Plan
) -> ScoredProgram:
    """The leaders race on validation samples they have not seen; the best of them, or the start, is the winner.

    The start races like any other, so a winner's estimate is never below the start's. Where the search ended for what
    it knew, there is no race, and its budget is saved but for a look at constraints. A candidate that breaks a
    constraint on latency or cost leaves the race or is passed over, and an event says so.
    """
    budget = _payable(study, plan, leading(selector, space))
    settled = plan.raced and selector.should_stop()
    race = 0 if settled else budget - min(plan.look, budget)
    finals = Finals(
        selector,
        top_k=plan.top_k,
        budget=race,
        feasible=lambda candidate: _feasible(study, space, candidate),
    )
    while not study.stopping and (cells := finals.ask()):
        evaluations = await study.evaluate(pairs_of(space, val, cells), phase="validate")
        watch(study, space, cells, evaluations)
        selector.record(results_of(cells, evaluations))
        finals.halve()
    contenders = {*finals.alive, space.start}
    if plan.raced and study.violations.watching:
        enough = ENOUGH_SEEN if race else 0
        contenders |= {entry.candidate for entry in selector.ranking() if entry.n >= enough}
    return await _feasible_leader(study, selector, space, val, contenders, budget - race + finals.left)


async def _feasible_leader(
    study: Study,
    selector: Selector,
    space: Programs,
    val: Sequence[Sample],
    contenders: Collection[Candidate],
    budget: int,
) -> ScoredProgram:
    """The best contender that keeps the constraints by what is known of it. One of which little is known runs on more
    samples before, as far as `budget` goes: few rollouts may just have been lucky."""
    while True:
        ranking = (entry for entry in selector.ranking() if entry.candidate in contenders)
        entry = next((entry for entry in ranking if _feasible(study, space, entry.candidate)), None)
        if entry is None:
            return space.scored(space.start, None, 0)
        candidate, program = entry.candidate, space.program(entry.candidate)
        if not study.violations.watching:
            return space.scored(candidate, entry.mean, entry.n)
        study.violations.note(program, study.known(cells_of(program, val)))
        missing = min(budget, ENOUGH_SEEN - study.violations.count(program))
        if candidate != space.start and missing > 0 and not study.stopping:
            cells = [Asked(candidate, sample) for sample in selector.unseen(candidate)[:missing]]
            if cells:
                budget -= len(cells)
                evaluations = await study.evaluate(pairs_of(space, val, cells), phase="validate")
                watch(study, space, cells, evaluations)
                selector.record(results_of(cells, evaluations))
                continue
        if candidate == space.start or not _breaks(study, space, candidate):
            return space.scored(candidate, entry.mean, entry.n)


def _payable(study: Study, plan: Plan, leader: Program) -> int:
    """As much of the planned finals as is left when the final check is paid: a run that was killed may have less."""
    payable = plan.finals
    while payable and not study.affords(payable, plan, leader):
        payable = payable * 3 // 4
    return payable


def _feasible(study: Study, space: Programs, candidate: Candidate) -> bool:
    return candidate == space.start or study.keeps(space.program(candidate))


def _breaks(study: Study, space: Programs, candidate: Candidate) -> bool:
    """Whether the candidate breaks a constraint by the plain estimates of what was seen, or was found to before."""
    program, violations = space.program(candidate), study.violations
    if not study.keeps(program):
        return True
    broken = violations.against(program, violations.estimated(program))
    if broken:
        tell_infeasible(study, program, broken, **space.describe(candidate))
    return bool(broken)


class VerdictSettings(Protocol):
    """What the verdict asks for; see `MIPROConfig`."""

    @property
    def confidence(self) -> float: ...
    @property
    def min_effect(self) -> float: ...


async def final_check(
    study: Study,
    start: Program,
    winner: Program,
    test: Sequence[Sample],
    baseline: Sequence[asyncio.Task[list[Evaluation]]],
    settings: VerdictSettings,
    *,
    tried: bool,
) -> tuple[TestReport, Verdict]:
    """Start and winner on the same untouched samples. When the start itself won, nothing more is paid.

    A winner that these samples do not show to keep the constraints is passed over for the start. `tried` says whether
    anything else was: a start without rivals is no reason to say `keep`. Raises TooManyFailures where the model
    was away.
    """
    of_start = _answered([evaluation for part in baseline for evaluation in await part])
    before = after = scores_by_sample(of_start)
    same, passed_over, failed = winner.digest == start.digest, "", list[str]()
    if not same:
        of_winner = _answered(await study.evaluate(cells_of(winner, test), phase="test"))
        after = scores_by_sample(of_winner)
        failed = [one.sample_id for one in of_winner if one.failure is not None and one.failure.of_program]
        if broken := _unproven(study, winner, of_winner):
            gap = _mean_gap(before, after)
            passed_over = f"no candidate that keeps the constraints is better than the start: the best one ({gap}) is "
            passed_over += f"passed over: {broken}"
            same, after = True, before
    settled = verdict(
        before,
        after,
        failed=failed,
        confidence=settings.confidence,
        min_effect=settings.min_effect,
        same=same and tried,
    )
    if same and not tried:
        settled = replace(settled, decision="undecided", reason="the run ended before anything else was tried")
    elif not same and not after and study.stopping:
        settled = replace(settled, reason="the final check did not run")
    reasons = [passed_over or settled.reason, _others_passed_over(study, start) if same and not passed_over else ""]
    if broken := "; ".join(study.violations.unproven(start, of_start)):
        reasons.append(f"the start itself is not shown to keep the constraints: {broken}")
    settled = replace(settled, reason="; ".join(filter(None, reasons)))
    study.emit("verdict", **settled.to_json())
    return TestReport(baseline=before, best=after), settled


def _answered(evaluations: list[Evaluation]) -> list[Evaluation]:
    """The evaluations; raises TooManyFailures where the model was away for most of them: the run may be resumed, and
    makes its check then."""
    away = [one.failure.message for one in evaluations if one.failure is not None and one.failure.outage]
    if len(away) > len(evaluations) / 2:
        raise TooManyFailures(
            f"the model gave no answer to {len(away)} of {len(evaluations)} samples of the final check, for example: "
            f"{away[0]}; resume the run when it is back"
        )
    return evaluations


def _unproven(study: Study, winner: Program, evaluations: Sequence[Evaluation]) -> str:
    """Why the winner may not ship, for want of proof that it keeps the constraints; empty when there is nothing."""
    broken = study.violations.against(winner, study.violations.unproven(winner, evaluations))
    if broken:
        tell_infeasible(study, winner, broken)
    return "; ".join(broken)


def _mean_gap(before: Mapping[str, float], after: Mapping[str, float]) -> str:
    gaps = [after[sample] - before[sample] for sample in before.keys() & after.keys()]
    return f"{sum(gaps) / len(gaps):+.3f}" if gaps else "not scored"


def _others_passed_over(study: Study, start: Program) -> str:
    count = len(study.violations.infeasible.keys() - {start.digest})
    if not count:
        return ""
    return f"{count} {'candidate was' if count == 1 else 'candidates were'} left out for the constraints"


def _head_room(
    study: Study, population: Sequence[ScoredProgram], val: Sequence[Sample], report: TestReport
) -> tuple[str, ...]:
    scored = [(entry.score, entry.n) for entry in population if entry.score is not None]
    rows = [scores_by_sample(study.known(cells_of(entry.program, val))) for entry in population]
    return remarks(list(report.baseline.values()), scored, rows=rows)


def result_of(
    study: Study,
    start: Program,
    population: Sequence[ScoredProgram],
    winner: ScoredProgram,
    history: Sequence[GenerationStats],
    checked: tuple[TestReport, Verdict],
    *,
    val: Sequence[Sample],
    front: Sequence[ScoredProgram] = (),
) -> OptimizationResult:
    """Everything that a run has to say; `population` is sorted, best first, and scored on `val`, `checked` is what
    `final_check` found. A winner that it passed over gives way to the start."""
    report, decision = checked
    initial = next(
        (entry for entry in population if entry.program.digest == start.digest), ScoredProgram(program=start)
    )
    if winner.program.digest in study.violations.infeasible:
        winner = initial
    # Where a gain is shown, there is nothing to say about why there might be none.
    notes = () if decision.decision == "ship" else _head_room(study, population, val, report)
    study.emit("headroom", notes=list(notes))
    cut = study.evaluator.answers.notes(winner.program.digest, "the best prompt")
    notes = (*study.remarks, *study.proposals.notes(), *cut, *notes, *study.violations.notes(start))
    phases = {name.removeprefix("task/"): spend for name, spend in study.ledger.by_phase.items()}
    summary: dict[str, Any] = {
        "best_score": winner.score,
        "baseline_score": initial.score,
        "verdict": decision.to_json(),
        "notes": list(notes),
        "trials": len(history),
        "stop_reason": study.why_ended(),
        "start_program": start.digest,
        "best_program": winner.program.digest,
        "spend_by_phase": {name: spend.to_json() for name, spend in phases.items()},
        "violations": study.violations.to_json(),
    }
    return OptimizationResult(
        best=winner,
        population=tuple(population),
        front=tuple(front),
        history=tuple(history),
        initial=initial,
        verdict=decision,
        test=report,
        spend=study.ledger.spent,
        spend_by_phase=phases,
        stop_reason=study.why_ended(),
        run_id=study.run_id,
        details={"summary": summary},
    )
