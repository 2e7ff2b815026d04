"""The native routes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query
from fastapi.responses import Response, StreamingResponse

from rollouts.errors import ServiceError
from rollouts.service.api import views
from rollouts.service.api.model import (
    JOB_ID,
    BestPrompt,
    Candidates,
    EventPage,
    JobPage,
    JobView,
    NewJob,
    Results,
    SpendView,
)
from rollouts.service.jobs import JobRow
from rollouts.service.jobs.model import Status
from rollouts.service.jobs.sse import END, event_json, frame, stream
from rollouts.service.jobs.webhooks import WEBHOOK
from rollouts.service.keys import Principal, require
from rollouts.service.problems import BODY, refusals
from rollouts.service.state import ServiceState, State

router = APIRouter(prefix="/api/v1/jobs", tags=["jobs"], responses=refusals(401, 403, 404, 422))

Reader = Annotated[Principal, Depends(require("read"))]
Worker = Annotated[Principal, Depends(require("jobs"))]
JobId = Annotated[str, Path(examples=[JOB_ID])]
Since = Annotated[int, Query(ge=0, le=2**62, description="Only events after this number.")]


@router.post("", status_code=201, summary="Submit a job", responses={**BODY, **refusals(424, 429)})
async def create(new: NewJob, state: State, who: Worker) -> JobView:
    """Checks everything that can be checked without spending, and queues the job."""
    if new.rows is not None and len(new.rows) > state.settings.max_rows:
        raise ServiceError(
            f"rows: at most {state.settings.max_rows} can come with a job", status=413, code="too_many_rows"
        )
    config: dict[str, Any] = {"config": new.config}
    kind = "native"
    if new.rows is not None:
        config["rows"] = new.rows
    if new.task_app is not None:
        kind, config["task_app"] = "task_app", new.task_app.model_dump()
    if new.webhook is not None:
        config[WEBHOOK] = new.webhook.model_dump()
    return views.job_view(state, await state.engine.submit(kind, config, owner=who.owner, name=new.name))


@router.get("", summary="List jobs")
def list_jobs(
    state: State,
    who: Reader,
    status: Status | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    before: Annotated[str | None, Query(description="The `next` of the page before.")] = None,
) -> JobPage:
    """Your jobs, the newest first."""
    rows = state.jobs.list(who.owner, status=status, limit=limit + 1, before=before)
    shown = rows[:limit]
    return JobPage(jobs=[views.job_view(state, row) for row in shown], next=shown[-1].id if len(rows) > limit else None)


@router.get("/{job_id}", summary="One job")
async def get(job_id: JobId, state: State, who: Reader) -> JobView:
    """The job as it is now."""
    return views.job_view(state, await state.engine.brief(job_id, who.owner))


@router.post("/{job_id}/pause", summary="Pause a job", responses=refusals(409))
async def pause(job_id: JobId, state: State, who: Worker) -> JobView:
    """Starts no more of it; what is in flight ends."""
    return _ordered(state, who, job_id, state.engine.pause)


@router.post("/{job_id}/resume", summary="Resume a job", responses=refusals(409))
async def resume(job_id: JobId, state: State, who: Worker) -> JobView:
    """Lets a job that was paused, or has failed, go on where it was."""
    return _ordered(state, who, job_id, state.engine.resume)


@router.post("/{job_id}/cancel", summary="Cancel a job", responses=refusals(409))
async def cancel(job_id: JobId, state: State, who: Worker) -> JobView:
    """Ends it for good, and keeps the best so far."""
    return _ordered(state, who, job_id, state.engine.cancel)


def _ordered(state: ServiceState, who: Principal, job_id: str, order: Callable[[str, str], None]) -> JobView:
    order(job_id, who.owner)
    return views.job_view(state, state.jobs.get(job_id, who.owner, brief=True))


@router.get("/{job_id}/events", summary="Events in pages", response_model=EventPage)
def events(
    job_id: JobId,
    state: State,
    who: Reader,
    since_seq: Since = 0,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> Response:
    """The events after `since_seq`, in order."""
    row = state.jobs.get(job_id, who.owner, brief=True)
    page = state.events.page(row.id, after=since_seq, limit=limit)
    found = {
        "events": [event_json(event) for event in page],
        "next_seq": page[-1].seq if page else since_seq,
        "ended": row.over and len(page) < limit,
    }
    # Not by the model: it would check every field of thousands of events, and cannot send half a character.
    return Response(json.dumps(found), media_type="application/json")


@router.get(
    "/{job_id}/events/stream",
    summary="Events as they happen",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {"example": "id: 12\nevent: trial\ndata: {...}\n\n"}}}},
)
async def event_stream(
    job_id: JobId,
    state: State,
    who: Reader,
    since_seq: Since = 0,
    last_event_id: Annotated[int | None, Header(ge=0, le=2**62)] = None,
) -> StreamingResponse:
    """Server-sent events: every event after `Last-Event-ID` (or `since_seq`), each once and in order, until the job is
    over; then one event `end` that holds the job."""
    row = await state.engine.brief(job_id, who.owner)
    after = since_seq if last_event_id is None else last_event_id
    return StreamingResponse(
        _stream(state, row, after),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _stream(state: State, row: JobRow, after: int) -> Any:
    parts = state.events.follow(
        row.id,
        after=after,
        over=lambda: state.engine.over(row.id),
        heartbeat_s=state.settings.heartbeat_s,
    )
    async for chunk in stream(parts):
        yield chunk
    if state.engine.over(row.id):
        ended = await state.engine.brief(row.id, row.owner)
        yield frame(END, views.job_view(state, ended).model_dump())


@router.get("/{job_id}/results", summary="Results", responses=refusals(409))
def results(job_id: JobId, state: State, who: Reader) -> Results:
    """Summary and result files of a job that came to an end."""
    return views.results(state, state.jobs.get(job_id, who.owner))


@router.get("/{job_id}/best_prompt", summary="The best prompt", responses=refusals(409))
def best_prompt(job_id: JobId, state: State, who: Reader) -> BestPrompt:
    """The winner, ready to send."""
    return views.best_prompt(state.jobs.get(job_id, who.owner))


@router.get("/{job_id}/candidates", summary="Candidates")
def candidates(job_id: JobId, state: State, who: Reader) -> Candidates:
    """What was tried so far, best first."""
    return views.candidates(state, state.jobs.get(job_id, who.owner))


@router.get("/{job_id}/spend", summary="Spend")
def spend(job_id: JobId, state: State, who: Reader) -> SpendView:
    """What the job has spent so far."""
    return views.spend(state, state.jobs.get(job_id, who.owner))
