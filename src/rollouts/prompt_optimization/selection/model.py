"""A Gaussian model of scores over a product of factors.

    score = mean + difficulty(sample) + sum over factors (effect(level) + quirk(level, sample)) + own(candidate) + noise

Every term has a normal prior with a variance fitted on the way; the effect of a level made from another one is expected
half way between that one's and the average. `quirk` matters most: candidates with a level in common answer almost alike
on the same sample, so their scores are far from independent evidence. One sweep of block Gauss-Seidel per round, each
block exact given the others; variances by MacKay's fixed point (Neural Computation 4, 1992).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rollouts.prompt_optimization.selection.cells import Floats, Ints

# Priors on scores in [0, 1]: standard deviations of effects, variances of the rest, and how many observations each
# prior weighs. Own effects start larger than a level's: a lone good candidate must not be taken for a good level.
LEVEL_SD, OWN_SD, QUIRK, DIFFICULTY, NOISE = 0.045, 0.1, 0.03, 0.03, 0.1
LEVEL_DOF, OWN_DOF, QUIRK_DOF, DIFFICULTY_DOF, NOISE_DOF = 8.0, 20.0, 40.0, 20.0, 30.0
MEAN, MEAN_VARIANCE = 0.5, 0.25
KIN = 0.5


@dataclass(slots=True)
class Factor:
    """Posterior of one factor: effects `u` of levels, quirks `h`, value `b` of a level over all samples, variances.
    `like` is the level that a level was made from, -1 for none."""

    u: Floats
    h: Floats
    b: Floats
    vb: Floats
    like: Ints
    level_variance: float = LEVEL_SD**2
    quirk_variance: float = QUIRK

    @property
    def expected(self) -> Floats:
        """The effects of the levels as far as they are known from those that they were made from."""
        return np.where(self.like < 0, 0.0, KIN * self.b[self.like])


class FactorModel:
    """Estimates of all candidates from the cells scored so far. `fit` is one sweep, warm from the last.

    theta, variance: of the candidates' values. known: how well the difficulty of each sample is known, from 0 (never
    run) to 1. own_unsure: the variance left of the candidates' own effects.
    """

    def __init__(self, levels: tuple[int, ...], samples: int) -> None:
        self.samples = max(1, samples)
        self.mean = MEAN
        self.difficulty = np.zeros(self.samples)
        self.known = np.zeros(self.samples)
        self.factors = [self._factor(n) for n in levels]
        self.own = np.zeros(0)
        self.own_unsure = np.zeros(0)
        self.own_variance = OWN_SD**2
        self.difficulty_variance, self.noise = DIFFICULTY, NOISE
        self.theta = np.zeros(0)
        self.variance = np.zeros(0)
        self.unseen_share = np.zeros(0)
        self.own_value_variance = np.zeros(0)
        self.counts: Ints = np.zeros(0, dtype=np.int64)
        self.means = np.zeros(0)

    def _factor(self, n: int) -> Factor:
        return Factor(
            u=np.zeros(n),
            h=np.zeros((n, self.samples)),
            b=np.zeros(n),
            vb=np.full(n, LEVEL_SD**2 + QUIRK / max(1, self.samples)),
            like=np.full(n, -1),
        )

    def anew(self) -> FactorModel:
        """A model of the same levels that knows nothing."""
        new = FactorModel(tuple(len(factor.u) for factor in self.factors), self.samples)
        for mine, other in zip(new.factors, self.factors, strict=True):
            mine.like = other.like
        return new

    def add_level(self, factor: int, like: int | None = None) -> None:
        """One more level of a factor, made from level `like` where that is given, with its prior."""
        old, new = self.factors[factor], self._factor(1)
        if like is not None:
            new.like[0] = like
        for name in ("u", "h", "b", "vb", "like"):
            setattr(old, name, np.concatenate([getattr(old, name), getattr(new, name)]))
        old.u[-1] = old.b[-1] = old.expected[-1]

    def fit(self, grid: Ints, rows: Ints, samples: Ints, scores: Floats) -> None:
        """One sweep over all blocks. `grid` has the levels of every candidate (candidates x factors)."""
        self.own = np.concatenate([self.own, np.zeros(len(grid) - len(self.own))])
        pairs = [grid[rows, f] * self.samples + samples for f in range(len(self.factors))]
        parts = [(factor.u[:, None] + factor.h).ravel()[pair] for factor, pair in zip(self.factors, pairs, strict=True)]
        rest = scores - self.mean - self.difficulty[samples] - self.own[rows] - sum(parts)
        rest = self._fit_difficulty(rest, samples)
        explained = 0.0
        for factor, pair, part in zip(self.factors, pairs, parts, strict=True):
            rest, unsure = self._fit_factor(factor, pair, rest + part)
            explained += float(unsure)
        rest, own_unsure = self._fit_own(rest, rows, len(grid))
        n = len(scores)
        self.noise = (float(rest @ rest) + explained + own_unsure + NOISE_DOF * NOISE) / (n + NOISE_DOF)
        total = np.bincount(rows, scores, minlength=len(grid))
        self.means = total / np.maximum(self.counts, 1)
        self._value(grid, rows, rest)

    def _fit_difficulty(self, rest: Floats, samples: Ints) -> Floats:
        rest = rest + self.mean + self.difficulty[samples]
        counts = np.bincount(samples, minlength=self.samples)
        seen = counts > 0
        average = np.bincount(samples, rest, minlength=self.samples)[seen] / counts[seen]
        weight = 1 / (self.difficulty_variance + self.noise / counts[seen])
        self.mean = float((weight @ average + MEAN / MEAN_VARIANCE) / (weight.sum() + 1 / MEAN_VARIANCE))
        share = self.difficulty_variance * weight
        self.difficulty[:] = self.known[:] = 0.0
        self.difficulty[seen] = share * (average - self.mean)
        self.known[seen] = share
        total = float(self.difficulty @ self.difficulty)
        self.difficulty_variance = (total + DIFFICULTY_DOF * DIFFICULTY) / (float(share.sum()) + DIFFICULTY_DOF)
        return rest - self.mean - self.difficulty[samples]

    def _fit_factor(self, factor: Factor, pair: Ints, rest: Floats) -> tuple[Floats, float]:
        shape = factor.h.shape
        counts = np.bincount(pair, minlength=factor.h.size)
        seen = np.flatnonzero(counts)
        n = counts[seen]
        average = np.bincount(pair, rest, minlength=factor.h.size)[seen] / n
        weight = 1 / (factor.quirk_variance + self.noise / n)
        level = seen // self.samples
        total = np.bincount(level, weight, minlength=shape[0])
        vu = 1 / (total + 1 / factor.level_variance)
        expected = factor.expected
        factor.u = expected + vu * (np.bincount(level, weight * average, minlength=shape[0]) - total * expected)
        share = factor.quirk_variance * weight
        flat = np.zeros(factor.h.size)
        flat[seen] = share * (average - factor.u[level])
        factor.h = flat.reshape(shape)
        known = np.bincount(level, share, minlength=shape[0]) / self.samples
        factor.b = factor.u + factor.h.mean(axis=1)
        factor.vb = (1 - known) ** 2 * vu + factor.quirk_variance / self.samples * (1 - known)
        unsure = factor.quirk_variance * float((n * (1 - share)).sum())
        own = factor.u - expected
        squares = float(own @ own), float(flat @ flat)
        dof = float((1 - vu / factor.level_variance).sum()), float(share.sum())
        factor.level_variance = (squares[0] + LEVEL_DOF * LEVEL_SD**2) / (dof[0] + LEVEL_DOF)
        factor.quirk_variance = (squares[1] + QUIRK_DOF * QUIRK) / (dof[1] + QUIRK_DOF)
        return rest - (factor.u[pair // self.samples] + flat[pair]), unsure

    def _fit_own(self, rest: Floats, rows: Ints, candidates: int) -> tuple[Floats, float]:
        rest = rest + self.own[rows]
        counts = np.bincount(rows, minlength=candidates)
        self.counts = counts
        prior = self.own_variance
        share = prior / (prior + self.noise / np.maximum(counts, 1)) * (counts > 0)
        self.own = share * np.bincount(rows, rest, minlength=candidates) / np.maximum(counts, 1)
        self.own_unsure = prior * (1 - share)
        self.own_variance = (float(self.own @ self.own) + OWN_DOF * OWN_SD**2) / (float(share.sum()) + OWN_DOF)
        return rest - self.own[rows], float((counts * self.own_unsure).sum())

    def _value(self, grid: Ints, rows: Ints, rest: Floats) -> None:
        left = np.bincount(rows, rest, minlength=len(grid)) / self.samples
        self.theta = self.mean + self.difficulty.mean() + self.own + left
        for f, factor in enumerate(self.factors):
            self.theta += factor.b[grid[:, f]]
        self.theta = np.where(self.counts >= self.samples, self.means, self.theta)
        self.unseen_share = 1 - self.counts / self.samples
        self.own_value_variance = self.unseen_share**2 * self.own_unsure + self.unseen_share * self.noise / self.samples
        self.variance = self.own_value_variance.copy()
        for f, factor in enumerate(self.factors):
            self.variance += self.unseen_share**2 * factor.vb[grid[:, f]]
