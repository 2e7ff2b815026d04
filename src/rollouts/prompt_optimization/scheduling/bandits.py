"""Schedulers that take modules for the arms of a bandit: the reward of a trial is the gain it showed, if any."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

from rollouts.prompt_optimization.scheduling.base import Allocation, ModuleState, State, TrialResult, shares_of

_PRIOR_COUNT, _PRIOR_SD = 1.0, 0.1


class _Arms:
    """Rewards by module. A trial without a comparison counts as one that showed no gain."""

    def __init__(self, names: Sequence[str]) -> None:
        self.count = dict.fromkeys(names, 0)
        self.total = dict.fromkeys(names, 0.0)
        self.squares = dict.fromkeys(names, 0.0)

    def add(self, result: TrialResult) -> None:
        reward = max(0.0, result.mean)
        self.count[result.module] += 1
        self.total[result.module] += reward
        self.squares[result.module] += reward * reward

    def mean(self, name: str) -> float:
        return self.total[name] / max(1, self.count[name])

    def variance(self) -> float:
        """Of rewards about their module's mean."""
        about = sum(self.squares[n] - self.total[n] ** 2 / c for n, c in self.count.items() if c)
        return max(1e-6, (about + _PRIOR_SD**2) / (sum(self.count.values()) + 1))


def _deal(state: State, index: Callable[[ModuleState, int], float], reason: str) -> Allocation:
    """Gives each trial to the module with the highest index; `index` is told how many it got in this round."""
    counts = {module.name: 0 for module in state.modules}
    values = {module.name: index(module, 0) for module in state.modules}
    now = dict(values)
    for _ in range(state.trials):
        takers = [module for module in state.modules if counts[module.name] < module.most]
        if not takers:
            break
        best = max(takers, key=lambda module: now[module.name])
        counts[best.name] += 1
        now[best.name] = index(best, counts[best.name])
    shares = [share for module in state.modules for share in shares_of(module, counts[module.name], state.samples)]
    return Allocation(
        shares=tuple(shares), values={n: v if math.isfinite(v) else 1.0 for n, v in values.items()}, reason=reason
    )


class UCB:
    """UCB1 (Auer, Cesa-Bianchi & Fischer 2002) with the width scaled by the rewards' standard deviation."""

    def __init__(self, names: Sequence[str], *, samples: int, seed: int = 0) -> None:
        self._arms = _Arms(names)

    def allocate(self, state: State) -> Allocation:
        arms, width = self._arms, math.sqrt(2 * self._arms.variance())

        def index(module: ModuleState, given: int) -> float:
            tried = arms.count[module.name] + given
            total = sum(arms.count.values()) + given + 1
            return math.inf if not tried else arms.mean(module.name) + width * math.sqrt(math.log(total) / tried)

        return _deal(state, index, "the highest upper bound of the gain of a trial goes first")

    def update(self, results: Sequence[TrialResult]) -> None:
        for result in results:
            self._arms.add(result)


class Thompson:
    """Thompson (1933) sampling: every trial goes to the module whose mean reward is highest in a draw from its normal
    posterior; one that was never tried goes first."""

    def __init__(self, names: Sequence[str], *, samples: int, seed: int = 0) -> None:
        self._arms, self._rng = _Arms(names), random.Random(f"thompson-{seed}")

    def allocate(self, state: State) -> Allocation:
        arms, sd = self._arms, math.sqrt(self._arms.variance())

        def index(module: ModuleState, given: int) -> float:
            if not arms.count[module.name] + given:
                return math.inf
            spread = sd / math.sqrt(arms.count[module.name] + _PRIOR_COUNT)
            return arms.mean(module.name) + self._rng.gauss(0.0, spread)

        return _deal(state, index, "the highest draw from the posterior of a trial's gain goes first")

    def update(self, results: Sequence[TrialResult]) -> None:
        for result in results:
            self._arms.add(result)
