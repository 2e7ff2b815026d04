"""Laws of latency: each maps a uniform number in [0, 1) to seconds (an inverse distribution function)."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

from rollouts.errors import ConfigError

LatencyLaw = Callable[[float], float]


def fixed(seconds: float) -> LatencyLaw:
    """Always the same."""
    return lambda _: seconds


def log_normal(median_s: float, sigma: float = 0.5) -> LatencyLaw:
    """A heavy tail; `sigma` is the standard deviation of the logarithm (0.5: the 99th percentile is 3.2 medians)."""
    normal = NormalDist(0.0, sigma)
    return lambda unit: median_s * math.exp(normal.inv_cdf(min(max(unit, 1e-12), 1 - 1e-12)))


def pareto(minimum_s: float, alpha: float = 2.0) -> LatencyLaw:
    """A heavier one: the chance of more than x seconds is (minimum_s / x) ** alpha."""
    if alpha <= 0:
        raise ConfigError(f"alpha = {alpha}: a Pareto law needs more than 0")
    return lambda unit: float(minimum_s * (1.0 - unit) ** (-1.0 / alpha))
