"""What selectors that work in stages share: a random field of candidates, all on the same samples in the same order.

In every stage the survivors are brought to the same number of samples; then the worst of them leave. How many is for
the subclass to say. The field is drawn once, an `ARM_COST`th of the budget in size, with the start in it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np

from rollouts.prompt_optimization.selection.base import Candidate, Cell, Recommendation, Result, Space, exchanged
from rollouts.prompt_optimization.selection.draws import draw_candidates
from rollouts.prompt_optimization.selection.settings import SelectorSettings
from rollouts.prompt_optimization.selection.table import ScoreTable

ARM_COST = 16


class StageSelector:
    """Base of `successive_halving` and `successive_rejects`."""

    def __init__(self, space: Space, settings: SelectorSettings) -> None:
        self.space, self.settings = space, settings
        self.table = ScoreTable(space, settings.low, settings.high)
        self.rng = random.Random(f"rollouts-selector-{settings.seed}")
        self.order = self.table.classes.in_turn(self.rng.sample(range(space.samples), space.samples))
        self.alive = draw_candidates(space, max(2, settings.cells // ARM_COST), self.rng)
        self._rejected: list[Candidate] = []
        self._left = settings.cells
        self._goal, self._depth = 0.0, 0
        self._queue: list[Cell] = []
        self._deepen(len(self.alive))
        self._enqueue(0)

    def ask(self, n: int) -> list[Cell]:
        if min(n, self._left) <= 0:
            return []
        self._drop_infeasible()
        while not self._queue and not self.table.open and self._next_stage():
            pass
        cells = self._queue[: min(n, self._left)]
        del self._queue[: len(cells)]
        self._left -= len(cells)
        for cell in cells:
            self.table.take(cell)
        return cells

    def _drop_infeasible(self) -> None:
        barred = {candidate for candidate in self.alive if not self.space.feasible(candidate)}
        if barred:
            self.alive = [candidate for candidate in self.alive if candidate not in barred]
            self._queue = [cell for cell in self._queue if cell.candidate not in barred]

    def _next_stage(self) -> bool:
        """Lets the worst leave until there are new samples for the others; False when nothing more can be found out."""
        if not self.alive or self._depth >= self.space.samples:
            return False
        ranked, count, before = self._ranked(), len(self.alive), self._depth
        while self._depth == before:
            count = self._keep(count) if count > 1 else 1
            self._deepen(count)
        self.alive, lost = ranked[:count], ranked[count:]
        self._rejected += reversed(lost)
        self._enqueue(before)
        return True

    def _ranked(self) -> list[Candidate]:
        """Survivors by their advantage over each other; among equals the start goes first."""
        field = sorted(self.alive, key=lambda candidate: (candidate != self.space.start, candidate))
        return [field[n] for n in np.argsort(-self.table.advantages(field), kind="stable")]

    def _deepen(self, count: int) -> None:
        """Sets how many samples survivors are brought to when there are so many of them."""
        self._goal = max(1.0, self._goal + self._step(count))
        self._depth = min(self.space.samples, int(self._goal + 1e-9))

    def _enqueue(self, before: int) -> None:
        """Queues what survivors lack of this stage; all of the stages before they have."""
        new = self.order[before : self._depth]
        self._queue = [Cell(c, sample) for c in self.alive for sample in self.table.free_samples(c, new)]

    def _step(self, count: int) -> float:
        """By how many samples each of `count` survivors goes on in the next stage."""
        raise NotImplementedError

    def _keep(self, count: int) -> int:
        """How many of `count` survivors go on."""
        raise NotImplementedError

    def tell(self, results: Sequence[Result]) -> None:
        self.space.check(results)
        back = [self.table.tell(result) for result in results]
        if any(back):
            self._left += sum(back)
            self._queue += [result.cell for result, count in zip(results, back, strict=True) if count > 0]
            self._tidy()

    def record(self, results: Sequence[Result]) -> None:
        self.space.check(results)
        for result in results:
            self.table.record(result)
        self._tidy()

    def _tidy(self) -> None:
        """Puts what was given back with the rest of its candidate, and takes out what is known by now."""
        place = {candidate: i for i, candidate in enumerate(self.alive)}
        free = [cell for cell in self._queue if cell.candidate in place and self.table.is_free(cell)]
        self._queue = sorted(free, key=lambda cell: place[cell.candidate])

    def unseen(self, candidate: Candidate) -> list[int]:
        return self.table.unseen(candidate)

    def add_level(self, factor: int, like: int | None = None) -> int:
        """The incumbent with the new level joins the field, and catches up with it."""
        level = self.space.levels[factor]
        self.space = self.table.space = self.space.with_level(factor)
        candidate = exchanged(self.recommend().candidate, factor, level)
        if self.space.feasible(candidate):
            self.alive.append(candidate)
            self._queue += [Cell(candidate, sample) for sample in self.order[: self._depth]]
        return level

    def ranking(self) -> list[Recommendation]:
        """Survivors by their advantage, then the others, the last to leave first."""
        tried = sorted(self._tried(), key=lambda candidate: not self.space.feasible(candidate))
        return [self.table.estimate(candidate) for candidate in tried]

    def _tried(self) -> Iterator[Candidate]:
        every = chain(self._ranked(), reversed(self._rejected), self.table.scores)
        return (candidate for candidate in dict.fromkeys(every) if candidate in self.table.scores)

    def recommend(self) -> Recommendation:
        best = next(filter(self.space.feasible, self._tried()), self.space.start)
        return self.table.estimate(best)

    def should_stop(self) -> bool:
        return bool(self.why_stopped())

    def why_stopped(self) -> str:
        if self.settings.target is None:
            return ""
        return self.table.reached(self.settings.target, self.recommend())
