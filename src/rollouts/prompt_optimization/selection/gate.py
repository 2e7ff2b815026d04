"""Is a child better than its parent? Decided on as few paired samples as it takes. Pure.

A normal model of the difference in mean score over a finite set of samples: its prior is learnt from the children
before, the data are paired differences on the same samples, in blocks that grow. After the first block a child is
accepted as soon as it is more likely better than not (by a margin). It is rejected when its chance falls below half of
a fresh proposal's (and below a quarter), or the improvement to be expected of it below half of theirs: a child that
answers just like its parent is worth no whole pass. A wrong accept costs little: the child has to beat its rivals
for a place as a parent, and the leaders meet on all samples at the end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

Decision = Literal["accept", "reject", "more"]
_ACCEPT, _REJECT, _OF_FRESH = 0.6, 0.25, 0.5
_PRIOR_MEAN, _PRIOR_SD, _PRIOR_COUNT = 0.0, 0.06, 5.0
_LEAST_SD = 0.01
_FIRST_BLOCK, _GROWTH = 8, 1.5
_ROUNDING = 1e-9
_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True, kw_only=True)
class GateVerdict:
    """`chance` is the probability that the child is better, `gap` the posterior mean of the difference, `sd` its
    standard deviation; in the unit of the scores. `scale` is the width of their range as far as it is known, 0 where
    all seen were the same."""

    decision: Decision
    chance: float
    gap: float
    sd: float
    scale: float = 0.0


class Gate:
    """Decides one child after another over `samples` samples; `scale` is the width of the range of scores as far as it
    is known, 0 where it is not: it grows to the largest difference."""

    def __init__(self, samples: int, *, scale: float = 0.0) -> None:
        self._samples, self._scale = samples, scale
        self._count = _PRIOR_COUNT
        self._sum = _PRIOR_MEAN * _PRIOR_COUNT
        self._squares = (_PRIOR_SD**2 + _PRIOR_MEAN**2) * _PRIOR_COUNT

    @property
    def prior(self) -> tuple[float, float]:
        """Mean and standard deviation of the difference of a child about which nothing is known."""
        return self._prior(self._scale or 1.0)

    def _prior(self, unit: float) -> tuple[float, float]:
        mean = self._sum / self._count
        sd = math.sqrt(max(_LEAST_SD**2, self._squares / self._count - mean**2))
        return mean * unit, sd * unit

    def judge(self, differences: Sequence[float], *, left: int, margin: float = 0.0) -> GateVerdict:
        """What paired differences (child minus parent) say; `left` is how many samples could still be compared.

        `margin` is what the child may be worse by: positive where it has other advantages. Nothing is accepted or
        rejected before a first block was compared, as long as there are samples left.
        """
        scale = max([self._scale, *map(abs, differences)])
        unit = scale or 1.0
        mean0, sd0 = self._prior(unit)
        gap, sd = _posterior(differences, mean0, sd0, max(1, len(differences) + left), unit)
        chance = _NORMAL.cdf((gap + margin) / sd)
        reject = min(_REJECT, _OF_FRESH * _NORMAL.cdf((mean0 + margin) / sd0))
        decision: Decision = "more"
        if not left:
            better = bool(differences) and sum(differences) / len(differences) + margin > _ROUNDING * scale
            decision = "accept" if better else "reject"
        elif len(differences) >= _FIRST_BLOCK:
            hopeless = _hope(gap + margin, sd) < _OF_FRESH * _hope(mean0 + margin, sd0)
            decision = "accept" if chance > _ACCEPT else "reject" if chance < reject or hopeless else "more"
        return GateVerdict(decision=decision, chance=chance, gap=gap, sd=sd, scale=scale)

    def block(self, compared: int) -> int:
        """How many samples to compare next, after `compared`."""
        return max(1, min(max(_FIRST_BLOCK, round(compared * (_GROWTH - 1))), self._samples - compared))

    def learn(self, verdict: GateVerdict) -> None:
        """A child was decided: the next ones are expected to be more like it."""
        self._scale = max(self._scale, verdict.scale)
        unit = self._scale or 1.0
        gap, sd = verdict.gap / unit, verdict.sd / unit
        self._count += 1
        self._sum += gap
        self._squares += gap**2 + sd**2


def _hope(mean: float, sd: float) -> float:
    """The expected improvement: the mean of the positive part of a normal difference."""
    z = mean / sd
    return sd * _NORMAL.pdf(z) + mean * _NORMAL.cdf(z)


def _posterior(
    differences: Sequence[float], mean0: float, sd0: float, population: int, scale: float
) -> tuple[float, float]:
    """Mean and standard deviation of the difference over all `population` samples."""
    k = len(differences)
    if not k:
        return mean0, sd0
    mean = sum(differences) / k
    squares = sum((d - mean) ** 2 for d in differences) + scale**2
    variance = squares / (k + 4) / k * (1 - k / population) + 1e-12 * scale**2
    weight = 1 / (1 + variance / sd0**2)
    return weight * mean + (1 - weight) * mean0, math.sqrt(weight * variance)
