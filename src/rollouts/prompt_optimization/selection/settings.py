"""What every selector can be told about the run."""

from __future__ import annotations

from dataclasses import dataclass

from rollouts.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectorSettings:
    """What is not a selector's business it ignores.

    budget: the most cells that may be asked for in all (those that come back missing are given back, those recorded do
    not count); without one, `trials` x `minibatch` for the selectors that do not work in trials. target: stop when the
    incumbent's interval lies above this score and its plain scores prove it, from at least 30 samples or all there are.

    trials, minibatch, full_every, patience (`random` and `tpe`): `trials` of `minibatch` cells each; a full evaluation
    of the best partly evaluated candidate after every `full_every` trials (0: never); stop after `patience` trials
    without a better recommendation (None: never).

    together (`racing`): a candidate gets at least so many cells at once where there is room: calls that follow each
    other with the same prompt are cheaper. epsilon, delta (`racing`): stop when the incumbent is within `epsilon` of
    the best with a chance of at least 1 - `delta`; with `epsilon` None it never stops for that. `epsilon` is in the
    scores' own unit. low, high: the range of scores as far as it is known, for intervals, which are widened where
    scores lie outside, and for the unit of the race as long as all scores are the same; then their range is the unit.
    """

    seed: int = 0
    trials: int = 100
    minibatch: int = 35
    full_every: int = 5
    patience: int | None = None
    target: float | None = None
    budget: int | None = None
    together: int = 1
    epsilon: float | None = 0.03
    delta: float = 0.1
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if self.budget is not None and self.budget < 0:
            raise ConfigError(f"budget = {self.budget}: must not be negative")
        if self.together < 1:
            raise ConfigError(f"together = {self.together}: must be at least 1")
        if not self.low < self.high:
            raise ConfigError(f"low = {self.low} must be below high = {self.high}")
        if not 0 < self.delta < 1:
            raise ConfigError(f"delta = {self.delta}: must be between 0 and 1")
        if self.epsilon is not None and self.epsilon < 0:
            raise ConfigError(f"epsilon = {self.epsilon}: must not be negative")

    @property
    def cells(self) -> int:
        """The budget of the selectors that do not work in trials."""
        return self.trials * self.minibatch if self.budget is None else self.budget
