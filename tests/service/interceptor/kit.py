"""An interceptor on a loopback port, in front of a mock provider or a scripted model, within a real study."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import aiohttp
import uvicorn

from rollouts.budget import Budget
from rollouts.dtypes import Call, Endpoint, Program, PromptTemplate, Trace
from rollouts.evaluation import Task
from rollouts.evaluation.metrics import exact_match
from rollouts.llm.client import Provider
from rollouts.prompt_optimization import Study, StudyOptions, open_study
from rollouts.service.interceptor import Desk, Interceptor
from rollouts.taskapp.trials import TrialSpec

BASELINE = PromptTemplate("Classify the query.", "Query: {query}")
CANDIDATE = PromptTemplate("You are careful.", "Read this: {query}\nAnswer:")
ASKED = [{"role": "system", "content": "Classify the query."}, {"role": "user", "content": "Query: where is it?"}]
SENT = [
    {"role": "system", "content": "You are careful."},
    {"role": "user", "content": "Read this: where is it?\nAnswer:"},
]


@dataclass
class Heard:
    """What a trial told its job."""

    calls: list[Call] = field(default_factory=list)
    traces: list[Trace] = field(default_factory=list)

    def spec(self, candidate: PromptTemplate | Program = CANDIDATE, **changes: Any) -> TrialSpec:
        trial_id = uuid4().hex
        program = candidate if isinstance(candidate, Program) else Program.single(candidate)
        given = {"baseline": Program.single(BASELINE), "program": program, **changes}
        return TrialSpec(
            trial_id=trial_id,
            correlation_id=f"trace_{trial_id}",
            on_call=self.calls.append,
            on_trace=self.traces.append,
            **given,
        )


@dataclass
class World:
    """A study, its desk, and the server in front."""

    url: str
    interceptor: Interceptor
    study: Study
    desk: Desk
    http: aiohttp.ClientSession
    heard: Heard = field(default_factory=Heard)

    async def post(self, url: str, body: Any = None, **options: Any) -> tuple[int, Any]:
        """Status and JSON of a chat completion; `ASKED` is what is asked by default."""
        data = {"model": "any", "messages": ASKED} if body is None else body
        async with self.http.post(url, json=data, **options) as response:
            return response.status, await response.json()

    @contextmanager
    def trial(self, raises: type[Exception] | None = None, match: str = "", **changes: Any) -> Iterator[str]:
        """The URL of a trial (see `Heard.spec`). Leaving it raises `raises`, or nothing."""
        failure: str | None = None
        try:
            with self.desk.open(self.heard.spec(**changes)) as url:
                yield url
        except Exception as error:
            if raises is None or not isinstance(error, raises):
                raise
            failure = str(error)
        assert (failure is None) == (raises is None)
        assert re.search(match, failure or "")


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[str]:
    """`app` under uvicorn in this loop; gives its URL."""
    config = uvicorn.Config(app, host="127.0.0.1", port=0, lifespan="off", log_level="warning", access_log=False)
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined, method-assign]
    task = asyncio.create_task(server.serve())
    try:
        while not server.started:
            await asyncio.sleep(0.005)
        host, port = server.servers[0].sockets[0].getsockname()[:2]
        yield f"http://{host}:{port}"
    finally:
        server.should_exit = True
        await task


@asynccontextmanager
async def world(
    endpoint: Endpoint,
    *,
    budget: Budget | None = None,
    providers: Mapping[str, Provider] | None = None,
    endpoints: Mapping[str, Endpoint] | None = None,
    study: Mapping[str, Any] | None = None,
    **settings: Any,
) -> AsyncIterator[World]:
    """A study whose module `main` (or those of `endpoints`) is reached through an interceptor.

    `study` holds more of its options, `settings` are the interceptor's.
    """
    options = StudyOptions(budget=budget or Budget(), providers=providers or {}, slots=64, **(study or {}))
    modules = endpoints or {"main": endpoint}
    task = Task(endpoint=endpoint, score_fn=exact_match(), endpoints=modules)
    interceptor = Interceptor(**settings)
    async with serving(interceptor) as url, aiohttp.ClientSession() as http:
        interceptor.public_url = url
        opened = open_study(task, (), options)
        desk = interceptor.desk("pl_1", opened, modules)
        try:
            yield World(url=url, interceptor=interceptor, study=opened, desk=desk, http=http)
        finally:
            desk.close()
            await opened.close("done")
