"""The job routes of the synth-ai SDK, under both of its prefixes, over the service's jobs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from rollouts.errors import ServiceError
from rollouts.service.jobs import JobRow
from rollouts.service.jobs.sse import HEARTBEAT, START, frame
from rollouts.service.keys import Principal, require
from rollouts.service.problems import BODY, refusals
from rollouts.service.state import ServiceState, State
from rollouts.service.synth import views
from rollouts.service.synth.creating import submit
from rollouts.service.synth.events import Translation, algorithm_of, metrics, translated
from rollouts.service.synth.names import Family
from rollouts.store import events_of

JSON = dict[str, Any]
PREFIXES: dict[str, Family] = {
    "/api/prompt-learning/online/jobs": "legacy",
    "/api/policy-optimization/online/jobs": "canonical",
}
"""The path that a job was created on decides which names its events have."""
_FALLBACKS = ("/api/learning/jobs", "/api/orchestration/jobs")

Reader = Annotated[Principal, Depends(require("read"))]
Worker = Annotated[Principal, Depends(require("jobs"))]
Since = Annotated[int, Query(ge=0, le=2**62)]


class NewSynthJob(BaseModel):
    """A job in the SDK's own form; see the page on the synth-ai SDK."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)

    algorithm: str | None = Field(None, examples=["mipro"])
    config_body: dict[str, Any] = Field(description="`prompt_learning` or `policy_optimization`, and the job under it.")
    overrides: dict[str, Any] | None = Field(None, description="Dotted keys that go over the job's own.")
    auto_start: bool = True


class Cancelling(BaseModel):
    """Why a job is cancelled."""

    reason: str | None = Field(None, max_length=1000)


async def _job(job_id: str, state: State, who: Reader) -> JobRow:
    row = state.engine.row(job_id, who.owner)
    return await asyncio.to_thread(state.jobs.get, job_id, who.owner) if row is None else row


Job = Annotated[JobRow, Depends(_job)]


def _creating(family: Family) -> Callable[..., Any]:
    async def create(new: NewSynthJob, state: State, who: Worker) -> JSON:
        """Checks everything that can be checked without spending, and queues the job."""
        job = await submit(state, new.model_dump(), who.owner, family)
        return views.job_json(state, job)

    return create


async def get_job(job: Job, state: State) -> JSON:
    """The job as it is now."""
    return views.job_json(state, job)


async def get_events(
    job: Job, state: State, since_seq: Since = 0, limit: Annotated[int, Query(ge=1, le=10_000)] = 1000
) -> JSON:
    """The events after `since_seq`, in order."""
    events = await asyncio.to_thread(_whole_log, state, job.id, state.engine.over(job.id))
    page = [event for event in events if event["seq"] > since_seq][:limit]
    return {"job_id": job.id, "events": page, "next_seq": page[-1]["seq"] if page else since_seq}


def _whole_log(state: ServiceState, job_id: str, over: bool) -> list[JSON]:
    if over:
        state.store.flush()
    return translated(state.jobs.get(job_id), events_of(state.store, job_id), over=over)


async def stream_events(
    job: Job,
    state: State,
    since_seq: Since = 0,
    last_event_id: Annotated[int | None, Header(ge=0, le=2**62)] = None,
) -> StreamingResponse:
    """Server-sent events, each once and in order, to the one that ends the job."""
    after = since_seq if last_event_id is None else last_event_id
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_stream(state, job, after), media_type="text/event-stream", headers=headers)


async def _stream(state: ServiceState, job: JobRow, after: int) -> AsyncIterator[bytes]:
    def shown(events: list[JSON]) -> bytes:
        return b"".join(frame(event["type"], event, event["seq"]) for event in events if event["seq"] > after)

    translation = Translation(job)
    yield START + shown(translation.begin(job))
    parts = state.events.follow(
        job.id, after=0, over=lambda: state.engine.over(job.id), heartbeat_s=state.settings.heartbeat_s
    )
    async for rows in parts:
        if any(row.kind == "job" for row in rows):
            job = await asyncio.to_thread(state.jobs.get, job.id)
        yield b"".join(shown(translation.add(row, job)) for row in rows) or HEARTBEAT
    if state.engine.over(job.id):
        yield shown(translation.end(await asyncio.to_thread(state.jobs.get, job.id)))


async def get_metrics(job: Job, state: State, limit: Annotated[int, Query(ge=1, le=10_000)] = 1000) -> JSON:
    """The scores over the trials, the newest `limit` of them."""
    rows = await asyncio.to_thread(events_of, state.store, job.id)
    return {"job_id": job.id, "points": metrics(rows, algorithm_of(job))[-limit:]}


async def cancel(job_id: str, state: State, who: Worker, _: Cancelling | None = None) -> JSON:
    """Ends the job for good. What is in flight may end, so that the best so far is kept."""
    try:
        state.engine.cancel(job_id, who.owner)
    except ServiceError as error:
        return {"job_id": job_id, "status": "failed", "message": str(error), "attempt_id": None}
    message = "cancelled: what is in flight ends, and the best so far is kept"
    return {"job_id": job_id, "status": "succeeded", "message": message, "attempt_id": f"{job_id}-cancel"}


async def get_artifacts(job: Job) -> JSON:
    """What the job left: result files and candidates."""
    return {"job_id": job.id, "artifacts": views.artifacts_json(job)}


async def get_snapshot(job: Job, snapshot_id: str) -> JSON:
    """A result file or a candidate's prompt."""
    return views.snapshot_json(job, snapshot_id)


async def workflow_state(job: Job, state: State) -> JSON:
    """The job in few words."""
    return views.workflow_json(state, job)


def _routes() -> APIRouter:
    router = APIRouter(tags=["synth-ai"], responses=refusals(401, 403, 404, 422))
    for prefix, family in PREFIXES.items():
        creating = {**BODY, **refusals(424, 429)}
        router.add_api_route(prefix, _creating(family), methods=["POST"], responses=creating, summary="Submit a job")
        router.add_api_route(f"{prefix}/{{job_id}}/cancel", cancel, methods=["POST"], responses=BODY)
        router.add_api_route(f"{prefix}/{{job_id}}/metrics", get_metrics)
        router.add_api_route(f"{prefix}/{{job_id}}/artifacts", get_artifacts)
        router.add_api_route(f"{prefix}/{{job_id}}/snapshots/{{snapshot_id}}", get_snapshot)
        router.add_api_route(f"{prefix}/{{job_id}}/events/stream", stream_events, response_class=StreamingResponse)
    for prefix in (*PREFIXES, *_FALLBACKS):
        router.add_api_route(f"{prefix}/{{job_id}}", get_job)
        router.add_api_route(f"{prefix}/{{job_id}}/events", get_events)
    router.add_api_route("/api/jobs/{job_id}/workflow-state", workflow_state)
    return router


router = _routes()
