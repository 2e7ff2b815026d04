"""What a rollout in a task app asks of whatever sits between the app and its model: one trial, opened and closed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from rollouts.dtypes import Call, Program, Trace
from rollouts.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialSpec:
    """One rollout that an app will make: which prompt its model calls must carry, and who hears of them.

    `trial_id` cannot be guessed: who knows it may spend the trial's money, and no other key is asked for.
    `correlation_id` is `trace_` and the trial id. `program` is the candidate, `baseline` what the app renders by
    itself; `module` names the module that calls belong to when nothing else tells. `phase` is the account's word for
    what the calls are for, and `repeat` tells apart wished repetitions of the rollout.

    `on_call` is called once for every upstream call that ended, failed ones included where they were billed;
    `on_trace` once for every answer, with the values read off the app's user message. Neither is called after the
    trial is closed.
    """

    trial_id: str
    correlation_id: str
    program: Program
    baseline: Program
    module: str = "main"
    phase: str = "task"
    repeat: int = 0
    on_call: Callable[[Call], None]
    on_trace: Callable[[Trace], None]


@runtime_checkable
class TrialDesk(Protocol):
    """Opens trials."""

    def open(self, spec: TrialSpec) -> AbstractContextManager[str]:
        """The trial's inference URL in the path form, `.../v1/{trial_id}/{correlation_id}`, while the context lasts.

        A task app appends `/chat/completions` to it. Leaving the context ends the capability: later calls are refused.
        It raises what one of the trial's calls met and every other rollout would meet too, or what says that the
        rollout did not take place (BudgetExhausted, AuthenticationFailed, ModelNotFound, NoCredit, ConfigError,
        StoreError); else the error of the last call, where that one failed; else TaskAppError where calls were answered
        and none of them carried the candidate's prompt. What the app made of it does not count: an app that calls a
        failed model call a wrong answer is not believed.
        """
        ...


class LateDesk:
    """A desk that a program can hold before there is a run; `bind` gives it the run's own."""

    def __init__(self) -> None:
        self._desk: TrialDesk | None = None

    def bind(self, desk: TrialDesk) -> None:
        """From now on trials are opened by `desk`."""
        self._desk = desk

    def open(self, spec: TrialSpec) -> AbstractContextManager[str]:
        """See `TrialDesk.open`. Raises ConfigError outside a run."""
        if self._desk is None:
            raise ConfigError("a program that runs in a task app was run outside a job: nothing pays for its calls")
        return self._desk.open(spec)
