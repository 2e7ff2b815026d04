"""Random search: the baseline that every other selector has to beat."""

from __future__ import annotations

from rollouts.prompt_optimization.selection.base import Candidate
from rollouts.prompt_optimization.selection.trials import TrialSelector


class RandomSelector(TrialSelector):
    """Every trial is a random allowed candidate on a random minibatch of samples it has not seen."""

    def _choose(self) -> tuple[Candidate, object] | None:
        candidate = self.any_usable()
        return None if candidate is None else (candidate, None)
