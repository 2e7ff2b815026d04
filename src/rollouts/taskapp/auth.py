"""Who may use a task app: environment keys, taken from three headers and compared in constant time."""

from __future__ import annotations

import hmac
import os
from collections.abc import Iterable, Mapping

from fastapi import HTTPException, Request

KEY_VARIABLE = "ENVIRONMENT_API_KEY"
_FALLBACKS = (KEY_VARIABLE, "DEV_ENVIRONMENT_API_KEY")
_ALIASES = "ENVIRONMENT_API_KEY_ALIASES"


def keys_of(environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """The keys that the environment names: ENVIRONMENT_API_KEY (or DEV_ENVIRONMENT_API_KEY), and the comma-separated
    ENVIRONMENT_API_KEY_ALIASES."""
    main = next((key for name in _FALLBACKS if (key := environment.get(name, "").strip())), "")
    return _split(main, environment.get(_ALIASES, ""))


class Guard:
    """A FastAPI dependency that lets requests with one of `keys` through."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._keys = tuple(key.encode() for key in keys)

    def __call__(self, request: Request) -> None:
        """Raises 503 when the app has no key, 400 (as SDK-built apps do) when the request has none that is right. No
        answer tells anything of a key."""
        if not self._keys:
            raise _refusal(503, "missing_environment_api_key", f"the task app was started without {KEY_VARIABLE}")
        if not self.admits(request):
            message = "the environment key is missing or wrong; send it as X-API-Key or as Authorization: Bearer"
            raise _refusal(400, "unauthorised", message)

    def admits(self, request: Request) -> bool:
        """Whether the request has a right key in X-API-Key, X-API-Keys (comma-separated) or Authorization."""
        headers = request.headers
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        given = _split(
            headers.get("x-api-key", ""), headers.get("x-api-keys", ""), bearer if scheme.lower() == "bearer" else ""
        )
        # Every pair is compared, so that the time tells nothing of where a match is.
        return sum(hmac.compare_digest(one.encode(), key) for one in given for key in self._keys) > 0


def _refusal(status: int, code: str, message: str) -> HTTPException:
    return HTTPException(status, {"error": {"code": code, "message": message}})


def _split(*texts: str) -> tuple[str, ...]:
    return tuple(part for text in texts for piece in text.split(",") if (part := piece.strip()))
