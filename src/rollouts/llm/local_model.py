"""One loaded model for all its users in this process: a queue, a thread that serves it, and a reference count."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rollouts.dtypes import Response
from rollouts.errors import CallTimeout, ProviderUnavailable
from rollouts.llm.clock import Clock
from rollouts.llm.local_engine import Engine, LlamaEngine
from rollouts.llm.local_queue import PrefixQueue


@dataclass(slots=True, kw_only=True)
class Job:
    """One request on its way through the queue.

    `prefix` names what it shares with others. `exact` asks that the answer depends on the request alone. `timeout_s`
    counts from when the model starts on it.
    """

    prefix: str
    body: Mapping[str, Any]
    clock: Clock
    timeout_s: float
    exact: bool = True
    abandoned: bool = False
    future: Future[Response] = field(default_factory=Future)


class LocalModel:
    """Answers jobs one after the other, grouped by prefix, in a thread of its own. Loads on first use."""

    def __init__(self, load: Callable[[], Engine]) -> None:
        self._load = load
        self._engine: Engine | None = None
        self._loading = threading.Lock()
        self._queue: PrefixQueue[Job] = PrefixQueue()
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def engine(self) -> Engine:
        """The loaded engine; the first call loads it. Raises ConfigError when it cannot be loaded."""
        with self._loading:
            if self._closed:
                raise ProviderUnavailable("the local model was closed")
            if self._engine is None:
                self._engine = self._load()
            return self._engine

    def submit(self, job: Job) -> None:
        """Queues `job`; its future gets the response or a RolloutsError."""
        with self._wake:
            if self._closed:
                raise ProviderUnavailable("the local model was closed")
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="rollouts-local-model", daemon=True)
                self._thread.start()
            self._queue.push(job.prefix, job)
            self._wake.notify()

    def close(self) -> None:
        """Stops the running job, fails the waiting ones and frees the model. Blocks until the thread has ended."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join()
        while self._queue:
            self._fail(self._queue.pop())
        with self._loading:
            if self._engine is not None:
                self._engine.close()
                self._engine = None

    def _serve(self) -> None:
        while True:
            with self._wake:
                while not self._queue and not self._closed:
                    self._wake.wait()
                if self._closed:
                    return
                job = self._queue.pop()
            if not job.future.set_running_or_notify_cancel():
                continue  # cancelled while it waited
            try:
                job.future.set_result(self._run(job))
            except Exception as error:  # noqa: BLE001 - the caller gets it; the thread must outlive any one job
                job.future.set_exception(error)

    def _run(self, job: Job) -> Response:
        engine = self.engine()
        start = job.clock.now()

        def stopped() -> bool:
            return job.abandoned or self._closed or job.clock.now() - start > job.timeout_s

        response = engine.generate(job.body, stopped, exact=job.exact)
        if response is not None:
            return replace(response, latency_s=job.clock.now() - start)
        if job.abandoned or self._closed:
            raise ProviderUnavailable("the local model was closed")
        raise CallTimeout(f"the local model did not answer within {job.timeout_s:g} s")

    def _fail(self, job: Job) -> None:
        if job.future.set_running_or_notify_cancel():
            job.future.set_exception(ProviderUnavailable("the local model was closed"))


_models: dict[Path, tuple[LocalModel, int]] = {}
_models_lock = threading.Lock()


def acquire(weights: Path) -> LocalModel:
    """The process's one model of the file `weights`; pair each call with one `release`."""
    with _models_lock:
        model, users = _models.get(weights) or (LocalModel(lambda: LlamaEngine(weights)), 0)
        _models[weights] = (model, users + 1)
        return model


def release(weights: Path) -> None:
    """Gives up one use; the last one closes the model, which may block until a step of it has ended."""
    with _models_lock:
        model, users = _models.pop(weights)
        if users > 1:
            _models[weights] = (model, users - 1)
            return
    model.close()


@atexit.register
def _close_all() -> None:
    # The thread must not be inside llama.cpp while the interpreter is taken down.
    with _models_lock:
        models = [model for model, _ in _models.values()]
        _models.clear()
    for model in models:
        model.close()
