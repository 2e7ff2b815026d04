"""How many samples a comparison needs."""

from __future__ import annotations

import math

from scipy.special import nctdtr, ndtri, stdtrit

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


def unpaired_sample_size(difference: float, *, baseline: float, power: float = 0.8, confidence: float = 0.95) -> int:
    """Samples for each of two prompts that are scored on different samples, to see a gain as `sample_size` does.

    For 0/1 scores, of which the start has the mean `baseline`; two-sided test of two proportions (Fleiss, Levin & Paik
    2003, "Statistical methods for rates and proportions", 4.2). Example: a gain of 0.03 over 0.7 takes 3,554 each,
    against 1,306 on the same samples. Raises ConfigError for shares outside their range.
    """
    gain, share = abs(difference), baseline + difference
    if not (gain > 0 and 0 <= baseline <= 1 and 0 <= share <= 1):
        raise ConfigError(
            f"difference = {difference!r} over baseline = {baseline!r}: both means must be shares of 0 to 1"
        )
    mean = (baseline + share) / 2
    apart = baseline * (1 - baseline) + share * (1 - share)
    spread = quantile(confidence) * math.sqrt(2 * mean * (1 - mean)) + _power(power) * math.sqrt(apart)
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


def paired_power(n: int, effect: float, *, confidence: float = 0.95) -> float:
    """The chance that a two-sided paired t test of `n` pairs, such as seeds, sees a true gain of `effect`.

    `effect` is the mean difference in standard deviations of the differences (`cohens_d`). From the noncentral t
    distribution (Cohen 1988, "Statistical power analysis", chapter 2); the permutation test needs about as many pairs,
    Wilcoxon's about 5 % more. 0 for fewer than two pairs. Raises ConfigError for a confidence outside (0, 1).
    """
    quantile(confidence)
    if n < 2:
        return 0.0
    critical, centre = float(stdtrit(n - 1, (1 + confidence) / 2)), math.sqrt(n) * abs(effect)
    return 1 - noncentral_t(critical, n - 1, centre) + noncentral_t(-critical, n - 1, centre)


def seeds_needed(effect: float, *, power: float = 0.8, confidence: float = 0.95) -> int:
    """Pairs of runs (seeds) for which `paired_power` reaches `power`: 34 for an effect of 0.5.

    Raises ConfigError for an effect of 0, below 0.001 or not finite, and like `paired_power`.
    """
    _power(power)
    if not (math.isfinite(effect) and abs(effect) >= 1e-3):
        raise ConfigError(f"effect = {effect!r}: must be a number of standard deviations of at least 0.001")
    n = max(2, math.floor(samples_to_settle(abs(effect), 1.0, confidence, power)))
    while paired_power(n, effect, confidence=confidence) < power:
        n += 1
    return n


def detectable_effect(n: int, *, power: float = 0.8, confidence: float = 0.95) -> float:
    """The smallest effect that `n` pairs show with probability `power`: `seeds_needed` turned round.

    Infinite for fewer than two pairs. Raises ConfigError for a power or confidence out of range.
    """
    _power(power)
    quantile(confidence)
    if n < 2:
        return math.inf
    low, high = 0.0, 1.0
    while paired_power(n, high, confidence=confidence) < power:
        low, high = high, 2 * high
    for _ in range(50):
        middle = (low + high) / 2
        seen = paired_power(n, middle, confidence=confidence) >= power
        low, high = (low, middle) if seen else (middle, high)
    return high


def noncentral_t(value: float, free: int, centre: float) -> float:
    """The noncentral t distribution function; mirrored at 0, where the library's is exact on one side only."""
    return float(nctdtr(free, centre, value)) if value >= 0 else 1 - float(nctdtr(free, -centre, -value))


def _power(power: float) -> float:
    if not 0.5 <= power < 1:
        raise ConfigError(f"power = {power!r}: must be at least 0.5 and below 1, for example 0.8")
    return float(ndtri(power))
