"""Samples by class: with every class represented as in the whole set, few samples say more about a candidate.

A prompt is often right on nearly all samples of one class and wrong on nearly all of another, so what it scores on few
samples depends first of all on their classes (proportional stratified sampling; Cochran, Sampling Techniques, 1977,
section 5.6).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rollouts.prompt_optimization.selection.cells import Floats, Ints

_LEAST = 4
"""Samples of a class on average: with fewer there is no choice within a class, and the spread only gets in the way."""


class Classes:
    """The classes of so many samples; all are of one (`alike`) where none are given, or they are too small to be of
    use."""

    def __init__(self, classes: Sequence[int], samples: int) -> None:
        known = classes if classes and samples >= _LEAST * len(set(classes)) else [0] * samples
        self.of: Ints = np.unique(np.array(known, dtype=np.int64), return_inverse=True)[1]
        self.sizes: Ints = np.bincount(self.of)
        self.alike = len(self.sizes) < 2

    def shares(self, samples: Ints) -> Floats:
        """For samples that a candidate may still get, in the order of preference: the share of its class that the
        candidate has when it has got all before it, and half of it."""
        of = self.of[samples]
        by_class = np.argsort(of, kind="stable")
        left = np.bincount(of, minlength=len(self.sizes))
        turn = np.empty(len(samples), dtype=np.int64)
        turn[by_class] = np.arange(len(samples)) - (np.cumsum(left) - left)[of[by_class]]
        shares: Floats = ((self.sizes - left)[of] + turn + 0.5) / self.sizes[of]
        return shares

    def in_turn(self, samples: Sequence[int] | Ints) -> list[int]:
        """The samples in an order of which every beginning, with those that are not among them, has its part of every
        class; else as they were."""
        given = np.asarray(samples, dtype=np.int64)
        return [int(sample) for sample in given[np.argsort(self.shares(given), kind="stable")]]
