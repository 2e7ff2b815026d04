"""The thread and queue around an engine, with an engine that obeys the test."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import pytest

from rollouts.dtypes import Response
from rollouts.errors import CallTimeout, ConfigError, InvalidRequest, ProviderUnavailable
from rollouts.llm import local_model
from rollouts.llm.local_engine import Engine
from rollouts.llm.local_model import Job, LocalModel

WAIT_S = 5.0


class StillClock:
    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError


class FakeEngine:
    """Answers with the last message. A request that says `hold` waits until it is let go or stopped."""

    n_ctx = 100

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.exact: list[bool] = []
        self.held, self.go = threading.Event(), threading.Event()
        self.closed = False

    def generate(self, body: Mapping[str, Any], stopped: Callable[[], bool], *, exact: bool = True) -> Response | None:
        self.exact.append(exact)
        text = body["messages"][-1]["content"]
        self.seen.append(text)
        if text == "bad":
            raise InvalidRequest("bad")
        if text == "broken":
            raise KeyError("broken")
        while text == "hold" and not self.go.wait(0.001):
            self.held.set()
            if stopped():
                return None
        return Response(text=text)

    def count(self, text: str) -> int:
        return len(text)

    def prompt_bound(self, contents: Sequence[str]) -> int:
        return sum(map(len, contents))

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def model(engine: FakeEngine) -> Iterator[LocalModel]:
    model = LocalModel(lambda: engine)
    yield model
    model.close()


def ask(model: LocalModel, text: str, prefix: str = "p", clock: StillClock | None = None, exact: bool = True) -> Job:
    body = {"messages": [{"role": "system", "content": prefix}, {"role": "user", "content": text}]}
    job = Job(prefix=prefix, body=body, clock=clock or StillClock(), timeout_s=10, exact=exact)
    model.submit(job)
    return job


def answer(job: Job) -> str:
    return job.future.result(WAIT_S).text


def test_waiting_requests_run_by_prefix(model: LocalModel, engine: FakeEngine) -> None:
    first = ask(model, "hold", "z")
    engine.held.wait(WAIT_S)
    jobs = [ask(model, f"{prefix}{number}", prefix) for number in range(2) for prefix in "ab"]
    engine.go.set()
    assert [answer(job) for job in (first, *jobs)] == ["hold", "a0", "b0", "a1", "b1"]
    assert engine.seen == ["hold", "a0", "a1", "b0", "b1"]


def test_a_cancelled_request_that_waits_is_never_run(model: LocalModel, engine: FakeEngine) -> None:
    ask(model, "hold")
    engine.held.wait(WAIT_S)
    waiting, last = ask(model, "waiting"), ask(model, "last")
    assert waiting.future.cancel()
    engine.go.set()
    assert answer(last) == "last"
    assert "waiting" not in engine.seen


def test_an_abandoned_request_that_runs_is_stopped(model: LocalModel, engine: FakeEngine) -> None:
    held, last = ask(model, "hold"), ask(model, "last")
    engine.held.wait(WAIT_S)
    held.abandoned = True
    assert answer(last) == "last"
    assert held.future.exception(WAIT_S) is not None


def test_the_time_limit_counts_from_the_start_of_the_run(model: LocalModel, engine: FakeEngine) -> None:
    clock = StillClock()
    held, waiting = ask(model, "hold", clock=clock), ask(model, "waiting", clock=clock)
    engine.held.wait(WAIT_S)
    clock.time = 11.0
    with pytest.raises(CallTimeout, match="within 10 s"):
        held.future.result(WAIT_S)
    assert answer(waiting) == "waiting"


@pytest.mark.parametrize(("text", "kind"), [("bad", InvalidRequest), ("broken", KeyError)])
def test_a_failure_is_the_caller_s_and_the_next_request_runs(
    model: LocalModel, text: str, kind: type[Exception]
) -> None:
    failing, last = ask(model, text), ask(model, "last")
    assert isinstance(failing.future.exception(WAIT_S), kind)
    assert answer(last) == "last"


def test_exactness_is_passed_on(model: LocalModel, engine: FakeEngine) -> None:
    for exact in (True, False):
        answer(ask(model, "one", exact=exact))
    assert engine.exact == [True, False]


def test_closing_stops_the_running_and_fails_the_waiting(model: LocalModel, engine: FakeEngine) -> None:
    jobs = [ask(model, "hold"), ask(model, "waiting")]
    engine.held.wait(WAIT_S)
    model.close()
    for job in jobs:
        assert isinstance(job.future.exception(WAIT_S), ProviderUnavailable)
    assert engine.closed
    with pytest.raises(ProviderUnavailable):
        ask(model, "late")
    with pytest.raises(ProviderUnavailable):
        model.engine()


def test_a_model_that_does_not_load_fails_its_requests() -> None:
    def load() -> Engine:
        raise ConfigError("no such model")

    model = LocalModel(load)
    future: Future[Response] = ask(model, "one").future
    assert isinstance(future.exception(WAIT_S), ConfigError)
    model.close()


def test_one_model_per_file_freed_by_its_last_user(
    monkeypatch: pytest.MonkeyPatch, engine: FakeEngine, tmp_path
) -> None:
    monkeypatch.setattr(local_model, "LlamaEngine", lambda _: engine)
    one, two = local_model.acquire(tmp_path / "a.gguf"), local_model.acquire(tmp_path / "a.gguf")
    other = local_model.acquire(tmp_path / "b.gguf")
    assert one is two
    assert one is not other
    one.engine()
    local_model.release(tmp_path / "a.gguf")
    assert not engine.closed
    local_model.release(tmp_path / "a.gguf")
    assert engine.closed
    local_model.release(tmp_path / "b.gguf")
    assert local_model.acquire(tmp_path / "a.gguf") is not one
    local_model.release(tmp_path / "a.gguf")
