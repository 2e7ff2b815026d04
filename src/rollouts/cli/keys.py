"""`rollouts keys`: API keys, made and revoked in the store of a service, which need not run; and task apps' keys."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from rich.table import Table

from rollouts.cli import failures, words
from rollouts.client import Client
from rollouts.errors import ConfigError
from rollouts.service.keys import SCOPES, ApiKey, KeyRing, Scope
from rollouts.service.settings import load_settings
from rollouts.store.database import Database


@contextmanager
def _ring(config: Path | None, store: str | None) -> Iterator[KeyRing]:
    database = Database(load_settings(config, store=store).store)
    try:
        yield KeyRing(database)
    finally:
        database.close()


def create(
    config: Path | None,
    store: str | None,
    *,
    name: str,
    owner: str,
    scopes: Sequence[str],
    days: float | None,
    as_json: bool,
) -> int:
    """Makes a key. Only the key goes to stdout, so that a shell can take it into a variable."""
    wanted: list[Scope] = [scope for scope in SCOPES if scope in scopes]
    if unknown := sorted({*scopes} - {*SCOPES}):
        raise ConfigError(f"--scope {', '.join(unknown)}: there are {', '.join(SCOPES)}")
    with _ring(config, store) as ring:
        ttl_s = None if days is None else days * 86400
        secret, key = ring.create(name=name, owner=owner, scopes=wanted, ttl_s=ttl_s)
    if as_json:
        failures.print_json({"key": secret, **asdict(key)})
        return 0
    print(secret)  # noqa: T201
    sys.stdout.flush()
    words.make_console(stderr=True).print(
        f"Key {key.id} for {owner} with {', '.join(key.scopes)}. It is shown this once: keep it in ROLLOUTS_API_KEY.",
        soft_wrap=True,
    )
    return 0


def list_keys(config: Path | None, store: str | None, *, as_json: bool) -> int:
    """All keys, without their secrets."""
    with _ring(config, store) as ring:
        keys = ring.all()
    if as_json:
        failures.print_json({"keys": [asdict(key) for key in keys]})
        return 0
    table = Table()
    for column in ("id", "name", "owner", "scopes", "age", "last used", "state"):
        table.add_column(column, overflow="fold")
    for key in keys:
        used = "never" if key.last_used_at is None else f"{words.age(key.last_used_at)} ago"
        scopes = ", ".join(key.scopes)
        table.add_row(key.id, key.name, key.owner, scopes, words.age(key.created_at), used, _state(key))
    words.make_console().print(table if keys else "no keys yet: rollouts keys create")
    return 0


def revoke(config: Path | None, store: str | None, key_id: str, *, as_json: bool) -> int:
    """Ends a key for ever."""
    with _ring(config, store) as ring:
        key = ring.revoke(key_id)
    if as_json:
        failures.print_json(asdict(key))
    else:
        words.make_console().print(f"Key {key.id} ({key.name}) is revoked; a running service knows within seconds.")
    return 0


def upload(backend: str | None, name: str) -> int:
    """Gives a running service the task app's key that the environment variable `name` holds, sealed."""
    value = os.environ.get(name)
    if not value:
        raise ConfigError(f"the environment variable {name} is not set: it holds the key to upload, under its own name")
    with Client(backend) as client:
        client.upload_env_key(value, name=name)
    words.make_console().print(f"{name} is uploaded; jobs name it as their task app's key_name.")
    return 0


def _state(key: ApiKey) -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "works" if key.works_at(time.time()) else "ended"
