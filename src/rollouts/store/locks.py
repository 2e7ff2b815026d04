"""Locks on runs that end with the process that holds them, however it ends."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection, Engine, text

from rollouts.errors import RunLocked, StoreError

if sys.platform == "win32":
    import msvcrt

    def _try_lock(descriptor: int) -> bool:
        os.lseek(descriptor, 1 << 30, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
else:
    import fcntl

    def _try_lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


class Locks(Protocol):
    """Locks by name, for one store."""

    def take(self, name: str) -> None:
        """Raises RunLocked when this or another process has the lock."""
        ...

    def give(self, name: str) -> None: ...

    def give_all(self) -> None: ...


class FileLocks:
    """Locks on side files of the database file, which hold the id of the process that has them."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._held: dict[str, int] = {}

    def take(self, name: str) -> None:
        path = self._path(name)
        try:
            descriptor = _open_locked(path)
        except OSError as error:
            raise StoreError(
                f"the lock file {path} cannot be made ({error.strerror}); change its permissions"
            ) from None
        if descriptor is None:
            raise RunLocked(f"run {name!r} is being worked on by {_holder(path)}; wait for it or stop it first")
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, f"{os.getpid()} {socket.gethostname()}".encode())
        self._held[name] = descriptor

    def give(self, name: str) -> None:
        descriptor = self._held.pop(name, None)
        if descriptor is not None:
            with suppress(OSError):  # Windows deletes no open file; a left-over one does no harm
                self._path(name).unlink()
            os.close(descriptor)

    def give_all(self) -> None:
        for name in list(self._held):
            self.give(name)

    @contextmanager
    def alone(self, name: str, *, timeout_s: float) -> Iterator[None]:
        """Waits for the lock and has it inside the block. Raises RunLocked when it is not free in time."""
        end = time.monotonic() + timeout_s
        while True:
            try:
                self.take(name)
                break
            except RunLocked:
                if time.monotonic() > end:
                    raise
                time.sleep(0.01)
        try:
            yield
        finally:
            self.give(name)

    def _path(self, name: str) -> Path:
        plain = re.fullmatch(r"[\w-][\w.-]{0,99}", name, re.ASCII)
        stem = name if plain else hashlib.sha256(name.encode()).hexdigest()[:32]
        return self._database.with_name(f"{self._database.name}.{stem}.lock")


def _open_locked(path: Path) -> int | None:
    """A descriptor of `path` that has its lock; None when another has it.

    The file is deleted when a lock is given back, so the one that was locked may be no longer the one at `path`.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        if not _try_lock(descriptor):
            os.close(descriptor)
            return None
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        os.close(descriptor)


def _holder(path: Path) -> str:
    try:
        pid, host = path.read_text().split()
    except (OSError, ValueError):
        return "another process"
    if pid == str(os.getpid()) and host == socket.gethostname():
        return "this process"
    return f"process {pid} on {host}"


class AdvisoryLocks:
    """PostgreSQL's session locks, on a connection of their own: the server frees them when the connection ends."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connections: dict[str, Connection] = {}

    def take(self, name: str) -> None:
        connection = self._connections.get(name)
        taken = False
        if connection is None:
            connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            taken = bool(connection.scalar(text("SELECT pg_try_advisory_lock(:id)"), {"id": _number(name)}))
            if taken:
                self._connections[name] = connection
                return
            connection.close()
        raise RunLocked(f"run {name!r} is being worked on already; wait for it or stop it first")

    def give(self, name: str) -> None:
        connection = self._connections.pop(name, None)
        if connection is not None:
            connection.invalidate()
            connection.close()

    def give_all(self) -> None:
        for name in list(self._connections):
            self.give(name)


def _number(name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"rollouts run {name}".encode()).digest()[:8], "big", signed=True)
