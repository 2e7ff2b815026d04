"""Which run a job goes on with, and whether it may."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

from rollouts.budget import MICROS, Budget, Ledger, Spend
from rollouts.errors import ConfigError, RunNotFound
from rollouts.experiments.estimate import plan_of
from rollouts.experiments.job import Job
from rollouts.prompt_optimization import StudyOptions
from rollouts.prompt_optimization.plan import Plan
from rollouts.store import RunRow, Store, events_of

_MAY_CHANGE = ("termination_config", "execution", "results_folder", "constraints")
_LOOKED_AT = 200
_CAPS = ("max_micros", "max_tokens", "max_calls", "max_rollouts", "max_seconds", "max_trials")


def run_to_resume(store: Store, job: Job, run_id: str | None) -> RunRow:
    """The run to continue: the one named, or the newest of this job that has not ended.

    Raises RunNotFound when there is none, ConfigError for a run of another kind.
    """
    name, method = job.options.name, job.options.method
    if run_id is None:
        for run in store.runs(limit=_LOOKED_AT):
            if run.status != "done" and (run.name, run.method) == (name, method):
                return run
        raise RunNotFound(f"no unfinished run of {name!r} to resume; start it without --resume")
    run = store.run(run_id)
    if run.method != method:
        raise ConfigError(f"run {run.id} is one of {run.method}, and this job one of {method}: name another run")
    return run


def check_unchanged(store: Store, job: Job, run: RunRow) -> None:
    """Raises ConfigError when the job has changed since the run began. Limits may change: everything else decides what
    the run does. A run that is done is not divided anew into fewer rows: its verdict would be replaced by a poorer one.
    """
    changed = _changed(dict(run.config), dict(job.config))
    if changed:
        raise ConfigError(
            f"run {run.id} was started with other settings ({', '.join(changed)}); put them back, or start a new run"
        )
    if run.status == "done":
        _check_limits(run, job, _last_limits(store, run.id))


def _changed(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    old, new = before.get("prompt_learning", {}), now.get("prompt_learning", {})
    keys = sorted({*old, *new} - set(_MAY_CHANGE))
    return [key for key in keys if old.get(key) != new.get(key)]


def _last_limits(store: Store, run_id: str) -> StudyOptions:
    """Those of the last process that worked on the run."""
    begun = events_of(store, run_id, "started", "resumed")
    told = begun[-1].data if begun else {}
    modules = {name: Budget(**caps) for name, caps in told.get("module_budgets", {}).items()}
    return StudyOptions(budget=Budget(**told.get("budget", {})), module_budgets=modules)


def _check_limits(run: RunRow, job: Job, before: StudyOptions) -> None:
    """Raises ConfigError when the job's limits pay for less than those `before`, or its time is used up."""
    now = job.options
    seconds = now.budget.max_seconds
    if seconds is not None and seconds <= run.elapsed_s:
        raise ConfigError(
            f"run {run.id} is done and took {run.elapsed_s:.1f} s: max_seconds = {seconds:g} leaves no time; give "
            "more, or start a new run"
        )
    past = replace(job, options=replace(now, budget=before.budget, module_budgets=before.module_budgets))
    modules = [(now.module_budgets[name], before.module_budgets.get(name, Budget())) for name in now.module_budgets]
    old, new = plan_of(past), plan_of(job)
    if (
        new.total < old.total
        or _below(_trials(job.config), _trials(run.config))
        or any(_below(getattr(own, cap), getattr(was, cap)) for own, was in modules for cap in _CAPS)
    ):
        raise ConfigError(
            f"run {run.id} is done, and its limits are smaller now: a verdict from fewer rows would take the place of "
            "the one it has; put them back, or start a new run"
        )
    if new != old and _rest(job, run).total < old.total - old.of_start:
        raise ConfigError(
            f"run {run.id} is done, and what its limits leave now does not pay for another search as large as the one "
            "it made; raise them further, or start a new run: in the same store, what is known costs nothing"
        )


def _rest(job: Job, run: RunRow) -> Plan:
    """The plan of what a run that is done leaves of the job's budget."""
    budget = job.options.budget
    ledger = Ledger(budget, spent=Spend.from_json(run.authorised))
    micros = ledger.left("micros")
    left = replace(
        budget,
        max_cost_usd=None if micros is None else Decimal(micros) / MICROS,
        **{f"max_{name}": ledger.left(name) for name in ("tokens", "calls", "rollouts")},
    )
    return plan_of(replace(job, options=replace(job.options, budget=left)))


def _trials(config: Mapping[str, Any]) -> int | None:
    """The most trials, which are a setting of the search."""
    caps = config.get("prompt_learning", {}).get("termination_config", {})
    trials: int | None = caps.get("max_trials")
    return trials


def _below(cap: float | None, before: float | None) -> bool:
    return cap is not None and (before is None or cap < before)
