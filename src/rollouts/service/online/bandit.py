"""Which candidate the next rollout gets: Thompson sampling (Thompson 1933; Chapelle & Li 2011). Pure."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class Arm:
    """The rewards of one candidate, each between 0 and 1."""

    n: int = 0
    total: float = 0.0

    @property
    def mean(self) -> float | None:
        """None without a reward."""
        return self.total / self.n if self.n else None

    @property
    def expected(self) -> float:
        """The mean of what is believed of it, from a uniform prior."""
        return (1 + self.total) / (2 + self.n)


@dataclass(slots=True, kw_only=True)
class Bandit:
    """Candidates in the order in which they came, the start first.

    A candidate is chosen with the probability that it is the best one, by the Beta posterior of its rewards; a reward
    between 0 and 1 counts as that share of a success. Rewards may come late and in any order. With the same seed, the
    same calls choose the same candidates.
    """

    seed: int = 0
    arms: dict[str, Arm] = field(default_factory=dict)
    chosen: int = 0

    def add(self, candidate: str) -> None:
        """One more candidate, which nothing is known of."""
        self.arms.setdefault(candidate, Arm())

    def choose(self) -> str:
        """The candidate of the next rollout. There must be one."""
        rng = random.Random(f"{self.seed}:{self.chosen}")
        self.chosen += 1
        draws = {name: rng.betavariate(1 + arm.total, 1 + arm.n - arm.total) for name, arm in self.arms.items()}
        return max(draws, key=draws.__getitem__)

    def reward(self, candidate: str, value: float) -> None:
        """A rollout with the candidate was worth `value`; outside 0 to 1 it counts as the nearer end."""
        arm = self.arms[candidate]
        arm.n += 1
        arm.total += min(1.0, max(0.0, value))

    @property
    def best(self) -> str:
        """The candidate that is expected to earn most; of several, the first."""
        return self.ranking()[0]

    def ranking(self) -> list[str]:
        """All candidates, those expected to earn most first."""
        return sorted(self.arms, key=lambda name: -self.arms[name].expected)

    def means(self) -> Mapping[str, float | None]:
        """Candidate -> mean reward."""
        return {name: arm.mean for name, arm in self.arms.items()}
