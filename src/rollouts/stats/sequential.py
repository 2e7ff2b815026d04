"""Bounds that hold at every look: a mean may be watched while its scores come in, and stopped at any time."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from rollouts.errors import ConfigError
from rollouts.stats.intervals import Floats, Interval, finite, quantile

_CELLS = 1_000
_TRUNCATION = 0.5
_BLOCK = 1 << 20


class ConfidenceSequence:
    """An interval for the mean of scores in [`low`, `high`], valid after every score at once.

    With probability `confidence` the mean lies in all the intervals of the sequence, however often one looks and
    whatever one stops by; an ordinary interval that is looked at after every score misses sooner or later. Scores need
    no distribution, only bounds and one mean given the past (rows in random order). For the paired difference of two
    prompts with scores in [0, 1] take `low=-1`.

    The method is the hedged capital process of Waudby-Smith & Ramdas (2024, "Estimating means of bounded random
    variables by betting", section 4, arXiv 2010.09686): for every possible mean a bet against it, sized from the
    variance of the scores before. Means are held on a grid of a thousandth of the range and ends are rounded
    outwards to it. Ends only move inwards.

    Raises ConfigError for a confidence outside (0, 1) or bounds that are not finite and in order.
    """

    def __init__(self, *, low: float = 0.0, high: float = 1.0, confidence: float = 0.95) -> None:
        quantile(confidence)
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ConfigError(
                f"low = {low!r} and high = {high!r}: must be finite bounds of the scores, the lower first"
            )
        self._low, self._range, self._alpha = low, high - low, 1 - confidence
        self._means = np.linspace(0.0, 1.0, _CELLS + 1)
        self._rising, self._falling = np.zeros(_CELLS + 1), np.zeros(_CELLS + 1)
        self._n, self._sum, self._squares = 0, 0.0, 0.25
        self._first, self._last = 0, _CELLS

    def update(self, scores: npt.ArrayLike) -> Interval:
        """Takes the next scores, in their order of arrival, and returns the interval after the last of them.

        Raises ConfigError for a score that is not finite or lies outside the bounds; then none of them is taken.
        """
        self.path(scores)
        return self.interval

    def path(self, scores: npt.ArrayLike) -> tuple[Floats, Floats]:
        """`update`, returning the lower and the upper ends after each of the scores."""
        values = (finite(scores) - self._low) / self._range
        if len(values) and not (values.min() >= -1e-9 and values.max() <= 1 + 1e-9):
            raise ConfigError(
                f"scores must lie in [{self._low:g}, {self._low + self._range:g}], the bounds that were set"
            )
        rows = max(1, _BLOCK // _CELLS)
        parts = [self._look(np.clip(values[i : i + rows], 0.0, 1.0)) for i in range(0, len(values), rows)]
        first = np.concatenate([part[0] for part in parts]) if parts else np.zeros(0, dtype=np.intp)
        last = np.concatenate([part[1] for part in parts]) if parts else np.zeros(0, dtype=np.intp)
        return self._low + self._range * self._means[first], self._low + self._range * self._means[last]

    @property
    def interval(self) -> Interval:
        """The interval so far, beside the mean of the scores, which may lie outside: the ends remember earlier looks.

        The mean of no score is NaN.
        """
        low, high = (self._low + self._range * float(self._means[cell]) for cell in (self._first, self._last))
        mean = self._low + self._range * self._sum / self._n if self._n else math.nan
        return Interval(mean=mean, low=low, high=high, n=self._n)

    def _look(self, values: Floats) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        bets = self._bets(values)[:, None]
        gaps = values[:, None] - self._means
        with np.errstate(divide="ignore"):
            up = np.minimum(bets, _TRUNCATION / self._means)
            down = np.minimum(bets, _TRUNCATION / (1 - self._means))
        rising = self._rising + np.cumsum(np.log1p(up * gaps), axis=0)
        falling = self._falling + np.cumsum(np.log1p(-down * gaps), axis=0)
        self._rising, self._falling = rising[-1], falling[-1]
        bound = math.log(2 / self._alpha)
        # Each capital is monotone in the mean: what it has ruled out is one end of the grid.
        below, above = (rising >= bound).sum(axis=1), (falling >= bound).sum(axis=1)
        first = np.maximum.accumulate(np.maximum(self._first, below - 1))
        last = np.minimum.accumulate(np.minimum(self._last, _CELLS + 1 - above))
        crossed = np.flatnonzero(first > last)
        if len(crossed):
            # Every mean is ruled out, which the level allows for: the last interval that was one stays.
            at = int(crossed[0])
            first[at:] = first[at - 1] if at else self._first
            last[at:] = last[at - 1] if at else self._last
        self._first, self._last = int(first[-1]), int(last[-1])
        return first, last

    def _bets(self, values: Floats) -> Floats:
        """The size of the bet on each score, known before it."""
        counts = self._n + np.arange(1, len(values) + 1)
        sums = self._sum + np.cumsum(values)
        squares = self._squares + np.cumsum((values - (0.5 + sums) / (counts + 1)) ** 2)
        variances = np.concatenate([[self._squares], squares[:-1]]) / counts
        self._n, self._sum, self._squares = int(counts[-1]), float(sums[-1]), float(squares[-1])
        bets: Floats = np.sqrt(2 * math.log(2 / self._alpha) / (variances * counts * np.log1p(counts)))
        return bets
