"""Which addresses the service calls for its users: task apps and webhooks."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Self
from urllib.parse import urlsplit

import aiohttp

from rollouts.errors import ConfigError

_NAT64 = IPv6Network("64:ff9b::/96")
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_LOOPBACK = ("127.0.0.0/8", "::1/128")


@dataclass(frozen=True, slots=True, kw_only=True)
class UrlPolicy:
    """Public addresses, and those in `networks`. A URL of a user makes the server knock on doors the user cannot reach
    (its own network, a cloud's metadata service), so everything else is refused."""

    networks: tuple[IPv4Network | IPv6Network, ...] = ()

    @classmethod
    def of(cls, allowed: Sequence[str], *, bound_to: str) -> Self:
        """The networks that settings allow, like `10.0.0.0/8`; loopback too where the service is `bound_to` it, as its
        users are on this machine then. Raises ConfigError for what is no network."""
        extra = _LOOPBACK if _is_loopback(bound_to) else ()
        try:
            return cls(networks=tuple(ip_network(text) for text in (*allowed, *extra)))
        except ValueError as error:
            raise ConfigError(f"allow_networks: {error}; write networks like 10.0.0.0/8 or fd00::/8") from None

    def check(self, url: str, what: str = "task_app_url") -> str:
        """The URL, if it may be called as far as can be told without asking the DNS; raises ConfigError if not."""
        if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
            raise ConfigError(f"{what} holds a character that no URL has; write other scripts percent-encoded")
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
        except ValueError:
            parts, host = urlsplit(""), None
        if parts.scheme not in ("http", "https") or not host:
            raise ConfigError(f"{what} must be a URL such as https://host:8001")
        if parts.username is not None or parts.password is not None:
            raise ConfigError(f"{what} holds a user or password; upload the app's key and name it instead")
        try:
            host.encode("idna")
        except UnicodeError:
            raise ConfigError(f"{what} names no host: the parts of its name have 1 to 63 characters") from None
        address = _address(host)
        if address is not None and not self.permits(address):
            raise ConfigError(f"{what}: {_refusal(host)}")
        return url

    def permits(self, address: str) -> bool:
        """Whether an IP address may be connected to. One that stands for another (IPv4 in IPv6) is judged as that."""
        ip = _meant(ip_address(address.partition("%")[0]))
        return _is_public(ip) or any(ip in network for network in self.networks)

    def connector(self, **options: Any) -> aiohttp.TCPConnector:
        """A connector that judges the very address it is about to connect to, so that a name which resolves to one
        address when it is checked and to another when it is used (DNS rebinding) gains nothing.

        It makes any number of connections unless `options` set a `limit`: a request that waits for one does so within
        its own timeout. A refused address is an `aiohttp.ClientConnectorError`. Use it with `allow_redirects=False`: a
        redirect would take headers with it.
        """
        return aiohttp.TCPConnector(socket_factory=self._socket, **{"limit": 0, **options})

    def _socket(self, target: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, place = target
        if not self.permits(place[0]):
            raise PermissionError(errno.EACCES, _refusal(place[0]))
        return socket.socket(family, kind, protocol)


def _address(host: str) -> str | None:
    """The address that a host is without asking the DNS; None where it must be asked."""
    if host == "localhost" or host.endswith(".localhost"):
        return "127.0.0.1"
    try:
        ip_address(host)
    except ValueError:
        return None
    return host


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return address is not None and ip_address(address).is_loopback


def _is_public(ip: IPv4Address | IPv6Address) -> bool:
    """Of IPv6 only what is given out for use: `is_global` also has retired and local prefixes."""
    return ip.is_global and not ip.is_multicast and (isinstance(ip, IPv4Address) or ip in _GLOBAL_UNICAST)


def _meant(ip: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    if isinstance(ip, IPv4Address):
        return ip
    if ip in _NAT64:
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or ip


def _refusal(host: str) -> str:
    return f"{host} is not a public address; if the service may call it, add its network to allow_networks"
