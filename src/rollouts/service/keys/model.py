"""What the service knows of a key and of who holds it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Scope = Literal["read", "jobs", "admin"]
"""What a key allows: to look; to look and run jobs; that, and to manage keys."""

SCOPES: tuple[Scope, ...] = get_args(Scope)
"""From the weakest to the strongest. Each includes those before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who asks. Jobs and environment keys belong to `owner`; those of other owners do not exist for this one."""

    key_id: str
    owner: str
    scopes: tuple[Scope, ...]

    def may(self, scope: Scope) -> bool:
        """Whether one of the scopes is `scope` or includes it."""
        return any(SCOPES.index(held) >= SCOPES.index(scope) for held in self.scopes)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """An API key without its secret. Times are seconds since the epoch; None for what has not happened, or will not."""

    id: str
    name: str
    owner: str
    scopes: tuple[Scope, ...]
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None
    last_used_at: float | None = None

    def works_at(self, moment: float) -> bool:
        """Whether the key is neither revoked nor past its end."""
        return self.revoked_at is None and (self.expires_at is None or moment < self.expires_at)
