"""The difference between two prompts that were scored on the same samples: a mean with its confidence interval."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from rollouts.errors import ConfigError
from rollouts.stats.intervals import Floats, Interval, finite, quantile

_RESAMPLES = 999
_BLOCK = 1 << 21
_HALVINGS = 60


def paired_difference(
    baseline: npt.ArrayLike, candidate: npt.ArrayLike, confidence: float = 0.95, *, seed: int = 0
) -> Interval:
    """Interval for the mean of `candidate - baseline`, the scores of two prompts on the same samples in one order.

    The method goes by the kind of data. Neither interval is ever of width 0, not even when no sample differs, and
    both hold their level where few samples differ, which the t interval and the plain bootstrap do not.

    - Differences of one size, as with 0/1 scores: Tango's score interval (1998, "Equivalence test and confidence
      interval for the difference in proportions for the paired-sample design"). It inverts McNemar's score test.
    - Graded scores: at each end the farther of two bounds, both on moments with one more win and one more loss added
      (Bonett & Price 2012, "Adjusted Wald confidence interval for a difference of binomial proportions based on paired
      data", with the root mean square of the differences that are not 0 in place of 1): the Wald bound, and that of
      the studentized bootstrap (Hall 1988, "Theoretical comparison of bootstrap confidence intervals"), which follows
      skewness. `seed` decides the resamples; the same scores and seed give the same interval.

    Exchanging the prompts turns the interval round exactly; the order of the samples does not matter. Scores in
    [0, 1] give an interval in [-1, 1]. Without any sample the mean is NaN and the interval the whole line.

    Raises ConfigError for unequal lengths, a confidence outside (0, 1) or scores that are not finite.
    """
    before, after, z = finite(baseline), finite(candidate), quantile(confidence)
    if len(before) != len(after):
        raise ConfigError(f"paired scores must be of equal number, not {len(before)} and {len(after)}")
    n = len(before)
    if n == 0:
        return Interval(mean=math.nan, low=-math.inf, high=math.inf, n=0)
    moved = after - before
    mean = float(moved.mean())
    size = one_size(moved)
    if size is None:
        low, high = _graded(moved, confidence, z, seed)
    else:
        low, high = (size * end for end in _tango(int((moved > 0).sum()), int((moved < 0).sum()), n, z))
    if min(before.min(), after.min()) >= 0 and max(before.max(), after.max()) <= 1:
        low, high = max(low, -1.0), min(high, 1.0)
    return Interval(mean=mean, low=min(low, mean), high=max(high, mean), n=n)


def one_size(differences: Floats) -> float | None:
    """The size that all differences have which are not 0 (1 when there are none), None when they have several."""
    sizes = np.abs(differences[differences != 0])
    if not len(sizes):
        return 1.0
    return float(sizes.mean()) if np.ptp(sizes) <= 1e-9 * sizes.max() else None


def adjusted_moments(differences: Floats) -> tuple[float, float]:
    """Mean and standard deviation of at least one paired difference with Bonett & Price's win and loss added."""
    squares = float(np.sum(differences**2))
    unequal = int(np.count_nonzero(differences))
    centre, deviation = _moments(differences[None], squares / unequal if unequal else 1.0)
    return float(centre[0]), float(deviation[0])


def _moments(rows: Floats, square: float) -> tuple[Floats, Floats]:
    """Mean and standard deviation of each row with a win and a loss of that square added."""
    n = rows.shape[1]
    centre = rows.sum(axis=1) / (n + 2)
    variance = (np.einsum("ij,ij->i", rows, rows) + 2 * square) / (n + 2) - centre**2
    return centre, np.sqrt(np.maximum(variance, 0.0))


def _tango(wins: int, losses: int, n: int, z: float) -> tuple[float, float]:
    """Both ends for `wins` and `losses` among `n` pairs; exchanging the two turns them round."""
    return -_tango_high(losses, wins, n, z), _tango_high(wins, losses, n, z)


def _tango_high(wins: int, losses: int, n: int, z: float) -> float:
    """The largest difference that the score test does not reject; the test's statistic falls as it grows."""

    def statistic(gap: float) -> float:
        # The share of losses that is likeliest when the true difference is `gap`: the root of a quadratic.
        half = -wins - losses + (2 * n - wins + losses) * gap
        share = (math.sqrt(max(half * half + 8 * n * losses * gap * (1 - gap), 0.0)) - half) / (4 * n)
        variance = n * (2 * share + gap * (1 - gap))
        return (wins - losses - n * gap) / math.sqrt(variance) if variance > 0 else -math.inf

    return _crossing(lambda gap: statistic(gap) >= -z, (wins - losses) / n, 1.0)


def _crossing(holds: Callable[[float], bool], inside: float, outside: float) -> float:
    """Where `holds` turns from true (at `inside`) to false, by bisection."""
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if holds(middle) else (inside, middle)
    return inside


def _graded(moved: Floats, confidence: float, z: float, seed: int) -> tuple[float, float]:
    centre, deviation = adjusted_moments(moved)
    error = deviation / math.sqrt(len(moved) + 2)
    # Resampled from both sides, so that exchanging the prompts turns the interval round to the last bit.
    lower, upper = _studentized(np.sort(moved), confidence, seed)
    turned_lower, turned_upper = _studentized(np.sort(-moved), confidence, seed)
    smallest, largest = (lower - turned_upper) / 2, (upper - turned_lower) / 2
    return centre - max(z, largest) * error, centre + max(z, -smallest) * error


def _studentized(moved: Floats, confidence: float, seed: int) -> tuple[float, float]:
    """The two quantiles of (mean of a resample - mean) / (standard error of the resample)."""
    n = len(moved)
    square = float(np.sum(moved**2)) / np.count_nonzero(moved)
    centre, _ = _moments(moved[None], square)
    rng = np.random.default_rng(seed)
    found: list[Floats] = []
    rows = max(1, _BLOCK // n)
    for begin in range(0, _RESAMPLES, rows):
        drawn = moved[rng.integers(0, n, (min(rows, _RESAMPLES - begin), n))]
        means, deviations = _moments(drawn, square)
        found.append((means - centre) / (deviations / math.sqrt(n + 2)))
    low, high = np.quantile(np.concatenate(found), [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
