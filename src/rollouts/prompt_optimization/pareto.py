"""Pareto fronts: who is best on which example, and who is beaten on no objective. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_SAME = 1e-12


def coverage(scores: npt.NDArray[np.float64], strength: Sequence[float]) -> list[int]:
    """On how many examples each candidate is among the best (Agrawal et al., arXiv 2507.19457, section 3.1).

    `scores` is candidates x examples, of any sign, without NaN; ties share the place. A candidate all of whose examples
    are covered by others counts 0: the front does not need it. The weakest, by `strength`, is left out first.
    """
    if not scores.size:
        return [0] * len(scores)
    held = scores >= scores.max(axis=0) - _SAME
    counts = held.sum(axis=0)
    for candidate in sorted(range(len(scores)), key=lambda c: (strength[c], -c)):
        if (counts[held[candidate]] > 1).all():
            counts -= held[candidate]
            held[candidate] = False
    return [int(n) for n in held.sum(axis=1)]


def dominates(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether `a` is at least as good as `b` everywhere and better somewhere; more is better."""
    return all(x >= y for x, y in zip(a, b, strict=True)) and any(x > y for x, y in zip(a, b, strict=True))


def front(points: Sequence[Sequence[float]]) -> list[int]:
    """The indices of the points that none other dominates, in their order; more is better."""
    return [i for i, point in enumerate(points) if not any(dominates(other, point) for other in points)]
