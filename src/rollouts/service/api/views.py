"""From rows to what the native routes give."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import func, or_, select

from rollouts.budget import Spend
from rollouts.errors import RunNotFound, ServiceError
from rollouts.experiments.config_keys import JOB
from rollouts.prompt_optimization.saving import BEST_PROMPT
from rollouts.service.api.model import (
    BestPrompt,
    Candidate,
    Candidates,
    JobView,
    Results,
    SpendView,
    Spent,
)
from rollouts.service.jobs import JobRow
from rollouts.service.state import ServiceState
from rollouts.store import RunRow
from rollouts.store.schema import rollouts, run_rollouts

_CAPS = ("budget", "max_calls", "max_tokens", "max_cost_usd", "max_time_seconds")


def job_view(state: ServiceState, row: JobRow) -> JobView:
    """A job, with what its study knows while it runs."""
    study, summary = state.engine.study(row.id), row.summary or {}
    return JobView(
        id=row.id,
        kind=row.kind,
        name=row.name,
        status=row.status,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        error=row.error,
        phase=None if study is None else study.phase,
        best_score=summary.get("best_score") if study is None else study.best_score,
        baseline_score=summary.get("baseline_score"),
        verdict=(summary.get("verdict") or {}).get("decision"),
    )


def results(state: ServiceState, row: JobRow) -> Results:
    """Raises ServiceError (409) while there are none."""
    found = _result(row)
    return Results(job=job_view(state, row), summary=row.summary or {}, files=found["files"])


def best_prompt(row: JobRow) -> BestPrompt:
    """Raises ServiceError (409) while there is none."""
    found, summary = _result(row), row.summary or {}
    return BestPrompt(
        job_id=row.id,
        score=summary.get("best_score"),
        verdict=summary.get("verdict"),
        prompt=found["files"][BEST_PROMPT],
    )


def candidates(state: ServiceState, row: JobRow) -> Candidates:
    """The population in the end; before, the programs with rollouts by their mean score."""
    if row.result is not None:
        entries = [
            Candidate(**{name: entry[name] for name in Candidate.model_fields}) for entry in row.result["candidates"]
        ]
        return Candidates(job_id=row.id, final=True, candidates=entries)
    used = select(run_rollouts.c.key).where(run_rollouts.c.run_id == row.id)
    query = (
        select(rollouts.c.program, func.avg(rollouts.c.score), func.count(rollouts.c.score))
        .where(or_(rollouts.c.run_id == row.id, rollouts.c.key.in_(used)))
        .group_by(rollouts.c.program)
    )
    with state.store.database.read() as connection:
        entries = [Candidate(program=name, score=score, n=n) for name, score, n in connection.execute(query)]
    entries.sort(key=lambda entry: (entry.score is None, -(entry.score or 0), -entry.n))
    return Candidates(job_id=row.id, final=False, candidates=entries)


def spend(state: ServiceState, row: JobRow) -> SpendView:
    """What the job's account says: that of its study while it runs, else what its run left in the store."""
    run, study = _run(state, row.id), state.engine.study(row.id)
    if study is not None:
        ledger = study.ledger
        total, phases, elapsed = ledger.spent, _by_phase(ledger.by_phase), study.elapsed
    else:
        total = Spend.from_json(run.authorised) if run is not None else Spend()
        phases = {name: Spend.from_json(part) for name, part in (row.summary or {}).get("spend_by_phase", {}).items()}
        elapsed = 0.0 if run is None else run.elapsed_s
    caps = {} if run is None else run.config.get(JOB, {}).get("termination_config", {})
    return SpendView(
        job_id=row.id,
        total=_spent(total),
        by_phase={name: _spent(part) for name, part in phases.items()},
        caps={name: caps.get(name) for name in _CAPS},
        elapsed_s=elapsed,
    )


def _result(row: JobRow) -> dict[str, Any]:
    if row.result is None:
        hint = "it ended without one" if row.over else "wait for its end, or cancel it to have the best so far"
        raise ServiceError(f"job {row.id} is {row.status} and has no result: {hint}", status=409, code="no_result")
    return row.result


def _run(state: ServiceState, job_id: str) -> RunRow | None:
    try:
        return state.store.run(job_id)
    except RunNotFound:
        return None


def _by_phase(phases: Mapping[str, Spend]) -> dict[str, Spend]:
    return {name.removeprefix("task/"): part for name, part in phases.items()}


def _spent(amount: Spend) -> Spent:
    return Spent(**amount.to_json())
