"""Following a log that grows: every event once, in order, and only when it is committed."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from rollouts.errors import StoreError
from rollouts.service.jobs import events as module
from rollouts.service.jobs.events import PAGE, Events
from rollouts.store import EventRow, Store, open_store


def event(number: int, job: str = "j") -> EventRow:
    return EventRow(run_id=job, seq=number, kind="trial", data={"n": number}, created_at=0.0)


@contextlib.asynccontextmanager
async def log(folder: Path) -> AsyncIterator[tuple[Store, Events]]:
    store = open_store(folder / "store.db")
    events = Events(store)
    events.start()
    try:
        yield store, events
    finally:
        await events.close()
        store.close()


async def read(
    events: Events, over: Callable[[], bool], *, after: int = 0, pause: Callable[[], float] = lambda: 0.0
) -> list[int]:
    seen: list[int] = []
    async for rows in events.follow("j", after=after, over=over, heartbeat_s=60):
        seen += [row.seq for row in rows]
        await asyncio.sleep(pause())
    return seen


async def test_many_listeners_from_many_places(tmp_path: Path) -> None:
    over, total, rng = False, 3 * PAGE, random.Random(1)
    async with log(tmp_path) as (store, events):
        places = [rng.randrange(total) for _ in range(20)]
        listeners = [
            asyncio.create_task(read(events, lambda: over, after=place, pause=lambda: rng.random() / 500))
            for place in places
        ]
        for number in range(1, total + 1):
            store.record(event(number))
            events.note("j")
            if number % 100 == 0:
                await asyncio.sleep(0)
        late = asyncio.create_task(read(events, lambda: over))
        await asyncio.sleep(0)
        over = True
        events.ended("j")
        for place, listener in zip([*places, 0], [*listeners, late], strict=True):
            assert await listener == list(range(place + 1, total + 1))
        assert events._feeds == {}


async def test_silence_is_told(tmp_path: Path) -> None:
    async with log(tmp_path) as (store, events):
        store.record(event(1))
        parts: list[Sequence[EventRow]] = []
        async for rows in events.follow("j", after=0, over=lambda: False, heartbeat_s=0.05):
            parts.append(rows)
            if len(parts) == 2:
                break
        assert [len(rows) for rows in parts] == [1, 0]


@pytest.mark.parametrize("after", [0, 7, 10**12])
async def test_hanging_up_sends_all_away(tmp_path: Path, after: int) -> None:
    async with log(tmp_path) as (_, events):
        listener = asyncio.create_task(read(events, lambda: False, after=after))
        await asyncio.sleep(0.01)
        events.hang_up()
        assert await listener == []


async def test_a_place_beyond_the_end_waits_for_it(tmp_path: Path) -> None:
    over = False
    async with log(tmp_path) as (store, events):
        far = asyncio.create_task(read(events, lambda: over, after=3))
        near = asyncio.create_task(read(events, lambda: over, after=0))
        for number in range(1, 6):
            store.record(event(number))
        events.note("j")
        store.flush()
        over = True
        events.ended("j")
        assert (await far, await near) == ([4, 5], [1, 2, 3, 4, 5])


async def test_a_store_that_fails_for_a_moment_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AGAIN_S", 0.0)
    async with log(tmp_path) as (store, events):
        read_events, failures = store.events, [StoreError("full"), StoreError("still full")]

        def failing(*place: Any, **page: Any) -> list[EventRow]:
            if failures:
                raise failures.pop()
            return read_events(*place, **page)

        monkeypatch.setattr(store, "events", failing)
        store.record(event(1), event(2))
        assert await read(events, lambda: True) == [1, 2]
        assert failures == []


async def test_a_job_that_goes_on_is_followed_to_its_next_end(tmp_path: Path) -> None:
    over = True
    async with log(tmp_path) as (store, events):
        store.record(event(1))
        slow = events.follow("j", after=0, over=lambda: over, heartbeat_s=60)  # keeps the feed alive
        assert [row.seq for row in await anext(slow)] == [1]
        assert await read(events, lambda: over) == [1]
        over = False
        again = asyncio.create_task(read(events, lambda: over, after=1))
        await asyncio.sleep(0)
        store.record(event(2))
        events.note("j")
        store.flush()
        over = True
        events.ended("j")
        assert await again == [2]
        await slow.aclose()  # type: ignore[attr-defined]
