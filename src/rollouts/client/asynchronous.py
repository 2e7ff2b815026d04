"""The client for asyncio."""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import aiohttp
from yarl import URL

from rollouts.client.model import Event, Job
from rollouts.client.sse import messages
from rollouts.errors import ConfigError, ServiceError
from rollouts.llm.keys import redact
from rollouts.llm.per_loop import PerLoop

DEFAULT_URL = "http://127.0.0.1:8000"
_API = "/api/v1"
_TRAINING = "/api/policy-optimization/online/jobs"
_TIMEOUT_S = 60.0
_SILENCE_S = 60.0
_ATTEMPTS = 16
_LONGEST_WAIT_S = 5.0
_SHOWN = 300
_PAGE = 1000


class AsyncClient:
    """Speaks to a service at `url` with an API key; both default to `ROLLOUTS_URL` and `ROLLOUTS_API_KEY`.

    Every method raises ServiceError when the service refuses or cannot be reached. Where it has answered before,
    questions are asked again for about a minute, so that its restart goes unnoticed; orders (create, cancel) are sent
    once. One client can be used from several event loops, one after the other. `sleep` and `clock` are for tests.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.url = (url or os.environ.get("ROLLOUTS_URL") or DEFAULT_URL).rstrip("/")
        if not self.url.startswith(("http://", "https://")):
            raise ConfigError(f"the service's URL must be like {DEFAULT_URL}; set ROLLOUTS_URL, or name it")
        self._key = api_key or os.environ.get("ROLLOUTS_API_KEY") or ""
        self._sleep, self._clock = sleep, clock
        self._has_answered = False
        self._sessions = PerLoop(_session, aiohttp.ClientSession.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes all connections."""
        await self._sessions.close()

    async def create_job(self, config: Mapping[str, Any], *, name: str | None = None, **more: Any) -> Job:
        """Submits a job. `config` is a job file's content as a dict, `more` goes into the request as it is (`rows`,
        `task_app`, `webhook`)."""
        named = {} if name is None else {"name": name}
        return Job.from_json(await self._order("POST", "/jobs", {"config": config, **named, **more}))

    async def train(self, config: Mapping[str, Any]) -> Job:
        """Submits a job file whose `task_app_url` names a task app, by the route of the synth-ai SDK: unknown keys are
        no errors, seeds that nobody named are drawn. What has no effect is in the job's `data` under `warnings`."""
        return Job.from_json(await self._order("POST", "", {"config_body": config}, root=_TRAINING))

    async def jobs(self, *, limit: int = 50, status: str | None = None) -> list[Job]:
        """The newest jobs of the key's owner."""
        query = f"?limit={limit}" + (f"&status={quote(status)}" if status else "")
        return [Job.from_json(job) for job in (await self._ask(f"/jobs{query}"))["jobs"]]

    async def job(self, job_id: str) -> Job:
        """The job as it is now."""
        return Job.from_json(await self._ask(_path(job_id)))

    async def cancel(self, job_id: str) -> Job:
        """Ends a job; the best so far is kept."""
        return await self._tell(job_id, "cancel")

    async def pause(self, job_id: str) -> Job:
        """Stops a job until it is resumed."""
        return await self._tell(job_id, "pause")

    async def resume(self, job_id: str) -> Job:
        """Lets a paused job go on."""
        return await self._tell(job_id, "resume")

    async def results(self, job_id: str) -> dict[str, Any]:
        """What came out of the job."""
        return await self._ask(_path(job_id, "results"))

    async def best_prompt(self, job_id: str) -> dict[str, Any]:
        """The best program found so far."""
        return await self._ask(_path(job_id, "best_prompt"))

    async def candidates(self, job_id: str) -> dict[str, Any]:
        """What was tried, with scores."""
        return await self._ask(_path(job_id, "candidates"))

    async def spend(self, job_id: str) -> dict[str, Any]:
        """What the job has cost so far, by phase."""
        return await self._ask(_path(job_id, "spend"))

    async def wait_for(self, job_id: str, *, timeout_s: float | None = None, poll_s: float = 1.0) -> Job:
        """The job when it has ended. Raises TimeoutError after `timeout_s` seconds; the job goes on then."""
        end = None if timeout_s is None else self._clock() + timeout_s
        while not (job := await self.job(job_id)).ended:
            if end is not None and self._clock() + poll_s > end:
                raise TimeoutError(f"job {job_id} is {job.status} after {timeout_s:g} s; it goes on")
            await self._sleep(poll_s)
        return job

    async def events(self, job_id: str, *, since_seq: int = 0) -> AsyncIterator[Event]:
        """The events so far that come after `since_seq`, in order."""
        while page := (await self._ask(_path(job_id, f"events?since_seq={since_seq}&limit={_PAGE}")))["events"]:
            for data in page:
                yield Event.from_json(data)
            since_seq = page[-1]["seq"]

    async def stream(self, job_id: str, *, since_seq: int = 0) -> AsyncIterator[Event]:
        """The events after `since_seq` as they happen, each once and in order, until the job ends.

        A connection that breaks is made anew, from the last event on.
        """
        failures = 0
        while True:
            try:
                async with self._stream(job_id, since_seq) as response:
                    async for message in messages(response.content.iter_any()):
                        failures = 0
                        if message.event == "end":
                            return
                        event = Event.from_json(json.loads(message.data))
                        if event.seq > since_seq:
                            since_seq = event.seq
                            yield event
                problem = ServiceError(f"the stream of job {job_id} at {self.url} keeps ending early")
            except ServiceError as error:
                problem = error
            except (aiohttp.ClientError, TimeoutError) as error:
                problem = self._unreachable(error)
            failures += 1
            await self._wait(problem, failures)

    async def create_key(
        self, name: str, *, scopes: Sequence[str] = ("jobs",), owner: str = "default", ttl_hours: float | None = None
    ) -> dict[str, Any]:
        """A new API key, under `key` in the answer. Needs a key with the scope admin."""
        wanted = {"name": name, "scopes": list(scopes), "owner": owner, "ttl_hours": ttl_hours}
        return await self._order("POST", "/keys", wanted)

    async def keys(self) -> list[dict[str, Any]]:
        """All API keys, without their secrets. Needs a key with the scope admin."""
        keys: list[dict[str, Any]] = (await self._ask("/keys"))["keys"]
        return keys

    async def revoke_key(self, key_id: str) -> dict[str, Any]:
        """Ends an API key. Needs a key with the scope admin."""
        return await self._order("DELETE", f"/keys/{_checked(key_id)}")

    async def upload_env_key(self, value: str, *, name: str = "ENVIRONMENT_API_KEY") -> dict[str, Any]:
        """Gives the service a task app's key, sealed so that only the service can read it. Needs the extra `serve`."""
        try:
            from nacl.public import PublicKey, SealedBox
        except ModuleNotFoundError:
            raise ConfigError('sealing a key needs: pip install "rollouts-optimizer[serve]"') from None
        public = PublicKey(b64decode((await self._ask("/crypto/public-key"))["public_key"]))
        box = b64encode(SealedBox(public).encrypt(value.encode())).decode()
        return await self._order("POST", "/env-keys", {"name": name, "ciphertext_b64": box})

    async def _tell(self, job_id: str, order: str) -> Job:
        return Job.from_json(await self._order("POST", _path(job_id, order)))

    async def _ask(self, path: str) -> dict[str, Any]:
        failures = 0
        while True:
            try:
                return await self._order("GET", path)
            except ServiceError as error:
                failures += 1
                await self._wait(error, failures)

    async def _order(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, root: str = _API
    ) -> dict[str, Any]:
        try:
            async with self._request(method, path, root=root, json=body) as response:
                answer: dict[str, Any] = await response.json()
                return answer
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise self._unreachable(error) from None

    def _stream(self, job_id: str, since_seq: int) -> Any:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_TIMEOUT_S, sock_read=_SILENCE_S)
        return self._request(
            "GET", _path(job_id, "events/stream"), headers={"Last-Event-ID": str(since_seq)}, timeout=timeout
        )

    @asynccontextmanager
    async def _request(
        self, method: str, path: str, *, root: str = _API, headers: Mapping[str, str] | None = None, **options: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer to a request, if it is one that was hoped for. A redirect is none: it would take the key along."""
        session = await self._sessions.get()
        url = URL(f"{self.url}{root}{path}", encoded=True)
        key = {"X-API-Key": self._key} if self._key else {}
        request = session.request(method, url, headers={**key, **(headers or {})}, allow_redirects=False, **options)
        async with request as response:
            self._has_answered = True
            if response.status >= 300:
                raise self._refused(response.status, await response.text(errors="replace"))
            yield response

    async def _wait(self, error: ServiceError, failures: int) -> None:
        """Before the next attempt; raises `error` where there is no hope."""
        if 0 < error.status < 500 or failures >= _ATTEMPTS or not self._has_answered:
            raise error
        await self._sleep(min(_LONGEST_WAIT_S, 0.25 * 2**failures))

    def _refused(self, status: int, text: str) -> ServiceError:
        detail: Any = text
        code = ""
        with suppress(ValueError, TypeError, KeyError):
            body = json.loads(text)
            detail, code = body["detail"], body.get("code", "")
        shown = detail if isinstance(detail, str) else json.dumps(detail)
        shown = redact(shown, [self._key])
        shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]} ..."
        return ServiceError(f"{self.url} answers {status}: {shown}", status=status, code=code)

    def _unreachable(self, error: Exception) -> ServiceError:
        said = redact(str(error) or type(error).__name__, [self._key])
        return ServiceError(
            f"no answer from the service at {self.url} ({said}); is it running? `rollouts serve` starts it"
        )


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S))


def _path(job_id: str, rest: str = "") -> str:
    return f"/jobs/{_checked(job_id)}" + (f"/{rest}" if rest else "")


def _checked(name: str) -> str:
    """An id as a part of a path: no other text can become one that leads elsewhere."""
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise ConfigError(f"{name!r} is no id; ids look like pl_0123456789abcdef")
    return name
