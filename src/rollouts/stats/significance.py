"""Tests of "the two prompts are equally good" on paired scores."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import bdtr

from rollouts.errors import ConfigError
from rollouts.stats.intervals import Floats, finite

_ENUMERATED = 14
_BLOCK_BITS = 1 << 22


def mcnemar(b: int, c: int) -> float:
    """Two-sided p-value of McNemar's exact test.

    `b` and `c` count the samples that only the one and only the other prompt got right; samples on which both agree
    say nothing. Raises ConfigError for negative counts.
    """
    if b < 0 or c < 0:
        raise ConfigError(f"counts of unequal samples must be at least 0, not {b} and {c}")
    if b == c:
        return 1.0
    return min(1.0, 2 * float(bdtr(min(b, c), b + c, 0.5)))


def sign_flip_test(differences: npt.ArrayLike, *, resamples: int = 9_999, seed: int = 0) -> float:
    """Two-sided p-value of the paired permutation test on the sum of `differences` (candidate - baseline).

    Under the hypothesis each sample's two scores could have been exchanged, so every pattern of signs is as likely.
    Differences of one size (0/1 scores) make it McNemar's exact test. Up to 14 differences that are not 0 are
    enumerated; more are resampled with the given seed, counting the observed pattern in, so that p is never too small
    and never below 1 / (resamples + 1).
    """
    moved = finite(differences)
    moved = moved[moved != 0]
    sizes = np.abs(moved)
    if not len(moved) or np.ptp(sizes) <= 1e-9 * sizes.max():
        return mcnemar(int((moved > 0).sum()), int((moved < 0).sum()))
    # Sums of the same terms in another order differ in the last bits; they must count as equal.
    reached = abs(float(moved.sum())) - 1e-9 * float(sizes.sum())
    if len(moved) <= _ENUMERATED:
        patterns = np.arange(1 << len(moved))[:, None] >> np.arange(len(moved)) & 1
        return float(np.mean(_flipped(patterns, sizes) >= reached))
    rng = np.random.default_rng(seed)
    extreme, left = 1, resamples
    rows = max(1, _BLOCK_BITS // len(moved))
    while left > 0:
        count = min(rows, left)
        packed = rng.integers(0, 256, (count, -(-len(moved) // 8)), dtype=np.uint8)
        extreme += int((_flipped(np.unpackbits(packed, axis=1, count=len(moved)), sizes) >= reached).sum())
        left -= count
    return extreme / (resamples + 1)


def _flipped(positive: npt.NDArray[np.integer], sizes: Floats) -> Floats:
    """The absolute sums when those marked 1 are positive and the others negative."""
    sums: Floats = np.abs(2 * (positive.astype(np.float64) @ sizes) - sizes.sum())
    return sums
