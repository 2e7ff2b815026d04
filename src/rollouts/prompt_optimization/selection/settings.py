"""What every selector can be told about the run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectorSettings:
    """`trials` of `minibatch` cells each, a full evaluation of the best partly evaluated candidate after every
    `full_every` trials (0: never); `patience` trials without a better recommendation stop the search (None: never)."""

    seed: int = 0
    trials: int = 100
    minibatch: int = 35
    full_every: int = 5
    patience: int | None = None
    target: float | None = None
