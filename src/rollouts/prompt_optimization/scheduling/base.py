"""The one interface of all schedulers.

A trial compares one candidate of one module with the incumbent: that module is changed, the rest of the program is
held (a controlled swap), on the same samples. A scheduler decides, round by round, which module gets how many of the
next trials, whether they go to candidates not tried before or to those still undecided, and on how many samples each.
It never sees a prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from rollouts.budget import Spend

Work = Literal["new", "more"]
"""Trials of candidates that were not tried before, or further samples for those that are undecided."""
RESOURCES = ("micros", "tokens", "calls", "seconds", "rollouts")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleState:
    """What a scheduler is told of a module before a round.

    untried: candidates that wait for a first trial, or could be made for one. undecided: tried ones that are neither
    taken nor ruled out. affordable: trials that the module's own budget still pays for; None without one. incumbent:
    the number of its incumbent. ceiling: the most that any candidate of it can add to the differences of trials, by
    what its own score lacks; None where the metric does not score it.
    """

    name: str
    untried: int
    undecided: int = 0
    affordable: int | None = None
    incumbent: int = 0
    ceiling: float | None = None

    @property
    def most(self) -> int:
        """Trials that it can take in one round."""
        room = self.untried + self.undecided
        return room if self.affordable is None else min(room, max(0, self.affordable))


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a scheduler is told before a round.

    trials: how many to give out at most, of `samples` samples each.
    score: the incumbent program's mean so far. used: resource -> the share of its cap that is spent.
    """

    modules: Sequence[ModuleState]
    trials: int
    samples: int
    score: float = 0.0
    used: Mapping[str, float] = field(default_factory=dict)

    @property
    def scarcest(self) -> str:
        """The resource whose cap will bind first, by what was spent so far; rollouts when nothing is capped."""
        return max(self.used, key=lambda name: (self.used[name], -RESOURCES.index(name)), default="rollouts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """`trials` of `module`, all of one kind, on `samples` paired samples each."""

    module: str
    work: Work
    trials: int
    samples: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """A round's plan. `values` is what the scheduler takes a trial of each module to be worth, in the unit that
    `reason` names; `reason` says in words why the round is divided so."""

    shares: tuple[Share, ...]
    values: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""

    def trials(self, module: str | None = None) -> int:
        """Trials of a module, or of all."""
        return sum(share.trials for share in self.shares if module in (None, share.module))


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialResult:
    """What became of a trial: candidate minus `against`, the incumbent then, on the samples where both have a score,
    and 0 on those that the module has no part in.

    `failed` counts the samples where one of them failed; `spend` is what the trial took.
    """

    module: str
    candidate: int
    against: int
    differences: tuple[float, ...]
    failed: int = 0
    spend: Spend = field(default_factory=Spend)

    @property
    def mean(self) -> float:
        """The mean difference; 0 when nothing could be compared."""
        return sum(self.differences) / len(self.differences) if self.differences else 0.0


class Scheduler(Protocol):
    """Divides rounds of trials. Deterministic: the same names, seed, states and results give the same plans.

    It gives out at most `State.trials`, no more to a module than `ModuleState.most`, and fewer only when nobody can
    take more.
    """

    def allocate(self, state: State) -> Allocation:
        """The next round's trials; an empty plan when no module can take any."""
        ...

    def update(self, results: Sequence[TrialResult]) -> None:
        """The results of a round, in the order of its trials. Trials that were not made are left out."""
        ...


def shares_of(module: ModuleState, trials: int, samples: int) -> list[Share]:
    """`trials` of a module, in equal parts new candidates and undecided ones, as far as there are any."""
    more = min(module.undecided, trials // 2 if module.untried else trials)
    new = min(module.untried, trials - more)
    more = min(module.undecided, trials - new)
    parts: tuple[tuple[Work, int], ...] = (("new", new), ("more", more))
    return [Share(module=module.name, work=work, trials=count, samples=samples) for work, count in parts if count]


def spread_over(state: State, order: Sequence[ModuleState]) -> Allocation:
    """The round's trials dealt out one by one in `order`, again and again, to those that can still take one."""
    counts = dict.fromkeys((module.name for module in order), 0)
    left = state.trials
    while left:
        takers = [module for module in order if counts[module.name] < module.most][:left]
        if not takers:
            break
        for module in takers:
            counts[module.name] += 1
        left -= len(takers)
    shares = [share for module in order for share in shares_of(module, counts[module.name], state.samples)]
    return Allocation(shares=tuple(shares))
