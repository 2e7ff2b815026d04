"""Schedulers that learn nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rollouts.prompt_optimization.scheduling.base import Allocation, State, TrialResult, shares_of, spread_over


class Uniform:
    """Every round is divided evenly; what is left over goes to those that had least so far."""

    def __init__(self, names: Sequence[str], *, samples: int, seed: int = 0) -> None:
        self._given = dict.fromkeys(names, 0)

    def allocate(self, state: State) -> Allocation:
        order = sorted(state.modules, key=lambda module: self._given[module.name])
        plan = spread_over(state, order)
        for share in plan.shares:
            self._given[share.module] += share.trials
        return replace(plan, reason="every module gets the same")

    def update(self, results: Sequence[TrialResult]) -> None: ...


class RoundRobin:
    """One module after the other gets a whole round; the next ones get what it cannot take."""

    def __init__(self, names: Sequence[str], *, samples: int, seed: int = 0) -> None:
        self._turn, self._names = 0, list(names)

    def allocate(self, state: State) -> Allocation:
        count, left, shares = len(state.modules), state.trials, []
        for step in range(count):
            module = state.modules[(self._turn + step) % count]
            trials = min(left, module.most)
            shares += shares_of(module, trials, state.samples)
            left -= trials
        first = state.modules[self._turn % count].name if count else ""
        self._turn += 1
        return Allocation(shares=tuple(shares), reason=f"it is {first!r}'s turn")

    def update(self, results: Sequence[TrialResult]) -> None: ...
