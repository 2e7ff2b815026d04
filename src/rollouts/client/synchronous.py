"""The client for scripts and notebooks: the asynchronous one, in a thread with a loop of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from rollouts.client.asynchronous import AsyncClient
from rollouts.client.model import Event, Job

T = TypeVar("T")


class Client:
    """As `AsyncClient`, without `await`. Close it, or use it in a `with` statement."""

    def __init__(self, url: str | None = None, api_key: str | None = None) -> None:
        self._client = AsyncClient(url, api_key)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="rollouts-client", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes all connections; a second time does nothing."""
        if self._loop.is_closed():
            return
        self._run(self._client.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def url(self) -> str:
        """Where the service is."""
        return self._client.url

    def create_job(self, config: Mapping[str, Any], *, name: str | None = None, **more: Any) -> Job:
        """As `AsyncClient.create_job`."""
        return self._run(self._client.create_job(config, name=name, **more))

    def jobs(self, *, limit: int = 50, status: str | None = None) -> list[Job]:
        """As `AsyncClient.jobs`."""
        return self._run(self._client.jobs(limit=limit, status=status))

    def job(self, job_id: str) -> Job:
        """As `AsyncClient.job`."""
        return self._run(self._client.job(job_id))

    def train(self, config: Mapping[str, Any]) -> Job:
        """As `AsyncClient.train`."""
        return self._run(self._client.train(config))

    def cancel(self, job_id: str) -> Job:
        """As `AsyncClient.cancel`."""
        return self._run(self._client.cancel(job_id))

    def pause(self, job_id: str) -> Job:
        """As `AsyncClient.pause`."""
        return self._run(self._client.pause(job_id))

    def resume(self, job_id: str) -> Job:
        """As `AsyncClient.resume`."""
        return self._run(self._client.resume(job_id))

    def results(self, job_id: str) -> dict[str, Any]:
        """As `AsyncClient.results`."""
        return self._run(self._client.results(job_id))

    def best_prompt(self, job_id: str) -> dict[str, Any]:
        """As `AsyncClient.best_prompt`."""
        return self._run(self._client.best_prompt(job_id))

    def candidates(self, job_id: str) -> dict[str, Any]:
        """As `AsyncClient.candidates`."""
        return self._run(self._client.candidates(job_id))

    def spend(self, job_id: str) -> dict[str, Any]:
        """As `AsyncClient.spend`."""
        return self._run(self._client.spend(job_id))

    def wait_for(self, job_id: str, *, timeout_s: float | None = None, poll_s: float = 1.0) -> Job:
        """As `AsyncClient.wait_for`."""
        return self._run(self._client.wait_for(job_id, timeout_s=timeout_s, poll_s=poll_s))

    def events(self, job_id: str, *, since_seq: int = 0) -> Iterator[Event]:
        """As `AsyncClient.events`."""
        return self._iterate(self._client.events(job_id, since_seq=since_seq))

    def stream(self, job_id: str, *, since_seq: int = 0) -> Iterator[Event]:
        """As `AsyncClient.stream`."""
        return self._iterate(self._client.stream(job_id, since_seq=since_seq))

    def create_key(
        self, name: str, *, scopes: Sequence[str] = ("jobs",), owner: str = "default", ttl_hours: float | None = None
    ) -> dict[str, Any]:
        """As `AsyncClient.create_key`."""
        return self._run(self._client.create_key(name, scopes=scopes, owner=owner, ttl_hours=ttl_hours))

    def keys(self) -> list[dict[str, Any]]:
        """As `AsyncClient.keys`."""
        return self._run(self._client.keys())

    def revoke_key(self, key_id: str) -> dict[str, Any]:
        """As `AsyncClient.revoke_key`."""
        return self._run(self._client.revoke_key(key_id))

    def upload_env_key(self, value: str, *, name: str = "ENVIRONMENT_API_KEY") -> dict[str, Any]:
        """As `AsyncClient.upload_env_key`."""
        return self._run(self._client.upload_env_key(value, name=name))

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            # Ctrl-C ends the waiting here; the work in the other thread would go on.
            future.cancel()
            raise

    def _iterate(self, items: AsyncIterator[T]) -> Iterator[T]:
        async def following() -> list[T]:
            # A coroutine cannot raise StopIteration, and must not raise StopAsyncIteration.
            try:
                return [await anext(items)]
            except StopAsyncIteration:
                return []

        while found := self._run(following()):
            yield found[0]
