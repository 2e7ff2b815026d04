"""The search loop shared by optimizers with a selector: rounds of decisions, calls in parallel."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rollouts.dtypes import Evaluation, Program, Sample
from rollouts.evaluation import Cell
from rollouts.evaluation.summary import is_missing
from rollouts.prompt_optimization.demos import DemoSet
from rollouts.prompt_optimization.plan import Plan
from rollouts.prompt_optimization.proposers import Proposal, Tried
from rollouts.prompt_optimization.selection import Candidate, Result, Selector
from rollouts.prompt_optimization.selection import Cell as Asked
from rollouts.prompt_optimization.space import Programs, ProgramSpace
from rollouts.prompt_optimization.study import Study
from rollouts.prompt_optimization.types import GenerationStats

Texts = list[list[Proposal]]
"""New texts for each factor of texts, in the order of the space."""


@dataclass(slots=True)
class Reproposal:
    """Further candidates while the search runs, grounded in its scores.

    Each round starts at a fixed trial. Demonstration sets (`vary`: factor -> its levels, best first, and the number of
    the round -> factor -> sets, each with the level that it varies) join at once, texts (`propose`) at a fixed later
    trial, so that decisions depend on no clock. A selector that knows enough of the candidates that there are, or has
    run all of them on all samples, gets the next ones before it stops; not when one is at `target`.
    """

    rounds: int
    trials: int
    propose: Callable[[Mapping[int, Sequence[Tried]], int], Coroutine[Any, Any, Texts]]
    vary: Callable[[Mapping[int, Sequence[int]], int], Mapping[int, Sequence[tuple[DemoSet, int]]]]
    target: float | None = None
    _task: asyncio.Task[Texts] | None = field(default=None)
    _started: int = 0

    async def step(self, told: int, study: Study, selector: Selector, space: ProgramSpace) -> None:
        """Called after every told trial."""
        if self._content(study, selector):
            await self.at_once(study, selector, space)
            return
        join = self.trials * (2 * self._started) // (2 * self.rounds + 1) if self.rounds else 0
        if told >= join or _failed(self._task):
            await self._join(study, selector, space)
        begin = self.trials * (2 * self._started + 1) // (2 * self.rounds + 1)
        if self._task is None and begin <= told < self.trials - 1:
            self._start(study, selector, space)

    async def at_once(self, study: Study, selector: Selector, space: ProgramSpace) -> bool:
        """Lets the candidates join that are under way, and those of the next round; whether there were any. None do
        when the search is over."""
        if study.stopping or study.search_ended is not None:
            return False
        waiting = self._task is not None
        await self._join(study, selector, space)
        started = self._start(study, selector, space)
        await self._join(study, selector, space)
        return waiting or started

    def _start(self, study: Study, selector: Selector, space: ProgramSpace) -> bool:
        """Starts the next round, if there is one; its demonstration sets join."""
        if self._started >= self.rounds:
            return False
        self._started += 1
        for factor, sets in self.vary(tried_demos(selector, space), self._started).items():
            for entry, level in sets:
                space.add(factor, entry)
                selector.add_level(factor, level)
        self._task = study.spawn(self.propose(tried_texts(selector, space), self._started))
        return True

    async def _join(self, study: Study, selector: Selector, space: ProgramSpace) -> None:
        if self._task is None:
            return
        texts, self._task = await self._task, None
        for factor, proposals in enumerate(texts):
            for proposal in proposals:
                space.add(factor, proposal)
                selector.add_level(factor)
        study.emit("proposals", round=self._started, added=sum(map(len, texts)))

    def _content(self, study: Study, selector: Selector) -> bool:
        """Whether the search would stop for what it knows, with candidates to come."""
        if study.stopping or study.search_ended is not None or not selector.should_stop():
            return False
        return self.target is None or selector.recommend().low < self.target


def _failed(task: asyncio.Task[Texts] | None) -> bool:
    """Whether it ended by an error, which ends the run: nothing more is to be paid for."""
    return task is not None and task.done() and not task.cancelled() and task.exception() is not None


def tried_texts(selector: Selector, space: ProgramSpace) -> dict[int, list[Tried]]:
    """Factor of texts -> the best candidate of every text tried, best first."""
    ranking = selector.ranking()
    out: dict[int, list[Tried]] = {}
    for factor in space.texts():
        best: dict[int, Tried] = {}
        for entry in ranking:
            level = entry.candidate[factor]
            best.setdefault(level, Tried(text=space.text(factor, level), score=entry.estimate, n=entry.n))
        out[factor] = list(best.values())
    return out


def tried_demos(selector: Selector, space: ProgramSpace) -> dict[int, list[int]]:
    """Factor of demonstrations -> the levels tried, by the best candidate of each, best first."""
    ranking = selector.ranking()
    return {factor: list(dict.fromkeys(entry.candidate[factor] for entry in ranking)) for factor in space.demos()}


def results_of(cells: Sequence[Asked], evaluations: Sequence[Evaluation]) -> list[Result]:
    """Evaluations as the selector's results."""
    pairs = zip(cells, evaluations, strict=True)
    return [Result(cell, evaluation.value, is_missing(evaluation)) for cell, evaluation in pairs]


