"""Keys of task apps: they come sealed, are kept sealed, and are opened when an app is called."""

from __future__ import annotations

import secrets
import time
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, delete, select, update

from rollouts.errors import ConfigError
from rollouts.service.database import env_keys
from rollouts.service.keys.sealing import ServerKey
from rollouts.store.database import Database

LONGEST = 8192
"""Characters of the longest key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvKey:
    """That there is a key of this name. Times are seconds since the epoch."""

    id: str
    name: str
    created_at: float
    updated_at: float


class EnvKeys:
    """The environment keys of all owners. Each owner sees its own only.

    `opened` are the keys that this process has had in clear, so that logs can be kept free of them.
    Methods raise StoreError when the database fails.
    """

    def __init__(self, database: Database, server: ServerKey, *, clock: Callable[[], float] = time.time) -> None:
        self._database, self._clock = database, clock
        self.server = server
        self.opened: set[str] = set()

    def put(self, owner: str, name: str, value: str) -> EnvKey:
        """Keeps a key that came in clear. Raises ConfigError when it cannot be sent in a header."""
        return self.put_sealed(owner, name, self.server.seal(value))

    def put_sealed(self, owner: str, name: str, box: bytes) -> EnvKey:
        """Keeps a key that came in a sealed box, in place of the one that had the name before.

        Raises ConfigError when the box cannot be opened, or the key in it cannot be sent in a header.
        """
        _check(self.server.open(box))
        now = self._clock()
        of_key = (env_keys.c.owner == owner) & (env_keys.c.name == name)
        changed = {"ciphertext": b64encode(box).decode(), "updated_at": now}
        with self._database.write(durable=True) as connection:
            if not connection.execute(update(env_keys).where(of_key).values(changed)).rowcount:
                new = {"id": f"ek_{secrets.token_hex(8)}", "owner": owner, "name": name, "created_at": now}
                connection.execute(env_keys.insert(), {**new, **changed})
            return _decode(connection.execute(select(env_keys).where(of_key)).one())

    def get(self, owner: str, name: str) -> str | None:
        """The key in clear; None when there is none. Raises ConfigError when it was sealed for another server."""
        with self._database.read() as connection:
            query = select(env_keys.c.ciphertext).where(env_keys.c.owner == owner, env_keys.c.name == name)
            ciphertext = connection.scalar(query)
        if ciphertext is None:
            return None
        value = self.server.open(b64decode(ciphertext))
        self.opened.add(value)
        return value

    def all(self, owner: str) -> list[EnvKey]:
        """The owner's keys, by name."""
        with self._database.read() as connection:
            rows = connection.execute(select(env_keys).where(env_keys.c.owner == owner).order_by(env_keys.c.name))
            return [_decode(row) for row in rows]

    def remove(self, owner: str, name: str) -> bool:
        """Deletes a key; whether there was one."""
        with self._database.write(durable=True) as connection:
            gone = delete(env_keys).where(env_keys.c.owner == owner, env_keys.c.name == name)
            return connection.execute(gone).rowcount > 0


def _check(value: str) -> None:
    if not 0 < len(value) <= LONGEST or not all(32 < ord(character) < 127 for character in value):
        raise ConfigError(
            f"an environment key is 1 to {LONGEST} characters of plain ASCII without spaces, as a header can carry"
        )


def _decode(row: Row[Any]) -> EnvKey:
    return EnvKey(id=row.id, name=row.name, created_at=row.created_at, updated_at=row.updated_at)
