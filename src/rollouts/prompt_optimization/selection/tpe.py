"""MIPROv2's rule on Optuna's TPE (Opsahl-Ong et al., arXiv 2406.11695, section 3.3).

Differences from the rule as it is known: a candidate never sees a sample twice, so a candidate that TPE proposes again
gets more evidence; trials that are under way count as mediocre (constant liar), so that several can be asked for at
once; and the first trials, half of them at most, cover the levels of every factor evenly instead of being drawn
blindly.
"""

from __future__ import annotations

import warnings

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import create_trial

from rollouts.prompt_optimization.selection.base import Candidate, Space, exchanged
from rollouts.prompt_optimization.selection.settings import SelectorSettings
from rollouts.prompt_optimization.selection.trials import Trial, TrialSelector

_TRIES = 8


class TPESelector(TrialSelector):
    """Tree-structured Parzen estimator over the factors, one trial a minibatch."""

    def __init__(self, space: Space, settings: SelectorSettings) -> None:
        super().__init__(space, settings)
        self._startup = self._cover(max(1, min(max(space.levels), settings.trials // 2)))
        self._study = self._new_study()

    def _new_study(self) -> optuna.Study:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sampler = optuna.samplers.TPESampler(
                seed=self.settings.seed & 0xFFFFFFFF, multivariate=True, n_startup_trials=0, constant_liar=True
            )
        return optuna.create_study(direction="maximize", sampler=sampler)

    def _cover(self, count: int) -> list[Candidate]:
        """Candidates in which every factor's levels occur evenly, in random combination; taken from the end."""
        columns = []
        for n in self.space.levels:
            column: list[int] = []
            while len(column) < count:
                column += self.rng.sample(range(n), n)
            columns.append(column[:count])
        return [candidate for candidate in zip(*columns, strict=True) if self.space.feasible(candidate)]

    def _distributions(self) -> dict[str, BaseDistribution]:
        return {f"f{i}": CategoricalDistribution(list(range(n))) for i, n in enumerate(self.space.levels)}

    def _choose(self) -> tuple[Candidate, object] | None:
        distributions = self._distributions()
        while self._startup:
            candidate = self._startup.pop()
            if self.usable(candidate):
                return candidate, self._enqueue(candidate)
        for _ in range(_TRIES):
            trial = self._study.ask(distributions)
            candidate = tuple(int(trial.params[f"f{i}"]) for i in range(len(self.space.levels)))
            if self.usable(candidate):
                return candidate, trial
            self._reject(candidate, trial)
        fallback = self.any_usable()
        return None if fallback is None else (fallback, self._enqueue(fallback))

    def _enqueue(self, candidate: Candidate) -> optuna.Trial:
        self._study.enqueue_trial({f"f{i}": level for i, level in enumerate(candidate)})
        return self._study.ask(self._distributions())

    def _reject(self, candidate: Candidate, trial: optuna.Trial) -> None:
        """Tells TPE what a candidate that cannot be asked is worth: its mean when it was tried, else nothing."""
        if self.table.scores.get(candidate):
            self._study.tell(trial, self._worth(candidate))
        else:
            self._study.tell(trial, state=optuna.trial.TrialState.FAIL)

    def _worth(self, candidate: Candidate) -> float:
        """Its estimate; the lowest of all when it may not be asked any more, so that others like it are avoided."""
        if self.space.feasible(candidate):
            return self.table.estimate(candidate).estimate
        return min(entry.estimate for entry in self.table.ranking())

    def _learn(self, trial: Trial) -> None:
        token = trial.token
        assert isinstance(token, optuna.Trial)
        if trial.scores:
            self._study.tell(token, self._worth(trial.candidate))
        else:
            self._study.tell(token, state=optuna.trial.TrialState.FAIL)

    def add_level(self, factor: int, like: int | None = None) -> int:
        """Optuna wants fixed choices within a study, so the trials so far move to a new one with the wider range."""
        level = super().add_level(factor, like)
        old, self._study = self._study, self._new_study()
        self._startup.append(exchanged(self.recommend().candidate, factor, level))
        # Failed ones are left behind: TPE takes no notice of them.
        done = old.get_trials(deepcopy=False, states=[optuna.trial.TrialState.COMPLETE])
        distributions = self._distributions()
        self._study.add_trials(
            [create_trial(params=past.params, distributions=distributions, value=past.value) for past in done]
        )
        for trial in self._open:
            if isinstance(trial.token, optuna.Trial):
                trial.token = self._enqueue(trial.candidate)
        return level
