"""Programs and metrics of the user's own: what they catch, what they wait for, and how long they take."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from rollouts.budget import Budget
from rollouts.dtypes import Agent, Program, PromptTemplate, Request, Response, Sample
from rollouts.errors import (
    AuthenticationFailed,
    BudgetExhausted,
    ConfigError,
    InvalidRequest,
    ModelNotFound,
    ProviderUnavailable,
    StoreError,
    TooManyFailures,
)
from rollouts.evaluation import FailureLimit, Task, evaluate_sample
from rollouts.evaluation.metrics import exact_match
from rollouts.evaluation.scoring import Scoring
from rollouts.testing import ScriptedLLM

from .kit import ENDPOINT, PROGRAM, TEMPLATE, cells, evaluator, kinds, right, samples

SAMPLE = samples(1)[0]


def task(score_fn: Any = right) -> Task:
    return Task(endpoint=ENDPOINT, score_fn=score_fn)


async def careful(sample: Sample, agents: Mapping[str, Agent]) -> str:
    try:
        return (await agents["main"](sample.inputs)).output
    except Exception:
        return "answer 0"


async def worried(sample: Sample, agents: Mapping[str, Agent]) -> str:
    try:
        return (await agents["main"](sample.inputs)).output
    except Exception as error:
        raise ValueError("no answer") from error


async def at_once(sample: Sample, agents: Mapping[str, Agent]) -> str:
    await asyncio.gather(*(agents["main"](sample.inputs) for _ in range(2)), return_exceptions=True)
    return "answer 0"


PROGRAMS = [replace(PROGRAM, run=run, version="1") for run in (careful, worried, at_once)]
programs = pytest.mark.parametrize("program", PROGRAMS, ids=["careful", "worried", "at_once"])


# --- errors that a program catches -----------------------------------------------------------------------------------


@programs
async def test_a_used_up_budget_is_a_missing_rollout_whatever_the_program_makes_of_it(program: Program) -> None:
    ev = evaluator(budget=Budget(max_calls=3), slots=1)
    out = await ev.evaluate(cells(6, program))
    assert kinds(out)["budget:BudgetExhausted"] == 3
    assert (ev.progress.done, ev.ledger.spent.rollouts) == (3, 3)


@programs
@pytest.mark.parametrize("kind", [AuthenticationFailed, ModelNotFound, ConfigError, StoreError])
async def test_errors_that_all_rollouts_share_end_the_run_whatever_the_program_makes_of_them(
    program: Program, kind: type[Exception]
) -> None:
    with pytest.raises(kind, match="wrong"):
        await evaluator(ScriptedLLM(lambda request: kind("it is wrong"))).evaluate(cells(3, program))


@programs
async def test_a_call_that_a_stop_gave_up_is_a_missing_rollout_whatever_the_program_makes_of_it(
    program: Program,
) -> None:
    ended = ProviderUnavailable("503")
    ended.run_ending = True
    evaluation = await evaluate_sample(program, SAMPLE, task(), {ENDPOINT.connection: ScriptedLLM([ended, ended])})
    assert evaluation.failure is not None
    assert evaluation.failure.stage == "budget"
    assert evaluation.score is None


async def test_the_metric_is_not_asked_about_what_did_not_take_place() -> None:
    def metric(trajectory: Any, sample: Any) -> float:
        raise AssertionError("asked")

    used_up = BudgetExhausted("calls", cap=1, committed=1, wanted=1)
    evaluation = await evaluate_sample(PROGRAMS[0], SAMPLE, task(metric), {ENDPOINT.connection: ScriptedLLM([used_up])})
    assert evaluation.failure is not None
    assert evaluation.failure.stage == "budget"


async def test_a_failed_call_that_the_program_makes_up_for_is_its_own_business() -> None:
    async def run(sample: Sample, agents: Mapping[str, Agent]) -> str:
        try:
            return (await agents["main"](sample.inputs)).output
        except InvalidRequest:
            return (await agents["other"](sample.inputs)).output

    program = Program(modules={"main": TEMPLATE, "other": PromptTemplate("Else.", "{q}")}, run=run)
    llm = ScriptedLLM([InvalidRequest("too long"), "answer 0"])
    evaluation = await evaluate_sample(program, SAMPLE, task(), {ENDPOINT.connection: llm})
    assert evaluation.value == 1.0


# --- errors of the program itself ------------------------------------------------------------------------------------


async def forgetful(sample: Sample, agents: Mapping[str, Agent]) -> Any:
    await agents["main"](sample.inputs)


async def mistaken(sample: Sample, agents: Mapping[str, Agent]) -> Any:
    return {"a": (await agents["main"](sample.inputs)).output}["b"]


@pytest.mark.parametrize(("run", "words"), [(forgetful, "is a `return` missing"), (mistaken, "KeyError: 'b'")])
async def test_errors_of_the_program_are_not_told_as_errors_of_the_model(run: Any, words: str) -> None:
    ev = evaluator(limit=FailureLimit(0.5))
    with pytest.raises(TooManyFailures, match=f"the program failed on .*{words}"):
        await ev.evaluate(cells(20, replace(PROGRAM, run=run)))


async def test_an_error_that_a_call_raised_stays_one_of_the_call() -> None:
    class Odd(ScriptedLLM):
        async def complete(self, request: Request) -> Response:
            raise RuntimeError("the provider is broken")

    evaluation = await evaluate_sample(PROGRAM, SAMPLE, task(), {ENDPOINT.connection: Odd([])})
    assert evaluation.failure is not None
    assert (evaluation.failure.stage, evaluation.failure.kind) == ("call", "RuntimeError")


# --- cancellation ----------------------------------------------------------------------------------------------------


async def cancelled_by_itself(*_: Any) -> Any:
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    await future


@pytest.mark.parametrize("where", ["program", "score"])
async def test_something_else_that_is_cancelled_fails_its_rollout_alone(where: str) -> None:
    async def run(sample: Sample, agents: Mapping[str, Agent]) -> Any:
        answer = await agents["main"](sample.inputs)
        return await cancelled_by_itself() if where == "program" and sample.id == "1" else answer

    async def metric(trajectory: Any, sample: Sample) -> float:
        return await cancelled_by_itself() if where == "score" and sample.id == "1" else 1.0

    ev = evaluator(score_fn=metric)
    assert kinds(await ev.evaluate(cells(5, replace(PROGRAM, run=run)))) == {"ok": 4, f"{where}:CancelledError": 1}


@pytest.mark.parametrize("timeout_s", [None, 60.0])
async def test_a_rollout_that_is_cancelled_is_cancelled(timeout_s: float | None) -> None:
    async def metric(trajectory: Any, sample: Sample) -> float:
        await asyncio.sleep(60)
        return 1.0

    ev = evaluator(score_fn=metric, timeout_s=timeout_s)
    running = asyncio.create_task(ev.evaluate(cells(3)))
    await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert ev.progress.done == 0


# --- the run's time --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["program", "score"])
async def test_the_runs_time_bounds_programs_and_metrics(where: str) -> None:
    async def hang(*_: Any) -> Any:
        await asyncio.Event().wait()

    async def run(sample: Sample, agents: Mapping[str, Agent]) -> Any:
        answer = await agents["main"](sample.inputs)
        return await hang() if where == "program" and sample.id == "1" else answer

    async def metric(trajectory: Any, sample: Sample) -> Any:
        return await hang() if where == "score" and sample.id == "1" else 1.0

    ev = evaluator(score_fn=metric, budget=Budget(max_seconds=0.2))
    async with asyncio.timeout(30):
        out = await ev.evaluate(cells(4, replace(PROGRAM, run=run)))
    assert kinds(out) == {"ok": 3, "budget:BudgetExhausted": 1}
    assert "0.2 seconds is used up" in str(out[1].failure)
    assert (ev.ledger.spent.rollouts, ev.ledger.committed.rollouts) == (3, 3)
    assert kinds(await ev.evaluate(cells(6)[4:])) == {"budget:BudgetExhausted": 2}


# --- metrics that take long ------------------------------------------------------------------------------------------


class Sleepy:
    """Takes long from its `after`-th call on, and notes in which threads it ran, and how many calls at once."""

    def __init__(self, after: int = 0) -> None:
        self.after = after
        self.threads: list[str] = []
        self.samples: list[str] = []
        self.running = self.most = 0

    def __call__(self, trajectory: Any, sample: Sample) -> Any:
        self.running += 1
        self.most = max(self.most, self.running)
        if len(self.threads) >= self.after:
            time.sleep(0.02)
        self.threads.append(threading.current_thread().name)
        self.samples.append(sample.id)
        self.running -= 1
        if sample.id == "7":
            raise SystemExit(3)
        return right(trajectory, sample)


async def test_a_metric_that_takes_long_leaves_the_event_loop() -> None:
    metric = Sleepy(after=4)
    ev = evaluator(score_fn=metric, slots=4)
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.001)
            ticks += 1

    ticking = asyncio.create_task(tick())
    out = await ev.evaluate(cells(16))
    ticking.cancel()
    assert kinds(out) == {"ok": 15, "score:SystemExit": 1}
    here = threading.current_thread().name
    assert metric.threads == [here] * 5 + ["rollouts-metric"] * 11
    assert metric.samples == [str(i) for i in range(16)]
    assert metric.most == 1
    assert ticks > 50
    ev.close()


async def test_the_thread_of_a_metric_ends_with_its_evaluator() -> None:
    ev = evaluator(score_fn=Sleepy())
    await ev.evaluate(cells(3))
    (thread,) = (thread for thread in threading.enumerate() if thread.name == "rollouts-metric")
    ev.close()
    thread.join(10)
    assert not thread.is_alive()


async def test_quick_and_async_and_built_in_metrics_stay_in_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []
    monkeypatch.setattr("rollouts.evaluation.scoring._Thread", lambda: started.append("thread"))

    async def looked_up(trajectory: Any, sample: Sample) -> float:
        await asyncio.sleep(0.02)
        return 1.0

    def made(trajectory: Any, sample: Sample) -> Any:
        time.sleep(0.02)
        return looked_up(trajectory, sample)

    for metric in (right, looked_up, made, exact_match()):
        assert kinds(await evaluator(score_fn=metric).evaluate(cells(3))) == {"ok": 3}
    assert not started


async def test_what_has_not_ended_within_the_grace_of_a_stop_is_missing() -> None:
    async def metric(trajectory: Any, sample: Sample) -> float:
        await asyncio.sleep(0 if int(sample.id) < 2 else 60)
        return 1.0

    ev = evaluator(score_fn=metric, slots=4)
    running = asyncio.create_task(ev.evaluate(cells(9)))
    while ev.progress.done < 2 or len(ev._in_flight) < 4:
        await asyncio.sleep(0.001)
    ev.stop("interrupted", grace_s=0.05)
    out = await asyncio.wait_for(running, 10)
    assert kinds(out) == {"ok": 2, "budget:BudgetExhausted": 7}
    assert {one.failure.message for one in out if one.failure is not None} == {"interrupted"}
    assert (ev.ledger.spent.rollouts, ev.progress.failed) == (2, 0)
    assert ev.ledger.committed == ev.ledger.spent


async def test_a_metric_that_hangs_in_its_thread_is_bounded_by_the_time_limit() -> None:
    gate = threading.Event()

    def metric(trajectory: Any, sample: Sample) -> float:
        if sample.id == "0":
            time.sleep(0.02)
        else:
            gate.wait(30)
        return 1.0

    ev = evaluator(score_fn=metric, slots=1, timeout_s=0.1)
    assert kinds(await ev.evaluate(cells(3))) == {"ok": 1, "timeout:RolloutTimeout": 2}
    gate.set()
    ev.close()


async def test_what_a_metric_raises_or_returns_in_its_thread_is_what_it_raises_or_returns() -> None:
    async def later() -> float:
        return 0.5

    results = iter([1.0, 0.25, later(), StopIteration("over")])

    def metric(trajectory: Any, sample: Sample) -> Any:
        time.sleep(0.02)
        result = next(results)
        if isinstance(result, Exception):
            raise result
        return result

    scoring = Scoring(metric)
    nothing: Any = None
    assert scoring(nothing, nothing) == 1.0
    assert [await scoring(nothing, nothing) for _ in range(2)] == [0.25, 0.5]
    with pytest.raises(RuntimeError, match="StopIteration"):
        await scoring(nothing, nothing)
    scoring.close()
