"""The mock provider and the interceptor, each in a process of its own, as a task app meets them."""

from __future__ import annotations

import asyncio
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import uvicorn

from rollouts.budget import Budget
from rollouts.dtypes import Endpoint, Program, PromptTemplate
from rollouts.evaluation import Task
from rollouts.evaluation.metrics import exact_match
from rollouts.prompt_optimization import StudyOptions, open_study
from rollouts.service.interceptor import Interceptor
from rollouts.store import open_store
from rollouts.taskapp.ports import listen
from rollouts.taskapp.trials import TrialSpec
from rollouts.testing.mock_provider import PRICE, MockProvider

BASELINE = PromptTemplate("Name the intent of the query. " * 10, "Query: {query}")
CANDIDATE = PromptTemplate("You route a bank's customers. " * 20, "Customer: {query}\nIntent:")
ANSWER = "lost_or_stolen_card " * 4
"""The same whatever is asked: an answer of other length comes in other pieces, and the two ways ask other prompts."""
BUDGET = Budget(max_cost_usd=10_000, max_tokens=10**12, max_calls=10**9)
Serve = Callable[..., Coroutine[Any, Any, None]]


@dataclass(frozen=True, kw_only=True)
class Server:
    """A process that serves at `url`."""

    url: str
    connection: Connection

    def cpu_seconds(self) -> float:
        """What it has used so far."""
        self.connection.send("cpu")
        seconds: float = self.connection.recv()
        return seconds


@contextmanager
def running(serve: Serve, *arguments: Any) -> Iterator[Server]:
    """`serve(connection, *arguments)` in a fresh process, which sends its URL first."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_main, args=(serve, there, arguments), daemon=True)
    process.start()
    try:
        yield Server(url=here.recv(), connection=here)
    finally:
        here.close()
        process.join(10)
        process.kill()


def _main(serve: Serve, connection: Connection, arguments: tuple[Any, ...]) -> None:
    asyncio.run(serve(connection, *arguments))


async def mock_provider(connection: Connection, latency: float, chunk_delay: float) -> None:
    """Sends its base URL. Streams come in late pieces where `chunk_delay` (seconds) is not 0."""
    faults = {"slow_stream": 1.0} if chunk_delay else {}
    mock = MockProvider(reply=lambda _: ANSWER, latency=latency, faults=faults, chunk_delay=chunk_delay, keep=1)
    async with mock:
        connection.send(mock.base_url)
        await _ended(connection)


async def interceptor(connection: Connection, upstream: str) -> None:
    """Sends the inference URL of a trial that stays open. The study has everything on: an SQLite file, all caps."""
    endpoint = Endpoint(provider="openai_compatible", model="m", base_url=upstream, price=PRICE)
    app = Interceptor()
    with tempfile.TemporaryDirectory() as directory:
        options = StudyOptions(store=open_store(Path(directory) / "runs.db"), budget=BUDGET, slots=256)
        study = open_study(Task(endpoint=endpoint, score_fn=exact_match()), (), options)
        desk = app.desk("pl_benchmark", study, {"main": endpoint})
        listener = listen("127.0.0.1", 0, backlog=1024)
        app.public_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="warning", access_log=False))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        with desk.open(_spec()) as url:
            connection.send(url)
            await _ended(connection)
        server.should_exit = True
        await serving
        await study.close("done")


def _spec() -> TrialSpec:
    return TrialSpec(
        trial_id="benchmark",
        correlation_id="trace_benchmark",
        program=Program.single(CANDIDATE),
        baseline=Program.single(BASELINE),
        on_call=lambda call: None,
        on_trace=lambda trace: None,
    )


async def _ended(connection: Connection) -> None:
    """Tells the CPU time whenever it is asked; returns when the other end is closed."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()

    def answer() -> None:
        try:
            connection.recv()
            connection.send(time.process_time())
        except EOFError:
            loop.remove_reader(connection.fileno())
            ended.set()

    loop.add_reader(connection.fileno(), answer)
    await ended.wait()
