"""Jobs and events as a client sees them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

ENDED = frozenset({"succeeded", "failed", "cancelled"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as it was when it was asked for. `data` is all that the service said of it."""

    id: str
    status: str
    name: str = ""
    best_score: float | None = None
    error: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it. A job is `cancelled` a moment before its result is there."""
        return self.status in ENDED and self.data.get("finished_at", 0) is not None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            id=data["id"],
            status=data["status"],
            name=data.get("name") or "",
            best_score=data.get("best_score"),
            error=data.get("error"),
            data=data,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened in a job. `seq` counts up from 1; `created_at` is in seconds since the epoch."""

    seq: int
    kind: str
    data: Mapping[str, Any]
    created_at: float

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(seq=data["seq"], kind=data["kind"], data=data["data"], created_at=data["created_at"])
