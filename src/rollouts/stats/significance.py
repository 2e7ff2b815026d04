"""Tests of "the two prompts are equally good" on paired scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import bdtr, ndtr

from rollouts.errors import ConfigError
from rollouts.stats.intervals import Floats, finite
from rollouts.stats.paired import one_size

_ENUMERATED = 14
_EXACT_RANKS = 200
_BLOCK_BITS = 1 << 22


def mcnemar(b: int, c: int, *, mid: bool = False) -> float:
    """Two-sided p-value of McNemar's exact test, or with `mid` of its mid-p variant.

    `b` and `c` count the samples that only the one and only the other prompt got right; samples on which both agree
    say nothing. The mid-p value counts half of the probability of what was observed (Fagerland, Lydersen & Laake 2013,
    "The McNemar test for binary matched-pairs data: mid-p and asymptotic are better than exact conditional"): it finds
    more, and rejects equal prompts at most at the nominal rate where they agree on half of the samples or more, though
    not for every number of unequal samples by itself. Raises ConfigError for negative counts.
    """
    if b < 0 or c < 0:
        raise ConfigError(f"counts of unequal samples must be at least 0, not {b} and {c}")
    if b == c:
        return 1.0
    fewer, unequal = min(b, c), b + c
    p_value = 2 * float(bdtr(fewer, unequal, 0.5))
    if mid:
        p_value -= float(bdtr(fewer, unequal, 0.5) - (bdtr(fewer - 1, unequal, 0.5) if fewer else 0.0))
    return min(1.0, p_value)


def paired_test(differences: npt.ArrayLike, *, seed: int = 0) -> float:
    """Two-sided p-value of "the two prompts are equally good" from `differences` (candidate - baseline).

    The kind of data decides: McNemar's mid-p test where all differences that are not 0 have one size (0/1 scores), the
    sign-flip test otherwise. Samples without a difference do not count. Raises ConfigError for values that are not
    finite.
    """
    moved = finite(differences)
    if one_size(moved) is None:
        return sign_flip_test(moved, seed=seed)
    return mcnemar(int((moved > 0).sum()), int((moved < 0).sum()), mid=True)


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
    if one_size(moved) is not None:
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


def signed_ranks(differences: npt.ArrayLike) -> Floats:
    """Wilcoxon's signed ranks of the differences that are not 0; those of one size share the mean of their ranks.

    Sizes that differ by no more than rounding count as one. Raises ConfigError for values that are not finite.
    """
    moved = finite(differences)
    moved = moved[moved != 0]
    sizes = np.abs(moved)
    order = np.argsort(sizes, kind="stable")
    steps = np.diff(sizes[order], prepend=-np.inf) > 1e-9 * sizes.max(initial=0.0)
    group = np.cumsum(steps) - 1
    ends = np.append(np.flatnonzero(steps), len(moved))
    ranks: Floats = np.empty(len(moved))
    ranks[order] = ((ends[:-1] + 1 + ends[1:]) / 2)[group]
    signed: Floats = np.copysign(ranks, moved)
    return signed


def signed_rank_law(ranks: Floats) -> Floats:
    """The distribution of the sum of those of `ranks` that get a plus sign by the toss of a coin.

    Entry i is the probability of a sum of i, or of i / 2 where some ranks are halves.
    """
    steps = ranks if np.array_equal(ranks, np.round(ranks)) else 2 * ranks
    law = np.zeros(round(float(steps.sum())) + 1)
    law[0] = 1.0
    for step in np.round(steps).astype(np.int64):
        law[step:] += law[: len(law) - step].copy()
        law /= 2
    return law


def wilcoxon_test(differences: npt.ArrayLike) -> float:
    """Two-sided p-value of Wilcoxon's signed-rank test (1945) of "symmetric about 0", such as over seeds and tasks.

    Differences of 0 are left out. Exact up to 200 others, ties included (the law given the ranks that occurred); beyond
    that by the normal distribution. 1.0 when nothing differs. Raises ConfigError for values that are not finite.
    """
    ranks = signed_ranks(differences)
    if not len(ranks):
        return 1.0
    if len(ranks) > _EXACT_RANKS:
        return min(1.0, 2 * float(ndtr(-abs(ranks.sum()) / np.sqrt(np.sum(ranks**2)))))
    sizes = np.abs(ranks)
    law = signed_rank_law(sizes)
    fewer = min(ranks[ranks > 0].sum(), sizes[ranks < 0].sum())
    unit = (len(law) - 1) / sizes.sum()
    return min(1.0, 2 * float(law[: round(fewer * unit) + 1].sum()))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values of several tests, corrected so that rejecting those below a level errs in any of them at most that
    often (Holm 1979, "A simple sequentially rejective multiple test procedure"), in the order given.

    Raises ConfigError for a value outside [0, 1].
    """
    if not all(0 <= p <= 1 for p in p_values):
        raise ConfigError(f"p-values must lie between 0 and 1: {list(p_values)}")
    out = [0.0] * len(p_values)
    reached = 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        reached = max(reached, min(1.0, (len(p_values) - place) * p_values[index]))
        out[index] = reached
    return out
