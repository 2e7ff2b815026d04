"""The counting proxy: one process in front of the model that everyone calls, and the proposer that everyone asks.

`POST /DEAL/RUN/PHASE/v1/chat/completions` goes to the model, whose answer is passed back as it is; what the call took
is counted for RUN and PHASE ("search" or "test"), as the model server says it. A request for the model `proposer` is
counted as "propose", and answered by `propose`: a call without tokens, as no model reads or writes them. DEAL names the
pool of instructions and its order. `GET /RUN/counts` gives the counts. The key of the model is sent by the proxy: it is
in no answer and in no record.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import aiohttp
from aiohttp import web

from benchmarks.mipro_comparison.outcome import PHASES, Counts
from rollouts.dtypes import Endpoint
from rollouts.errors import ConfigError
from rollouts.llm.keys import address_of, key_of, redact
from rollouts.llm.openai_wire import headers_of, query_of, url_of
from rollouts.llm.registry import is_loopback, spec_of

JSON = dict[str, Any]
Propose = Callable[[Any, str, int], tuple[str, bool]]
"""(messages, deal, instructions given to this run) -> the reply, and whether it held an instruction."""

TASK_MODEL, PROPOSER = "task", "proposer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """The model's address. `rename` maps fields of a request's body to this server's names for them."""

    url: str
    model: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    query: Mapping[str, str] = field(default_factory=dict)
    rename: Mapping[str, str] = field(default_factory=dict)
    key: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, endpoint: Endpoint) -> Self:
        """An endpoint of the project, its key from the environment. Raises ConfigError for one that does not speak
        OpenAI's chat completions, and what `key_of` and `address_of` raise."""
        spec = spec_of(endpoint.provider)
        if spec.wire != "openai":
            raise ConfigError(
                f"{endpoint.name}: the comparison speaks OpenAI's chat completions alone; name a server that does, for "
                "example as openai_compatible with --base-url"
            )
        key = key_of(endpoint)
        return cls(
            url=url_of(endpoint, address_of(endpoint)),
            model=endpoint.model,
            headers=headers_of(endpoint, spec, key),
            query=query_of(endpoint),
            rename={} if spec.limit_field == "max_tokens" else {"max_tokens": spec.limit_field},
            key=key,
        )

    def body(self, sent: Mapping[str, Any]) -> JSON:
        """What is asked of the model for a request that was sent to the proxy."""
        return {self.rename.get(name, name): value for name, value in sent.items()} | {"model": self.model}


@dataclass(slots=True)
class Tally:
    """Counts under way. Times are seconds of one clock."""

    counts: Counts = field(default_factory=Counts)
    in_flight: int = 0
    since: float = 0.0

    def begin(self, now: float) -> None:
        """A call leaves."""
        if not self.in_flight:
            self.since = now
        self.in_flight += 1

    def end(self, now: float, took: Counts) -> None:
        """It is back; `took` is what it adds, beside the time in flight."""
        self.in_flight -= 1
        busy = 0.0 if self.in_flight else now - self.since
        done = {name: value + getattr(took, name) for name, value in asdict(self.counts).items()}
        self.counts = replace(Counts(**done), in_flight_s=self.counts.in_flight_s + busy)


