"""What selectors that work in trials share: minibatches, periodic full evaluations, the order of results.

A trial is one candidate on one minibatch. The candidate comes from `_choose`; the rest is here.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from rollouts.prompt_optimization.selection.base import Candidate, Cell, Recommendation, Result, Space
from rollouts.prompt_optimization.selection.draws import scattered
from rollouts.prompt_optimization.selection.settings import SelectorSettings
from rollouts.prompt_optimization.selection.table import ScoreTable

_DRAWS = 64


@dataclass(slots=True)
class Trial:
    """A candidate and the cells that are still to come; `token` is the chooser's own mark of it."""

    number: int
    candidate: Candidate
    waiting: set[int]
    full: bool = False
    token: object = None
    scores: list[float] = field(default_factory=list)


class TrialSelector:
    """Base of `random` and `tpe`."""

    def __init__(self, space: Space, settings: SelectorSettings) -> None:
        self.space, self.settings = space, settings
        self.table = ScoreTable(space, settings.low, settings.high)
        self.rng = random.Random(f"rollouts-selector-{settings.seed}")
        self.trials_asked = 0
        self.trials_told = 0
        self._open: list[Trial] = []
        self._full_due = False
        self._best: tuple[float, int, Candidate] = (float("-inf"), 0, space.start)
        self._left = math.inf if settings.budget is None else settings.budget

    def ask(self, n: int) -> list[Cell]:
        cells: list[Cell] = []
        while len(cells) < n and (trial := self._next_trial()) is not None:
            new = [Cell(trial.candidate, sample) for sample in sorted(trial.waiting)]
            for cell in new:
                self.table.take(cell)
            cells.extend(new)
            self._open.append(trial)
            self._left -= len(new)
        return cells

    def _next_trial(self) -> Trial | None:
        if self._left <= 0:
            return None
        if self._full_due:
            self._full_due = False
            full = self._full_trial()
            if full is not None:
                return full
        if self.trials_asked >= self.settings.trials:
            return None
        chosen = self._choose()
        if chosen is None:
            return None
        candidate, token = chosen
        free = self.table.free_samples(candidate, range(self.space.samples))
        batch = self._drawn(free, int(min(self.settings.minibatch, len(free), self._left)))
        self.trials_asked += 1
        every = self.settings.full_every
        self._full_due = bool(every) and self.trials_asked % every == 0
        return Trial(self.trials_asked, candidate, set(batch), token=token)

    def _full_trial(self) -> Trial | None:
        """The best candidate that is not yet evaluated on all samples."""
        for entry in self.table.ranking():
            if self.usable(entry.candidate):
                free = self.table.free_samples(entry.candidate, range(self.space.samples))
                if len(free) > self._left:
                    free = self._drawn(free, int(self._left))
                return Trial(self.trials_asked, entry.candidate, set(free), full=True)
        return None

    def _drawn(self, free: Sequence[int], count: int) -> list[int]:
        """So many of a candidate's free samples; every class has its part."""
        if self.table.classes.alike:
            return self.rng.sample(free, count)
        return self.table.classes.in_turn(self.rng.sample(free, len(free)))[:count]

    def tell(self, results: Sequence[Result]) -> None:
        self.space.check(results)
        for result in results:
            self._left += self.table.tell(result)
            for trial in self._open:
                if trial.candidate == result.cell.candidate and result.cell.sample in trial.waiting:
                    trial.waiting.discard(result.cell.sample)
                    if not result.missing and result.usable is not None:
                        trial.scores.append(result.usable)
                    break
        self._close_trials()

    def _close_trials(self) -> None:
        """Closes finished trials in the order of asking, up to the first unfinished one."""
        while self._open and not self._open[0].waiting:
            trial = self._open.pop(0)
            if not trial.full:
                self.trials_told += 1
                self._learn(trial)
            best, (record, _, holder) = self.table.recommend(), self._best
            if best.estimate > record + 1e-9 or not self.space.feasible(holder):
                self._best = (best.estimate, self.trials_told, best.candidate)

    def record(self, results: Sequence[Result]) -> None:
        self.space.check(results)
        for result in results:
            self.table.record(result)

    def unseen(self, candidate: Candidate) -> list[int]:
        return self.table.unseen(candidate)

    def add_level(self, factor: int, like: int | None = None) -> int:
        self.space = self.table.space = self.space.with_level(factor)
        return self.space.levels[factor] - 1

    def ranking(self) -> list[Recommendation]:
        return self.table.ranking()

    def recommend(self) -> Recommendation:
        return self.table.recommend()

    def should_stop(self) -> bool:
        return bool(self.why_stopped())

    def why_stopped(self) -> str:
        patience = self.settings.patience
        if patience is not None and self.trials_told - self._best[1] >= patience:
            return f"{patience} trials brought no better candidate"
        if self.settings.target is None:
            return ""
        return self.table.reached(self.settings.target, self.recommend())

    def usable(self, candidate: Candidate) -> bool:
        """Allowed, and with samples left."""
        return self.space.feasible(candidate) and not self.table.exhausted(candidate)

    def any_usable(self) -> Candidate | None:
        """A random usable candidate: by draws first, then by looking all over the space."""
        for _ in range(_DRAWS):
            candidate = tuple(self.rng.randrange(n) for n in self.space.levels)
            if self.usable(candidate):
                return candidate
        return next(filter(self.usable, scattered(self.space.levels, self.rng)), None)

    def _choose(self) -> tuple[Candidate, object] | None:
        """The next trial's candidate and a mark for `_learn`; None when there is nothing left to try."""
        raise NotImplementedError

    def _learn(self, trial: Trial) -> None:
        """A trial has ended; `trial.scores` may be empty when all of its cells failed."""
