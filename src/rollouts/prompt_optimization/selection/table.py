"""The scores seen so far, and estimates from them."""

from __future__ import annotations

import math
from collections.abc import Iterable

from rollouts.prompt_optimization.selection.base import Candidate, Cell, Recommendation, Result, Space

_PRIOR_SCORES = 4.0
_Z = 1.96
_LEAST_PROOF = 30


class ScoreTable:
    """Scores by candidate and sample, which cells are taken, and shrunken means.

    The estimate of a candidate is its mean drawn towards the mean of all candidates as if by `_PRIOR_SCORES` more
    scores; a candidate that was scored on all samples is not drawn (its mean is what it is).
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        self.scores: dict[Candidate, dict[int, float]] = {}
        self.taken: dict[Candidate, set[int]] = {}
        self._sum, self._count, self._squares = 0.0, 0, 0.0

    def take(self, cell: Cell) -> None:
        """Marks a cell as asked for."""
        self.taken.setdefault(cell.candidate, set()).add(cell.sample)

    def free_samples(self, candidate: Candidate, order: Iterable[int]) -> list[int]:
        """The samples of `order` that were never asked for this candidate."""
        taken = self.taken.get(candidate, ())
        return [sample for sample in order if sample not in taken]

    def add(self, result: Result) -> None:
        """Enters a result: a failed cell stays taken, a missing one is free again."""
        self.take(result.cell)
        if result.missing:
            self.taken[result.cell.candidate].discard(result.cell.sample)
        if result.score is None:
            return
        scores = self.scores.setdefault(result.cell.candidate, {})
        if result.cell.sample not in scores:
            scores[result.cell.sample] = result.score
            self._sum += result.score
            self._squares += result.score**2
            self._count += 1

    def exhausted(self, candidate: Candidate) -> bool:
        """True when no sample is left for this candidate."""
        return len(self.taken.get(candidate, ())) >= self.space.samples

    def estimate(self, candidate: Candidate) -> Recommendation:
        """Shrunken mean and a 95 % interval over the finite set of samples."""
        scores = self.scores.get(candidate, {})
        n, total = len(scores), sum(scores.values())
        overall = self._sum / self._count if self._count else 0.5
        variance = max(1e-4, self._squares / self._count - overall**2) if self._count else 0.25
        if n and n >= self.space.samples:
            mean = total / n
            return Recommendation(candidate=candidate, estimate=mean, mean=mean, low=mean, high=mean, n=n)
        drawn = (total + _PRIOR_SCORES * overall) / (n + _PRIOR_SCORES)
        half = _Z * math.sqrt(variance / (n + _PRIOR_SCORES) * (1 - n / max(1, self.space.samples)))
        mean = total / n if n else drawn
        return Recommendation(candidate=candidate, estimate=drawn, mean=mean, low=drawn - half, high=drawn + half, n=n)

    def ranking(self) -> list[Recommendation]:
        """Tried candidates by estimate; ties go to the one with more scores, then to the start, then by levels."""
        start = self.space.start
        return sorted(
            (self.estimate(candidate) for candidate in self.scores),
            key=lambda r: (-round(r.estimate, 12), -r.n, r.candidate != start, r.candidate),
        )

    def recommend(self) -> Recommendation:
        """The first of `ranking`, or the start when there is none."""
        ranking = self.ranking()
        return ranking[0] if ranking else self.estimate(self.space.start)


def reached(target: float | None, best: Recommendation, space: Space) -> str:
    """Why a search for a target score may stop; empty when it may not. A handful of scores proves nothing."""
    if target is None or best.low < target or best.n < min(space.samples, _LEAST_PROOF) or not best.n:
        return ""
    return f"the target score of {target:g} was reached"
