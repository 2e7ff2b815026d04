"""API keys: whom they let in, and that what is kept of them opens nothing."""

from __future__ import annotations

import asyncio
import re
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollouts.errors import ConfigError, ServiceError
from rollouts.service.keys import SCOPES, KeyRing, Principal
from rollouts.store.database import Database
from rollouts.testing import FakeClock


async def test_a_key_lets_its_owner_in_at_once_and_later(ring: KeyRing, clock: FakeClock) -> None:
    key, info = ring.create(name="ci", owner="team", scopes=["jobs", "read"])
    assert re.fullmatch(r"rk_[0-9a-f]{12}_[A-Za-z0-9_-]{43}", key)
    expected = Principal(key_id=info.id, owner="team", scopes=("read", "jobs"))
    for _ in range(2):
        assert await ring.principal(key) == expected


def test_two_keys_have_nothing_in_common(ring: KeyRing) -> None:
    (one, first), (other, second) = ring.create(name="a"), ring.create(name="a")
    assert first.id != second.id
    assert one[16:] != other[16:]


@pytest.mark.parametrize("change", ["", "x", "rk_", "secret", "other id", "longer", "space", "unicode"])
async def test_nothing_else_lets_anybody_in(ring: KeyRing, change: str) -> None:
    key, _ = ring.create(name="ci")
    other, _ = ring.create(name="other")
    wrong = {
        "secret": key[:-1] + ("A" if key[-1] != "A" else "B"),
        "other id": other[:16] + key[16:],
        "longer": key + "A",
        "space": f" {key}",
        "unicode": key[:-1] + "é",
    }.get(change, change)
    assert ring.look_up(key) is not None
    assert ring.look_up(wrong) is None
    assert await ring.principal(wrong) is None


async def test_a_revoked_key_is_refused_at_once_here_and_within_seconds_elsewhere(
    database: Database, ring: KeyRing, clock: FakeClock
) -> None:
    elsewhere = KeyRing(database, clock=clock.now)
    key, info = ring.create(name="ci")
    assert ring.look_up(key)
    assert elsewhere.look_up(key)
    revoked = ring.revoke(info.id)
    assert revoked.revoked_at == clock.now()
    assert await ring.principal(key) is None
    assert ring.look_up(key) is None
    clock._now += 5.1
    assert await elsewhere.principal(key) is None
    assert elsewhere.look_up(key) is None


def test_revoking_twice_keeps_the_first_moment(ring: KeyRing, clock: FakeClock) -> None:
    _, info = ring.create(name="ci")
    first = ring.revoke(info.id)
    clock._now += 100
    assert ring.revoke(info.id) == first


def test_a_key_that_is_not_there_cannot_be_revoked(ring: KeyRing) -> None:
    with pytest.raises(ServiceError, match="no key has the id") as caught:
        ring.revoke("nowhere")
    assert caught.value.status == 404


async def test_a_key_in_steady_use_waits_for_the_database_once(
    ring: KeyRing, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, _ = ring.create(name="ci")
    looked_up, let = [], threading.Event()
    look_up = ring.look_up

    def slowly(text: str) -> Principal | None:
        looked_up.append(text)
        assert let.wait(10)
        return look_up(text)

    monkeypatch.setattr(ring, "look_up", slowly)
    first = [asyncio.create_task(ring.principal(key)) for _ in range(20)]
    await asyncio.sleep(0)
    let.set()
    (mine,) = set(await asyncio.gather(*first))
    let.clear()
    clock._now += 4
    assert [await ring.principal(key) for _ in range(20)] == [mine] * 20
    let.set()
    await asyncio.gather(*ring._reading.values())
    assert looked_up == [key] * 2
    clock._now += 4
    assert await ring.principal(key) == mine


async def test_a_revocation_beats_a_look_up_that_is_under_way(ring: KeyRing, monkeypatch: pytest.MonkeyPatch) -> None:
    key, info = ring.create(name="ci")
    read, revoked = threading.Event(), threading.Event()
    note = ring._note_use

    def late(known: Any) -> None:
        read.set()
        assert revoked.wait(10)
        note(known)

    monkeypatch.setattr(ring, "_note_use", late)
    asking = asyncio.create_task(ring.principal(key))
    assert await asyncio.to_thread(read.wait, 10)
    ring.revoke(info.id)
    revoked.set()
    await asking
    assert await ring.principal(key) is None


async def test_a_key_ends_by_itself_even_when_it_was_just_seen(ring: KeyRing, clock: FakeClock) -> None:
    key, info = ring.create(name="demo", ttl_s=3.0)
    assert ring.look_up(key)
    clock._now += 2.9
    assert await ring.principal(key)
    clock._now += 0.1
    assert await ring.principal(key) is None
    assert ring.look_up(key) is None
    assert not info.works_at(clock.now())


def test_use_is_noted_once_a_minute(ring: KeyRing, clock: FakeClock) -> None:
    key, _ = ring.create(name="ci")
    assert [known.last_used_at for known in ring.all()] == [None]
    seen = []
    for _ in range(3):
        ring.look_up(key)
        seen.append(ring.all()[0].last_used_at)
        clock._now += 40
    assert seen == [1e9, 1e9, 1e9 + 80]


@pytest.mark.parametrize("scopes", [(), ("all",), ("jobs", "root")])
def test_a_key_needs_scopes_that_exist(ring: KeyRing, scopes: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="read, jobs, admin"):
        ring.create(name="ci", scopes=scopes)  # type: ignore[arg-type]


@given(st.sets(st.sampled_from(SCOPES), min_size=1), st.sampled_from(SCOPES))
def test_a_scope_includes_the_weaker_ones_and_no_more(held: set[str], wanted: str) -> None:
    principal = Principal(key_id="k", owner="o", scopes=tuple(held))  # type: ignore[arg-type]
    strongest = max(SCOPES.index(scope) for scope in held)
    assert principal.may(wanted) == (SCOPES.index(wanted) <= strongest)  # type: ignore[arg-type]


def test_the_database_file_holds_no_part_of_a_secret(tmp_path: Path) -> None:
    database = Database(tmp_path / "store.db")
    key, _ = KeyRing(database).create(name="ci")
    database.close()
    kept = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert key[3:15].encode() in kept  # the id is there, so the search would have found the rest
    assert not any(key[16 + start : 32 + start].encode() in kept for start in range(43 - 16))
