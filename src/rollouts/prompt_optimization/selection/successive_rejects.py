"""Synchronized successive rejects (Lyu et al., arXiv 2606.07726): successive rejects (Audibert, Bubeck & Munos, COLT
2010) with all survivors on the same samples, so that what is compared is paired."""

from __future__ import annotations

from functools import cache
from itertools import accumulate

from rollouts.prompt_optimization.selection.stages import StageSelector


class SuccessiveRejectsSelector(StageSelector):
    """One candidate leaves after every stage; with k left, each has had a number of samples proportional to 1/k."""

    def _step(self, count: int) -> float:
        if count < 2:
            return self._left
        first = not self._depth
        weights = (1 if first else 1 / (count + 1)) + _harmonic(count) - _harmonic(2)
        unit = self._left / weights
        return unit / count if first else unit / count / (count + 1)

    def _keep(self, count: int) -> int:
        return count - 1


def _harmonic(n: int) -> float:
    """1 + 1/2 + ... + 1/n."""
    return _harmonic_numbers(1 << n.bit_length())[n]


@cache
def _harmonic_numbers(count: int) -> tuple[float, ...]:
    return (0.0, *accumulate(1 / i for i in range(1, count)))
