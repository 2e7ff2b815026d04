"""Calls that outlive a latency cap are cut; waits do not count; a known rollout that was too slow has no score."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from rollouts.budget import Budget, Constraints, Ledger
from rollouts.dtypes import Agent, Endpoint, Evaluation, Program, PromptTemplate, Request, Response, Sample
from rollouts.errors import CallTimeout, ProviderUnavailable, RateLimited
from rollouts.evaluation import Cell, Evaluator, FailureLimit, Task
from rollouts.evaluation.latency import slowest_runs
from rollouts.executors import LocalExecutor
from rollouts.llm import CallContext, RetryPolicy, wrap
from rollouts.store import MemoryStore, Store
from rollouts.testing import FakeClock, ScriptedLLM

ENDPOINT = Endpoint(provider="scripted", model="m")
SAMPLE = Sample(inputs={"text": "hello"}, ground_truth="ok", id="s")


class Paced(ScriptedLLM):
    """Answers after as many seconds as its prompt says, and holds to the endpoint's time limit as providers do."""

    def __init__(self, clock: FakeClock, pace: Mapping[str, float], before: Sequence[Exception] = ()) -> None:
        super().__init__(lambda request: "ok", clock=clock)
        self.clock, self.pace, self.errors = clock, pace, list(before)
        self.sent: list[str] = []

    async def complete(self, request: Request) -> Response:
        name = request.messages[0].content
        self.sent.append(name)
        if self.errors:
            raise self.errors.pop(0)
        seconds, limit = self.pace[name], request.endpoint.timeout_s
        await self.clock.sleep(min(seconds, limit))
        if seconds > limit:
            raise CallTimeout("no answer")
        return replace(await super().complete(request), latency_s=seconds)


def program(*names: str, at_once: bool = False, forgiving: bool = False) -> Program:
    async def run(sample: Sample, modules: Mapping[str, Agent]) -> Any:
        try:
            if at_once:
                return (await asyncio.gather(*(modules[name](sample.inputs) for name in names)))[-1]
            for name in names:
                answer = await modules[name](sample.inputs)
            return answer
        except Exception:
            if not forgiving:
                raise
            return "ok"

    templates = {name: PromptTemplate(f"I am {name}.", "{text}") for name in dict.fromkeys(names)}
    return Program(modules=templates, run=run, version="1")


class World:
    def __init__(
        self, pace: Mapping[str, float], *, store: Store | None = None, before: Sequence[Exception] = ()
    ) -> None:
        self.clock = FakeClock(auto=True)
        self.llm = Paced(self.clock, {f"I am {name}.": seconds for name, seconds in pace.items()}, before)
        self.store = store
        self.ledger = Ledger(Budget())

    async def rollout(self, program: Program, **limits: Any) -> Evaluation:
        context = CallContext(self.ledger, clock=self.clock, retry=RetryPolicy(base_s=3.0))
        constraints = Constraints(**limits)
        task = Task(endpoint=ENDPOINT, score_fn=lambda *_: 1.0, metric_id="one", constraints=constraints)
        evaluator = Evaluator(
            task,
            {ENDPOINT.connection: wrap(self.llm, context)},
            executor=LocalExecutor(4),
            ledger=self.ledger,
            store=self.store,
            run_id="r",
        )
        (evaluation,) = await evaluator.evaluate([Cell(program, SAMPLE)])
        return evaluation


async def test_a_call_is_cut_at_the_cap_and_not_tried_again() -> None:
    world = World({"a": 30.0})
    evaluation = await world.rollout(program("a"), max_latency_s=2.0)
    assert evaluation.score is None
    assert evaluation.failure is not None
    assert (evaluation.failure.kind, evaluation.failure.stage) == ("LatencyCapExceeded", "latency")
    assert world.clock.now() == 2.0
    assert len(world.llm.sent) == 1
    assert world.ledger.spent.calls == 1, "it may have been billed"


