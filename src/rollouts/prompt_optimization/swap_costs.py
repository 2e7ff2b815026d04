"""What controlled swaps take, told from the rollouts themselves.

What a rollout shares with the incumbent's on the same sample (a module that was given the same) is served from the
store and costs nothing. This is worked out from what the modules were given, and not from what was found in a cache, so
that a resumed run counts as an undisturbed one does.
"""

from __future__ import annotations

from collections.abc import Mapping

from rollouts.budget import Spend
from rollouts.dtypes import Evaluation, value_text
from rollouts.prompt_optimization.scheduling.base import RESOURCES
from rollouts.prompt_optimization.scheduling.trials import Numbers, Trial
from rollouts.prompt_optimization.study import Study

_Given = Mapping[str, list[dict[str, str]]]


class Costs:
    """Adds up the spend of trials, and of all rollouts on validation samples. `usual` is what a call of each module
    usually takes, for its price per token."""

    def __init__(self, study: Study, usual: Mapping[str, Spend]) -> None:
        self._study = study
        self._caps = _caps(study)
        self._prices = {name: spend.micros / max(1, spend.tokens) for name, spend in usual.items()}
        self._given: dict[tuple[Numbers, int], _Given] = {}
        self._trials: dict[tuple[Numbers, int], Spend] = {}
        self._total = Spend()

    def note(self, numbers: Numbers, sample: int, evaluation: Evaluation, trial: Trial | None) -> None:
        """A rollout of the program `numbers`, made for `trial` or for the incumbent."""
        given = _given(evaluation)
        self._given[numbers, sample] = given
        shared: set[str] = set()
        if trial is not None:
            theirs = self._given.get((trial.incumbent, sample), {})
            shared = {name for name, values in given.items() if name != trial.module and theirs.get(name) == values}
        spend = self._spend(evaluation, shared)
        self._total = self._total + spend
        self._trials[numbers, sample] = spend

    def of(self, trial: Trial) -> Spend:
        """What a trial took: its own rollouts. Those of the incumbent serve all trials of a round."""
        total = Spend()
        for sample in trial.samples:
            total = total + self._trials.get((trial.program, sample), Spend())
        return total

    def used(self) -> dict[str, float]:
        """Resource -> share of its cap that the rollouts so far took, for the capped ones."""
        out = {name: float(getattr(self._total, name)) / cap for name, cap in self._caps.items() if cap}
        cap = self._study.options.budget.max_seconds
        return out if not cap else {**out, "seconds": self._study.elapsed / cap}

    def _spend(self, evaluation: Evaluation, shared: set[str]) -> Spend:
        calls = () if evaluation.trajectory is None else evaluation.trajectory.calls
        if not calls:
            (price, *_) = self._prices.values()
            tokens = evaluation.usage.total_tokens
            return Spend(
                micros=round(price * tokens),
                tokens=tokens,
                calls=evaluation.calls,
                rollouts=1,
                seconds=evaluation.latency_s,
            )
        paid = [call for call in calls if call.module not in shared]
        return Spend(
            micros=round(sum(self._prices.get(call.module, 0.0) * call.usage.total_tokens for call in paid)),
            tokens=sum(call.usage.total_tokens for call in paid),
            calls=len(paid),
            rollouts=1,
            seconds=sum(call.latency_s for call in paid),
        )


def _caps(study: Study) -> dict[str, int | None]:
    budget = study.options.budget
    caps = {
        "micros": budget.max_micros,
        "tokens": budget.max_tokens,
        "calls": budget.max_calls,
        "rollouts": budget.max_rollouts,
    }
    return {name: caps[name] for name in RESOURCES if name in caps}


def _given(evaluation: Evaluation) -> _Given:
    """What each module was given, run by run, as its template shows it."""
    out: dict[str, list[dict[str, str]]] = {}
    trajectory = evaluation.trajectory
    for trace in () if trajectory is None else trajectory.traces:
        out.setdefault(trace.module, []).append({name: value_text(value) for name, value in trace.values.items()})
    return out
