"""Answers from the store, and one call for identical requests in flight."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import asdict, replace

from rollouts.dtypes import Choices, JsonSchema, Request, Response, ToolCall, Usage
from rollouts.llm.client import Client
from rollouts.store.base import JSON, GenerationRow, Store

_Route = tuple[str, float | None]


class _Flight:
    """One request on its way and everyone who waits for it: its `route` is the key and the cap on latency."""

    __slots__ = ("request", "route", "task", "waiters")

    def __init__(self, route: _Route, request: Request) -> None:
        self.route, self.request = route, request
        self.task: asyncio.Task[None] | None = None
        self.waiters: list[asyncio.Future[Response]] = []

    @property
    def key(self) -> str:
        return self.route[0]


class CachedClient:
    """Serves an answer from the store under `request.key()`, or asks `inner` once and records its answer.

    Identical requests in flight with the same cap on latency share one call: one waiter gets the answer as paid, the
    others a `cached` copy that costs nothing; a failure goes to all of them. A waiter that is cancelled leaves the call
    to the others; the last one to leave cancels it and returns when it has ended. Look-ups of one turn of the event
    loop are one call to the store. Failures are never recorded. Without a store only the sharing is left. `wall` gives
    seconds since the epoch.
    """

    def __init__(
        self, inner: Client, store: Store | None, run_id: str, *, wall: Callable[[], float] = time.time
    ) -> None:
        self._inner, self._store, self._run_id, self._wall = inner, store, run_id, wall
        self._flights: dict[_Route, _Flight] = {}
        self._unread: list[_Flight] = []

    async def complete(self, request: Request) -> Response:
        """See `Client.complete`; raises also the StoreError of a look-up or of the store's writer."""
        loop = asyncio.get_running_loop()
        route = request.key(), request.max_latency_s
        flight = self._flights.get(route)
        if flight is None:
            flight = self._flights[route] = _Flight(route, request)
            if self._store is None:
                self._send(flight)
            else:
                if not self._unread:
                    loop.call_soon(self._look_up, self._store)
                self._unread.append(flight)
        waiter: asyncio.Future[Response] = loop.create_future()
        flight.waiters.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            await self._leave(flight, waiter)
            raise

    async def close(self) -> None:
        """Cancels what is in flight and closes `inner`."""
        flights, self._unread = list(self._flights.values()), []
        tasks = [flight.task for flight in flights if flight.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for flight in flights:
            self._land(flight, None)
        await self._inner.close()

    def _look_up(self, store: Store) -> None:
        flights, self._unread = [flight for flight in self._unread if flight.waiters], []
        if not flights:
            return
        try:
            found = store.generations([flight.key for flight in flights])
        except Exception as error:  # noqa: BLE001 - a callback has no caller: the waiters get the failure
            for flight in flights:
                self._land(flight, error)
            return
        for flight in flights:
            row = found.get(flight.key)
            if row is None:
                self._send(flight)
            else:
                self._land(flight, _response(row))

    def _send(self, flight: _Flight) -> None:
        flight.task = asyncio.get_running_loop().create_task(self._call(flight))

    async def _call(self, flight: _Flight) -> None:
        try:
            response = await self._inner.complete(flight.request)
            if self._store is not None and not response.cached:
                self._store.record(_row(flight, response, self._run_id, self._wall()))
        except asyncio.CancelledError:
            self._land(flight, None)
            raise
        except Exception as error:  # noqa: BLE001 - the waiters get the failure, whatever it is
            self._land(flight, error)
        else:
            self._land(flight, response)

    def _land(self, flight: _Flight, outcome: Response | Exception | None) -> None:
        """Ends the flight: an answer, an error, or None for a call that was cancelled from outside."""
        if self._flights.get(flight.route) is flight:
            del self._flights[flight.route]
        waiters = [waiter for waiter in flight.waiters if not waiter.done()]
        for position, waiter in enumerate(waiters):
            if outcome is None:
                waiter.cancel()
            elif isinstance(outcome, Exception):
                waiter.set_exception(outcome)
            elif position:
                waiter.set_result(_known(outcome))
            else:
                waiter.set_result(outcome)

    async def _leave(self, flight: _Flight, waiter: asyncio.Future[Response]) -> None:
        if waiter.done() and not waiter.cancelled():
            waiter.exception()  # it came too late, and nobody else will look at it
        flight.waiters.remove(waiter)
        if flight.waiters or self._flights.get(flight.route) is not flight:
            return
        del self._flights[flight.route]
        if flight.task is not None:
            flight.task.cancel()
            await asyncio.wait([flight.task])


def _known(response: Response) -> Response:
    """The answer for those who need not pay for it."""
    saved = response.cost_micros + response.saved_micros
    return replace(response, cached=True, cost_micros=0, saved_micros=saved)


def _row(flight: _Flight, response: Response, run_id: str, created_at: float) -> GenerationRow:
    request, usage = flight.request, response.usage
    answer: JSON = {"text": response.text, "finish_reason": response.finish_reason}
    if response.tool_calls:
        answer["tool_calls"] = [asdict(call) for call in response.tool_calls]
    return GenerationRow(
        key=flight.key,
        run_id=run_id,
        phase=request.phase,
        model=request.endpoint.name,
        request=None if request.phase.startswith("task") else _request_json(request),
        response=answer,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cached_tokens=usage.cached_tokens,
        cost_micros=response.cost_micros,
        latency_s=response.latency_s,
        created_at=created_at,
    )


def _request_json(request: Request) -> JSON:
    out: JSON = {"messages": [message.to_json() for message in request.messages]}
    if request.tools:
        out["tools"] = [
            {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}
            for tool in request.tools
        ]
    match request.response_format:
        case JsonSchema(name=name, schema=schema):
            out["response_format"] = {"name": name, "schema": dict(schema)}
        case Choices(options=options):
            out["response_format"] = {"choices": list(options)}
    return out


def _response(row: GenerationRow) -> Response:
    return Response(
        text=row.response["text"],
        tool_calls=tuple(ToolCall(**call) for call in row.response.get("tool_calls", ())),
        finish_reason=row.response.get("finish_reason", "stop"),
        usage=Usage(
            prompt_tokens=row.prompt_tokens,
            completion_tokens=row.completion_tokens,
            cached_tokens=row.cached_tokens,
        ),
        latency_s=row.latency_s,
        cached=True,
        saved_micros=row.cost_micros,
    )
