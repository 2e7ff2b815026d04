"""The dependency with which a route says who may use it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from rollouts.errors import ServiceError
from rollouts.service.keys.model import Principal, Scope
from rollouts.service.keys.ring import KeyRing

_header = APIKeyHeader(name="X-API-Key", auto_error=False)
_bearer = HTTPBearer(auto_error=False)


def require(scope: Scope) -> Callable[..., Awaitable[Principal]]:
    """A FastAPI dependency that gives the Principal of the request's API key, in `X-API-Key` or as a bearer token.

    It raises ServiceError: 401 without a key that works, 403 when the key's scopes do not include `scope`. The keys
    are those of `app.state.keys`.
    """

    async def principal(
        request: Request,
        header: Annotated[str | None, Security(_header)],
        bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
    ) -> Principal:
        key = header or (bearer.credentials if bearer is not None else "")
        keys: KeyRing = request.app.state.keys
        found = await keys.principal(key) if key else None
        if found is None:
            wrong = "is wrong, revoked or past its end" if key else "is missing"
            raise ServiceError(
                f"the API key {wrong}: send one as `X-API-Key: KEY` or `Authorization: Bearer KEY`; "
                "`rollouts keys create` makes one",
                status=401,
                code="unauthorised",
            )
        if not found.may(scope):
            raise ServiceError(
                f"this key has the scopes {', '.join(found.scopes)}, and this needs {scope!r}: use another key",
                status=403,
                code="forbidden",
            )
        return found

    return principal
