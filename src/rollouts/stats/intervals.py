"""Confidence interval for a mean score. Deterministic: no resampling."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri, stdtrit

from rollouts.errors import ConfigError

Floats = npt.NDArray[np.float64]
_TELLS_SKEW = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A mean with its confidence interval over `n` values.

    Without any value the mean is NaN and the interval the whole line.
    """

    mean: float
    low: float
    high: float
    n: int

    def to_json(self) -> dict[str, float | int | None]:
        """Plain JSON; what is not finite becomes None."""
        ends = {"mean": self.mean, "low": self.low, "high": self.high}
        return {**{name: end if math.isfinite(end) else None for name, end in ends.items()}, "n": self.n}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Interval:
        """The inverse of `to_json`."""
        unknown = {"mean": math.nan, "low": -math.inf, "high": math.inf}
        ends = {name: end if data[name] is None else data[name] for name, end in unknown.items()}
        return cls(**ends, n=data["n"])


def mean_interval(values: npt.ArrayLike, confidence: float = 0.95) -> Interval:
    """Interval for the mean of independent scores.

    Scores that are all 0 or 1 get Wilson's score interval. Others get Student's t with Hall's transformation for
    skewness (Hall 1992, "On the removal of skewness by transformation", JRSS B 54), whose coverage stays near the
    nominal from about 10 values on where t's and the bootstrap's fall short, as with scores that are mostly 1. Fewer
    than 10 cannot tell how skewed they are, and get Student's t as it is. Constant scores get the interval that Wilson
    gives at 0 and 1, scaled to the scores' range (which is taken to hold 0 and 1): other scores may not have been met
    yet. With all scores in [0, 1] the interval stays there.

    Raises ConfigError for a confidence outside (0, 1) or scores that are not finite.
    """
    scores, z = finite(values), quantile(confidence)
    n = len(scores)
    if n == 0:
        return Interval(mean=math.nan, low=-math.inf, high=math.inf, n=0)
    mean = float(scores.mean())
    if is_binary(scores):
        low, high = _wilson(mean, n, z)
    elif np.ptp(scores) <= 1e-12 * max(1.0, abs(mean)):
        unseen = z * z / (n + z * z)
        low, high = mean - (mean - min(mean, 0.0)) * unseen, mean + (max(mean, 1.0) - mean) * unseen
    else:
        low, high = _hall(scores, mean, confidence)
    if scores.min() >= 0 and scores.max() <= 1:
        low, high = max(low, 0.0), min(high, 1.0)
    return Interval(mean=mean, low=min(low, mean), high=max(high, mean), n=n)


def finite(values: npt.ArrayLike) -> Floats:
    """A flat array of finite floats, or ConfigError."""
    array = np.asarray(values, dtype=np.float64).reshape(-1)
    if not np.isfinite(array).all():
        raise ConfigError("scores must be finite numbers; leave failed samples out instead of passing NaN")
    return array


def quantile(confidence: float) -> float:
    """The two-sided normal quantile of a confidence such as 0.95 (about 1.96), or ConfigError."""
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence = {confidence!r}: must lie between 0 and 1, for example 0.95")
    return float(ndtri((1 + confidence) / 2))


def is_binary(scores: Floats) -> bool:
    """Whether every score is 0 or 1."""
    return bool(((scores == 0) | (scores == 1)).all())


def _wilson(mean: float, n: int, z: float) -> tuple[float, float]:
    shrink = 1 + z * z / n
    centre = (mean + z * z / (2 * n)) / shrink
    half = z / shrink * math.sqrt(mean * (1 - mean) / n + z * z / (4 * n * n))
    return centre - half, centre + half


def _hall(scores: Floats, mean: float, confidence: float) -> tuple[float, float]:
    n = len(scores)
    centred = scores - mean
    variance = float(np.mean(centred**2))
    skewness = float(np.mean(centred**3)) / variance**1.5 / math.sqrt(n) if n >= _TELLS_SKEW else 0.0
    t = float(stdtrit(n - 1, (1 + confidence) / 2))
    error = math.sqrt(variance / (n - 1))
    return mean - _unskew(t, skewness) * error, mean - _unskew(-t, skewness) * error


def _unskew(t: float, k: float) -> float:
    """The inverse of Hall's cubic `t + k t^2 / 3 + k^2 t^3 / 27 + k / 6`, which makes a skewed t nearly normal."""
    return t if abs(k) < 1e-6 else (float(np.cbrt(1 + k * (t - k / 6))) - 1) * 3 / k
