"""The search loop shared by optimizers with a selector: rounds of decisions, calls in parallel."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from rollouts.dtypes import Evaluation, Sample
from rollouts.evaluation import Cell
from rollouts.evaluation.summary import is_missing
from rollouts.prompt_optimization.plan import Plan
from rollouts.prompt_optimization.proposers import Proposal, Tried
from rollouts.prompt_optimization.selection import Cell as Asked
from rollouts.prompt_optimization.selection import Result, Selector
from rollouts.prompt_optimization.space import INSTRUCTION, PromptSpace
from rollouts.prompt_optimization.study import Study
from rollouts.prompt_optimization.types import GenerationStats


@dataclass(slots=True)
class Reproposal:
    """Further proposals while the search runs, grounded in its scores.

    Each round starts at a fixed trial and its proposals join at a fixed later one, so that decisions depend on no
    clock.
    """

    rounds: int
    trials: int
    propose: Callable[[Sequence[Tried], int], Coroutine[Any, Any, list[Proposal]]]
    _task: asyncio.Task[list[Proposal]] | None = field(default=None)
    _started: int = 0

    async def step(self, told: int, study: Study, selector: Selector, space: PromptSpace) -> None:
        """Called after every told trial."""
        join = self.trials * (2 * self._started) // (2 * self.rounds + 1) if self.rounds else 0
        if self._task is not None and told >= join:
            proposals, self._task = await self._task, None
            for proposal in proposals:
                space.instructions.append(proposal)
                selector.add_level(INSTRUCTION)
            study.emit("proposals", round=self._started, added=len(proposals))
        begin = self.trials * (2 * self._started + 1) // (2 * self.rounds + 1)
        if self._task is None and self._started < self.rounds and told >= begin and told < self.trials - 1:
            self._started += 1
            self._task = study.spawn(self.propose(tried_instructions(selector, space), self._started))


def tried_instructions(selector: Selector, space: PromptSpace) -> list[Tried]:
    """The best candidate of every instruction tried, best first."""
    out: dict[int, Tried] = {}
    for entry in selector.ranking():
        level = entry.candidate[INSTRUCTION]
        out.setdefault(level, Tried(text=space.instructions[level].text, score=entry.estimate, n=entry.n))
    return list(out.values())


def results_of(cells: Sequence[Asked], evaluations: Sequence[Evaluation]) -> list[Result]:
    """Evaluations as the selector's results."""
    pairs = zip(cells, evaluations, strict=True)
    return [Result(cell, evaluation.value, is_missing(evaluation)) for cell, evaluation in pairs]


Round = tuple[list[Asked], asyncio.Task[list[Evaluation]]]


async def search(
    study: Study,
    selector: Selector,
    space: PromptSpace,
    val: Sequence[Sample],
    baseline: asyncio.Task[list[Evaluation]],
    plan: Plan,
    reproposal: Reproposal,
) -> list[GenerationStats]:
    """Asks and tells until the selector has nothing more to ask, is content, or the budget is needed for the end.

    Rounds are told in the order of asking, and how many are under way depends on what was told only: with a seed the
    decisions are the same whatever the order of arrival. The start's scores join before the first round is told.
    """
    lookahead = _lookahead(study.slots, plan)
    held_back = plan.finals + plan.unstarted_check
    rounds: deque[Round] = deque()
    history: list[GenerationStats] = []
    waiting = 0
    while True:
        short = False
        while waiting < lookahead and not _content(study, selector):
            short = not study.affords(held_back + plan.minibatch)
            cells = [] if short else selector.ask(1)
            if not cells:
                break
            rounds.append((cells, study.spawn(study.evaluate(pairs_of(space, val, cells), phase="search"))))
            waiting += len(cells)
        if not rounds:
            break
        if not history:
            await _record_start(selector, space, baseline, plan.baseline)
        cells, running = rounds.popleft()
        results = results_of(cells, await running)
        selector.tell(results)
        waiting -= len(cells)
        history.append(_stats(len(history) + 1, selector, results))
        _report(study, space, selector, cells, history[-1])
        await reproposal.step(len(history), study, selector, space)
    if study.search_ended is None and (not plan.trials or (short and len(history) < plan.trials)):
        study.search_ended = "the rest of the budget is kept for validation and the final check"
    if not history:
        await _record_start(selector, space, baseline, plan.baseline)
    return history


async def _record_start(
    selector: Selector, space: PromptSpace, baseline: asyncio.Task[list[Evaluation]], samples: int
) -> None:
    cells = [Asked(space.start, sample) for sample in range(samples)]
    selector.record(results_of(cells, await baseline))


def pairs_of(space: PromptSpace, val: Sequence[Sample], cells: Sequence[Asked]) -> list[Cell]:
    """What to evaluate for the selector's cells."""
    return [Cell(space.program(cell.candidate), val[cell.sample]) for cell in cells]


def _lookahead(slots: int, plan: Plan) -> int:
    """Cells that may be under way: enough to fill the slots while a slow call is waited for, and not more than a sixth
    of the search, because decisions are taken without what is under way."""
    least = slots + max(slots, plan.minibatch)
    return min(max(least, plan.trials * plan.minibatch // 6), max(least, 12 * slots))


def _content(study: Study, selector: Selector) -> bool:
    if selector.should_stop() and study.search_ended is None:
        study.search_ended = "the target score or the limit of trials without improvement was reached"
    return study.stopping or study.search_ended is not None


def _stats(number: int, selector: Selector, results: Sequence[Result]) -> GenerationStats:
    scores = [result.score for result in results if result.score is not None]
    mean = sum(scores) / len(scores) if scores else math.nan
    return GenerationStats(number, selector.recommend().estimate, mean, len(scores))


def _report(
    study: Study, space: PromptSpace, selector: Selector, cells: Sequence[Asked], stats: GenerationStats
) -> None:
    best = selector.recommend()
    study.best_score = best.estimate
    study.emit(
        "trial",
        trial=stats.generation,
        **space.describe(cells[0].candidate),
        score=None if math.isnan(stats.mean_score) else stats.mean_score,
        scored=stats.num_evaluated,
        best=best.estimate,
        best_candidate=list(best.candidate),
    )
