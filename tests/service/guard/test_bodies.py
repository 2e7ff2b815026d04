"""Large and slow bodies, against a real server."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from rollouts.service.guard import BodyLimit

LIMIT = 100_000


@dataclass
class Echo:
    """Answers with the length of the body; notes that it was called, and what came after the body."""

    lengths: list[int] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return
        message = await receive()
        assert not message["more_body"]
        self.lengths.append(len(message["body"]))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str(len(message["body"])).encode()})


@dataclass
class Served:
    echo: Echo
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    echo = Echo()
    app = BodyLimit(echo, max_bytes=LIMIT, timeout_s=0.2)
    server = uvicorn.Server(uvicorn.Config(app, port=0, lifespan="off", log_config=None))
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.005)
    yield Served(echo, server.servers[0].sockets[0].getsockname()[1])
    server.should_exit = True
    await task


async def chunks(sizes: Iterable[int]) -> AsyncIterator[bytes]:
    for size in sizes:
        yield b"x" * size


@pytest.mark.parametrize("size", [0, 1, LIMIT])
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_within_the_limit_comes_whole(served: Served, size: int, chunked: bool) -> None:
    data: Any = chunks([size // 3, size - size // 3]) if chunked else b"x" * size
    async with aiohttp.ClientSession() as session, session.post(served.url, data=data) as answer:
        assert (answer.status, await answer.text()) == (200, str(size))


@pytest.mark.parametrize("size", [LIMIT + 1, 20 * LIMIT])
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_larger_one_is_refused_before_the_app_sees_it(served: Served, size: int, chunked: bool) -> None:
    data: Any = chunks([50_000] * (size // 50_000) + [size % 50_000]) if chunked else io.BytesIO(b"x" * size)
    async with aiohttp.ClientSession() as session, session.post(served.url, data=data) as answer:
        assert answer.status == 413
        assert (await answer.json())["code"] == "body_too_large"
    assert served.echo.lengths == []


async def raw(port: int, *parts: bytes) -> bytes:
    """What the server answers to bytes that stop coming."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for part in parts:
        writer.write(part)
        await writer.drain()
    answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    body = await reader.readexactly(int(answer.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]))
    writer.close()
    return answer + body


async def test_a_client_that_dawdles_is_sent_away_while_others_are_served(served: Served) -> None:
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"
    slow = [asyncio.create_task(raw(served.port, head, b"abc")) for _ in range(20)]
    async with aiohttp.ClientSession() as session, session.post(served.url, data=b"quick") as answer:
        assert await answer.text() == "5"
    for answer_to_slow in await asyncio.gather(*slow):
        assert answer_to_slow.startswith(b"HTTP/1.1 408")
        assert b"body_too_slow" in answer_to_slow
    assert served.echo.lengths == [5]


async def test_a_declared_size_is_believed_at_once(served: Served) -> None:
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999\r\n\r\n"
    assert (await raw(served.port, head)).startswith(b"HTTP/1.1 413")
    assert served.echo.lengths == []


async def test_a_client_that_leaves_in_the_middle_reaches_nobody(served: Served) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc")
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    async with aiohttp.ClientSession() as session, session.post(served.url, data=b"next") as answer:
        assert answer.status == 200
    assert served.echo.lengths == [4]
