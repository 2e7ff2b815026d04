"""A port of this machine, or whose it is."""

from __future__ import annotations

import socket

import psutil

from rollouts.errors import ConfigError


def listen(host: str, port: int, *, backlog: int = 128) -> socket.socket:
    """A socket that listens on `host` at `port`, 0 for a free one: connections wait in it until a server takes them.

    Raises ConfigError when that cannot be; a busy port is named with its owner's pid.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=backlog)
    except (OSError, OverflowError) as error:
        owner = _owner(port)
        why = f"it is used by {owner}: end that" if owner else f"{error}: is another server running there? End that"
        raise ConfigError(f"cannot listen on {host} port {port}; {why}, or choose another port") from None
    # Connections inherit it. asyncio sets it on sockets made with the protocol's number only, and without it every
    # answer waits 40 ms for an acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _owner(port: int) -> str:
    """Pid and name of the process that listens at `port`; empty where the system does not tell."""
    try:
        found = (
            entry.pid
            for entry in psutil.net_connections(kind="tcp")
            if entry.status == psutil.CONN_LISTEN and entry.laddr and entry.laddr.port == port and entry.pid
        )
        pid = next(found, None)
        return "" if pid is None else f"pid {pid} ({psutil.Process(pid).name()})"
    except psutil.Error:
        return ""
