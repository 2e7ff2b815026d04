"""Synchronized successive rejects (Lyu et al., arXiv 2606.07726): successive rejects (Audibert, Bubeck & Munos, COLT
2010) with all survivors on the same samples, so that what is compared is paired."""

from __future__ import annotations

from rollouts.prompt_optimization.selection.stages import StageSelector


class SuccessiveRejectsSelector(StageSelector):
    """One candidate leaves after every stage; with k left, each has had a number of samples proportional to 1/k."""

    def _step(self) -> float:
        k = len(self.alive)
        if k < 2:
            return self._payable
        first = not self._depth
        weights = (1 if first else 1 / (k + 1)) + sum(1 / (j + 1) for j in range(2, k))
        unit = self._payable / weights
        return unit / k if first else unit / k / (k + 1)

    def _keep(self) -> int:
        return len(self.alive) - 1
