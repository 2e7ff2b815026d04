from __future__ import annotations

import asyncio

from rollouts.testing import FakeClock


async def test_time_stands_still_until_it_is_moved() -> None:
    clock, woken = FakeClock(), []

    async def sleeper(seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((seconds, clock.now()))

    tasks = [asyncio.create_task(sleeper(seconds)) for seconds in (3, 1, 2)]
    await clock.advance(0.5)
    assert (woken, clock.sleeping, clock.now()) == ([], 3, 0.5)
    await clock.advance(1.5)
    assert woken == [(1, 1), (2, 2)]
    await clock.advance(10)
    assert woken[-1] == (3, 3)
    assert clock.now() == 12
    await asyncio.gather(*tasks)


async def test_advance_lets_a_sleeper_sleep_again() -> None:
    clock, ticks = FakeClock(), []

    async def ticker() -> None:
        while True:
            await clock.sleep(1)
            ticks.append(clock.now())

    task = asyncio.create_task(ticker())
    await clock.advance(5)
    assert ticks == [1, 2, 3, 4, 5]
    task.cancel()


async def test_auto_time_jumps_only_when_everyone_waits() -> None:
    clock, log = FakeClock(auto=True), []

    async def worker(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        for _ in range(50):  # busy at this moment: time must not move
            await asyncio.sleep(0)
        log.append((name, clock.now()))

    await asyncio.gather(worker("a", 3600), worker("b", 10), worker("c", 10.5))
    assert log == [("b", 10), ("c", 10.5), ("a", 3600)]


async def test_a_cancelled_sleeper_does_not_move_time() -> None:
    clock = FakeClock(auto=True)
    lost = asyncio.create_task(clock.sleep(100))
    await asyncio.sleep(0)
    lost.cancel()
    await clock.sleep(1)
    assert clock.now() == 1
    await clock.sleep(200)
    assert clock.now() == 201
