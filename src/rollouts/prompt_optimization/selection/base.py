"""The one interface of all selectors.

A candidate is a point in a product of factors (for one module: instruction x demonstration set). A cell is one
candidate on one sample. A selector is asked for cells and told their results; it never asks for a cell twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

Candidate = tuple[int, ...]
"""One level per factor."""


def _all_feasible(_: Candidate) -> bool:
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """The search space: levels per factor, the number of samples, the start, and which candidates are allowed.

    A candidate may stop being feasible while the search runs; then nothing more is asked for it. The start never does.
    """

    levels: tuple[int, ...]
    samples: int
    start: Candidate
    feasible: Callable[[Candidate], bool] = _all_feasible

    def with_level(self, factor: int) -> Space:
        """The space with one more level of a factor; its index is the last."""
        levels = (*self.levels[:factor], self.levels[factor] + 1, *self.levels[factor + 1 :])
        return replace(self, levels=levels)


@dataclass(frozen=True, slots=True)
class Cell:
    """One candidate on one sample (an index below `Space.samples`)."""

    candidate: Candidate
    sample: int


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a cell. `score` is None when it failed; `missing` says that it was not run at all."""

    cell: Cell
    score: float | None
    missing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """The candidate to ship by what is known: estimate of its mean over all samples, with an interval, from `n` scores.

    `mean` is the plain mean of these scores (the estimate when there are none), for reports. The interval is
    approximate and not corrected for having chosen the best of many.
    """

    candidate: Candidate
    estimate: float
    mean: float
    low: float
    high: float
    n: int


class Selector(Protocol):
    """Decides which cells to evaluate next. Deterministic: the same seed, asks and tells give the same cells."""

    def ask(self, n: int) -> list[Cell]:
        """About `n` new cells, those of one candidate side by side. A selector that works in trials may return somewhat
        more, to keep a trial together. An empty list says that nothing is left to ask, or nothing before the results
        under way are told; with no results under way it is over."""
        ...

    def tell(self, results: Sequence[Result]) -> None:
        """Results of asked cells, in any portion and order."""
        ...

    def record(self, results: Sequence[Result]) -> None:
        """Results that were not asked for, such as the start's scores on all samples."""
        ...

    def unseen(self, candidate: Candidate) -> list[int]:
        """The samples that were never run for this candidate."""
        ...

    def add_level(self, factor: int) -> int:
        """One more level of a factor, from now on; returns its index."""
        ...

    def ranking(self) -> list[Recommendation]:
        """All tried candidates, best first."""
        ...

    def recommend(self) -> Recommendation:
        """The first of `ranking`; the start when nothing was tried."""
        ...

    def should_stop(self) -> bool:
        """True when more calls would not change the recommendation enough to matter."""
        ...

    def why_stopped(self) -> str:
        """Why `should_stop` is true, in words; empty while it is not."""
        ...
