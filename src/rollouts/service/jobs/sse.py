"""Events as a stream of server-sent events (the HTML standard's `text/event-stream`)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from rollouts.store import EventRow

HEARTBEAT = b": still here\n\n"
START = b"retry: 2000\n\n"
END = "end"


def event_json(row: EventRow) -> dict[str, Any]:
    """An event as clients get it."""
    return {"seq": row.seq, "kind": row.kind, "data": row.data, "created_at": row.created_at}


def frame(kind: str, data: Mapping[str, Any], number: int | None = None) -> bytes:
    """One event of a stream; without a number it does not move the position that a client comes back to."""
    head = "" if number is None else f"id: {number}\n"
    return f"{head}event: {kind}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


async def stream(parts: AsyncIterator[Sequence[EventRow]]) -> AsyncIterator[bytes]:
    """Parts of a followed log as bytes to send; an empty part is a heartbeat."""
    yield START
    async for rows in parts:
        yield b"".join(frame(row.kind, event_json(row), row.seq) for row in rows) or HEARTBEAT
