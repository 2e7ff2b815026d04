"""Is a cap on a percentile or a mean kept? Bounds for one look at the end, and a test that may look at any time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import bdtr, betaincc, betaln, stdtrit

from rollouts.errors import ConfigError
from rollouts.stats.intervals import finite


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """An estimate with a lower and an upper bound, each of which holds with the stated confidence by itself.

    A bound that `n` values cannot give is infinite; `needed` is how many it takes for an upper one.
    """

    estimate: float
    low: float
    high: float
    n: int
    needed: int


def percentile_bound(values: npt.ArrayLike, q: float = 0.95, confidence: float = 0.95) -> Bounds:
    """Bounds of the `q` quantile of whatever `values` were drawn from, independently: no law is assumed.

    They are order statistics (David & Nagaraja 2003, "Order statistics", 7.1): the upper bound is the smallest value
    that so many values lie below that it would take luck of `1 - confidence` if the quantile were higher. With
    q = confidence = 0.95 it takes 59 values, the largest of which is then the bound. Values may be infinite: calls
    that were cut count as longer than any other. `estimate` is the smallest value that at least a share of `q` do not
    exceed (NaN without values).

    Raises ConfigError for `q` or `confidence` outside (0, 1), or a value that is no number.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64).reshape(-1))
    needed = samples_for_bound(q, confidence)
    if np.isnan(ordered).any():
        raise ConfigError("a percentile needs numbers; leave failed calls out instead of passing NaN")
    n = len(ordered)
    if n == 0:
        return Bounds(estimate=math.nan, low=-math.inf, high=math.inf, n=0, needed=needed)
    # below[k]: the chance that at most k values lie below the quantile.
    below = bdtr(np.arange(n), n, q)
    upper = int(np.searchsorted(below, confidence - 1e-12))
    # The j-th smallest lies above the quantile with the chance that fewer than j values lie below it.
    lower = int(np.searchsorted(below, 1 - confidence + 1e-12, side="right"))
    return Bounds(
        estimate=float(ordered[max(0, math.ceil(q * n - 1e-9) - 1)]),
        low=float(ordered[lower - 1]) if lower else -math.inf,
        high=float(ordered[upper]) if upper < n else math.inf,
        n=n,
        needed=needed,
    )


def samples_for_bound(q: float = 0.95, confidence: float = 0.95) -> int:
    """The fewest values that give `percentile_bound` an upper end: 59 for both at 0.95.

    Raises ConfigError for either outside (0, 1).
    """
    for name, share in (("q", q), ("confidence", confidence)):
        if not 0 < share < 1:
            raise ConfigError(f"{name} = {share!r}: must lie between 0 and 1, for example 0.95")
    return math.ceil(math.log(1 - confidence) / math.log(q) - 1e-9)


def share_exceeds(over: int, n: int, share: float = 0.05, confidence: float = 0.95) -> bool:
    """Whether `over` of `n` show that the true share is above `share`, at whatever moment one looks.

    With a true share of `share` or less it ever says so, over all looks together, with a chance of at most
    `1 - confidence`: the likelihood ratio against all larger shares, weighted evenly, is a martingale (Robbins 1970,
    "Statistical methods related to the law of the iterated logarithm"; Ville's inequality). At the defaults it takes 2
    of 3, 4 of 10 or 9 of 50.

    Raises ConfigError for counts that are none, or a share or confidence outside (0, 1).
    """
    samples_for_bound(share, confidence)
    if not 0 <= over <= n:
        raise ConfigError(f"over = {over}, n = {n}: must be counts with 0 <= over <= n")
    beyond = float(betaincc(over + 1, n - over + 1, share))
    if beyond <= 0.0:
        return False
    null = over * math.log(share) + (n - over) * math.log1p(-share)
    ratio = float(betaln(over + 1, n - over + 1)) + math.log(beyond) - math.log1p(-share) - null
    return ratio >= -math.log(1 - confidence)


def mean_bound(values: npt.ArrayLike, confidence: float = 0.95, *, look: int | None = None) -> Bounds:
    """Student's t bounds of a mean, such as the cost of a call, each of the stated confidence.

    Where one looks again and again, `look` is the number of this look, from 1: look i may take 1 / (i (i + 1)) of the
    error, so that all looks together err at most as often. Values that are all equal are their own bounds. Raises
    ConfigError for a confidence outside (0, 1), values that are not finite, or a `look` below 1.
    """
    found = finite(values)
    samples_for_bound(0.5, confidence)
    if look is not None and look < 1:
        raise ConfigError(f"look = {look}: looks are numbered from 1")
    n = len(found)
    mean = float(found.mean()) if n else math.nan
    if n < 2:
        return Bounds(estimate=mean, low=-math.inf, high=math.inf, n=n, needed=2)
    error = (1 - confidence) / (1 if look is None else look * (look + 1))
    half = float(-stdtrit(n - 1, error)) * float(found.std(ddof=1)) / math.sqrt(n)
    return Bounds(estimate=mean, low=mean - half, high=mean + half, n=n, needed=2)
