"""What trials say of the candidates of one module. Pure.

A normal model: the effect of a candidate on the program's mean score, measured from the start's, is
`mu + N(0, spread^2)`, with mu and spread learnt from the module's trials; a mean paired difference between two
candidates on n samples is their effects' difference plus N(0, noise / n). All candidates of a module are inferred
together, so what was compared with an earlier incumbent still counts.

What is expected of a module that was hardly tried goes by how much its swaps move: candidates that change the score of
one sample in twenty cannot differ by much, those that change every third one may. So the spread's prior is a ratio of
the mean squared difference (`moved`), and the ratio is what modules share. Where a module's own scores tell how much
it lacks, that bounds the spread: harmful candidates move a good module too, but none can make it better.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Gap = tuple[float, float]
"""Mean and standard deviation of a difference."""

_NORMAL = NormalDist()
_MEAN, _MEAN_SD = -0.1, 0.2
RATIO = 0.7
_LEAST_SPREAD = 0.002
_LEAST_VARIANCE = 1e-12
_SPREAD_COUNT = 4.0
_MOVED, _MOVED_COUNT = 0.1, 1.0
"""What is expected of `moved` counts as one sample: what tells modules apart first is how much their swaps move."""
_CEILING_COUNT, _CEILING_SHARE = 20.0, 0.5
"""Where it is known what a module lacks, `moved` is expected to be as much and counts as 20 samples: a first candidate
that moves nothing is no reason to leave a weak module. The spread is at most half of it."""
_LEAST_WEIGHT = 0.05
_STEPS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Posterior:
    """Effects of candidates: `place` by number, the last place is a candidate that was never tried."""

    place: dict[int, int]
    mean: Floats
    cov: Floats
    noise: float
    spread: float
    moved: float

    def gap(self, candidate: int | None, incumbent: int) -> Gap:
        """Mean and standard deviation of how much better `candidate` is than `incumbent`; None means an untried one."""
        return self.gaps(incumbent)[candidate if candidate in self.place else None]

    def gaps(self, incumbent: int) -> dict[int | None, Gap]:
        """The gap of every candidate that was tried, and of an untried one (None)."""
        mean, variance = self.mean, np.diag(self.cov)
        if incumbent:
            i = self.place.get(incumbent, len(self.mean) - 1)
            mean = mean - mean[i]
            variance = variance + variance[i] - 2 * self.cov[i]
        sd = np.sqrt(np.maximum(variance, _LEAST_VARIANCE))
        return dict(zip([*self.place, None], zip(mean.tolist(), sd.tolist(), strict=True), strict=True))

    def rivalries(self, incumbent: int) -> dict[int | None, Gap]:
        """How much better every candidate is than the best of the others by what is expected of them, the incumbent
        among them; with the standard deviation of what more trials of it would show."""
        gaps = self.gaps(incumbent)
        tried = sorted((gaps[number][0] for number in self.place if number != incumbent), reverse=True)
        first, second = [*tried, 0.0, 0.0][:2]
        out: dict[int | None, Gap] = {}
        for number, (mean, sd) in gaps.items():
            best = second if number is not None and mean == first else first
            out[number] = (mean - max(0.0, best), sd)
        return out


class Gains:
    """Learns from trials of one module over at most `samples` samples, `ratio` is expected of spread / `moved`."""

    def __init__(self, samples: int) -> None:
        self._samples = samples
        self._edges: dict[tuple[int, int], list[float]] = {}
        self.ratio = RATIO
        self._spread2 = (RATIO * _MOVED) ** 2
        self._posterior: Posterior | None = None
        self._expected = (_MOVED, _MOVED_COUNT)
        self._limit2 = math.inf

    def expect(self, ceiling: float) -> None:
        """No candidate can gain more than `ceiling`: so much is expected to be `moved`, and candidates that may be
        better cannot be spread wider than a share of it, however much the harmful ones move."""
        if self._expected == (ceiling, _CEILING_COUNT):
            return
        self._expected = (ceiling, _CEILING_COUNT)
        self._limit2 = max(_LEAST_SPREAD, _CEILING_SHARE * ceiling) ** 2
        self._posterior = None

    @property
    def tried(self) -> int:
        """Candidates with a result."""
        return len({number for edge in self._edges for number in edge if number})

    def learn(self, candidate: int, against: int, differences: Sequence[float]) -> None:
        """Paired differences of one trial."""
        if not differences or candidate == against:
            return
        edge = self._edges.setdefault((candidate, against), [0.0, 0.0, 0.0])
        edge[0] += len(differences)
        edge[1] += sum(differences)
        edge[2] += sum(d * d for d in differences)
        self._posterior = None

    def discount(self, factor: float) -> None:
        """What was learnt counts for less: the rest of the program has changed."""
        self._edges = {
            edge: [part * factor for part in sums]
            for edge, sums in self._edges.items()
            if sums[0] * factor > _LEAST_WEIGHT
        }
        self._posterior = None

    def posterior(self) -> Posterior:
        """The candidates' effects by all that was learnt."""
        if self._posterior is None:
            numbers = sorted({number for edge in self._edges for number in edge if number})
            place = {number: index for index, number in enumerate(numbers)}
            moved = self._mean_square(centred=False)
            noise = self._mean_square(centred=True)
            self._spread2 = min(self._limit2, (self.ratio * moved) ** 2)
            for _ in range(_STEPS):
                mean, cov = self._infer(place, noise, moved)
                self._refit(mean, cov, moved)
            self._posterior = Posterior(
                place=place, mean=mean, cov=cov, noise=noise, spread=math.sqrt(self._spread2), moved=moved
            )
        return self._posterior

    def _mean_square(self, *, centred: bool) -> float:
        """Of paired differences: about their pair's mean, or about 0."""
        moved, count = self._expected
        squares = moved * count
        for n, total, square in self._edges.values():
            squares += max(0.0, square - total * total / n) if centred else square
            count += max(0.0, n - 1) if centred else n
        return max(1e-4, squares / count)

    def _infer(self, place: dict[int, int], noise: float, moved: float) -> tuple[Floats, Floats]:
        size = len(place) + 1
        spread2, shared2 = self._spread2, (_MEAN_SD * moved) ** 2
        precision = np.full((size, size), -shared2 / (spread2 * (spread2 + size * shared2)))
        precision[np.diag_indices(size)] += 1 / spread2
        target = precision.sum(axis=1) * _MEAN * moved
        for (a, b), (n, total, _) in self._edges.items():
            rest = max(1e-3, 1 - n / (self._samples + 1))
            weight = n / (noise * rest)
            for x, y in ((a, b), (b, a)):
                if x:
                    i = place[x]
                    precision[i, i] += weight
                    target[i] += (weight if x == a else -weight) * total / n
                    if y:
                        precision[i, place[y]] -= weight
        cov = np.linalg.inv(precision)
        return cov @ target, cov

    def _refit(self, mean: Floats, cov: Floats, moved: float) -> None:
        """The spread's next estimate: one step of EM with a prior of a few candidates."""
        tried = len(mean) - 1
        centre = float(mean[-1])
        own = np.diag(cov)[:-1] + cov[-1, -1] - self._spread2 - 2 * (cov[-1, :-1])
        squares = float(np.sum((mean[:-1] - centre) ** 2 + np.maximum(0.0, own)))
        prior = _SPREAD_COUNT * (self.ratio * moved) ** 2
        self._spread2 = min(self._limit2, max(_LEAST_SPREAD**2, (prior + squares) / (tried + _SPREAD_COUNT)))


def chance(gap: Gap) -> float:
    """The probability that a gap is positive."""
    return _NORMAL.cdf(gap[0] / gap[1])


def expected_gain(gap: Gap, noise: float, samples: float) -> float:
    """How much the choice between candidate and incumbent is expected to gain by `samples` more paired samples.

    The knowledge gradient for two alternatives (Frazier, Powell & Dayanik 2008).
    """
    mean, sd = gap
    learnt = sd * sd / math.sqrt(sd * sd + noise / samples)
    z = -abs(mean) / learnt
    return learnt * (_NORMAL.pdf(z) + z * _NORMAL.cdf(z))
