"""Successive halving (Karnin, Koren & Somekh, ICML 2013) on the same samples for all."""

from __future__ import annotations

import math

from rollouts.prompt_optimization.selection.stages import StageSelector


class SuccessiveHalvingSelector(StageSelector):
    """Every stage has the same share of the budget, and the worse half of the field leaves after it."""

    def _step(self) -> float:
        k = max(1, len(self.alive))
        return self._payable / k / max(1, math.ceil(math.log2(k)))

    def _keep(self) -> int:
        return math.ceil(len(self.alive) / 2)
