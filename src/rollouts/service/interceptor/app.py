"""The interceptor: OpenAI's routes for task apps, with the candidate's prompt put into their calls."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from rollouts.dtypes import Endpoint
from rollouts.errors import InvalidRequest, RolloutsError, ServiceError
from rollouts.llm.relay_wire import Route
from rollouts.prompt_optimization import Study
from rollouts.service.interceptor.records import CallLog
from rollouts.service.interceptor.reply import Event, Receive, Reply, Send
from rollouts.service.interceptor.trials import Desk, Registry, Trial, trial_ended
from rollouts.taskapp.trials import TrialSpec

JSON = dict[str, Any]
PREFIX = "/api/interceptor/v1/"
_TRACE = "trace/by-correlation/"


class Address(NamedTuple):
    """What a path below `PREFIX` names."""

    trial_id: str
    correlation_id: str
    route: Route


class Interceptor:
    """An ASGI app for every path below `PREFIX`, and the desks of the jobs whose trials it answers.

    A trial id is the only key that a call needs; no header of the caller goes to a model. `public_url` is where apps
    reach the service. Bodies above `max_body_bytes` are refused, and those that take longer than `body_timeout_s` to
    arrive. `log_bytes` bounds what is kept of past calls.
    """

    def __init__(
        self,
        public_url: str = "http://127.0.0.1:8000",
        *,
        max_body_bytes: int = 10 * 2**20,
        body_timeout_s: float = 30.0,
        log_bytes: int = 64 * 2**20,
    ) -> None:
        self.public_url = public_url
        self._max_body_bytes, self._body_timeout_s = max_body_bytes, body_timeout_s
        self._registry = Registry(CallLog(log_bytes))

    def desk(self, job_id: str, study: Study, endpoints: Mapping[str, Endpoint], *, live: bool = False) -> Desk:
        """Opens the trials of a job. `endpoints` are those of its modules; all belong to `study`, whose ledger pays.

        `live` says that the calls are those of an application at work, which may call other routes beside.
        """
        return Desk(job_id, study, endpoints, self._registry, self._url_of, live=live)

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Answers one HTTP request."""
        reply = Reply(send)
        path = scope["path"].partition(PREFIX)[2].strip("/")
        try:
            if path.startswith(_TRACE):
                _only(scope, "GET", "HEAD")
                self._read(path.removeprefix(_TRACE), reply)
            else:
                address = address_of(path, scope.get("query_string", b""))
                _only(scope, "POST")
                trial = self._registry.find(address.trial_id)
                raw = await self._body(scope, receive)
                await self._answer(trial, address, raw, receive, reply)
        except RolloutsError as error:
            reply.problem(error)
        await reply.end()

    async def _answer(self, trial: Trial, address: Address, raw: bytes, receive: Receive, reply: Reply) -> None:
        """One call; it ends early when its trial does, or when the app hangs up."""
        body = _object(raw)
        call = asyncio.create_task(trial.answer(body, address.route, reply))
        gone = asyncio.create_task(_hung_up(receive))
        gone.add_done_callback(lambda _: call.cancel())
        try:
            await asyncio.wait((call,))
        finally:
            gone.cancel()
            call.cancel()
        if call.cancelled():
            raise trial_ended()
        record = {"job_id": trial.job_id, "correlation_id": address.correlation_id, **call.result()}
        self._registry.log.add(trial.spec.correlation_id, record)

    def _read(self, correlation_id: str, reply: Reply) -> None:
        calls = self._registry.log.calls(correlation_id)
        if calls is None:
            raise ServiceError("no calls are known under this id", status=404, code="trace_not_found")
        reply.json({"correlation_id": correlation_id, "calls": calls})

    async def _body(self, scope: Mapping[str, Any], receive: Receive) -> bytes:
        pieces, size = [], 0
        try:
            async with asyncio.timeout(self._body_timeout_s):
                while True:
                    message = await receive()
                    pieces.append(message.get("body", b""))
                    size += len(pieces[-1])
                    if size > self._max_body_bytes:
                        limit = f"the body is larger than {self._max_body_bytes} bytes"
                        raise ServiceError(limit, status=413, code="body_too_large")
                    if not message.get("more_body"):
                        return b"".join(pieces)
        except TimeoutError:
            raise ServiceError("the body took too long to arrive", status=408, code="body_too_slow") from None

    def _url_of(self, spec: TrialSpec) -> str:
        return f"{self.public_url.rstrip('/')}{PREFIX}{spec.trial_id}/{spec.correlation_id}"


def address_of(path: str, query: bytes = b"") -> Address:
    """What a path names: `TRIAL/chat/completions`, `TRIAL/CORRELATION/chat/completions`, or with `responses`.

    The route may stand there twice, because apps append it to URLs that end in it already; the correlation id may come
    as `?cid=`. Raises ServiceError with status 404 for any other path.
    """
    parts = path.strip("/").split("/")
    route: Route | None = None
    while len(parts) > 1:
        if parts[-2:] == ["chat", "completions"]:
            parts, route = parts[:-2], route or "chat/completions"
        elif parts[-1] == "responses":
            parts, route = parts[:-1], route or "responses"
        else:
            break
    if route is None or len(parts) not in (1, 2) or not all(parts):
        raise ServiceError(
            f"no such route: POST to {PREFIX}TRIAL/CORRELATION/chat/completions", status=404, code="not_found"
        )
    cid = parse_qs(query.decode("latin-1")).get("cid", [""])[0]
    return Address(parts[0], parts[1] if len(parts) == 2 else cid, route)


def _only(scope: Mapping[str, Any], *methods: str) -> None:
    if scope["method"] not in methods:
        raise ServiceError(f"use {methods[0]} here", status=405, code="method_not_allowed")


def _object(raw: bytes) -> JSON:
    try:
        data = json.loads(raw, parse_constant=_refused)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise InvalidRequest("the body must be a JSON object")
    return data


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


async def _hung_up(receive: Receive) -> None:
    event: Event = {}
    while event.get("type") != "http.disconnect":
        event = await receive()
