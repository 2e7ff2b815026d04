"""How large a paired difference is, in the unit of the scores and in standard deviations."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri, stdtrit

from rollouts.errors import ConfigError
from rollouts.stats.intervals import Floats, Interval, finite, quantile
from rollouts.stats.power import noncentral_t
from rollouts.stats.significance import signed_rank_law, signed_ranks

_BLOCK = 1 << 21
_MOST_WALSH = 4_000
_HALVINGS = 60
_SAME = 1e-12
_LEAST_FREE = 9
_LEAST_OF_STRATUM = 5


def bootstrap_difference(
    differences: npt.ArrayLike,
    *,
    strata: Sequence[Hashable] | None = None,
    confidence: float = 0.95,
    resamples: int = 1_999,
    seed: int = 0,
) -> Interval:
    """Paired interval for the mean of `differences` (method - baseline), one per pair of runs.

    `strata` names the stratum of every difference, such as its task: only what differs within a stratum then counts as
    noise, so that the interval speaks of these tasks and is not widened by how much they differ. Where no stratum has
    two differences all count as one stratum.

    From 9 degrees of freedom on (differences less strata: ten pairs of one task), with 5 differences to a stratum on
    average, it is the percentile bootstrap within strata, expanded as by Student's t and n / (n - 1) (Hesterberg 2015,
    "What teachers should know about the bootstrap", section 5.3). Resamples of fewer do not reach far enough, and it is
    Student's t with the variance pooled over the strata: exact for normal differences of one variance. The order of the
    pairs does not matter, and the same values and seed give the same interval.

    The whole line for one difference, and where the differences of each stratum are equal: these say nothing about the
    noise. Without any value the mean is NaN. Raises ConfigError for values that are not finite, a stratum too few or
    too many, or a confidence outside (0, 1).
    """
    moved = finite(differences)
    quantile(confidence)
    n = len(moved)
    if strata is not None and len(strata) != n:
        raise ConfigError(f"give one stratum for each difference, not {len(strata)} for {n}")
    if n == 0:
        return Interval(mean=math.nan, low=-math.inf, high=math.inf, n=0)
    parts = _parts(moved, strata)
    if len(parts) == n:
        parts = _parts(moved, None)
    mean, free = float(sum(part.sum() for part in parts) / n), n - len(parts)
    if not free or max(np.ptp(part) for part in parts) <= _SAME * max(1.0, float(np.abs(moved).max())):
        return Interval(mean=mean, low=-math.inf, high=math.inf, n=n)
    t = float(stdtrit(free, (1 + confidence) / 2))
    if free < _LEAST_FREE or n < _LEAST_OF_STRATUM * len(parts):
        variance = float(sum(((part - part.mean()) ** 2).sum() for part in parts)) / free
        half = t * math.sqrt(variance / n)
        return Interval(mean=mean, low=mean - half, high=mean + half, n=n)
    rng = np.random.default_rng(seed)
    means = sum((_sums(part, resamples, rng) for part in parts), np.zeros(resamples)) / n
    tail = float(ndtr(-math.sqrt(n / free) * t))
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(mean=mean, low=min(float(low), mean), high=max(float(high), mean), n=n)


def _parts(moved: Floats, strata: Sequence[Hashable] | None) -> list[Floats]:
    """The values of each stratum, in an order that does not depend on theirs."""
    groups: dict[Hashable, list[float]] = {}
    for stratum, value in zip(strata or [None] * len(moved), moved, strict=True):
        groups.setdefault(stratum, []).append(float(value))
    return [np.array(values) for values in sorted(sorted(values) for values in groups.values())]


def _sums(part: Floats, resamples: int, rng: np.random.Generator) -> Floats:
    rows = max(1, _BLOCK // len(part))
    counts = [min(rows, resamples - begin) for begin in range(0, resamples, rows)]
    return np.concatenate([part[rng.integers(0, len(part), (count, len(part)))].sum(axis=1) for count in counts])


def hodges_lehmann(differences: npt.ArrayLike, confidence: float = 0.95) -> Interval:
    """The shift between two methods (Hodges & Lehmann 1963): the median of the means of all pairs of differences.

    Unlike the mean it is hardly moved by a single wild run. The interval belongs to Wilcoxon's signed-rank test: its
    ends are order statistics of the same means (Hollander, Wolfe & Chicken 2014, "Nonparametric statistical methods",
    3.3), exact for symmetric differences without ties, at least of the stated confidence with them. It is the whole
    line where no interval of finite ends reaches the confidence (fewer than 6 differences at 95 %). `mean` holds the
    shift. Raises ConfigError for values that are not finite, more than 4,000 of them, or a confidence outside (0, 1).
    """
    moved = finite(differences)
    quantile(confidence)
    n = len(moved)
    if n > _MOST_WALSH:
        raise ConfigError(f"{n} differences are too many for means of all pairs; take the mean (bootstrap_difference)")
    if n == 0:
        return Interval(mean=math.nan, low=-math.inf, high=math.inf, n=0)
    first, second = np.triu_indices(n)
    walsh = np.sort((moved[first] + moved[second]) / 2)
    shift = float(np.median(walsh))
    below = signed_rank_law(np.arange(1.0, n + 1)).cumsum()
    # The largest k for which the k-th mean from either end still holds the confidence.
    k = int(np.searchsorted(below, (1 - confidence) / 2, side="right"))
    if k == 0:
        return Interval(mean=shift, low=-math.inf, high=math.inf, n=n)
    return Interval(mean=shift, low=float(walsh[k - 1]), high=float(walsh[-k]), n=n)


def cohens_d(differences: npt.ArrayLike, confidence: float = 0.95) -> Interval:
    """Mean of paired differences in their own standard deviations (Cohen's d_z), with Hedges' correction for few pairs.

    The interval inverts the noncentral t distribution (Cumming & Finch 2001, "A primer on the understanding, use, and
    calculation of confidence intervals"), exact for normal differences. Differences that are all equal give an infinite
    effect (0 when they are 0) and the whole line; fewer than three give NaN and the whole line. Raises ConfigError for
    values that are not finite or a confidence outside (0, 1).
    """
    moved = finite(differences)
    quantile(confidence)
    n = len(moved)
    if n < 3:
        return Interval(mean=math.nan, low=-math.inf, high=math.inf, n=n)
    mean, deviation = float(moved.mean()), float(moved.std(ddof=1))
    if deviation <= 1e-12 * max(1.0, abs(mean)):
        size = math.copysign(math.inf, mean) if abs(mean) > 1e-12 else 0.0
        return Interval(mean=size, low=-math.inf, high=math.inf, n=n)
    t, free = math.sqrt(n) * mean / deviation, n - 1
    corrected = math.exp(math.lgamma(free / 2) - math.lgamma((free - 1) / 2)) / math.sqrt(free / 2)
    tail = (1 - confidence) / 2
    low, high = (_centre(t, free, share) / math.sqrt(n) for share in (1 - tail, tail))
    d = corrected * mean / deviation
    return Interval(mean=d, low=min(low, d), high=max(high, d), n=n)


def _centre(t: float, free: int, share: float) -> float:
    """The noncentrality for which a share of statistics lies below `t`, which falls as the noncentrality grows."""
    reach = abs(t) + 10 + 4 * abs(float(ndtri(share))) * (1 + abs(t) / math.sqrt(2 * free))
    low, high = -reach, reach
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if noncentral_t(t, free, middle) > share else (low, middle)
    return (low + high) / 2


def rank_biserial(differences: npt.ArrayLike) -> float:
    """Matched-pairs rank-biserial correlation (Kerby 2014, "The simple difference formula"): favourable minus
    unfavourable share of the signed ranks, from -1 to 1; 0 when no pair differs.

    Raises ConfigError for values that are not finite.
    """
    ranks = signed_ranks(differences)
    return float(ranks.sum() / np.abs(ranks).sum()) if len(ranks) else 0.0
