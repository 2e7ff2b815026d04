"""The one limit on rollouts in flight, and how jobs share it."""

from __future__ import annotations

import asyncio
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from rollouts.service.jobs.gate import FairGate, GatedExecutor


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


class Crowd:
    """Rollouts of jobs that stay inside until they are told to leave."""

    def __init__(self, slots: int) -> None:
        self.gate = FairGate(slots)
        self.inside: Counter[str] = Counter()
        self.order: list[str] = []
        self.doors: dict[asyncio.Task[None], asyncio.Event] = {}

    async def _visit(self, job: str, door: asyncio.Event) -> None:
        async with self.gate.turn(job):
            self.inside[job] += 1
            self.order.append(job)
            try:
                await door.wait()
            finally:
                self.inside[job] -= 1

    def send(self, job: str, count: int = 1) -> list[asyncio.Task[None]]:
        sent = []
        for _ in range(count):
            door = asyncio.Event()
            task = asyncio.create_task(self._visit(job, door), name=job)
            self.doors[task] = door
            sent.append(task)
        return sent

    async def let_out(self, task: asyncio.Task[None]) -> None:
        self.doors.pop(task).set()
        await settle()


async def test_a_late_small_job_gets_its_share() -> None:
    crowd = Crowd(4)
    big = crowd.send("big", 20)
    await settle()
    assert crowd.inside == {"big": 4}
    crowd.send("small", 10)
    for task in big[:2]:
        await crowd.let_out(task)
    assert crowd.inside == {"big": 2, "small": 2}
    await crowd.let_out(big[2])
    assert crowd.inside == {"big": 2, "small": 2}


async def test_equals_take_turns() -> None:
    crowd = Crowd(1)
    waiting = {job: crowd.send(job, 4) for job in "abc"}
    await settle()
    while len(crowd.order) < 10:
        await crowd.let_out(waiting[crowd.order[-1]].pop(0))
    assert crowd.order == list("a" + "abc" * 3)


async def test_a_closed_job_empties_and_leaves_its_places_to_others() -> None:
    crowd = Crowd(2)
    first = crowd.send("a", 4)
    await settle()
    crowd.gate.close("a")
    emptied = asyncio.create_task(crowd.gate.emptied("a"))
    others = crowd.send("b", 1)
    await crowd.let_out(first[0])
    assert crowd.inside == {"a": 1, "b": 1}
    assert not emptied.done()
    await crowd.let_out(first[1])
    assert emptied.done()
    assert crowd.inside == {"a": 0, "b": 1}
    await crowd.let_out(others[0])
    for task in first[2:]:
        task.cancel()
    await settle()
    crowd.gate.forget("a")
    crowd.send("a", 2)
    await settle()
    assert crowd.inside["a"] == 2


@given(
    st.integers(1, 4),
    st.lists(st.tuples(st.sampled_from(["send", "leave", "cancel"]), st.sampled_from("abc")), max_size=60),
)
def test_never_more_than_slots_and_never_idle(slots: int, steps: list[tuple[str, str]]) -> None:
    async def run() -> None:
        crowd = Crowd(slots)
        for step, job in steps:
            mine = [task for task in crowd.doors if task.get_name() == job]
            if step == "send":
                crowd.send(job)
            elif mine and step == "leave":
                crowd.doors.pop(mine[0]).set()
            elif mine:
                crowd.doors.pop(mine[0])
                mine[0].cancel()
            await settle()
            alive = [task for task in asyncio.all_tasks() if task.get_name() in "abc" and not task.done()]
            assert crowd.inside.total() == min(slots, len(alive))
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()  # type: ignore[union-attr]

    asyncio.run(run())


async def test_the_executor_keeps_order_and_its_own_limit() -> None:
    gate, most, inside = FairGate(10), 0, 0

    async def work(item: int) -> int:
        nonlocal most, inside
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0)
        inside -= 1
        return item * 2

    executor = GatedExecutor(gate, "job", 3)
    assert await executor.map(work, range(20)) == list(range(0, 40, 2))
    assert most == executor.slots == 3
    await executor.close()
