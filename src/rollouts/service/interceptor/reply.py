"""An answer on its way to the app: plain ASGI, because every layer more is time added to every call."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from rollouts.dtypes import Usage
from rollouts.errors import (
    BudgetExhausted,
    CallTimeout,
    ConfigError,
    InvalidRequest,
    ProviderError,
    RateLimited,
    RolloutsError,
    ServiceError,
    StoreError,
)
from rollouts.service.interceptor.chat import event_bytes

Event = MutableMapping[str, Any]
Send = Callable[[Event], Awaitable[None]]
Receive = Callable[[], Awaitable[Event]]
_JSON = {"content-type": "application/json"}


class Reply:
    """A `Sink` that is an HTTP response.

    `headers` are added to every answer. `started` says whether the status is out; `at_stake` is what the call takes at
    most (tokens, micro-dollars) once it has left for the model.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self.headers: dict[str, str] = {}
        self.started = self.streaming = False
        self.at_stake: tuple[Usage, int] | None = None
        self._status, self._pairs, self._held = 0, _pairs({}), b""

    def sending(self, most: Usage, micros: int) -> None:
        """See `Sink`."""
        self.at_stake = (most, micros)

    def whole(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """See `Sink`. It goes out with `end`."""
        self.started, self._status, self._held = True, status, body
        self._pairs = _pairs({**headers, **self.headers, "content-length": str(len(body))})

    async def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """See `Sink`."""
        self.started = self.streaming = True
        pairs = _pairs({**headers, **self.headers})
        await self._send({"type": "http.response.start", "status": status, "headers": pairs})

    async def piece(self, data: bytes) -> None:
        """See `Sink`."""
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    def last(self, data: bytes) -> None:
        """See `Sink`. It goes out with `end`."""
        self._held += data

    def json(self, data: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        """A whole answer."""
        self.whole(status, {**_JSON, **(headers or {})}, json.dumps(data).encode())

    async def end(self) -> None:
        """Sends what is left of the answer."""
        if not self.streaming:
            await self._send({"type": "http.response.start", "status": self._status, "headers": self._pairs})
        await self._send({"type": "http.response.body", "body": self._held})

    def problem(self, error: RolloutsError) -> None:
        """The error in OpenAI's shape: as the answer, or as the last event of a stream that is under way. Nothing when
        a whole answer is there, which then is the model's own error."""
        status, code = status_of(error)
        kind = "invalid_request_error" if status < 500 else "api_error"
        data = {"error": {"message": str(error), "type": kind, "param": None, "code": code}}
        if self.streaming:
            self.last(event_bytes(data))
        elif not self.started:
            headers = {} if isinstance(error, ProviderError) else {"x-should-retry": "false"}
            if isinstance(error, ProviderError) and error.retry_after is not None:
                headers["retry-after"] = f"{error.retry_after:g}"
            self.json(data, status, headers)


def status_of(error: RolloutsError) -> tuple[int, str]:
    """The HTTP status and the code of an error.

    A budget that is used up is 402: OpenAI's clients try a 429 again, which would be of no use.
    """
    match error:
        case ServiceError():
            return error.status, error.code
        case BudgetExhausted():
            return 402, "budget_exhausted"
        case ProviderError(status=int() as status) if 400 <= status < 600:
            return status, "upstream_error"
        case RateLimited():
            return 429, "upstream_error"
        case CallTimeout():
            return 504, "upstream_timeout"
        case InvalidRequest():
            return 400, "invalid_request"
        case ProviderError():
            return 502, "upstream_error"
        case ConfigError():
            return 500, "config_error"
        case StoreError():
            return 503, "store_error"
    return 500, "error"


def _pairs(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