class Answers:
    """Earlier answers in an SQLite file, by request: at temperature 0 the same request has the same answer."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = sqlite3.connect(path, isolation_level=None)
        self._file.execute("pragma journal_mode = wal")
        self._file.execute("pragma synchronous = normal")
        self._file.execute("create table if not exists answers (key text primary key, body blob, seconds real)")

    @staticmethod
    def key(body: Mapping[str, Any]) -> str | None:
        """The name of a request; None for one whose answer is a matter of chance."""
        if body.get("temperature") != 0:
            return None
        return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()

    def get(self, key: str) -> tuple[bytes, float] | None:
        """The answer and the seconds that it took."""
        found: tuple[bytes, float] | None = self._file.execute(
            "select body, seconds from answers where key = ?", (key,)
        ).fetchone()
        return found

    def put(self, key: str, body: bytes, seconds: float) -> None:
        """Keeps an answer; a later one of the same request replaces it."""
        self._file.execute("insert or replace into answers values (?, ?, ?)", (key, body, seconds))

    def close(self) -> None:
        self._file.close()


class Proxy:
    """The server, on a free port of this machine: `async with Proxy(upstream, propose=...) as proxy: proxy.url`.

    `propose` None lets the model itself answer what is asked of the proposer. `answers` is the file of `Answers`.
    """

    def __init__(
        self, upstream: Upstream, *, propose: Propose | None, answers: Path | None = None, timeout_s: float = 600.0
    ) -> None:
        self._upstream, self._propose, self._timeout_s = upstream, propose, timeout_s
        self._answers = None if answers is None else Answers(answers)
        self._tallies: defaultdict[str, defaultdict[str, Tally]] = defaultdict(lambda: defaultdict(Tally))
        self._given: defaultdict[str, int] = defaultdict(int)
        self._session: aiohttp.ClientSession | None = None
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=64 * 2**20)
        app.router.add_post("/{deal}/{run}/{phase}/v1/chat/completions", self._chat)
        app.router.add_get("/{run}/counts", self._counts)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=self._timeout_s),
            trust_env=not is_loopback(self._upstream.url),
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, backlog=1024).start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        if self._session is not None:
            await self._session.close()
        if self._answers is not None:
            self._answers.close()

    def counts(self, run: str) -> dict[str, Counts]:
        """What a run has taken so far, by phase; all phases are there."""
        return {phase: self._tallies[run][phase].counts for phase in PHASES}

    async def _counts(self, request: web.Request) -> web.Response:
        counts = self.counts(request.match_info["run"])
        return web.json_response({phase: asdict(entry) for phase, entry in counts.items()})

    async def _chat(self, request: web.Request) -> web.Response:
        place, body = request.match_info, await request.json()
        if place["phase"] not in ("search", "test"):
            return _refusal(404, f"there is no phase {place['phase']!r}")
        if body.get("stream"):
            return _refusal(400, "this proxy passes no streams on")
        proposing = body.get("model") == PROPOSER
        tally = self._tallies[place["run"]]["propose" if proposing else place["phase"]]
        tally.begin(time.perf_counter())
        took = Counts(calls=1, failed=1)
        try:
            if proposing and self._propose is not None:
                response, took = self._scripted(self._propose, place["deal"], place["run"], body)
            else:
                response, took = await self._passed_on(body)
        finally:
            tally.end(time.perf_counter(), took)
        return response

    def _scripted(self, propose: Propose, deal: str, run: str, body: JSON) -> tuple[web.Response, Counts]:
        text, used = propose(body.get("messages"), deal, self._given[run])
        self._given[run] += used
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
        answer = {"id": "scripted", "object": "chat.completion", "created": 0, "model": PROPOSER, "choices": [choice]}
        return web.json_response({**answer, "usage": usage}), Counts(calls=1)

    async def _passed_on(self, sent: JSON) -> tuple[web.Response, Counts]:
        body = self._upstream.body(sent)
        key = None if self._answers is None else Answers.key(body)
        if self._answers is not None and key is not None and (known := self._answers.get(key)) is not None:
            answer, seconds = known
            counts = replace(taken(answer), replayed=1, call_s=seconds)
            return web.Response(body=answer, content_type="application/json"), counts
        start = time.perf_counter()
        status, answer, headers = await self._asked(body)
        seconds = time.perf_counter() - start
        counts = replace(taken(answer) if status == 200 else Counts(calls=1, failed=1), call_s=seconds)
        if self._answers is not None and key is not None and not counts.failed:
            self._answers.put(key, answer, seconds)
        return web.Response(status=status, body=answer, headers=headers, content_type="application/json"), counts

    async def _asked(self, body: JSON) -> tuple[int, bytes, Mapping[str, str]]:
        """Status, body and the headers that matter of the model's answer; 502 when there is none."""
        if self._session is None:
            raise RuntimeError("the proxy is not running: use `async with`")
        up = self._upstream
        try:
            async with self._session.post(up.url, json=body, headers=up.headers, params=up.query) as response:
                answer = await response.read()
                if response.status != 200:
                    answer = redact(answer.decode("utf-8", "replace"), [up.key]).encode()
                kept = {name: value for name, value in response.headers.items() if name.lower() == "retry-after"}
                return response.status, answer, kept
        except (aiohttp.ClientError, TimeoutError) as error:
            return 502, _error(f"the model does not answer ({type(error).__name__})"), {}


def taken(answer: bytes) -> Counts:
    """One call and its tokens by the body of its answer; a failed one where that is no chat completion."""
    try:
        data = json.loads(answer)
        data["choices"][0]["message"]
        usage = data.get("usage") or {}
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
        return Counts(
            calls=1,
            prompt_tokens=int(usage.get("prompt_tokens") or 0),
            completion_tokens=int(usage.get("completion_tokens") or 0),
            cached_tokens=int(cached),
        )
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return Counts(calls=1, failed=1)


def _error(message: str) -> bytes:
    return json.dumps({"error": {"message": message, "type": "proxy_error"}}).encode()


def _refusal(status: int, message: str) -> web.Response:
    return web.Response(status=status, body=_error(message), content_type="application/json")
