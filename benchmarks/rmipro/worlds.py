"""Families of simulated programs of several agents, with known truth.

An agent's candidate is right on a sample with a chance that grows with its quality and falls with the sample's
difficulty for that agent; the same candidate does the same on the same sample every time. In a pipeline all agents
have to be right; in a team a router and the one expert that the sample needs. A swap of an agent runs it and what comes
after it: what comes before is known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

CANDIDATES, SAMPLES, POPULATION = 48, 120, 1200
_DIFFICULTY = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """Quality of the start (a chance at a usual sample), and what candidates are like: mean and standard deviation of
    their quality against the start's, in logits. `cost` is what a call of it takes."""

    start: float
    spread: float
    mean: float = -0.3
    cost: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """`bottlenecks` are the agents that hold the program back; empty where none does."""

    name: str
    agents: tuple[Agent, ...]
    bottlenecks: tuple[int, ...] = ()
    shared: float = 0.0
    experts: tuple[float, ...] = ()
    cells: int = 0


WEAK, GOOD, EVEN = Agent(start=0.4, spread=0.9), Agent(start=0.95, spread=0.35), Agent(start=0.8, spread=0.6)

FAMILIES: Mapping[str, Family] = {
    family.name: family
    for family in (
        Family(name="one of 4", agents=(GOOD, GOOD, WEAK, GOOD), bottlenecks=(2,)),
        Family(name="two of 5", agents=(GOOD, WEAK, GOOD, GOOD, WEAK), bottlenecks=(1, 4)),
        Family(
            name="moving",
            agents=(
                Agent(start=0.3, spread=0.7, mean=1.5),
                GOOD,
                Agent(start=0.6, spread=0.9, mean=-0.5),
                GOOD,
            ),
            bottlenecks=(0, 2),
        ),
        Family(name="correlated", agents=(GOOD, WEAK, GOOD, GOOD), bottlenecks=(1,), shared=0.8),
        Family(
            name="one expensive",
            agents=(GOOD, Agent(start=0.95, spread=0.35, cost=12.0), GOOD, WEAK),
            bottlenecks=(3,),
        ),
        Family(
            name="team of 8",
            agents=(GOOD, *(WEAK if n == 2 else GOOD for n in range(7))),
            bottlenecks=(3,),
            experts=(0.1, 0.1, 0.4, 0.1, 0.1, 0.1, 0.1),
        ),
        Family(name="one of 2", agents=(GOOD, WEAK), bottlenecks=(1,)),
        Family(name="one of 8", agents=tuple(WEAK if n == 5 else GOOD for n in range(8)), bottlenecks=(5,)),
        Family(name="none of 2", agents=(EVEN,) * 2),
        Family(name="none of 4", agents=(EVEN,) * 4),
        Family(name="none of 8", agents=(Agent(start=0.9, spread=0.6),) * 8),
        Family(name="none, good", agents=(GOOD,) * 4),
    )
}

Numbers = tuple[int, ...]
Bools = npt.NDArray[np.bool_]


@dataclass(slots=True)
class World:
    """One draw of a family. `right` holds, by agent, which candidate is right on which sample; the first samples are
    those of the search, the truth is the mean over all others."""

    family: Family
    right: list[Bools]
    needed: npt.NDArray[np.int64]
    best: float = 0.0
    _values: dict[Numbers, float] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        return [f"a{n}" for n in range(len(self.family.agents))]

    def scores(self, program: Numbers) -> Bools:
        rows = [table[number] for table, number in zip(self.right, program, strict=True)]
        if not self.family.experts:
            return np.logical_and.reduce(rows)
        experts = np.stack(rows[1:])
        return rows[0] & experts[self.needed, np.arange(len(self.needed))]

    def value(self, program: Numbers) -> float:
        """The true score."""
        if program not in self._values:
            self._values[program] = float(self.scores(program)[SAMPLES:].mean())
        return self._values[program]

    def ran(self, sample: int) -> tuple[int, ...]:
        """The agents that run on a sample."""
        return (0, 1 + int(self.needed[sample])) if self.family.experts else tuple(range(len(self.right)))

    def own(self, program: Numbers, sample: int) -> dict[str, float]:
        """Scores of the agents that ran."""
        return {f"a{n}": float(self.right[n][program[n], sample]) for n in self.ran(sample)}

    def cost(self, agent: int | None) -> float:
        """Of one rollout in which `agent` is new (None: everything is)."""
        agents = self.family.agents
        if self.family.experts:
            return sum(a.cost for a in agents) / len(agents) * (2.0 if not agent else 1.0)
        return sum(a.cost for a in agents[agent or 0 :])


def make(family: Family, seed: int) -> World:
    """The world of a family and seed."""
    rng = np.random.default_rng([seed, sum(map(ord, family.name))])
    size = SAMPLES + POPULATION
    shared = rng.normal(size=size)
    right = []
    for agent in family.agents:
        quality = np.log(agent.start / (1 - agent.start)) + np.concatenate(
            [[0.0], rng.normal(agent.mean, agent.spread, size=CANDIDATES)]
        )
        own = rng.normal(size=size)
        difficulty = _DIFFICULTY * (family.shared * shared + np.sqrt(1 - family.shared**2) * own)
        quirk = rng.logistic(size=size) * 0.8 + rng.logistic(size=(CANDIDATES + 1, size)) * 0.6
        right.append(quality[:, None] * 1.3 - difficulty[None, :] + quirk > 0)
    needed = rng.choice(len(family.experts), size=size, p=family.experts) if family.experts else np.zeros(size, int)
    world = World(family=family, right=right, needed=needed)
    world.best = best_of(world)
    return world


def best_of(world: World) -> float:
    """The highest true score that single changes lead to, from the best single candidates."""
    now = tuple(0 for _ in world.right)
    value: Callable[[Numbers], float] = world.value
    while True:
        better = now
        for n in range(len(now)):
            tries = [(*better[:n], c, *better[n + 1 :]) for c in range(CANDIDATES + 1)]
            better = max(tries, key=value)
        if value(better) <= value(now):
            return value(now)
        now = better
