"""Calls that another process makes for a rollout count as the rollout's own."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from rollouts.budget import Constraints
from rollouts.dtypes import (
    Agents,
    Call,
    Endpoint,
    Evaluation,
    Message,
    Metric,
    Program,
    PromptTemplate,
    Sample,
    Score,
    Trace,
    Trajectory,
    Usage,
)
from rollouts.evaluation import Task, evaluate_sample
from rollouts.testing import ScriptedLLM

ENDPOINT = Endpoint(provider="sim", model="m")
TEMPLATE = PromptTemplate("Answer.", "{text}")
SAMPLE = Sample(inputs={"text": "hello"}, id="1")
TRACE = Trace(module="main", values={"text": "elsewhere"}, steps=(Message("assistant", "hi"),))


def call(latency_s: float = 0.5) -> Call:
    usage = Usage(prompt_tokens=10, completion_tokens=2)
    return Call(module="main", usage=usage, cost_micros=7, latency_s=latency_s)


def judged(trajectory: Trajectory, sample: Sample) -> Score:
    assert trajectory.score is not None
    return trajectory.score


Run = Callable[[Sample, Agents], object]


async def evaluated(run: Run, **settings: object) -> Evaluation:
    program = Program(modules={"main": TEMPLATE}, run=run)  # type: ignore[arg-type]
    task = Task(endpoint=ENDPOINT, score_fn=judged, **settings)  # type: ignore[arg-type]
    clients = {ENDPOINT.connection: ScriptedLLM(lambda request: "here")}
    return await evaluate_sample(program, SAMPLE, task, clients, phase="task/search", repeat=3)


async def test_the_run_function_knows_its_rollout() -> None:
    seen: list[Agents] = []

    async def run(sample: Sample, agents: Agents) -> Trajectory:
        seen.append(agents)
        return Trajectory(messages=(), output="x", score=Score(metrics=(Metric("m", 1.0),)))

    await evaluated(run)
    (agents,) = seen
    assert (agents.phase, agents.repeat, list(agents), len(agents)) == ("task/search", 3, ["main"], 1)
    assert agents.program.modules["main"] is TEMPLATE


async def test_noted_calls_and_traces_stand_beside_the_modules_own() -> None:
    async def run(sample: Sample, agents: Agents) -> Trajectory:
        agents.note(call())
        agents.trace(TRACE)
        answer = await agents["main"](sample.inputs)
        return Trajectory(messages=(), output=answer.output, score=Score(metrics=(Metric("m", 0.25),)))

    evaluation = await evaluated(run)
    assert evaluation.value == 0.25
    assert evaluation.calls == 2
    assert evaluation.cost_micros == 7
    assert evaluation.latency_s >= 0.5
    assert evaluation.usage.prompt_tokens > 10
    assert evaluation.trajectory is not None
    assert [trace.output for trace in evaluation.trajectory.traces] == ["hi", "here"]


async def test_a_rollout_that_fails_keeps_what_was_noted() -> None:
    async def run(sample: Sample, agents: Agents) -> str:
        agents.note(call())
        agents.trace(TRACE)
        raise ValueError("the other side is gone")

    evaluation = await evaluated(run)
    assert evaluation.failure is not None
    assert (evaluation.failure.kind, evaluation.calls, evaluation.cost_micros) == ("ValueError", 1, 7)
    assert evaluation.trajectory is not None
    assert evaluation.trajectory.traces == (TRACE,)


@pytest.mark.parametrize(("cap", "scored"), [(2.0, True), (0.8, False)])
async def test_latency_caps_hold_for_noted_calls(cap: float, scored: bool) -> None:
    async def run(sample: Sample, agents: Agents) -> Trajectory:
        agents.note(call())
        agents.note(call())
        return Trajectory(messages=(), output="x", score=Score(metrics=(Metric("m", 1.0),)))

    evaluation = await evaluated(run, constraints=Constraints(max_latency_s=cap))
    assert (evaluation.score is not None) is scored
    assert scored or (evaluation.failure is not None and evaluation.failure.stage == "latency")
