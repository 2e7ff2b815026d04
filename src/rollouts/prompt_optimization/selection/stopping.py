"""When to stop: the chance that nothing is much better than the incumbent."""

from __future__ import annotations

import numpy as np

from rollouts.prompt_optimization.selection.cells import Bools, Floats, Ints
from rollouts.prompt_optimization.selection.model import FactorModel

_DRAWS = 200
_RIVALS = 1000
_INFLATION = 1.2


def chance_within(
    model: FactorModel, grid: Ints, incumbent: int, allowed: Bools, epsilon: float, rng: np.random.Generator
) -> float:
    """The share of joint posterior draws in which no allowed candidate is more than `epsilon` above the incumbent."""
    hope = np.where(allowed, model.theta + 3 * np.sqrt(model.variance), -np.inf)
    hope[incumbent] = -np.inf
    rivals = np.argsort(-hope, kind="stable")[:_RIVALS]
    rows = np.concatenate([[incumbent], rivals[np.isfinite(hope[rivals])]])
    drift = np.zeros((_DRAWS, len(rows)))
    for f, factor in enumerate(model.factors):
        levels = rng.standard_normal((_DRAWS, len(factor.vb))) * np.sqrt(factor.vb)
        drift += levels[:, grid[rows, f]]
    drift *= model.unseen_share[rows]
    drift += rng.standard_normal(drift.shape) * np.sqrt(model.own_value_variance[rows])
    values: Floats = model.theta[rows] + _INFLATION * drift
    return float((values.max(axis=1) - values[:, 0] <= epsilon).mean())
