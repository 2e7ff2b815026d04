"""A task app from the client's side: health, what it serves, and one rollout at a time, whatever the app does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from rollouts.dtypes import Program, PromptTemplate, Sample
from rollouts.errors import ConfigError, TaskAppError
from rollouts.llm.failures import retry_after
from rollouts.llm.keys import redact
from rollouts.llm.per_loop import PerLoop
from rollouts.llm.registry import host_of
from rollouts.taskapp.rewards import shown

_CHUNK = 1 << 16
_CONNECT_S = 10.0
_SEEDS = 200  # in one query
_RETRYABLE = frozenset({429, 502, 503, 504})
_REFUSED_CODES = frozenset({"unauthorised", "unauthorized", "missing_environment_api_key"})


@dataclass(frozen=True, slots=True, kw_only=True)
class AppLimits:
    """What a client lets an app take.

    `timeout_s` bounds one request, `slots` how many of them run at once, `max_attempts` how often a rollout is tried
    that may succeed later, `max_body_bytes` an answer.
    """

    timeout_s: float = 120.0
    slots: int = 16
    max_attempts: int = 3
    max_body_bytes: int = 4 << 20

    def __post_init__(self) -> None:
        if min(self.timeout_s, self.slots, self.max_attempts, self.max_body_bytes) <= 0:
            raise ConfigError("timeout_s, slots, max_attempts and max_body_bytes of a task app are above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class AppInfo:
    """What an app tells of itself; empty where it does not. `baseline` are the prompts that it renders."""

    name: str = ""
    description: str = ""
    size: int | None = None
    labels: tuple[str, ...] = ()
    baseline: Program | None = None


class RemoteApp:
    """A task app at `url`. `key` is its environment key; it is sent to that address only, and shown nowhere.

    `connector` makes the connections, for callers that must not reach every address. Redirects are not followed.
    """

    def __init__(
        self,
        url: str,
        key: str = "",
        *,
        limits: AppLimits | None = None,
        connector: Callable[[], aiohttp.BaseConnector] | None = None,
    ) -> None:
        if not _is_http(url):
            raise ConfigError("the URL of a task app is http(s)://host[:port], for example http://127.0.0.1:8002")
        self.url, self.limits = url.rstrip("/"), limits or AppLimits()
        self._key, self._connector = key, connector
        self._held = PerLoop(self._open, _close)

    def __repr__(self) -> str:
        return f"RemoteApp({self.host!r})"

    @property
    def host(self) -> str:
        """Where it is, as messages say it."""
        return host_of(self.url)

    async def check(self) -> None:
        """Raises TaskAppError or ConfigError when the app is not there, is not healthy, or refuses the key."""
        await self._ask("GET", "/health")
        await self._told("/task_info")

    async def info(self) -> AppInfo:
        """What the app tells at `/info` and `/task_info`, which it need not have. Raises as `check`."""
        about, tasks = _object(await self._told("/info")), _object(await self._told("/task_info"))
        taskset = _table(tasks, "taskset")
        labels = tasks.get("labels") or taskset.get("labels")
        prompts = _table(about, "baseline")
        return AppInfo(
            name=str(tasks.get("task_app_id") or taskset.get("id") or ""),
            description=str(taskset.get("description") or ""),
            size=_size(tasks),
            labels=tuple(map(str, labels)) if isinstance(labels, list) else (),
            baseline=Program(modules={name: PromptTemplate.from_json(prompts[name]) for name in prompts})
            if prompts
            else None,
        )

    async def size(self) -> int | None:
        """How many samples the app says it has; None where it does not. Raises as `check`."""
        return _size(_object(await self._told("/task_info")))

    async def samples(self, seeds: Sequence[int]) -> list[Sample]:
        """One sample for each seed: `{"seed": n}`, with the inputs and the answer where the app tells them at
        `/task_info`, as those made by `create_task_app` do. Then rows can be demonstrations as in any data set.

        Raises as `check`, and ConfigError when an input of another value is called `seed`.
        """
        known: dict[str, Mapping[str, Any]] = {}
        for start in range(0, len(seeds), _SEEDS):
            query = [("seed", str(seed)) for seed in seeds[start : start + _SEEDS]]
            told = await self._told("/task_info", params=query)
            for entry in told if isinstance(told, list) else [told]:
                row = _table(entry, "task_metadata")
                known[str(row.get("seed"))] = row
        return [_sample(seed, known.get(str(seed), {})) for seed in seeds]

    async def rollout(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """The app's answer to one rollout, as JSON, not judged yet; one attempt.

        Raises TaskAppError (`retryable` says whether another attempt may help), and ConfigError for what every other
        rollout would meet too: the key is refused, there is no such route, the app is elsewhere.
        """
        answer = await self._ask("POST", "/rollout", json=body)
        if not isinstance(answer, dict):
            raise self._error("its answer is no JSON object")
        return answer

    async def close(self) -> None:
        """Closes the connections."""
        await self._held.close()

    async def _told(self, path: str, **options: Any) -> Any:
        """What an app may tell; None where it has no such route."""
        try:
            return await self._ask("GET", path, **options)
        except _NoRoute:
            return None

    async def _ask(self, method: str, path: str, **options: Any) -> Any:
        held, limit = await self._held.get(), self.limits.timeout_s
        async with held.slots:
            try:
                async with (
                    asyncio.timeout(limit),
                    held.session.request(
                        method, self.url + path, headers=self._headers(), allow_redirects=False, **options
                    ) as response,
                ):
                    body = await self._body(response)
                    self._check(path, response, body)
            except TimeoutError:
                raise self._error(f"no answer to {path} in {limit:g} s; raise the app's timeout_s") from None
            except (aiohttp.InvalidURL, UnicodeError):
                raise ConfigError(f"{self.host} is no name of a host: give the task app's URL") from None
            except aiohttp.ClientConnectorError as error:
                raise self._error(
                    f"no connection; is it running? ({error.strerror or error})", retryable=True
                ) from None
            except (aiohttp.ClientError, OSError) as error:
                raise self._error(f"the connection broke ({type(error).__name__})", retryable=True) from None
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            raise self._error(f"its answer to {path} is no JSON: {self._said(body)}") from None

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        body, most = bytearray(), self.limits.max_body_bytes
        async for piece in response.content.iter_chunked(_CHUNK):
            body += piece
            if len(body) > most:
                response.close()
                raise self._error(f"its answer is longer than {most:,} bytes")
        return bytes(body)

    def _check(self, path: str, response: aiohttp.ClientResponse, body: bytes) -> None:
        """Raises what the status means."""
        status = response.status
        if status == 200:
            return
        said = self._said(body)
        if 300 <= status < 400:
            there = host_of(response.headers.get("Location", "")) or "another path"
            raise ConfigError(f"the task app at {self.host} redirects to {there}; give its final URL")
        if status in (401, 403) or _code(body) in _REFUSED_CODES:
            raise ConfigError(
                f"the task app at {self.host} refuses the environment key (status {status}); use the one that it was "
                "started with (ENVIRONMENT_API_KEY)"
            )
        if status in (404, 405):
            raise _NoRoute(f"the server at {self.host} has no {path}, so it is no task app; check its URL")
        raise self._error(
            f"status {status} at {path}{': ' if said else ''}{said}",
            retryable=status in _RETRYABLE,
            status=status,
            wait=retry_after(response.headers),
        )

    def _said(self, body: bytes) -> str:
        text = body[:_CHUNK].decode("utf-8", "replace")
        return shown(redact(_detail(text), [self._key]))

    def _error(
        self, what: str, *, retryable: bool = False, status: int | None = None, wait: float | None = None
    ) -> TaskAppError:
        message = f"the task app at {self.host}: {what}"
        return TaskAppError(message, retryable=retryable, status=status, retry_after=wait)

    def _headers(self) -> dict[str, str]:
        if not self._key:
            return {}
        return {"X-API-Key": self._key, "Authorization": f"Bearer {self._key}"}

    def _open(self) -> _Held:
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0) if self._connector is None else self._connector(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return _Held(session=session, slots=asyncio.Semaphore(self.limits.slots))


class _NoRoute(ConfigError):
    """The server does not know the path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """What belongs to one event loop."""

    session: aiohttp.ClientSession = field(repr=False)
    slots: asyncio.Semaphore


async def _close(held: _Held) -> None:
    await held.session.close()


def _sample(seed: int, row: Mapping[str, Any]) -> Sample:
    inputs = {"seed": seed, **_table(row, "inputs")}
    if inputs["seed"] != seed:
        raise ConfigError(
            f"the task app has an input called 'seed' ({shown(str(inputs['seed']))} at seed {seed}), and the seed of a "
            "rollout goes by that name: rename the input"
        )
    return Sample(inputs={**inputs, "seed": seed}, ground_truth=row.get("ground_truth"), id=str(seed))


def _size(tasks: Mapping[str, Any]) -> int | None:
    size = tasks.get("dataset_size", _table(tasks, "taskset").get("size"))
    return size if type(size) is int and size > 0 else None


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _table(body: Any, name: str) -> Mapping[str, Any]:
    return _object(_object(body).get(name))


def _code(body: bytes) -> str:
    """The error's code, where the body has one in the form of an SDK-built app."""
    try:
        detail = json.loads(body)["detail"]
        return str(detail["error"]["code"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return ""


def _detail(text: str) -> str:
    """The message of an error body, or the body itself."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return text
    for name in ("detail", "error", "message"):
        while isinstance(body, dict) and name in body:
            body = body[name]
    return body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
