"""One program on one sample: run it, score it, and turn what goes wrong into a `Failure`."""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

from rollouts.agents import AgentLimits, Recorder, opened, run_agent
from rollouts.budget import Constraints
from rollouts.dtypes import (
    Agents,
    Call,
    Endpoint,
    EnvironmentFactory,
    Evaluation,
    Failure,
    Message,
    Program,
    PromptTemplate,
    Request,
    ResponseFormat,
    Sample,
    Score,
    ScoreFn,
    StopReason,
    ToolUse,
    Trace,
    Trajectory,
    Usage,
    digest,
    render,
)
from rollouts.errors import (
    FATAL,
    AgentError,
    BudgetExhausted,
    EvaluationError,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
    RolloutsError,
)
from rollouts.evaluation.latency import LatencyWatch, cut_failure, within_caps
from rollouts.evaluation.metrics import metric_identity, to_score
from rollouts.llm.client import Client


@dataclass(frozen=True, kw_only=True)
class Task:
    """How rollouts of one run are made and scored.

    `endpoint` is the model; `endpoints` overrides it for some modules. `metric_id` names the score function in keys
    (default: worked out from the function's name and source). `timeout_s` bounds one rollout, scoring included; of
    `constraints` it is the caps on latency (`max_latency_s`) that count here.
    """

    endpoint: Endpoint
    score_fn: ScoreFn
    endpoints: Mapping[str, Endpoint] = field(default_factory=dict)
    metric_id: str = ""
    environment_factory: EnvironmentFactory | None = None
    response_format: ResponseFormat | None = None
    timeout_s: float | None = None
    limits: AgentLimits = field(default_factory=AgentLimits)
    constraints: Constraints = field(default_factory=Constraints)

    @property
    def digest(self) -> str:
        """Content key of everything but program and sample that decides a rollout's score."""
        cached = self.__dict__.get("_digest")
        if cached is None:
            parts = [self.endpoint.digest, self.metric_id or metric_identity(self.score_fn)]
            for name in sorted(self.endpoints):
                parts += [name, self.endpoints[name].digest]
            if self.environment_factory is not None:
                parts += [metric_identity(self.environment_factory), repr(self.limits)]
            if self.response_format is not None:
                parts.append(repr(self.response_format))
            cached = digest(*parts)
            self.__dict__["_digest"] = cached
        return str(cached)


def rollout_key(program: Program, sample: Sample, task: Task, repeat: int = 0) -> str:
    """The one key of a rollout: program, sample, endpoint with sampling, metric, repeat."""
    return digest(program.digest, sample.digest, task.digest, str(repeat))


@dataclass(slots=True, kw_only=True)
class _Run:
    """One rollout while it runs: how its modules call their models, and what they did so far."""

    task: Task
    clients: Mapping[str, Client]
    sample: Sample
    phase: str
    repeat: int
    calls: list[Call] = field(default_factory=list)
    traces: list[Trace] = field(default_factory=list)
    tool_uses: list[ToolUse] = field(default_factory=list)
    stop_reason: StopReason = "answer"
    cut: bool = False
    watch: LatencyWatch | None = None
    failed: BaseException | None = None
    """What the module call that failed last raised."""
    ended: Exception | None = None
    """The first error of a module call that says that the run cannot go on, whatever the program made of it."""

    def agents(self, program: Program) -> Agents:
        """What the program's run function is given."""
        return Agents(
            modules={name: _Module(name, template, self) for name, template in program.modules.items()},
            program=program,
            phase=self.phase,
            repeat=self.repeat,
            note=self.calls.append,
            trace=self.traces.append,
        )

    def note(self, module: str, values: Mapping[str, Any], prompt: int, recorder: Recorder) -> None:
        """Takes over what one run of a module did, to its end or not; its first `prompt` messages were its prompt."""
        self.calls.extend(recorder.calls)
        self.tool_uses.extend(recorder.tool_uses)
        self.traces.append(Trace(module=module, values=values, steps=tuple(recorder.messages[prompt:])))
        self.cut = self.cut or recorder.cut
        if recorder.stop_reason != "answer":
            self.stop_reason = recorder.stop_reason

    def met(self, error: Exception | SystemExit) -> None:
        """Takes note of what a module call raised."""
        self.failed = error
        if isinstance(error, (BudgetExhausted, *FATAL)) or (isinstance(error, ProviderError) and error.run_ending):
            self.ended = self.ended or error

    def trajectory(
        self, messages: tuple[Message, ...] = (), output: str = "", score: Score | None = None
    ) -> Trajectory:
        """What was done so far."""
        return Trajectory(
            messages=messages,
            output=output,
            calls=tuple(self.calls),
            traces=tuple(self.traces),
            tool_uses=tuple(self.tool_uses),
            stop_reason=self.stop_reason,
            cut=self.cut,
            score=score,
        )


