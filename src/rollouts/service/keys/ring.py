"""API keys: made once, shown once, kept as salted hashes."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import re
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import Row, select, update

from rollouts.errors import ConfigError, ServiceError, StoreError
from rollouts.service.database import api_keys
from rollouts.service.keys.model import SCOPES, ApiKey, Principal, Scope
from rollouts.store.database import Database

_FORM = re.compile(r"rk_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_TRUSTED_S = 5.0
_USE_NOTED_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """A row of the table as it was at `read_at`."""

    key: ApiKey
    salt: bytes
    hash: bytes
    read_at: float

    def matches(self, secret: str) -> bool:
        return hmac.compare_digest(self.hash, _hash(secret, self.salt))


class KeyRing:
    """The API keys in a database.

    A key is `rk_<id>_<secret>`. The secret has 256 random bits, so a fast salted hash (BLAKE2b) guards it as well as
    a slow one would. What was read is trusted for five seconds: that long a key may outlive a revocation that another
    process makes. Methods raise StoreError when the database fails.
    """

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database, self._clock = database, clock
        self._known: dict[str, _Known] = {}
        self._revoked: set[str] = set()
        self._reading: dict[str, asyncio.Task[Principal | None]] = {}

    def create(
        self, *, name: str, owner: str = "default", scopes: Sequence[Scope] = ("jobs",), ttl_s: float | None = None
    ) -> tuple[str, ApiKey]:
        """A new key, and what will be known of it. The key cannot be had again. It ends after `ttl_s` seconds."""
        if not scopes or not set(scopes) <= set(SCOPES):
            raise ConfigError(f"a key needs one or more of the scopes {', '.join(SCOPES)}")
        now = self._clock()
        key = ApiKey(
            id=secrets.token_hex(6),
            name=name,
            owner=owner,
            scopes=tuple(scope for scope in SCOPES if scope in scopes),
            created_at=now,
            expires_at=None if ttl_s is None else now + ttl_s,
        )
        secret, salt = secrets.token_urlsafe(32), secrets.token_bytes(16)
        row = {
            "id": key.id,
            "salt": salt,
            "hash": _hash(secret, salt),
            "name": name,
            "owner": owner,
            "scopes": json.dumps(key.scopes),
            "created_at": key.created_at,
            "expires_at": key.expires_at,
        }
        with self._database.write(durable=True) as connection:
            connection.execute(api_keys.insert(), row)
        return f"rk_{key.id}_{secret}", key

    def all(self) -> list[ApiKey]:
        """All keys, revoked ones too, oldest first."""
        with self._database.read() as connection:
            rows = connection.execute(select(api_keys).order_by(api_keys.c.created_at, api_keys.c.id))
            return [_decode(row) for row in rows]

    def revoke(self, key_id: str) -> ApiKey:
        """Ends a key for ever; one that is revoked stays as it is. Raises ServiceError (404) when there is none."""
        of_key = api_keys.c.id == key_id
        with self._database.write(durable=True) as connection:
            connection.execute(
                update(api_keys).where(of_key, api_keys.c.revoked_at.is_(None)).values(revoked_at=self._clock())
            )
            row = connection.execute(select(api_keys).where(of_key)).first()
        if row is None:
            raise ServiceError(
                f"no key has the id {key_id!r}; `rollouts keys list` shows them", status=404, code="key_not_found"
            )
        self._revoked.add(key_id)
        return _decode(row)

    async def principal(self, text: str) -> Principal | None:
        """Whose key `text` is, for the event loop: as `look_up`, which it calls on a thread.

        A key in steady use is read again before what is known of it is too old to trust, so that only the first
        request waits for the database.
        """
        parts = _FORM.fullmatch(text)
        if parts is None:
            return None
        known = self._known.get(parts[1])
        age = 0.0 if known is None else self._clock() - known.read_at
        if known is None or age > _TRUSTED_S:
            return await asyncio.shield(self._read(text))
        if age > _TRUSTED_S / 2:
            self._read(text)
        return self._principal(known, parts[2])

    def _read(self, text: str) -> asyncio.Task[Principal | None]:
        """The look-up on a thread, one for all who ask for the same."""
        reading = self._reading.get(text)
        if reading is None:
            reading = self._reading[text] = asyncio.create_task(asyncio.to_thread(self.look_up, text))
            reading.add_done_callback(partial(self._was_read, text))
        return reading

    def _was_read(self, text: str, reading: asyncio.Task[Principal | None]) -> None:
        del self._reading[text]
        if not reading.cancelled():
            reading.exception()  # where nobody waits for it, the next one that is waited for will tell

    def look_up(self, text: str) -> Principal | None:
        """Whose key `text` is; None when it is no key, or one that was revoked or has ended."""
        parts = _FORM.fullmatch(text)
        if parts is None:
            return None
        with self._database.read() as connection:
            row = connection.execute(select(api_keys).where(api_keys.c.id == parts[1])).first()
        if row is None:
            return None
        known = _Known(key=_decode(row), salt=bytes(row.salt), hash=bytes(row.hash), read_at=self._clock())
        self._known[known.key.id] = known
        principal = self._principal(known, parts[2])
        if principal is not None:
            self._note_use(known)
        return principal

    def _principal(self, known: _Known, secret: str) -> Principal | None:
        key = known.key
        # A look-up that was under way during a revocation may have brought the key back.
        if key.id in self._revoked or not known.matches(secret) or not key.works_at(self._clock()):
            return None
        return Principal(key_id=key.id, owner=key.owner, scopes=key.scopes)

    def _note_use(self, known: _Known) -> None:
        last = known.key.last_used_at
        if last is not None and known.read_at - last < _USE_NOTED_S:
            return
        # A full disk must not take the right to read away.
        with suppress(StoreError), self._database.write() as connection:
            of_key = api_keys.c.id == known.key.id
            connection.execute(update(api_keys).where(of_key).values(last_used_at=known.read_at))


def _hash(secret: str, salt: bytes) -> bytes:
    return hashlib.blake2b(secret.encode(), salt=salt, person=b"rollouts api key").digest()


def _decode(row: Row[Any]) -> ApiKey:
    return ApiKey(
        id=row.id,
        name=row.name,
        owner=row.owner,
        scopes=tuple(json.loads(row.scopes)),
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
    )
