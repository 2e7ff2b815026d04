"""What the incumbents showed: on which samples a module runs, and how much its own score lacks. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import replace

from rollouts.prompt_optimization.scheduling.trials import Outcome
from rollouts.stats import mean_interval

_CONFIDENCE = 0.5
"""Of the interval at whose end a module's head-room is taken. Every rollout of the incumbents shows the scores of all
modules, whichever gets the trials, so one that was thought too good needs no optimism to be found out."""


class Shown:
    """The last outcome of the incumbents on every sample. One from before a change still tells of the modules that did
    not change."""

    def __init__(self, names: Sequence[str]) -> None:
        self._last: dict[int, Outcome] = {}
        self._idle: dict[str, set[int]] = {name: set() for name in names}

    def note(self, sample: int, outcome: Outcome) -> None:
        """An outcome of the incumbents of now; one that failed says nothing of what runs there."""
        if outcome.score is None:
            return
        self._last[sample] = outcome
        if outcome.ran is not None:
            for name, idle in self._idle.items():
                (idle.discard if name in outcome.ran else idle.add)(sample)

    def renew(self, swapped: Mapping[str, Mapping[int, Outcome]]) -> None:
        """New incumbents: module -> what its new version showed, by sample, while the rest was held. Nothing else is
        left of its own scores."""
        for sample, last in self._last.items():
            own = {name: score for name, score in last.own.items() if name not in swapped}
            for name, outcomes in swapped.items():
                if sample in outcomes and name in outcomes[sample].own:
                    own[name] = outcomes[sample].own[name]
            self._last[sample] = replace(last, own=own)

    def idle(self, module: str) -> Set[int]:
        """Samples on which the module did not run."""
        return self._idle[module]

    def own(self, module: str) -> list[float]:
        """The module's own scores, in the order of the samples."""
        return [last.own[module] for _, last in sorted(self._last.items()) if module in last.own]

    def lacking(self, module: str) -> float | None:
        """The most that a module can add to the program's mean by what it lacks: 1 less its own score, at the
        optimistic end of an interval, times the share of samples on which it runs. None without own scores."""
        own = self.own(module)
        if not own:
            return None
        runs = 1 - len(self._idle[module]) / len(self._last)
        return runs * max(0.0, 1 - mean_interval(own, _CONFIDENCE).low)