class _Module:
    """One module of a program during one rollout."""

    __slots__ = ("_name", "_run", "_template")

    def __init__(self, name: str, template: PromptTemplate, run: _Run) -> None:
        self._name, self._template, self._run = name, template, run

    async def __call__(self, values: Mapping[str, Any]) -> Trajectory:
        try:
            return await self._called(values)
        except (Exception, SystemExit) as error:
            self._run.met(error)
            raise

    async def _called(self, values: Mapping[str, Any]) -> Trajectory:
        run, task = self._run, self._run.task
        endpoint = task.endpoints.get(self._name, task.endpoint)
        request = Request(
            endpoint=endpoint,
            messages=render(self._template, values),
            response_format=task.response_format,
            repeat=run.repeat,
            phase=run.phase,
            module=self._name,
        )
        client = run.clients[endpoint.connection]
        if run.watch is not None:
            client = run.watch.client(client, self._name)
        recorder = Recorder()
        try:
            if task.environment_factory is None:
                return await run_agent(request, client, module=self._name, recorder=recorder)
            sample = {**run.sample.inputs, **values}
            async with opened(task.environment_factory, sample, task.limits) as environment:
                return await run_agent(
                    request,
                    client,
                    module=self._name,
                    environment=environment,
                    limits=task.limits,
                    recorder=recorder,
                )
        finally:
            run.note(self._name, values, len(request.messages), recorder)


async def evaluate_sample(
    program: Program | PromptTemplate,
    sample: Sample,
    task: Task,
    clients: Mapping[str, Client],
    *,
    repeat: int = 0,
    phase: str = "task",
    key: str | None = None,
    score_fn: ScoreFn | None = None,
) -> Evaluation:
    """Runs `program` on `sample` and scores the outcome.

    `clients` maps `endpoint.connection` to a client; `key` is the rollout's key where it is known already; `score_fn`
    is called in the place of the task's. What goes wrong with this rollout (a call, the agent, the program, the metric,
    the time limit) becomes the evaluation's `failure`, and its trajectory holds what was done and paid for until then.
    `BudgetExhausted` becomes a failure of stage `budget`, which means that the rollout did not take place; so does a
    call that was given up because the run is to end. Errors that every rollout would meet (`FATAL`) are raised. A
    program that catches such an error of its modules changes nothing about that.
    """
    if isinstance(program, PromptTemplate):
        program = Program.single(program)
    watch = LatencyWatch(task.constraints) if task.constraints.cuts else None
    run = _Run(task=task, clients=clients, sample=sample, phase=phase, repeat=repeat, watch=watch)
    key = key or rollout_key(program, sample, task, repeat)
    limit = None if task.timeout_s is None else asyncio.timeout(task.timeout_s)
    stage = "program"
    trajectory: Trajectory | None = None
    score: Score | None = None
    failure: Failure | None = None
    try:
        async with limit or nullcontext():
            answer = await program.run(sample, run.agents(program))
            if run.ended is None:
                trajectory = _trajectory(answer, run)
                stage = "score"
                score = await _score(score_fn or task.score_fn, trajectory, sample)
    except FATAL:
        raise
    except (Exception, SystemExit, asyncio.CancelledError) as error:  # the one place where a failure becomes data
        if isinstance(error, asyncio.CancelledError) and _cancelled():
            raise
        late = f"no result within {task.timeout_s:g} s" if limit is not None and limit.expired() else ""
        at_model = error is run.failed or (stage == "program" and isinstance(error, ProviderError))
        failure = _failure(error, "call" if at_model else stage, late)
    if isinstance(run.ended, FATAL):
        raise run.ended
    if run.ended is not None:
        failure = _unpaid(run.ended)
    if watch is not None and watch.broken is not None and (failure is None or failure.stage != "budget"):
        failure = cut_failure(watch.broken)
    if trajectory is None and run.calls:
        trajectory = run.trajectory()
    evaluation = _evaluation(key, program, sample, repeat, trajectory, score, failure, run.calls)
    return evaluation if watch is None else within_caps(evaluation, task.constraints, program.modules)


