"""What else the SDK asks of a backend beside jobs: demo keys, and a place for its telemetry."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field

from rollouts.errors import ServiceError
from rollouts.service.keys import Principal, require
from rollouts.service.problems import BODY, refusals
from rollouts.service.state import State

router = APIRouter(tags=["synth-ai"], responses=refusals(401, 403, 422))

_HERE = ("localhost", "127.0.0.1", "::1")


class DemoKeyWanted(BaseModel):
    """How long the key is to work."""

    ttl_hours: float = Field(default=4.0, gt=0, le=24 * 7)


@router.post("/api/demo/keys", summary="A key to try things with", responses=BODY)
async def demo_key(request: Request, state: State, wanted: DemoKeyWanted | None = None) -> dict[str, Any]:
    """A key that may run jobs, for whoever asks on this machine; switched on with `demo_keys = true`.

    The name by which the service is called must be this machine's, so that no web page can ask for a key by pointing a
    name of its own here.
    """
    settings = state.settings
    if not settings.demo_keys or request.url.hostname not in _HERE:
        raise ServiceError(
            "demo keys are given on this machine only, with `rollouts serve --demo-keys`; `rollouts keys create` makes "
            "other ones",
            status=403,
            code="forbidden",
        )
    hours = (wanted or DemoKeyWanted()).ttl_hours
    key, info = await asyncio.to_thread(state.keys.create, name="demo", scopes=("jobs",), ttl_s=hours * 3600)
    return {"api_key": key, "expires_at": info.expires_at}


@router.post("/api/v1/sdk-logs", status_code=202, summary="Telemetry of the SDK", responses=BODY)
async def sdk_logs(_: Annotated[Principal, Depends(require("read"))]) -> dict[str, bool]:
    """Taken and not kept."""
    return {"ok": True}
