"""The one interface of all selectors.

A candidate is a point in a product of factors (for one module: instruction x demonstration set). A cell is one
candidate on one sample. A selector is asked for cells and told their results; it never asks for a cell twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from rollouts.errors import ConfigError

Candidate = tuple[int, ...]
"""One level per factor."""


def exchanged(candidate: Candidate, factor: int, level: int) -> Candidate:
    """The candidate with another level of a factor."""
    return (*candidate[:factor], level, *candidate[factor + 1 :])


def _all_feasible(_: Candidate) -> bool:
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """The search space: levels per factor, the number of samples, the start, and which candidates are allowed.

    classes: a number for each sample, the same for samples of one class, such as those with the same label; empty where
    no classes are known. A candidate's samples are drawn from all classes in proportion.

    A candidate may stop being feasible while the search runs; then nothing more is asked for it, and it is not
    recommended. The start never does.
    """

    levels: tuple[int, ...]
    samples: int
    start: Candidate
    feasible: Callable[[Candidate], bool] = _all_feasible
    classes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.levels or min(self.levels) < 1:
            raise ConfigError(f"levels = {self.levels}: every factor needs at least one level, a space one factor")
        if self.samples < 0:
            raise ConfigError(f"samples = {self.samples}: must not be negative")
        if not self._holds(self.start):
            raise ConfigError(f"start = {self.start}: not in the space of {self.levels} levels")
        if self.classes and len(self.classes) != self.samples:
            raise ConfigError(f"{len(self.classes)} classes for {self.samples} samples: must be one for each, or none")

    def _holds(self, candidate: Candidate) -> bool:
        return len(candidate) == len(self.levels) and all(
            0 <= level < n for level, n in zip(candidate, self.levels, strict=True)
        )

    def check(self, results: Iterable[Result]) -> None:
        """Raises ConfigError when a result is of a cell outside the space."""
        for cell in (result.cell for result in results):
            if not self._holds(cell.candidate) or not 0 <= cell.sample < self.samples:
                raise ConfigError(f"{cell} is not in the space of {self.levels} levels and {self.samples} samples")

    def with_level(self, factor: int) -> Space:
        """The space with one more level of a factor; its index is the last."""
        return replace(self, levels=exchanged(self.levels, factor, self.levels[factor] + 1))


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

    @property
    def usable(self) -> float | None:
        """The score; None when it failed, and one that is not finite is a failure."""
        return self.score if self.score is not None and math.isfinite(self.score) else None


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
        """About `n` new cells, those of one candidate side by side; none when `n` is 0. A selector that works in trials
        may return somewhat more, to keep a trial together. An empty list says that nothing is left to ask, or nothing
        before the results under way are told; with no results under way it is over."""
        ...

    def tell(self, results: Sequence[Result]) -> None:
        """Results of asked cells, in any portion and order.

        A missing cell is given back: it may be asked for again, and does not count towards the budget. Of several
        results of a cell the first counts; one that comes after the cell was given back counts as if it had not been.
        Raises ConfigError, and takes nothing in, when one is of a cell outside the space; so does `record`.
        """
        ...

    def record(self, results: Sequence[Result]) -> None:
        """Results that were not asked for, such as the start's scores on all samples; missing ones say nothing."""
        ...

    def unseen(self, candidate: Candidate) -> list[int]:
        """The samples that were never run for this candidate; the first ones make up best for classes it lacks."""
        ...

    def add_level(self, factor: int, like: int | None = None) -> int:
        """One more level of a factor, from now on; returns its index. `like` is the level that it was made from, if it
        was, so that a selector can expect something of it."""
        ...

    def ranking(self) -> list[Recommendation]:
        """All tried candidates, the allowed ones first, best first. When nothing but ties was seen the start leads."""
        ...

    def recommend(self) -> Recommendation:
        """The first of `ranking`; the start when nothing that is allowed was tried."""
        ...

    def should_stop(self) -> bool:
        """True when more calls would not change the recommendation enough to matter."""
        ...

    def why_stopped(self) -> str:
        """Why `should_stop` is true, in words; empty while it is not."""
        ...
