"""The search of r-MIPRO: rounds of controlled swaps on a study, and what is known of the modules meanwhile."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rollouts.dtypes import Evaluation, Sample
from rollouts.evaluation import Cell
from rollouts.evaluation.summary import is_missing
from rollouts.prompt_optimization.plan import Plan
from rollouts.prompt_optimization.rmipro_config import RMIPROConfig
from rollouts.prompt_optimization.scheduling.base import Allocation, State, TrialResult
from rollouts.prompt_optimization.scheduling.credit import allocation_event, head_room_by_module
from rollouts.prompt_optimization.scheduling.swaps import Swaps
from rollouts.prompt_optimization.scheduling.trials import Adopted, Numbers, Outcome, Trial
from rollouts.prompt_optimization.study import Study
from rollouts.prompt_optimization.swap_costs import Costs
from rollouts.prompt_optimization.traces import traces_of
from rollouts.prompt_optimization.types import GenerationStats
from rollouts.prompt_optimization.workshop import Workshop

_ENOUGH = 20
_TELLING = 8
_PRESUMED = ("other programs with the same parts break a limit",)


class SwapSearch:
    """Turns allocations into rollouts and results. All it decides follows from the seed and from what was told in the
    order of asking, so a run takes the same decisions whatever the order of arrival."""

    def __init__(
        self,
        study: Study,
        train: Sequence[Sample],
        val: Sequence[Sample],
        config: RMIPROConfig,
        plan: Plan,
        swaps: Swaps,
        workshop: Workshop,
        costs: Costs,
    ) -> None:
        self._study, self._train, self._val, self._config, self._plan = study, train, val, config, plan
        self._swaps, self._workshop = swaps, workshop
        self._costs = costs
        self._left = plan.trials * plan.minibatch
        self._given = dict.fromkeys(swaps.names, 0)
        self._called: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._rollouts = self._best_after = 0
        self.history: list[GenerationStats] = []
        self.events: list[Mapping[str, Any]] = []

    # ── before a round ──

    def over(self) -> bool:
        """Whether no further round may start; the study is told why."""
        study, config = self._study, self._config
        cap = study.options.budget.max_trials
        made = sum(self._given.values())
        mean = self._swaps.mean(self._swaps.incumbent)
        seen = len(self._swaps.scores(self._swaps.incumbent))
        reasons = {
            "all planned trials were made": made >= config.num_trials or (cap is not None and made >= cap),
            "the rest of the budget is kept for validation and the final check": self._left < self._plan.minibatch
            or not study.affords(
                self._plan.finals + self._plan.minibatch, self._plan, self._workshop.program(self._swaps.incumbent)
            ),
            "the target score was reached": config.target_score is not None
            and mean is not None
            and mean >= config.target_score
            and seen >= min(_ENOUGH, len(self._val)),
            "the limit of trials without a better candidate was reached": config.patience is not None
            and made - self._best_after >= config.patience,
        }
        reason = next((text for text, holds in reasons.items() if holds), None)
        if reason is not None and study.search_ended is None:
            study.search_ended = reason
        return study.stopping or reason is not None

    def state(self) -> State:
        """What the scheduler is told."""
        swaps, plan = self._swaps, self._plan
        cap = self._study.options.budget.max_trials
        planned = [self._config.num_trials, *([] if cap is None else [cap])]
        most = min(min(planned) - sum(self._given.values()), max(1, self._left // plan.minibatch))
        return State(
            modules=[
                swaps.state(name, unmade=self._workshop.unmade(name), affordable=self._affordable(name))
                for name in swaps.names
            ],
            trials=min(self._config.round_trials, most),
            samples=plan.minibatch,
            score=swaps.mean(swaps.incumbent) or 0.0,
            used=self._costs.used(),
        )

    def _affordable(self, name: str) -> int | None:
        """Trials of a module that may still be made: none of one that is never called."""
        if name in self.never_called():
            return 0
        budget = self._study.options.module_budgets.get(name)
        if budget is None:
            return None
        if not self._study.module_affords(name, self._plan.finals + self._plan.unstarted_check + self._plan.minibatch):
            return 0
        return None if budget.max_trials is None else budget.max_trials - self._given[name]

    def never_called(self) -> list[str]:
        """Modules that none of the rollouts so far ran, where enough of them tell."""
        told = max(self._called.values(), default=0)
        return [name for name in self._swaps.names if told >= _TELLING and not self._called[name]]

    # ── a round ──

    async def run(self, plan: Allocation) -> list[TrialResult]:
        """Makes the candidates that the plan asks for, runs its trials, and returns their results."""
        reflected = self._workshop.reflected
        new = {share.module: share.trials for share in plan.shares if share.work == "new"}
        await asyncio.gather(*(self._workshop.prepare(name, count, self._train) for name, count in new.items()))
        trials = self._swaps.trials(plan)
        for trial in trials:
            self._workshop.take(trial.module, trial.candidate)
        asked = self._swaps.cells(trials)
        cells = [Cell(self._workshop.program(numbers), self._val[sample]) for numbers, sample in asked]
        evaluations = await self._study.evaluate(cells, phase="search")
        self._left -= len(cells) + self._workshop.reflected - reflected
        swapped = {trial.program: trial for trial in trials}
        for (numbers, sample), evaluation in zip(asked, evaluations, strict=True):
            self.record(numbers, sample, evaluation, swapped.get(numbers))
        self._bar_infeasible(trials)
        results = self._swaps.results(trials, self._costs.of)
        for result in results:
            self._given[result.module] += 1
        return results

    def record(self, numbers: Numbers, sample: int, evaluation: Evaluation, trial: Trial | None = None) -> None:
        """Takes note of a rollout on validation; `trial` is the one it was made for."""
        program = self._workshop.program(numbers)
        own = {} if evaluation.score is None else dict(evaluation.score.modules)
        missing = is_missing(evaluation)
        ran = [trace.module for trace in traces_of(program, self._val[sample], evaluation)]
        outcome = Outcome(score=evaluation.value, own=own, ran=frozenset(ran) or None, missing=missing)
        self._swaps.record(numbers, sample, outcome)
        if missing:
            return
        self._study.violations.note(program, [evaluation])
        self._note_modules(ran, evaluation)
        self._costs.note(numbers, sample, evaluation, trial)

    def _note_modules(self, ran: Sequence[str], evaluation: Evaluation) -> None:
        self._rollouts += 1
        self._called.update(set(ran))
        failure = evaluation.failure
        if failure is not None:
            after = f" after module {ran[-1]!r}" if ran and len(self._swaps.names) > 1 else ""
            self._failures[f"{failure.kind}: {failure.message}{after}"] += 1

    def _bar_infeasible(self, trials: Sequence[Trial]) -> None:
        for trial in trials:
            program = self._workshop.program(trial.program)
            if not self._study.keeps(program):
                self._swaps.bar(trial.module, trial.candidate)
                broken = self._study.violations.infeasible.get(program.digest, _PRESUMED)
                known = self._workshop.describe(trial.module, trial.candidate)
                self._study.emit("infeasible", **known, broken=list(broken))

    # ── after a round ──

    def report(self, plan: Allocation, results: Sequence[TrialResult], adopted: Sequence[Adopted]) -> None:
        """Tells what the round was for, what came of it, and which candidates were taken."""
        swaps, study, number = self._swaps, self._study, len(self.history) + 1
        rooms = head_room_by_module(
            {name: swaps.own_scores(name) for name in swaps.names}, {name: swaps.gains(name) for name in swaps.names}
        )
        gained = {found.module: found.gain for found in adopted}
        event = allocation_event(number, plan, results, scarcest=self.scarcest, rooms=rooms, gained=gained)
        self.events.append(event)
        study.emit("allocation", **event)
        for found in adopted:
            study.emit(
                "adopted",
                **self._workshop.describe(found.module, found.candidate),
                gain=found.gain,
                chance=found.chance,
                round=number,
            )
        if adopted:
            self._best_after = sum(self._given.values())
        compared = [difference for result in results for difference in result.differences]
        best = swaps.mean(swaps.incumbent)
        mean = (best or 0.0) + sum(compared) / len(compared) if compared else math.nan
        stats = GenerationStats(number, math.nan if best is None else best, mean, len(compared))
        self.history.append(stats)
        study.best_score = best
        study.emit(
            "trial",
            trial=number,
            score=None if math.isnan(mean) else mean,
            scored=len(compared),
            best=best,
            best_candidate=list(swaps.incumbent),
            candidates=len(results),
            given={name: plan.trials(name) for name in swaps.names},
        )

    @property
    def scarcest(self) -> str:
        """The resource that is used up first, as it looks now."""
        return State(modules=(), trials=0, samples=0, used=self._costs.used()).scarcest

    def notes(self) -> list[str]:
        """What a person should know of single modules, a sentence each."""
        out = [
            f"module {name!r} was never called in {self._rollouts} rollouts: no trials were spent on it"
            for name in self.never_called()
        ]
        failed = self._failures.total()
        if failed:
            reason, times = self._failures.most_common(1)[0]
            out.append(
                f"{failed} of {self._rollouts} rollouts of the search failed and count for nothing; "
                f"{times} of them with {reason}"
            )
        return out


def without_finals(plan: Plan, share: float) -> Plan:
    """The plan with at most `share` of the search kept for the last race; its trials get the rest."""
    finals = min(plan.finals, int(plan.searched * share))
    return replace(plan, finals=finals, trials=(plan.searched - finals) // max(1, plan.minibatch))
