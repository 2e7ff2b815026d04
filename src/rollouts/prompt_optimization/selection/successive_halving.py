"""Successive halving (Karnin, Koren & Somekh, ICML 2013) on the same samples for all."""

from __future__ import annotations

import math

from rollouts.prompt_optimization.selection.stages import StageSelector


class SuccessiveHalvingSelector(StageSelector):
    """Every stage has the same share of the budget, and the worse half of the field leaves after it."""

    def _step(self, count: int) -> float:
        k = max(1, count)
        return self._left / k / max(1, math.ceil(math.log2(k)))

    def _keep(self, count: int) -> int:
        return math.ceil(count / 2)
