"""Server-sent events: from bytes as they come to messages."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message of a stream."""

    event: str
    data: str


async def messages(chunks: AsyncIterable[bytes]) -> AsyncIterator[Message]:
    """The messages in a stream; comments and a message that is cut short are left out."""
    event = "message"
    data: list[str] = []
    async for line in _lines(chunks):
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                yield Message(event=event, data="\n".join(data))
            event, data = "message", []
        elif name == "event":
            event = value
        elif name == "data":
            data.append(value)


async def _lines(chunks: AsyncIterable[bytes]) -> AsyncIterator[str]:
    rest = b""
    async for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line.removesuffix(b"\r").decode("utf-8", "replace")
