"""What a controlled swap is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Numbers = tuple[int, ...]
"""A program: the number of each module's candidate, in the order of the modules."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One candidate of one module against the incumbent on `samples`. `idle` are samples passed over on the way, on
    which the module does not run: there it makes no difference, and nothing has to be run to know that."""

    module: str
    candidate: int
    program: Numbers
    incumbent: Numbers
    samples: tuple[int, ...]
    idle: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a cell: `score` is None when it failed, `own` the modules' own scores, where the metric gives
    them, `ran` the modules that ran (None: not known). `missing` says that it was not run at all."""

    score: float | None
    own: Mapping[str, float] = field(default_factory=dict)
    ran: frozenset[str] | None = None
    missing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopted:
    """A candidate became its module's incumbent: the expected gain, and the chance that there is one."""

    module: str
    candidate: int
    gain: float
    chance: float
