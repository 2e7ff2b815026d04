"""The model server and the proxy in front of it, started and stopped; and how a run finds them."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import signal
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

from benchmarks.mipro_comparison.outcome import Counts
from benchmarks.mipro_comparison.proxy import Proxy, Upstream
from benchmarks.mipro_comparison.scripted import answer, load_pool, uses_up
from rollouts.dtypes import Endpoint
from rollouts.errors import ConfigError, RolloutsError
from rollouts.llm.serve import serve_model

EMBEDDED = "local/smollm2-135m"
Serve = Callable[..., None]
_START_S = 60.0
_PREFIXES_MIB = 4096
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """Which model runs the tasks, and who proposes.

    name: `provider/model`; `local` is the embedded one, which is started on the processors `cpus` (default: all).
    base_url: its address, where that is not the provider's own. proposer: "scripted" (the pool of the task) or "model"
    (itself). answers: a file of earlier answers, that repeated requests are answered from.
    """

    name: str = EMBEDDED
    base_url: str | None = None
    proposer: Literal["scripted", "model"] = "scripted"
    answers: Path | None = None
    cpus: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Served:
    """A proxy at `url`."""

    url: str

    def base_url(self, deal: str, run: str, phase: str) -> str:
        """The OpenAI base URL of a run's phase; see `proxy`."""
        return f"{self.url}/{deal}/{run}/{phase}/v1"

    def counts(self, run: str) -> dict[str, Counts]:
        """What a run has taken so far, by phase."""
        with _DIRECT.open(f"{self.url}/{run}/counts", timeout=30) as response:
            return {phase: Counts(**entry) for phase, entry in json.load(response).items()}


@contextmanager
def serve(model: Model) -> Iterator[Served]:
    """The proxy, and the model server where the model is the embedded one, each in a process of its own.

    Raises ConfigError when one of them does not start.
    """
    endpoint = Endpoint.parse(model.name, base_url=model.base_url)
    with ExitStack() as stack:
        if endpoint.provider == "local":
            address = stack.enter_context(_running(_serve_embedded, endpoint.model, model.cpus))
            endpoint = Endpoint(provider="openai_compatible", model=endpoint.model, base_url=f"{address}/v1")
        yield Served(stack.enter_context(_running(_serve_proxy, endpoint, model)))


@contextmanager
def _running(serve_until_closed: Serve, *arguments: Any) -> Iterator[str]:
    """`serve_until_closed(connection, *arguments)` in a fresh process, so that it shares no time with anybody's
    optimizer; the address that it sends first. It ends when the connection is closed."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_begun, args=(serve_until_closed, there, arguments), daemon=True)
    process.start()
    there.close()
    try:
        yield _address(here)
    finally:
        here.close()
        process.join(10)
        if process.is_alive():
            process.terminate()


def _address(connection: Connection) -> str:
    """What a server says of itself when it has started. Raises ConfigError with the reason when it has not."""
    try:
        address, error = connection.recv() if connection.poll(_START_S) else ("", "it does not answer")
    except EOFError:
        address, error = "", "it ended at once"
    if error:
        raise ConfigError(f"a server of the comparison did not start: {error}")
    return str(address)


def _begun(serve_until_closed: Serve, connection: Connection, arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever started it, who closes the connection
    try:
        serve_until_closed(connection, *arguments)
    except RolloutsError as error:
        connection.send(("", str(error)))
    except EOFError:
        return


def _serve_embedded(connection: Connection, name: str, cpus: tuple[int, ...]) -> None:
    """What `rollouts serve-model` serves, with room for the prefixes of all candidates of a search."""
    if cpus:
        os.sched_setaffinity(0, cpus)
    with serve_model(name, port=0, cached_prefixes_mib=_PREFIXES_MIB) as server:
        connection.send((server.address, ""))
        connection.recv()


def _serve_proxy(connection: Connection, endpoint: Endpoint, model: Model) -> None:
    async def until_closed() -> None:
        propose = propose_from_pool if model.proposer == "scripted" else None
        async with Proxy(Upstream.of(endpoint), propose=propose, answers=model.answers) as proxy:
            connection.send((proxy.url, ""))
            await asyncio.to_thread(connection.recv)

    asyncio.run(until_closed())


def deal_of(task: str, seed: int) -> str:
    """The pool of a task in the order of a seed: the same for all methods."""
    return f"{task}-{seed}"


def propose_from_pool(messages: Any, deal: str, number: int) -> tuple[str, bool]:
    """The scripted proposer as the proxy asks it."""
    return answer(messages, load_pool(deal.rpartition("-")[0]), deal, number), uses_up(messages)
