"""One run of an experiment: the search or the start on its job, and the record of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rollouts.budget import Spend
from rollouts.dtypes import Program
from rollouts.errors import RolloutsError, RunNotFound, StoreError
from rollouts.experiments.evaluating import evaluate_prompt
from rollouts.experiments.job import Job, run_job
from rollouts.experiments.sweep.methods import START
from rollouts.experiments.sweep.records import (
    EVENTS,
    RunRecord,
    convergence_of,
    first_told,
    read_events,
    rollout_costs,
)
from rollouts.prompt_optimization import OptimizationResult, StudyOptions
from rollouts.prompt_optimization.interrupts import INTERRUPTED
from rollouts.stats import Interval, Verdict
from rollouts.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLabels:
    """The fields of a record that are known before the run."""

    experiment: str
    run: str
    task: str
    model: str
    method: str
    algorithm: str
    budget: str
    seed: int
    settings: Mapping[str, Any]

    def record(self, **found: Any) -> RunRecord:
        """The record with what came of the run."""
        return RunRecord(**{name: getattr(self, name) for name in self.__slots__}, **found)


async def run_single(
    labels: RunLabels, job: Job, store: Store, options: StudyOptions, folder: Path
) -> RunRecord | None:
    """Runs `job` in `store` as `options` say; None when it was interrupted and can be continued.

    `folder` is the experiment's, whose log has the run's events. An error that is no StoreError ends this run only:
    the record tells it.
    """
    try:
        if labels.algorithm == START:
            return await _start(labels, job, store, options)
        result, study = await run_job(job, store, options=options)
    except StoreError:
        raise
    except RolloutsError as error:
        spend, elapsed_s = spent_on(store, labels.run)
        return labels.record(status="failed", error=str(error), spend=spend.to_json(), elapsed_s=elapsed_s)
    if study.stop_reason == INTERRUPTED:
        return None
    return _found(labels, result, study.elapsed, store, folder)


def spent_on(store: Store, run: str) -> tuple[Spend, float]:
    """What a run has spent, or may have spent before it was killed, and its seconds; nothing where it never began."""
    try:
        found = store.run(run)
    except RunNotFound:
        return Spend(), 0.0
    return Spend.from_json(found.authorised), found.elapsed_s


async def _start(labels: RunLabels, job: Job, store: Store, options: StudyOptions) -> RunRecord | None:
    rows = job.data.test or job.data.val
    report = await evaluate_prompt(job, store, job.start, rows, repeats=1, options=options)
    if report.stop_reason == INTERRUPTED:
        return None
    scored = report.interval.to_json()
    took = rollout_costs(store, labels.run, {"start": job.start, "best": job.start})
    prompts = templates(job.start)
    return labels.record(
        status="done",
        score=scored,
        start=scored,
        stop_reason=report.stop_reason or "",
        notes=list(report.notes),
        spend=report.spend.to_json(),
        elapsed_s=report.elapsed_s,
        rollout=took,
        prompts={"start": prompts, "best": prompts},
    )


def _found(labels: RunLabels, result: OptimizationResult, elapsed_s: float, store: Store, folder: Path) -> RunRecord:
    events = list(read_events(folder / EVENTS, labels.run))
    trials = first_told(events, "trial", "trial")
    start, best = result.initial.program, result.best_program
    verdict = result.verdict
    return labels.record(
        status="done",
        score=_scored(verdict, "best"),
        start=_scored(verdict, "baseline"),
        validation={"start": result.initial.score, "best": result.best.score},
        verdict=None if verdict is None else verdict.to_json(),
        stop_reason=result.stop_reason,
        notes=list(result.notes),
        spend=result.spend.to_json(),
        spend_by_phase={phase: spend.to_json() for phase, spend in result.spend_by_phase.items()},
        elapsed_s=elapsed_s,
        trials=trials,
        convergence=convergence_of(trials),
        allocation=first_told(events, "allocation", "round"),
        bottleneck=result.details.get("bottleneck", {}).get("modules", ()),
        rollout=rollout_costs(store, labels.run, {"start": start, "best": best}),
        prompts={"start": templates(start), "best": templates(best)},
    )


def _scored(verdict: Verdict | None, which: str) -> dict[str, Any] | None:
    found: Interval | None = None if verdict is None else getattr(verdict, which)
    return found.to_json() if found is not None and found.n else None


def templates(program: Program) -> dict[str, Any]:
    """The templates of a program's modules, as JSON."""
    return {name: template.to_json() for name, template in program.modules.items()}
