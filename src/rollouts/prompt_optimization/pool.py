"""The candidates of an evolutionary search: who they are, what they scored, who becomes a parent. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Literal

import numpy as np

from rollouts.dtypes import Program
from rollouts.prompt_optimization.pareto import coverage

ParentRule = Literal["pareto", "elite"]


@dataclass(slots=True, kw_only=True)
class Member:
    """One accepted candidate. `scores` maps validation samples (indices) to scores; `estimate` is its expected mean
    over all of them, from its parent's and the paired difference between the two. `train` maps training samples to
    scores, `weakest` is the module that scored worst on the last of them. `objectives` are what else it was measured
    by; less is better. `ancestors` are the numbers of all that it descends from."""

    number: int
    program: Program
    parents: tuple[int, ...] = ()
    generation: int = 0
    estimate: float = 0.0
    scores: dict[int, float] = field(default_factory=dict)
    train: dict[int, float] = field(default_factory=dict)
    weakest: str = ""
    ancestors: frozenset[int] = frozenset()
    objectives: dict[str, float] = field(default_factory=dict)

    @property
    def mean(self) -> float | None:
        """Plain mean of the scores."""
        return sum(self.scores.values()) / len(self.scores) if self.scores else None


class Pool:
    """All accepted candidates, over `samples` validation samples. At most `size` of them can be parents: the front and
    the `elite` best stay longest."""

    def __init__(self, start: Program, scores: Mapping[int, float], *, samples: int, size: int, elite: int) -> None:
        self.members = [Member(number=0, program=start)]
        self._rows = {0: np.full(samples, np.nan)}
        self._samples, self._size, self._elite = samples, size, elite
        self._alive: dict[int, Member] = {0: self.start}
        self._programs = {start.digest}
        self._front: dict[int, int] | None = None
        self.record(self.start, scores)
        self.start.estimate = self.start.mean or 0.0

    @property
    def start(self) -> Member:
        """The start."""
        return self.members[0]

    def known(self, program: Program) -> bool:
        """Whether this program was proposed before, accepted or not."""
        return program.digest in self._programs

    def remember(self, program: Program) -> None:
        """This program need not be proposed again."""
        self._programs.add(program.digest)

    def record(self, member: Member, scores: Mapping[int, float]) -> None:
        """New validation scores of a member."""
        if scores:
            member.scores.update(scores)
            if member.number in self._rows:
                self._rows[member.number][list(scores)] = list(scores.values())
            self._front = None

    def add(
        self,
        program: Program,
        scores: Mapping[int, float],
        *,
        parents: tuple[int, ...],
        estimate: float,
        generation: int,
    ) -> Member:
        """An accepted candidate. Where there are too many parents the weakest leaves."""
        member = Member(
            number=len(self.members),
            program=program,
            parents=parents,
            generation=generation,
            estimate=estimate,
            ancestors=frozenset(parents).union(*(self.members[number].ancestors for number in parents)),
        )
        self.members.append(member)
        self._alive[member.number] = member
        self._rows[member.number] = np.full(self._samples, np.nan)
        self.remember(program)
        self.record(member, scores)
        self._front = None
        if len(self._alive) > self._size:
            self._drop_weakest()
        return member

    def _drop_weakest(self) -> None:
        kept = {member.number for member in self.ranking(self._alive.values())[: self._elite]}
        front = self.front()
        others = [n for n in self._alive if n not in kept]
        weakest = min(others, key=lambda n: (n in front, self._alive[n].estimate, n))
        del self._alive[weakest], self._rows[weakest]
        self._front = None

    def front(self) -> dict[int, int]:
        """Parents on the per-example front -> how many examples they cover.

        Where a parent was not run on an example, its estimate stands for the score.
        """
        if self._front is None:
            members = list(self._alive.values())
            rows = np.stack([self._rows[member.number] for member in members])
            estimates = [member.estimate for member in members]
            scores = np.where(np.isnan(rows), np.array(estimates)[:, None], rows)
            counts = coverage(scores, estimates)
            self._front = {member.number: n for member, n in zip(members, counts, strict=True) if n}
        return self._front

    def ranking(self, members: Iterable[Member] | None = None) -> list[Member]:
        """Best estimate first; ties go to the older one."""
        chosen = self.members if members is None else members
        return sorted(chosen, key=lambda member: (-member.estimate, member.number))

    @property
    def incumbent(self) -> Member:
        """The member with the best estimate."""
        return self.ranking(self._alive.values())[0]

    def parent(self, rng: Random, rule: ParentRule) -> Member:
        """One to improve on: drawn from the front by coverage, or one of the elite."""
        if rule == "elite":
            return rng.choice(self.ranking(self._alive.values())[: self._elite])
        front = sorted(self.front().items())
        if not front:
            return self.incumbent
        (number,) = rng.choices([n for n, _ in front], [covered for _, covered in front])
        return self._alive[number]

    def mates(self, rng: Random) -> tuple[Member, Member, Member] | None:
        """(common ancestor, better, worse) of two parents neither of which descends from the other; None when there
        are none."""
        front = sorted(self.front()) or sorted(self._alive)
        pairs = [
            (a, b)
            for i, a in enumerate(front)
            for b in front[i + 1 :]
            if a not in self.members[b].ancestors and b not in self.members[a].ancestors
        ]
        if not pairs:
            return None
        a, b = rng.choice(pairs)
        ancestor = self.members[max(self.members[a].ancestors & self.members[b].ancestors)]
        better, worse = self.ranking((self._alive[a], self._alive[b]))
        return ancestor, better, worse
