"""Where the service may be sent by a URL of its user."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from ipaddress import ip_network
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver
from hypothesis import assume, given
from hypothesis import strategies as st

from rollouts.errors import ConfigError
from rollouts.service.guard import UrlPolicy
from rollouts.taskapp import AppLimits, RemoteApp
from tests.taskapp.kit import answering

PUBLIC = UrlPolicy.of((), bound_to="0.0.0.0")
ALLOWING = UrlPolicy.of(("10.0.0.0/8", "fd00::/8"), bound_to="0.0.0.0")
LOCAL = UrlPolicy.of((), bound_to="127.0.0.1")
PRIVATE = (
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "127.0.0.1",
    "127.9.9.9",
    "0.0.0.0",
    "224.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1",
    "fd00::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "fec0::1",
    "64:ff9b:1::7f00:1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "2002:7f00:1::",
    "2002:a00:1::",
)


@pytest.mark.parametrize("address", PRIVATE)
def test_what_is_not_public_is_refused_in_every_spelling(address: str) -> None:
    host = f"[{address}]" if ":" in address else address
    assert not PUBLIC.permits(address)
    with pytest.raises(ConfigError, match="allow_networks"):
        PUBLIC.check(f"http://{host}:8001/x")


@pytest.mark.parametrize("address", ["1.1.1.1", "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_public_addresses_are_allowed(address: str) -> None:
    assert PUBLIC.permits(address)


@given(st.ip_addresses(v=4))
def test_a_network_that_is_allowed_adds_itself_in_every_spelling_and_nothing_else(address: Any) -> None:
    wanted = PUBLIC.permits(str(address)) or address in ip_network("10.0.0.0/8")
    high, low = divmod(int(address), 1 << 16)
    for text in (str(address), f"::ffff:{address}", f"64:ff9b::{address}", f"2002:{high:x}:{low:x}::"):
        assert ALLOWING.permits(text) == wanted


@given(st.ip_addresses(v=6))
def test_a_network_of_ipv6_adds_itself_and_nothing_else(address: Any) -> None:
    text = str(address)
    assume(not text.startswith(("::ffff:", "64:ff9b::", "2002:")))
    assert ALLOWING.permits(text) == (PUBLIC.permits(text) or address in ip_network("fd00::/8"))


@pytest.mark.parametrize("bound_to", ["127.0.0.1", "localhost", "::1"])
def test_loopback_is_allowed_where_the_service_is_bound_to_it(bound_to: str) -> None:
    policy = UrlPolicy.of((), bound_to=bound_to)
    for url in ("http://127.0.0.1:8002", "http://localhost:8002/x", "http://[::1]:1"):
        assert policy.check(url) == url
        with pytest.raises(ConfigError):
            PUBLIC.check(url)
    assert not policy.permits("10.0.0.1")


@pytest.mark.parametrize("bound_to", ["0.0.0.0", "::", "10.0.0.5", "service.internal"])
def test_loopback_is_not_allowed_elsewhere(bound_to: str) -> None:
    assert not UrlPolicy.of((), bound_to=bound_to).permits("127.0.0.1")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "task-app",
        "ftp://host/x",
        "file:///etc/passwd",
        "gopher://host",
        "javascript:alert(1)",
        "//host/x",
        "http://",
        "http://:80",
        "http://host:99999",
        "http://host:port",
        "http://user:planted@host",
        "http://user@host",
        "http://host\\@10.0.0.1/",
        "http://ho st/",
        "http://host/\r\nX: y",
        "http://host\x00/",
        "http://hést/",
        "http://[::1",
        "http://a..b",
        "http://.example.org",
        f"http://{'a' * 64}.example.org",
        "http://[fe80::1%25eth0]/x y",
    ],
)
def test_what_is_no_plain_http_url_is_refused_and_no_password_shown(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        LOCAL.check(url, "webhook_url")
    assert "webhook_url" in str(caught.value)
    assert "planted" not in str(caught.value)


@given(st.text(max_size=40))
def test_any_text_is_a_url_or_a_config_error(text: str) -> None:
    for url in (text, f"http://{text}", f"http://host/{text}"):
        try:
            assert LOCAL.check(url) == url
        except ConfigError:
            continue


def test_a_network_that_is_none_is_named() -> None:
    for wrong in ("10.0.0.0/99", "intranet", "10.0.0.1/8"):
        with pytest.raises(ConfigError, match="allow_networks"):
            UrlPolicy.of((wrong,), bound_to="127.0.0.1")


class Rebinding(AbstractResolver):
    """Answers what the attacker wants this time."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[Any]:
        address = self.answers.pop(0)
        return [{"hostname": host, "host": address, "port": port, "family": socket.AF_INET, "proto": 0, "flags": 0}]

    async def close(self) -> None:
        pass


@pytest.fixture
async def door() -> AsyncIterator[tuple[int, list[str]]]:
    """A server inside, and the paths that were asked of it."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(text="secret")

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield runner.addresses[0][1], asked
    await runner.cleanup()


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "2130706433", "0x7f000001", "127.1", "[::ffff:127.0.0.1]", "0.0.0.0"]
)
async def test_no_spelling_of_an_inner_address_is_connected_to(door: tuple[int, list[str]], host: str) -> None:
    port, asked = door
    async with aiohttp.ClientSession(connector=PUBLIC.connector()) as session:
        with pytest.raises((aiohttp.ClientConnectionError, aiohttp.InvalidURL)):
            await session.get(f"http://{host}:{port}/inside")
    assert asked == []


async def test_the_address_that_is_used_is_the_one_that_is_judged(door: tuple[int, list[str]]) -> None:
    """The name resolved to a public address when it was checked, and resolves to an inner one now."""
    port, asked = door
    resolver = Rebinding("127.0.0.1", "127.0.0.1")
    async with aiohttp.ClientSession(connector=PUBLIC.connector(resolver=resolver, use_dns_cache=False)) as session:
        with pytest.raises(aiohttp.ClientConnectorError, match="is not a public address"):
            await session.get(PUBLIC.check(f"http://rebind.example:{port}/inside"))
    async with aiohttp.ClientSession(connector=LOCAL.connector(resolver=resolver, use_dns_cache=False)) as session:
        await session.get(f"http://rebind.example:{port}/allowed")
    assert asked == ["/allowed"]


async def test_no_request_waits_for_a_connection_within_its_own_timeout() -> None:
    together = asyncio.Barrier(150)

    async def answer(request: web.Request) -> web.Response:
        await together.wait()
        return web.json_response({})

    async with answering(answer) as url:
        app = RemoteApp(url, limits=AppLimits(timeout_s=20, slots=150), connector=LOCAL.connector)
        await asyncio.gather(*(app.rollout({}) for _ in range(150)))
        await app.close()