@pytest.mark.parametrize("at_once", [False, True])
async def test_the_cap_of_a_rollout_is_on_the_sum_of_its_calls(at_once: bool) -> None:
    both = program("a", "b", at_once=at_once)
    assert (await World({"a": 1.0, "b": 0.9}).rollout(both, max_latency_s=2.0)).value == 1.0
    evaluation = await World({"a": 1.0, "b": 1.1}).rollout(both, max_latency_s=2.0)
    assert evaluation.failure is not None
    assert evaluation.failure.module == ""


async def test_what_is_left_bounds_the_next_call() -> None:
    world = World({"a": 1.5, "b": 30.0})
    await world.rollout(program("a", "b"), max_latency_s=2.0)
    assert world.clock.now() == 2.0
    spent = World({"a": 2.0, "b": 1.0})
    assert (await spent.rollout(program("a", "b"), max_latency_s=2.0)).failure is not None
    assert len(spent.llm.sent) == 1, "nothing is left for a second call"


async def test_the_cap_of_a_module_cuts_that_module_alone() -> None:
    modules = {"a": Constraints(max_latency_s=1.0)}
    assert (await World({"a": 0.9, "b": 9.0}).rollout(program("a", "b", "a"), modules=modules)).value == 1.0
    evaluation = await World({"a": 1.1, "b": 0.1}).rollout(program("b", "a"), modules=modules)
    assert evaluation.failure is not None
    assert evaluation.failure.module == "a"


async def test_a_program_that_goes_on_all_the_same_has_no_score() -> None:
    evaluation = await World({"a": 3.0}).rollout(program("a", forgiving=True), max_latency_s=1.0)
    assert evaluation.score is None
    assert evaluation.failure is not None
    assert evaluation.failure.stage == "latency"


async def test_waits_for_rate_limits_and_retries_do_not_count() -> None:
    before = [RateLimited("429", retry_after=40), ProviderUnavailable("503"), RateLimited("429", retry_after=20)]
    world = World({"a": 0.9}, before=before)
    evaluation = await world.rollout(program("a"), max_latency_s=1.0, max_p95_latency_s=1.0)
    assert evaluation.value == 1.0
    assert evaluation.latency_s == 0.9
    assert world.clock.now() > 60


async def test_an_endpoints_own_time_limit_is_no_violation() -> None:
    world = World({"a": 90.0})
    evaluation = await world.rollout(program("a"), max_latency_s=70.0)
    assert evaluation.failure is not None
    assert evaluation.failure.kind == "CallTimeout"


async def test_a_provider_that_knows_no_limit_is_found_out_afterwards() -> None:
    class Late(Paced):
        async def complete(self, request: Request) -> Response:
            response = await ScriptedLLM.complete(self, request)
            return replace(response, latency_s=5.0)

    world = World({})
    world.llm = Late(world.clock, {})
    evaluation = await world.rollout(program("a"), max_latency_s=1.0)
    assert evaluation.failure is not None
    assert evaluation.failure.stage == "latency"


@pytest.mark.parametrize("names", [("a",), ("main",), ("a", "b"), ("a", "b", "a")])
async def test_a_known_rollout_that_was_too_slow_has_no_score(names: tuple[str, ...]) -> None:
    store = MemoryStore()
    pace = dict.fromkeys(names, 1.0)
    first = await World(pace, store=store).rollout(program(*names))
    assert first.value == 1.0
    for limits in ({"max_latency_s": 0.5}, {"modules": {names[-1]: Constraints(max_latency_s=0.5)}}):
        world = World(pace, store=store)
        again = await world.rollout(program(*names), **limits)
        assert again.cached
        assert again.failure is not None
        assert again.failure.stage == "latency"
        assert not world.llm.sent
    kept = await World(pace, store=store).rollout(program(*names), max_latency_s=1.0 * len(names))
    assert kept.value == 1.0
    assert slowest_runs(kept, dict.fromkeys(names)) == slowest_runs(first, dict.fromkeys(names)) == pace


async def test_cut_rollouts_do_not_stop_a_run() -> None:
    evaluation = await World({"a": 3.0}).rollout(program("a"), max_latency_s=1.0)
    limit = FailureLimit(0.0, at_least=1)
    limit.count(evaluation.failure)
    assert (limit.total, limit.failed) == (1, 0)
