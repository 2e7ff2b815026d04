"""Which run a job goes on with, and whether it may."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rollouts.budget import Budget
from rollouts.errors import ConfigError, RunNotFound
from rollouts.experiments.estimate import plan_of
from rollouts.experiments.job import Job
from rollouts.store import RunRow, Store

_MAY_CHANGE = ("termination_config", "execution", "results_folder", "constraints")
_EVENTS = 1_000_000


def resumable(store: Store, job: Job, run_id: str | None) -> RunRow:
    """The run to continue: the one named, or the newest of this job that has not ended.

    Raises RunNotFound when there is none, ConfigError when the job has changed since it began. Limits may change:
    everything else decides what the run does. A run that is done is not divided anew into fewer rows: its verdict would
    be replaced by a poorer one.
    """
    if run_id:
        run = store.run(run_id)
    else:
        name, method = job.options.name, job.options.method
        unfinished = [run for run in store.runs(limit=200) if run.status != "done"]
        candidates = [run for run in unfinished if (run.name, run.method) == (name, method)]
        if not candidates:
            raise RunNotFound(f"no unfinished run of {job.options.name!r} to resume; start it without --resume")
        run = candidates[0]
    changed = _changed(dict(run.config), dict(job.config))
    if changed:
        raise ConfigError(
            f"run {run.id} was started with other settings ({', '.join(changed)}); put them back, or start a new run"
        )
    if run.status == "done" and _smaller(run, job, _last_budget(store, run.id)):
        raise ConfigError(
            f"run {run.id} is done, and its limits are smaller now: a verdict from fewer rows would take the place of "
            "the one it has; put them back, or start a new run"
        )
    return run


def _changed(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    old, new = before.get("prompt_learning", {}), now.get("prompt_learning", {})
    keys = sorted({*old, *new} - set(_MAY_CHANGE))
    return [key for key in keys if old.get(key) != new.get(key)]


def _last_budget(store: Store, run_id: str) -> Budget:
    """The limits of the last process that worked on the run."""
    found = [e.data["budget"] for e in store.events(run_id, limit=_EVENTS) if e.kind in ("started", "resumed")]
    return Budget(**found[-1]) if found else Budget()


def _smaller(run: RunRow, job: Job, before: Budget) -> bool:
    """Whether the job's limits pay for less than those `before`, or end before the time that the run took."""
    seconds = job.options.budget.max_seconds
    past = replace(job, options=replace(job.options, budget=before))
    return plan_of(job).total < plan_of(past).total or (seconds is not None and seconds < run.elapsed_s)
