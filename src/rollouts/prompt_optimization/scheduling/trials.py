"""What a controlled swap is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Numbers = tuple[int, ...]
"""A program: the number of each module's candidate, in the order of the modules."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One candidate of one module against the incumbent on `samples`."""

    module: str
    candidate: int
    program: Numbers
    incumbent: Numbers
    samples: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a cell: `score` is None when it failed, `own` the score of the module that was swapped, where the
    metric gives one. `missing` says that it was not run at all."""

    score: float | None
    own: Mapping[str, float] = field(default_factory=dict)
    missing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopted:
    """A candidate became its module's incumbent: the expected gain, and the chance that there is one."""

    module: str
    candidate: int
    gain: float
    chance: float