def _unpaid(error: Exception) -> Failure:
    return Failure(kind="BudgetExhausted", message=str(error), stage="budget")


def _trajectory(answer: Trajectory | str, run: _Run) -> Trajectory:
    if isinstance(answer, str):
        return run.trajectory(output=answer)
    if not isinstance(answer, Trajectory):
        raise TypeError(
            f"the program returned {type(answer).__name__}, not a text or a Trajectory: is a `return` missing?"
        )
    return run.trajectory(answer.messages, answer.output, answer.score)


async def _score(score_fn: ScoreFn, trajectory: Trajectory, sample: Sample) -> Score:
    result = score_fn(trajectory, sample)
    if inspect.isawaitable(result):
        result = await result
    score = to_score(result)
    if not math.isfinite(score.value):
        raise EvaluationError(
            f"the metric returned {score.value} for sample {sample.id!r}; return a finite number between 0 and 1"
        )
    return score


def _cancelled() -> bool:
    """Whether it is the rollout itself that is cancelled, and not something that its program or metric waited for."""
    me = asyncio.current_task()
    return me is None or me.cancelling() > 0


def _failure(error: BaseException, stage: str, late: str) -> Failure:
    """`late` says that the rollout's time is up."""
    match error:
        case BudgetExhausted():
            return _unpaid(error)
        case TimeoutError() if late:
            return Failure(kind="RolloutTimeout", message=late, stage="timeout")
        case TimeoutError():
            message = "the program or the metric timed out"
        case asyncio.CancelledError():
            message = "the program or the metric waited for something that was cancelled"
        case SystemExit():
            message = f"it tried to end the process: {error!r}"
        case _:
            message = str(error) if isinstance(error, RolloutsError) else f"{error}" or repr(error)
    stage = "agent" if isinstance(error, AgentError) else stage
    outage = isinstance(error, (RateLimited, ProviderUnavailable))
    return Failure(kind=type(error).__name__, message=message[:2000], stage=stage, outage=outage)


def _evaluation(
    key: str,
    program: Program,
    sample: Sample,
    repeat: int,
    trajectory: Trajectory | None,
    score: Score | None,
    failure: Failure | None,
    calls: list[Call],
) -> Evaluation:
    usage, cost, latency = Usage(), 0, 0.0
    if len(calls) == 1:
        usage, cost, latency = calls[0].usage, calls[0].cost_micros, calls[0].latency_s
    else:
        for call in calls:
            usage, cost, latency = usage + call.usage, cost + call.cost_micros, latency + call.latency_s
    return Evaluation(
        key=key,
        program=program.digest,
        sample_id=sample.id,
        repeat=repeat,
        score=score if failure is None else None,
        failure=failure,
        output=trajectory.output if trajectory is not None else "",
        usage=usage,
        cost_micros=cost,
        latency_s=latency,
        calls=len(calls),
        trajectory=trajectory,
    )
