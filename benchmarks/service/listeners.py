"""The listeners of `benchmarks.service.load`, as a process: `COUNT JOB...`. Prints what they heard as JSON."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import AsyncExitStack

from rollouts.client import AsyncClient


async def listen(client: AsyncClient, job: str) -> list[int]:
    """The numbers of all events of a job, as they came."""
    return [event.seq async for event in client.stream(job)]


async def main(count: int, jobs: list[str]) -> None:
    """Listens to all jobs, each as often as the others, and compares with the logs."""
    async with AsyncExitStack() as stack:
        # A client keeps at most 100 connections.
        clients = [await stack.enter_async_context(AsyncClient()) for _ in range(-(-count // 50))]
        listening = (listen(clients[number // 50], jobs[number % len(jobs)]) for number in range(count))
        heard = await asyncio.gather(*listening)
        client = clients[0]
        logs = [[event.seq async for event in client.events(job)] for job in jobs]
    expected = [logs[number % len(jobs)] for number in range(count)]
    print(
        json.dumps(
            {
                "events_heard": sum(map(len, heard)),
                "lost": sum(len(set(log) - set(mine)) for mine, log in zip(heard, expected, strict=True)),
                "doubled_or_disordered": sum(mine != sorted(set(mine)) for mine in heard),
            }
        )
    )


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2:]))
