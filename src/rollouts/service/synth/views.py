"""Jobs as the synth-ai SDK reads them."""

from __future__ import annotations

from typing import Any

from rollouts.errors import RunNotFound
from rollouts.experiments.config_keys import JOB
from rollouts.service.jobs import JobRow
from rollouts.service.state import ServiceState
from rollouts.service.synth.events import algorithm_of, iso, of_synth
from rollouts.service.synth.results import best_prompt, candidates, summary_of

JSON = dict[str, Any]


def job_json(state: ServiceState, job: JobRow) -> JSON:
    """The job object."""
    study, summary = state.engine.study(job.id), summary_of(job)
    best = summary["best_score"] if study is None else study.best_score
    moments = {"created_at": job.created_at, "started_at": job.started_at, "finished_at": job.finished_at}
    return {
        "job_id": job.id,
        "id": job.id,
        "name": job.name,
        "algorithm": algorithm_of(job),
        "status": job.status,
        "best_score": best,
        "best_reward": best,
        "best_prompt": best_prompt(job),
        "baseline_score": summary["baseline_score"],
        "verdict": summary["verdict"],
        "error": job.error,
        "phase": None if study is None else study.phase,
        "progress": _progress(state, job),
        "metadata": _metadata(state, job),
        "warnings": list(of_synth(job).get("warnings", ())),
        "updated_at": iso(job.finished_at or job.started_at or job.created_at),
        **{name: None if when is None else iso(when) for name, when in moments.items()},
    }


def workflow_json(state: ServiceState, job: JobRow) -> JSON:
    """The job as `query_workflow_state` reads it."""
    done = _progress(state, job)
    flow = {
        "job_id": job.id,
        "run_id": job.id,
        "status": job.status,
        "progress": f"{done['completed']} of {done['total'] or 'any number of'} rollouts",
        "algorithm": algorithm_of(job),
        "error": job.error,
    }
    return {"job_id": job.id, "workflow_state": flow, "query_name": "state", "error": None}


def artifacts_json(job: JobRow) -> list[JSON]:
    """What a job left: its result files, and a snapshot for each candidate."""
    if job.result is None:
        return []
    files = [{"id": name, "type": "file", "job_id": job.id} for name in job.result["files"]]
    snapshots = [
        {
            "id": entry["candidate_id"],
            "snapshot_id": entry["candidate_id"],
            "type": "snapshot",
            "job_id": job.id,
            **entry,
        }
        for entry in candidates(job)
    ]
    return [*files, *snapshots]


def snapshot_json(job: JobRow, snapshot_id: str) -> JSON:
    """A result file by its name, or a candidate by its id. Raises RunNotFound."""
    files, entries = (job.result or {}).get("files", {}), (job.result or {}).get("candidates", ())
    if snapshot_id in files:
        return {"id": snapshot_id, "job_id": job.id, "payload": files[snapshot_id]}
    for entry in entries:
        if snapshot_id in (entry["id"], entry["program"]):
            return {"id": snapshot_id, "job_id": job.id, "score": entry["score"], "payload": entry["prompt"]}
    raise RunNotFound(f"job {job.id} has no snapshot {snapshot_id!r}; its artifacts list what there is")


def _metadata(state: ServiceState, job: JobRow) -> JSON:
    """Where the calls of an online job go."""
    if job.kind != "online":
        return {}
    return {"mipro_system_id": job.id, "mipro_proxy_url": state.online.address(job.owner, job.id)}


def _progress(state: ServiceState, job: JobRow) -> JSON:
    """Rollouts that were paid for, of those that the job may make."""
    study = state.engine.study(job.id)
    spent = (job.summary or {}).get("spend_by_phase", {}).values()
    done = sum(part.get("rollouts", 0) for part in spent) if study is None else study.ledger.spent.rollouts
    stop = job.config.get("config", {}).get(JOB, {}).get("termination_config", {})
    total = stop.get("budget", stop.get("max_rollouts"))
    return {"completed": done, "total": total}