def watch(study: Study, space: Programs, cells: Sequence[Asked], evaluations: Sequence[Evaluation]) -> None:
    """Notes what the rollouts show about the constraints, and tells of candidates that are now known to break one."""
    found: dict[Candidate, list[Evaluation]] = {}
    for cell, evaluation in zip(cells, evaluations, strict=True):
        found.setdefault(cell.candidate, []).append(evaluation)
    for candidate, mine in found.items():
        program = space.program(candidate)
        if broken := study.violations.note(program, mine):
            tell_infeasible(study, program, broken, **space.describe(candidate))


def tell_infeasible(study: Study, program: Program, broken: Sequence[str], **known: Any) -> None:
    """Tells that a program is out of the race, and why."""
    study.emit("infeasible", program=program.digest, broken=list(broken), phase=study.phase, **known)


_KEPT = "the rest of the budget is kept for validation and the final check"
_ALL_TRIED = "nothing was left to try: all candidates ran on all validation samples"
_NOTHING_FITS = "not one more rollout fits in what is left of the budget"
_SETTLING_S = 0.05
"""How long to wait where calls under way hold back what the next round needs."""

Round = tuple[list[Asked], asyncio.Task[list[Evaluation]]]


async def search(
    study: Study,
    selector: Selector,
    space: ProgramSpace,
    val: Sequence[Sample],
    baseline: asyncio.Task[list[Evaluation]],
    plan: Plan,
    reproposal: Reproposal,
    patience: int | None = None,
) -> list[GenerationStats]:
    """Asks and tells until the selector has nothing more to ask, is content, or the budget is needed for the end; or
    until `patience` rollouts were told since another candidate came to lead.

    Rounds are told in the order of asking, and how many are under way depends on what was told only: with a seed the
    decisions are the same whatever the order of arrival. The start's scores join before the first round is told.
    """
    lookahead = _lookahead(study.slots, plan)
    round_size = plan.minibatch if plan.raced else 1
    rounds: deque[Round] = deque()
    history: list[GenerationStats] = []
    waiting, stalled, lead = 0, False, _Lead(space.start, patience)
    while True:
        short = False
        while waiting < lookahead and not (stalled and rounds) and not _content(study, selector):
            short = not study.affords(plan.finals + plan.minibatch, plan, leading(selector, space))
            cells = [] if short else selector.ask(round_size)
            if not cells:
                break
            rounds.append((cells, study.spawn(study.evaluate(pairs_of(space, val, cells), phase="search"))))
            waiting += len(cells)
        if not rounds:
            if short or len(history) >= plan.trials - 1 or not await reproposal.at_once(study, selector, space):
                break
            continue
        if not history:
            await _record_start(study, selector, space, baseline, plan.baseline)
        cells, running = rounds.popleft()
        stalled = _tell(study, selector, space, cells, await running, history)
        waiting -= len(cells)
        study.search_ended = study.search_ended or lead.over(selector, len(cells))
        await reproposal.step(len(history), study, selector, space)
        if stalled and not rounds:
            if not study.waits_for_calls():
                study.search_ended = study.search_ended or _NOTHING_FITS
                break
            await asyncio.sleep(_SETTLING_S)
    _say_why(study, plan, len(history), short)
    if not history:
        await _record_start(study, selector, space, baseline, plan.baseline)
    return history


