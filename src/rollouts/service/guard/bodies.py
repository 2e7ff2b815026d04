"""Request bodies are read before a route sees them, up to a size and within a time."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_DISCARD_S = 2.0


class BodyLimit:
    """ASGI middleware: a body of more than `max_bytes` is answered with 413, one that is not there after `timeout_s`
    seconds with 408. The app gets bodies whole, so none of its tasks ever waits for a slow client."""

    def __init__(self, app: ASGIApp, *, max_bytes: int, timeout_s: float) -> None:
        self._app, self._max_bytes, self._timeout_s = app, max_bytes, timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(self._timeout_s):
                body = await self._read(scope, receive)
        except TimeoutError:
            detail = f"the request's body did not come within {self._timeout_s:g} s; send it again"
            await _refuse(receive, send, 408, "body_too_slow", detail)
        except _TooLarge:
            detail = f"the request's body is larger than {self._max_bytes} bytes; send less"
            await _refuse(receive, send, 413, "body_too_large", detail)
        except _Gone:
            return
        else:
            await self._app(scope, _replay(body, receive), send)

    async def _read(self, scope: Scope, receive: Receive) -> bytes:
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self._max_bytes:
            raise _TooLarge
        body = bytearray()
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _Gone
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self._max_bytes:
                raise _TooLarge
        return bytes(body)


class _TooLarge(Exception):
    pass


class _Gone(Exception):
    """The client went away."""


def _replay(body: bytes, receive: Receive) -> Receive:
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def first_the_body() -> Message:
        return waiting.pop() if waiting else await receive()

    return first_the_body


async def _refuse(receive: Receive, send: Send, status: int, code: str, detail: str) -> None:
    """Answers, and reads on for a moment: a connection closed over unread bytes may take the answer with it."""
    body = json.dumps({"detail": detail, "code": code}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": True})
    with suppress(TimeoutError):
        async with asyncio.timeout(_DISCARD_S):
            while (await receive()).get("more_body", False):
                pass
    await send({"type": "http.response.body", "body": b"", "more_body": False})
