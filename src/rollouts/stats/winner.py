"""What the best of many estimates is worth: the winner's curse and its correction."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

from rollouts.errors import ConfigError
from rollouts.stats.intervals import Floats, finite, quantile


@dataclass(frozen=True, slots=True, kw_only=True)
class Winner:
    """The candidate with the highest estimate: its index, the estimate as it was, and corrected, with an interval."""

    index: int
    estimate: float
    corrected: float
    low: float
    high: float


def winner(
    estimates: npt.ArrayLike, errors: npt.ArrayLike, *, correlation: float = 0.0, confidence: float = 0.95
) -> Winner:
    """The best of several estimates, corrected for having been chosen because it was the best.

    `errors` are the standard errors. `correlation` is that of any two estimates' errors: above 0 where the candidates
    were scored on the same samples (the share of the variance that lies between samples). Of equal estimates the first
    is taken.

    `corrected` draws the estimate towards the weighted mean of all by the share of their spread that the errors explain
    (empirical Bayes, Efron & Morris 1975, "Data analysis using Stein's estimator and its generalizations"), which for
    candidates of one kind undoes the choice (Efron 2011, "Tweedie's formula and selection bias"); but not below the
    mean for which half of such winners, given the runner-up, would have shown more (the conditional median of Andrews,
    Kitagawa & McCloskey), so that a lone good candidate among many poor ones keeps its lead.

    The interval needs no such assumption. It covers the chosen candidate's true mean with at least `confidence` for
    any true means, any dependence, and however close the race was: below by the simultaneous bound over all
    candidates (Bonferroni; the projection of Andrews, Kitagawa & McCloskey 2024, "Inference on winners"), above by an
    ordinary one with the largest error, since a winner that is too low would show that the truly best one is too low.
    It is wider than their conditional interval where the winner stands out, and stays finite where it does not, as
    with scores of few values, which often tie. Errors are taken to be normal.

    Raises ConfigError for no estimate, unequal lengths, numbers that are not finite, an error that is not above 0, a
    correlation outside [0, 1) or a confidence outside (0, 1).
    """
    values, spread = finite(estimates), finite(errors)
    z = quantile(confidence)
    if len(values) == 0 or len(values) != len(spread):
        raise ConfigError(f"give one standard error for each estimate, not {len(spread)} for {len(values)}")
    if not spread.min() > 0:
        raise ConfigError("standard errors must be above 0; use that of one more win and loss for constant scores")
    if not 0 <= correlation < 1:
        raise ConfigError(f"correlation = {correlation!r}: must be at least 0 and below 1")
    index = int(values.argmax())
    best, error = float(values[index]), float(spread[index])
    low = best + float(ndtri((1 - confidence) / 2 / len(values))) * error
    high = best + z * float(spread.max())
    own = spread * math.sqrt(1 - correlation)
    corrected = max(_drawn(values, own**2, index), _given_runner_up(values, float(own[index]), index))
    return Winner(index=index, estimate=best, corrected=min(max(corrected, low), high), low=low, high=high)


def _given_runner_up(values: Floats, error: float, index: int) -> float:
    """The true mean for which the winner's estimate is the median of all that pass the runner-up's."""
    best = float(values[index])
    runner_up = float(np.delete(values, index).max(initial=-math.inf))
    low, high = best - 8 * error, best
    for _ in range(50):
        middle = (low + high) / 2
        passing = ndtr((middle - runner_up) / error)
        low, high = (middle, high) if ndtr((middle - best) / error) < passing / 2 else (low, middle)
    return high


def _drawn(values: Floats, variances: Floats, index: int) -> float:
    """The estimate at `index` drawn towards the mean; the spread of true means by DerSimonian & Laird (1986)."""
    if len(values) == 1:
        return float(values[index])
    weights = 1 / variances
    total = weights.sum()
    excess = np.sum(weights * (values - np.sum(weights * values) / total) ** 2) - (len(values) - 1)
    between = max(0.0, float(excess / (total - np.sum(weights**2) / total)))
    weights = 1 / (variances + between)
    centre = float(np.sum(weights * values) / weights.sum())
    kept = between / (between + float(variances[index]))
    return centre + kept * (float(values[index]) - centre)