def _say_why(study: Study, plan: Plan, trials: int, short: bool) -> None:
    """Tells the study why a search ended before its last trial."""
    if study.search_ended is None and trials < max(1, plan.trials):
        study.search_ended = _KEPT if short or not plan.trials else _ALL_TRIED


def _tell(
    study: Study,
    selector: Selector,
    space: ProgramSpace,
    cells: Sequence[Asked],
    evaluations: Sequence[Evaluation],
    history: list[GenerationStats],
) -> bool:
    """Tells a round, which is a trial unless the study was stopped before anything of it ran; whether nothing ran."""
    watch(study, space, cells, evaluations)
    results = results_of(cells, evaluations)
    selector.tell(results)
    missing = all(result.missing for result in results)
    if not (missing and study.stopping):
        history.append(_stats(len(history) + 1, selector, results))
        _report(study, space, selector, cells, history[-1])
    return missing


def leading(selector: Selector, space: Programs) -> Program:
    """The program that would win now."""
    return space.program(selector.recommend().candidate)


class _Lead:
    """For how many results the same candidate has led."""

    def __init__(self, start: Candidate, patience: int | None) -> None:
        self._leader, self._results, self._patience = start, 0, patience

    def over(self, selector: Selector, told: int) -> str | None:
        """Why the search is over after `told` more results, None while it is not."""
        if self._patience is None:
            return None
        leader = selector.recommend().candidate
        self._results = self._results + told if leader == self._leader else 0
        self._leader = leader
        return f"{self._results} rollouts brought no better candidate" if self._results >= self._patience else None


async def _record_start(
    study: Study, selector: Selector, space: ProgramSpace, baseline: asyncio.Task[list[Evaluation]], samples: int
) -> None:
    cells = [Asked(space.start, sample) for sample in range(samples)]
    evaluations = await baseline
    watch(study, space, cells, evaluations)
    selector.record(results_of(cells, evaluations))


def pairs_of(space: Programs, val: Sequence[Sample], cells: Sequence[Asked]) -> list[Cell]:
    """What to evaluate for the selector's cells."""
    return [Cell(space.program(cell.candidate), val[cell.sample]) for cell in cells]


def _lookahead(slots: int, plan: Plan) -> int:
    """Cells that may be under way: enough to fill the slots while a slow call is waited for, and not more than a sixth
    of the search, because decisions are taken without what is under way."""
    least = slots + max(slots, plan.minibatch)
    return min(max(least, plan.trials * plan.minibatch // 6), max(least, 12 * slots))


def _content(study: Study, selector: Selector) -> bool:
    if study.search_ended is None and selector.should_stop():
        study.search_ended = selector.why_stopped()
    return study.stopping or study.search_ended is not None


def _stats(number: int, selector: Selector, results: Sequence[Result]) -> GenerationStats:
    scores = [result.score for result in results if result.score is not None]
    mean = sum(scores) / len(scores) if scores else math.nan
    return GenerationStats(number, selector.recommend().estimate, mean, len(scores))


def _report(
    study: Study, space: ProgramSpace, selector: Selector, cells: Sequence[Asked], stats: GenerationStats
) -> None:
    best = selector.recommend()
    study.best_score = best.estimate
    tried = {cell.candidate for cell in cells}
    study.emit(
        "trial",
        trial=stats.generation,
        **space.describe(cells[0].candidate if len(tried) == 1 else best.candidate),
        candidates=len(tried),
        score=None if math.isnan(stats.mean_score) else stats.mean_score,
        scored=stats.num_evaluated,
        best=best.estimate,
        best_candidate=list(best.candidate),
    )
