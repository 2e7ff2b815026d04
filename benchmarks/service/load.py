"""The service under load: `python -m benchmarks.service.load [--jobs 20] [--listeners 200] [--latency 0.02]`.

Jobs at once over a mock provider, event streams that follow them, and polls of `GET job` meanwhile. Service, provider
and listeners are processes of their own, so that only the polls are in the one that measures. Checked is that every
listener heard every event of its job once and in order.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.service.provider import LABELS, label_of
from rollouts.client import AsyncClient
from rollouts.service.keys import KeyRing
from rollouts.store.database import Database

_POLLERS = 4
_REST_S = 0.02


def body(number: int) -> dict[str, Any]:
    """A job of some 300 rollouts on tickets of its own."""
    texts = [f"ticket {row} of queue {number} is open" for row in range(150)]
    return {
        "name": f"load-{number}",
        "rows": [{"text": text, "label": label_of(text)} for text in texts],
        "config": {
            "prompt_learning": {
                "dataset": {"train": 30, "val": 60, "test": 60},
                "initial_prompt": {"system": f"One of {', '.join(LABELS)}.", "user": "Ticket: {text}"},
                "policy": {"provider": "openai", "model": "any", "max_completion_tokens": 16},
                "mipro": {"num_iterations": 8, "num_candidates": 4, "minibatch_size": 15},
                "termination_config": {"budget": 400},
            }
        },
    }


@contextmanager
def process(*command: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A child process, ended with the block."""
    running = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True, **options)
    try:
        yield running
    finally:
        running.terminate()
        running.wait(30)


def said(running: subprocess.Popen[str]) -> str:
    """The next line that a process prints."""
    assert running.stdout is not None
    return running.stdout.readline().strip()


async def poll(client: AsyncClient, jobs: list[str], taken: list[float], done: asyncio.Event) -> None:
    """Asks for one job after the other until all is done."""
    while not done.is_set():
        for job in jobs:
            began = time.perf_counter()
            await client.job(job)
            taken.append(time.perf_counter() - began)
            await asyncio.sleep(_REST_S)


async def measure(url: str, key: str, args: argparse.Namespace) -> dict[str, float]:
    """What the polls took, and what the listeners heard."""
    async with AsyncClient(url, key) as client:
        began = time.perf_counter()
        jobs = [
            (await client.create_job(new["config"], rows=new["rows"], name=new["name"])).id
            for new in map(body, range(args.jobs))
        ]
        listening = [sys.executable, "-m", "benchmarks.service.listeners", str(args.listeners), *jobs]
        environment = {**os.environ, "ROLLOUTS_URL": url, "ROLLOUTS_API_KEY": key}
        listeners = await asyncio.create_subprocess_exec(*listening, env=environment, stdout=subprocess.PIPE)
        done, taken = asyncio.Event(), []
        polls = [asyncio.create_task(poll(client, jobs, taken, done)) for _ in range(_POLLERS)]
        heard = json.loads((await listeners.communicate())[0])
        done.set()
        await asyncio.gather(*polls)
        wall = time.perf_counter() - began
        ended = [await client.job(job) for job in jobs]
        calls = sum([(await client.spend(job))["total"]["calls"] for job in jobs])
    assert all(job.status == "succeeded" for job in ended), {job.error for job in ended}
    taken.sort()
    return {
        "jobs": len(jobs),
        "listeners": args.listeners,
        "calls": calls,
        "seconds": round(wall, 1),
        "calls_per_s": round(calls / wall, 1),
        "polls": len(taken),
        "p50_ms": round(taken[len(taken) // 2] * 1e3, 1),
        "p99_ms": round(taken[int(len(taken) * 0.99)] * 1e3, 1),
        "max_ms": round(taken[-1] * 1e3, 1),
        **heard,
    }


def main() -> None:
    """Runs everything and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=20)
    parser.add_argument("--listeners", type=int, default=200)
    parser.add_argument("--latency", type=float, default=0.02, help="seconds before the provider answers")
    parser.add_argument("--slots", type=int, default=32, help="rollouts in flight at once, over all jobs")
    args = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        process("-m", "benchmarks.service.provider", str(args.latency)) as mock,
    ):
        database = Database(Path(folder) / "service.db")
        key, _ = KeyRing(database).create(name="load", scopes=("admin",))
        database.close()
        (Path(folder) / "serve.toml").write_text(
            f'port = 0\nstore = "service.db"\nslots = {args.slots}\n\n[models."*"]\nprovider = "openai_compatible"\n'
            f'model = "mock"\nbase_url = "{said(mock)}"\nprice = {{ input = 1.0, output = 4.0 }}\n'
        )
        serve = ("-c", "from rollouts.cli import main; main()", "serve", "--config", "serve.toml")
        with process(*serve, cwd=folder, env={**os.environ, "PYTHONUNBUFFERED": "1", "COLUMNS": "200"}) as service:
            url = said(service).split()[2]
            print(json.dumps(asyncio.run(measure(url, key, args)), indent=2))


if __name__ == "__main__":
    main()
