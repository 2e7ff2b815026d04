"""Heads of requests that are slow, long, or never come."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from yarl import URL

from rollouts.service.guard.heads import MAX_HEAD_BYTES
from tests.service.conftest import Start
from tests.service.hostile.test_requests import still_well

GOOD = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"


async def answer(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(10):
        return await reader.read()


@pytest.mark.parametrize("before", [b"", GOOD], ids=["first", "later"])
@pytest.mark.parametrize(
    ("sent", "status"),
    [(b"", b""), (b"\r\n", b"408"), (b"GET /hea", b"408"), (GOOD[:-2], b"408"), (GOOD[:-2] + b"X: y\r\n", b"408")],
)
async def test_a_head_that_does_not_come_ends_the_connection(
    start: Start, before: bytes, sent: bytes, status: bytes
) -> None:
    service = await start(body_timeout_s=0.4)
    reader, writer = await asyncio.open_connection("127.0.0.1", URL(service.url).port)
    writer.write(before)
    if before:
        assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200")
    writer.write(sent)
    if sent or not before:  # uvicorn itself ends connections that rest after an answer, later
        said = await answer(reader)
        assert said[9:12] == status
        assert (b'"head_too_slow"' in said) == bool(status)
    await still_well(service)
    writer.close()


@pytest.mark.parametrize("sent", [b"GET /" + b"a" * 400, b"GET / HTTP/1.1\r\n" + b"X-Filler: yes\r\n" * 30])
async def test_a_head_without_end_is_refused(start: Start, sent: bytes) -> None:
    service = await start()
    reader, writer = await asyncio.open_connection("127.0.0.1", URL(service.url).port)
    writer.write(sent)
    for _ in range(2 * MAX_HEAD_BYTES // 400):
        writer.write(b"a" * 400 if b"HTTP" not in sent else b"X-Filler: yes\r\n" * 30)
        await asyncio.sleep(0)
    with suppress(ConnectionResetError):  # it may take the answer with it
        assert (await answer(reader))[9:12] == b"431"
    await still_well(service)
    writer.close()


async def test_a_head_in_pieces_and_a_long_body_are_taken(start: Start) -> None:
    service = await start(body_timeout_s=5.0)
    reader, writer = await asyncio.open_connection("127.0.0.1", URL(service.url).port)
    for place in range(len(GOOD)):
        writer.write(GOOD[place : place + 1])
        await writer.drain()
    assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200")
    long = b"x" * (3 * MAX_HEAD_BYTES)
    writer.write(b"POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(long) + long)
    assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 405")
    writer.write(GOOD)
    assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200")
    writer.close()
