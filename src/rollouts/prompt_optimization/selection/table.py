"""The scores seen so far, and estimates from them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import chain
from statistics import NormalDist

import numpy as np

from rollouts.prompt_optimization.selection.base import Candidate, Cell, Recommendation, Result, Space
from rollouts.prompt_optimization.selection.cells import Floats
from rollouts.prompt_optimization.selection.classes import Classes

_PRIOR_SCORES = 4.0
_Z = 1.96
_LEAST_PROOF = 30
_DOUBT = 0.01


class ScoreTable:
    """Scores by candidate and sample, which cells are taken and which of them are under way, and shrunken means.

    The estimate of a candidate is its mean drawn towards the mean of all candidates as if by `_PRIOR_SCORES` more
    scores; a candidate that was scored on all samples is not drawn (its mean is what it is). Scores lie between `low`
    and `high` as far as is known beforehand.
    """

    def __init__(self, space: Space, low: float = 0.0, high: float = 1.0) -> None:
        self.space, self.low, self.high = space, low, high
        self.scores: dict[Candidate, dict[int, float]] = {}
        self.taken: dict[Candidate, set[int]] = {}
        self.open: set[Cell] = set()
        self._sum, self._count = 0.0, 0
        self.classes = Classes(space.classes, space.samples)

    def take(self, cell: Cell) -> None:
        """Marks a cell as asked for."""
        self.taken.setdefault(cell.candidate, set()).add(cell.sample)
        self.open.add(cell)

    def is_free(self, cell: Cell) -> bool:
        """Whether the cell may be asked for."""
        return cell.sample not in self.taken.get(cell.candidate, ())

    def free_samples(self, candidate: Candidate, order: Iterable[int]) -> list[int]:
        """The samples of `order` that were never asked for this candidate."""
        taken = self.taken.get(candidate, ())
        return [sample for sample in order if sample not in taken]

    def unseen(self, candidate: Candidate) -> list[int]:
        """All samples that were never asked for this candidate, its classes in turn."""
        return self.classes.in_turn(self.free_samples(candidate, range(self.space.samples)))

    def tell(self, result: Result) -> int:
        """Enters the result of an asked cell, and says by how many cells the budget grows.

        By one for a cell under way that is missing: it is free again. By minus one for a cell that was given back and
        was run after all.
        """
        cell = result.cell
        if result.missing and cell in self.open:
            self.open.discard(cell)
            self.taken[cell.candidate].discard(cell.sample)
            return 1
        run_after_all = not result.missing and self.is_free(cell)
        self.record(result)
        return -int(run_after_all)

    def record(self, result: Result) -> None:
        """Enters a result that nobody asked for: a failed cell is taken, a missing one says nothing."""
        if result.missing:
            return
        cell, score = result.cell, result.usable
        self.taken.setdefault(cell.candidate, set()).add(cell.sample)
        self.open.discard(cell)
        if score is None or cell.sample in self.scores.get(cell.candidate, ()):
            return
        self.scores.setdefault(cell.candidate, {})[cell.sample] = score
        self._sum += score
        self._count += 1
        self.low, self.high = min(self.low, score), max(self.high, score)

    def exhausted(self, candidate: Candidate) -> bool:
        """True when no sample is left for this candidate."""
        return len(self.taken.get(candidate, ())) >= self.space.samples

    def estimate(self, candidate: Candidate) -> Recommendation:
        """Shrunken mean and a 95 % interval over the finite set of samples."""
        scores = self.scores.get(candidate, {}).values()
        n, total = len(scores), sum(scores)
        overall = self._sum / self._count if self._count else (self.low + self.high) / 2
        whole = 0 < n >= self.space.samples
        estimate = total / n if whole else (total + _PRIOR_SCORES * overall) / (n + _PRIOR_SCORES)
        mean = total / n if n else estimate
        variance = sum((score - mean) ** 2 for score in scores) / max(1, n)
        low, high = interval(mean, variance, n, self.space.samples, self.low, self.high)
        low, high = min(low, estimate), max(high, estimate)
        return Recommendation(candidate=candidate, estimate=estimate, mean=mean, low=low, high=high, n=n)

    def advantages(self, candidates: Sequence[Candidate]) -> Floats:
        """The mean advantage of each over all of them on the same samples, so that a failed cell or a late arrival does
        not change what a candidate is compared with; minus infinity for one without a score."""
        scores = [self.scores.get(candidate, {}) for candidate in candidates]
        counts = np.array([len(own) for own in scores], dtype=np.int64)
        samples = np.fromiter(chain.from_iterable(scores), dtype=np.int64)
        values = np.fromiter(chain.from_iterable(own.values() for own in scores), dtype=np.float64)
        usual = np.bincount(samples, values) / np.maximum(1, np.bincount(samples))
        ahead = np.bincount(np.repeat(np.arange(len(scores)), counts), values - usual[samples], minlength=len(scores))
        means: Floats = np.where(counts > 0, np.round(ahead / np.maximum(1, counts), 12), -np.inf)
        return means

    def ranking(self) -> list[Recommendation]:
        """Tried candidates, the allowed ones first, by estimate; ties go to the start, then to the one with more
        scores, then by levels."""
        start, feasible = self.space.start, self.space.feasible
        return sorted(
            (self.estimate(candidate) for candidate in self.scores),
            key=lambda r: (
                not feasible(r.candidate),
                -round(r.estimate, 12),
                r.candidate != start,
                -r.n,
                r.candidate,
            ),
        )

    def recommend(self) -> Recommendation:
        """The first of `ranking` that is allowed, or the start when there is none."""
        ranking = self.ranking()
        best = bool(ranking) and self.space.feasible(ranking[0].candidate)
        return ranking[0] if best else self.estimate(self.space.start)

    def reached(self, target: float, best: Recommendation) -> str:
        """Why a search for a target score may stop at the best of all tried candidates; empty when it may not."""
        return reached(target, best, self.space, tried=len(self.scores), low=self.low, high=self.high)


def interval(
    mean: float, variance: float, n: int, samples: int, low: float, high: float, z: float = _Z
) -> tuple[float, float]:
    """Where the mean over `samples` samples lies, from the mean and variance of `n` scores between `low` and `high`.

    For scores of 0 and 1 this is Wilson's interval (E. B. Wilson, JASA 1927), with a correction for the finite set. For
    others it is what his becomes with their own variance: as if z^2 / 2 scores more had been seen at either end, so
    that a few equal scores prove little.
    """
    if 0 < n >= samples:
        return mean, mean
    count = n / (1 - n / samples) if n else 0.0
    middle = (count * mean + z**2 / 2 * (low + high)) / (count + z**2)
    half = z / (count + z**2) * math.sqrt(count * variance + (z / 2 * (high - low)) ** 2)
    return middle - half, middle + half


def reached(
    target: float | None, best: Recommendation, space: Space, *, tried: int = 1, low: float = 0.0, high: float = 1.0
) -> str:
    """Why a search for a target score may stop; empty when it may not.

    The proof is in the plain scores, whatever the estimate rests on: a bound below which the mean lies once in
    1 / `_DOUBT` times, shared among all `tried` candidates because the luckiest of them is looked at, with as large a
    variance as scores from `low` to `high` can have. A handful of scores proves nothing.
    """
    if target is None or best.low < target or best.n < min(space.samples, _LEAST_PROOF) or not best.n:
        return ""
    low, high = min(low, best.mean), max(high, best.mean)
    z = NormalDist().inv_cdf(1 - _DOUBT / max(1, tried))
    variance = (best.mean - low) * (high - best.mean)
    if interval(best.mean, variance, best.n, space.samples, low, high, z)[0] < target:
        return ""
    return f"the target score of {target:g} was reached"
