"""What the service knows of a job beside its run in the store, which has the same id."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from typing import Any, Literal

Status = Literal["queued", "running", "paused", "succeeded", "failed", "cancelled"]

ENDED: frozenset[str] = frozenset({"succeeded", "failed", "cancelled"})
"""Of these only a failed job can be taken up again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """One job. Times are seconds since the epoch.

    `config` is what was asked for, as `kind` understands it; it holds no secret. `finished_at` is set when nothing of
    the job is in flight any more: a moment after `status` where it was cancelled. `summary` and `result` are what a run
    that came to an end has to say (see `rollouts.service.jobs.results`). `webhook_due` is set from the end of the job
    until its webhook has been told of it. A row in `brief` is without `config` and `result`, which may be megabytes.
    """

    id: str
    owner: str
    kind: str
    name: str
    status: Status
    config: dict[str, Any]
    created_at: float
    started_at: float | None = None
    finished_at: float | None = None
    error: str | None = None
    summary: dict[str, Any] | None = None
    result: dict[str, Any] | None = None
    webhook_due: float | None = None

    @property
    def brief(self) -> JobRow:
        """The row as lists have it."""
        return replace(self, config={}, result=None)

    @property
    def over(self) -> bool:
        """Whether nothing more will happen to the job by itself."""
        return self.finished_at is not None


def new_id() -> str:
    """A job id: `pl_` and 16 random hexadecimal digits."""
    return f"pl_{secrets.token_hex(8)}"
