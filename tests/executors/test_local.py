"""What `Executor.map` promises, for the executor in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from rollouts.executors import LocalExecutor


class Jobs:
    """Jobs that wait until they are let go, and what was seen of them."""

    def __init__(self) -> None:
        self.started: list[object] = []
        self.running = self.most = 0
        self.gates: dict[object, asyncio.Event] = {}

    def gate(self, item: object) -> asyncio.Event:
        return self.gates.setdefault(item, asyncio.Event())

    async def __call__(self, item: object) -> object:
        self.started.append(item)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.gate(item).wait()
        finally:
            self.running -= 1
        return item

    def open(self, *items: object) -> None:
        for item in items:
            self.gate(item).set()


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def within(work: Awaitable[object], seconds: float = 2.0) -> object:
    """A hang is a failure, not a stuck test suite."""
    return await asyncio.wait_for(work, seconds)


@pytest.mark.parametrize("slots", [1, 2, 7, 50])
async def test_never_more_jobs_than_slots_and_results_in_the_order_of_items(slots: int) -> None:
    executor, running, most = LocalExecutor(slots), 0, 0

    async def job(n: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range((n * 7) % 5):
            await asyncio.sleep(0)
        running -= 1
        return n * n

    batches = [executor.map(job, list(range(40)), priority=p) for p in (0, 1, 0)]
    for result in await asyncio.gather(*batches):
        assert result == [n * n for n in range(40)]
    assert most == min(slots, 120)


async def test_the_empty_list_needs_no_worker() -> None:
    assert await LocalExecutor(1).map(Jobs(), []) == []


def test_no_slots_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one slot"):
        LocalExecutor(0)


async def test_smaller_priorities_go_first_and_equal_ones_in_turn() -> None:
    executor, jobs = LocalExecutor(1), Jobs()
    jobs.open("first", "late1", "late2", "urgent", "same1", "same2")
    first = asyncio.create_task(executor.map(jobs, ["first"]))
    rest = [
        asyncio.create_task(executor.map(jobs, items, priority=priority))
        for items, priority in ((["late1", "late2"], 5), (["same1"], 0), (["same2"], 0), (["urgent"], -1))
    ]
    await asyncio.gather(first, *rest)
    assert jobs.started[1:] == ["same1", "same2", "late1", "late2"] or jobs.started == [
        "urgent",
        "first",
        "same1",
        "same2",
        "late1",
        "late2",
    ]


async def test_an_urgent_batch_takes_the_next_free_slot_of_a_long_one() -> None:
    executor, jobs = LocalExecutor(1), Jobs()
    long = asyncio.create_task(executor.map(jobs, ["a", "b", "c"], priority=3))
    await settle()
    urgent = asyncio.create_task(executor.map(jobs, ["now"], priority=0))
    jobs.open("a", "b", "c", "now")
    await asyncio.gather(long, urgent)
    assert jobs.started == ["a", "now", "b", "c"]


async def test_the_first_exception_drops_the_rest_of_its_batch_and_no_other() -> None:
    executor, started = LocalExecutor(2), []

    async def bad(n: int) -> int:
        started.append(n)
        await asyncio.sleep(0)
        if n == 1:
            raise KeyError("broken")
        return n

    async def good(n: int) -> int:
        await asyncio.sleep(0)
        return n

    failing = asyncio.create_task(executor.map(bad, list(range(100))))
    other = asyncio.create_task(executor.map(good, list(range(20)), priority=1))
    with pytest.raises(KeyError, match="broken"):
        await within(failing)
    assert await within(other) == list(range(20))
    assert len(started) <= 4
    assert await within(executor.map(good, [5, 6])) == [5, 6]


async def test_running_jobs_of_a_failed_batch_end_by_themselves() -> None:
    executor, jobs = LocalExecutor(2), Jobs()

    async def job(item: object) -> object:
        if item == "bad":
            raise ValueError("no")
        return await jobs(item)

    with pytest.raises(ValueError, match="no"):
        await within(executor.map(job, ["slow", "bad", "never"]))
    assert jobs.running == 1
    jobs.open("slow")
    await settle()
    assert jobs.running == 0
    assert jobs.started == ["slow"]


async def test_cancelling_one_batch_frees_its_slots_for_the_others() -> None:
    executor, jobs = LocalExecutor(2), Jobs()
    doomed = asyncio.create_task(executor.map(jobs, ["x", "y", "z"]))
    await settle()
    waiting = asyncio.create_task(executor.map(jobs, ["a", "b", "c"]))
    jobs.open("a", "b", "c")
    await settle()
    assert jobs.started == ["x", "y"]
    doomed.cancel()
    assert await within(waiting) == ["a", "b", "c"]
    assert "z" not in jobs.started
    assert jobs.most <= 2
    with pytest.raises(asyncio.CancelledError):
        await doomed
    assert await within(executor.map(jobs, ["a", "b"])) == ["a", "b"]


async def test_a_slot_is_free_only_when_the_cancelled_job_has_cleaned_up() -> None:
    executor, cleaned, running, most = LocalExecutor(1), asyncio.Event(), 0, 0

    async def job(item: str) -> str:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            if item == "slow":
                await asyncio.Event().wait()
        finally:
            if item == "slow":
                await cleaned.wait()
            running -= 1
        return item

    doomed = asyncio.create_task(executor.map(job, ["slow"]))
    await settle()
    other = asyncio.create_task(executor.map(job, ["next"]))
    doomed.cancel()
    await settle()
    assert not other.done()
    cleaned.set()
    assert await within(other) == ["next"]
    assert most == 1


@pytest.mark.parametrize("slots", [1, 2, 16])
async def test_a_batch_started_by_the_end_of_another_is_not_left_without_workers(slots: int) -> None:
    """The caller that wakes up on the last result may call `map` again before the worker is gone."""
    executor = LocalExecutor(slots)

    async def job(n: int) -> int:
        await asyncio.sleep(0)
        return n

    async def chain() -> list[int]:
        out: list[int] = []
        for length in (slots, 1, slots, 1, 3):
            out += await executor.map(job, list(range(length)))
        return out

    assert len(await within(chain())) == 2 * slots + 5  # type: ignore[arg-type]


async def test_a_job_may_map_in_turn_where_slots_are_left() -> None:
    executor = LocalExecutor(3)

    async def inner(n: int) -> int:
        await asyncio.sleep(0)
        return n

    async def outer(n: int) -> int:
        return sum(await executor.map(inner, list(range(n)), priority=-1))

    assert await within(executor.map(outer, [3, 4])) == [3, 6]


async def test_a_job_that_is_cancelled_from_within_fails_its_batch() -> None:
    async def job(n: int) -> int:
        raise asyncio.CancelledError

    executor = LocalExecutor(1)
    with pytest.raises(asyncio.CancelledError):
        await within(executor.map(job, [1, 2, 3]))
    assert await within(executor.map(Jobs(), [])) == []


@pytest.mark.parametrize("busy", [True, False])
async def test_close_cancels_jobs_and_those_who_wait(busy: bool) -> None:
    executor, jobs = LocalExecutor(2), Jobs()
    waiting = asyncio.create_task(executor.map(jobs, ["a", "b", "c"]))
    await settle() if busy else await asyncio.sleep(0)
    await within(executor.close())
    assert jobs.running == 0
    with pytest.raises(asyncio.CancelledError):
        await within(waiting)
    jobs.open("d")
    assert await within(executor.map(jobs, ["d"])) == ["d"]


async def test_a_million_items_do_not_become_a_million_tasks() -> None:
    executor, most = LocalExecutor(4), 0

    async def job(n: int) -> int:
        nonlocal most
        if n % 5000 == 0:
            most = max(most, len(asyncio.all_tasks()))
        return n

    check: Callable[[], Awaitable[list[int]]] = lambda: executor.map(job, range(50_000))  # noqa: E731
    assert len(await check()) == 50_000
    assert most <= 6
