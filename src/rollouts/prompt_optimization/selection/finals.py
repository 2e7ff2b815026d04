"""The last rounds of a search: the leaders race on validation samples, half of them leave after every round.

Successive halving (Karnin, Koren & Somekh 2013) over what the trials left, on the same samples for all. It starts from
four times the wished number of finalists, because a few trials' minibatches cannot tell near leaders apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import islice

from rollouts.prompt_optimization.selection.base import Candidate, Cell, Selector

_FIELD = 4


class Finals:
    """Asks for at most `budget` cells. Ask until the list is empty; record each round's results in `selector` before.

    Half of the budget goes to the rounds that halve the field to `top_k`, the rest to these: all their samples, or an
    equal share of them where the budget does not reach. A candidate that is not `feasible`, or no longer, leaves.
    """

    def __init__(
        self,
        selector: Selector,
        *,
        top_k: int,
        budget: int,
        feasible: Callable[[Candidate], bool] = lambda _: True,
    ) -> None:
        self._selector, self._top_k, self.left, self._feasible = selector, top_k, budget, feasible
        ranking = (entry.candidate for entry in selector.ranking())
        self.alive: list[Candidate] = list(islice(filter(feasible, ranking), _FIELD * top_k))
        rounds = math.ceil(math.log2(len(self.alive) / top_k)) if len(self.alive) > top_k else 0
        self._halvings = rounds
        self._per_round = budget // 2 // rounds if rounds else 0
        self._closed = False

    def ask(self) -> list[Cell]:
        """The next round's cells, by candidate; empty when the finals are over."""
        if self._closed or not self.alive:
            return []
        if self._halvings:
            self._halvings -= 1
            cells = self._cells(self._per_round)
            if cells:
                return cells
        self._closed = True
        self._keep(self._top_k)
        return self._cells(self.left) if self.alive else []

    def halve(self) -> None:
        """Call it after a round was recorded: the worse half leaves."""
        if not self._closed:
            self._keep(max(self._top_k, math.ceil(len(self.alive) / 2)))

    def _keep(self, count: int) -> None:
        alive = set(self.alive)
        ranking = (entry.candidate for entry in self._selector.ranking())
        self.alive = [candidate for candidate in ranking if candidate in alive and self._feasible(candidate)][:count]

    def _cells(self, budget: int) -> list[Cell]:
        share = budget // len(self.alive)
        cells = [Cell(c, sample) for c in self.alive for sample in self._selector.unseen(c)[:share]]
        self.left -= len(cells)
        return cells
