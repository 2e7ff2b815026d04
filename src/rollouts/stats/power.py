"""How many samples a paired comparison needs."""

from __future__ import annotations

import math

from scipy.special import ndtri

from rollouts.errors import ConfigError
from rollouts.stats.intervals import quantile


def sample_size(difference: float, *, agreement: float, power: float = 0.8, confidence: float = 0.95) -> int:
    """Samples on which both prompts must be scored to see a true gain of `difference` with probability `power`.

    For 0/1 scores and a two-sided paired test at `1 - confidence` (Connor 1987). `agreement` is the share of samples
    that both get right or both get wrong; it can't exceed `1 - difference`. Scores between 0 and 1 need at most about
    as many. Example: a gain of 0.03 with an agreement of 0.85 takes 1,306 samples.

    Raises ConfigError for shares outside their range.
    """
    gain = abs(difference)
    if not 0 < gain <= 1:
        raise ConfigError(f"difference = {difference!r}: must be a gain between 0 and 1, for example 0.05")
    if not 0 <= agreement <= 1 - gain + 1e-12:
        raise ConfigError(
            f"agreement = {agreement!r}: two prompts that differ by {gain:g} agree on a share of 0 to {1 - gain:g}"
        )
    unequal = 1 - agreement
    spread = quantile(confidence) * math.sqrt(unequal) + _power(power) * math.sqrt(max(unequal - gain**2, 0.0))
    return max(1, math.ceil((spread / gain) ** 2))


def detectable_difference(n: int, *, agreement: float, power: float = 0.8, confidence: float = 0.95) -> float:
    """The smallest true gain that `n` paired samples show with probability `power`: `sample_size` turned round.

    1.0 when no gain that is possible at this `agreement` could be shown. Raises ConfigError like `sample_size`, and
    for `n < 1`.
    """
    if n < 1:
        raise ConfigError(f"n = {n!r}: must be at least 1 sample")
    if not 0 <= agreement <= 1:
        raise ConfigError(f"agreement = {agreement!r}: must be a share between 0 and 1")
    low, high = 0.0, 1 - agreement
    if not high or sample_size(high, agreement=agreement, power=power, confidence=confidence) > n:
        return 1.0
    for _ in range(40):
        middle = (low + high) / 2
        fits = sample_size(middle, agreement=agreement, power=power, confidence=confidence) <= n
        low, high = (low, middle) if fits else (middle, high)
    return high


def samples_to_settle(gap: float, deviation: float, confidence: float, power: float = 0.8) -> float:
    """Paired samples after which an estimate `gap` away from a bound clears it with probability `power`.

    `deviation` is the standard deviation of the paired differences. Infinite for a gap of 0.
    """
    if gap <= 0:
        return math.inf
    return float(((quantile(confidence) + _power(power)) * deviation / gap) ** 2)


def _power(power: float) -> float:
    if not 0.5 <= power < 1:
        raise ConfigError(f"power = {power!r}: must be at least 0.5 and below 1, for example 0.8")
    return float(ndtri(power))
