"""The head of a request (its line and headers) must come within a time, and be no longer than a size."""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 2**16


class HeadLimit(HttpToolsProtocol):
    """Uvicorn's protocol, which waits for ever and keeps what it gets. Made by `head_limit`.

    A head that is not there after `timeout_s` seconds is answered with 408, one that goes on after `MAX_HEAD_BYTES`
    with 431; a connection on which nothing comes at all is closed.
    """

    timeout_s = 30.0
    _timer: asyncio.TimerHandle | None = None
    _came = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._begin()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._timer is None and (self.cycle is None or self.cycle.response_complete):
            self._begin()
        self._came += len(data)
        super().data_received(data)
        if self._timer is not None and self._came > MAX_HEAD_BYTES:
            self._refuse(431, "head_too_large", f"the request's headers have more than {MAX_HEAD_BYTES} bytes")

    def on_headers_complete(self) -> None:
        self._end()
        super().on_headers_complete()

    def _begin(self) -> None:
        self._came, self._timer = 0, self.loop.call_later(self.timeout_s, self._late)

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        if self._came:
            self._refuse(408, "head_too_slow", f"the request's headers did not come within {self.timeout_s:g} s")
        else:
            self.transport.close()

    def _refuse(self, status: int, code: str, detail: str) -> None:
        self._end()
        if not self.transport.is_closing():
            body = json.dumps({"detail": detail, "code": code})
            line = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"
            headers = f"content-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close"
            self.transport.write(f"{line}\r\n{headers}\r\n\r\n{body}".encode())
            self.transport.close()


def head_limit(timeout_s: float) -> type[HeadLimit]:
    """What uvicorn takes as `http`."""
    attributes: dict[str, Any] = {"timeout_s": timeout_s}
    return type("HeadLimit", (HeadLimit,), attributes)
