"""A program whose rollouts happen in a task app: any optimizer runs over it as over any other program."""

from __future__ import annotations

import random
import secrets
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

from rollouts.dtypes import (
    Agents,
    Message,
    Program,
    PromptTemplate,
    Sample,
    Score,
    Trace,
    Trajectory,
    as_program,
    canonical_json,
    digest,
)
from rollouts.dtypes.messages import exchange_problem
from rollouts.errors import ConfigError, EvaluationError, ProviderError, TaskAppError
from rollouts.llm.clock import Clock, SystemClock
from rollouts.llm.retry import RetryPolicy
from rollouts.taskapp.remote import RemoteApp
from rollouts.taskapp.rewards import score_of
from rollouts.taskapp.trials import TrialDesk, TrialSpec
from rollouts.taskapp.wire import request_body


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What every rollout of a job asks of the app, beside seed and inference URL.

    `policy` goes to `policy.config` (model, provider, temperature, ...), `env` to `env` (`env_name`, `config`).
    """

    policy: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, Any] = field(default_factory=dict)


def remote_program(
    app: RemoteApp,
    baseline: Program | PromptTemplate,
    desk: TrialDesk,
    *,
    asked: Asked | None = None,
    version: str = "",
    clock: Clock | None = None,
) -> Program:
    """`baseline`, which the app renders by itself, as a program that `app` runs: the start of an optimization.

    Every attempt of a rollout opens a trial at `desk`, whose URL the app calls its models at; there the baseline's
    texts become the candidate's. Samples are seeds: their input `seed` is what the app is asked for. Use `reward_of`
    as the score function. Rollouts are keyed by the app's URL, by what is asked and by `version`: nobody knows what
    code runs behind the URL, so give another version where old results must not count.
    """
    start = as_program(baseline)
    asked = asked or Asked()
    run = _RemoteRun(app=app, desk=desk, baseline=start, asked=asked, clock=clock or SystemClock())
    key = canonical_json([app.url, version, dict(asked.policy), dict(asked.env)])
    return Program(modules=start.modules, run=run, version=digest(key, start.digest))


def reward_of(trajectory: Trajectory, sample: Sample) -> Score:
    """The score function of a remote program: the reward that the app gave. Raises EvaluationError for other ones."""
    if trajectory.score is None:
        raise EvaluationError(f"sample {sample.id!r} has no reward: reward_of is for programs made by remote_program")
    return trajectory.score


@dataclass(frozen=True, slots=True, kw_only=True)
class _RemoteRun:
    """The run function of a remote program."""

    app: RemoteApp
    desk: TrialDesk
    baseline: Program
    asked: Asked
    clock: Clock
    rng: random.Random = field(default_factory=random.Random)

    async def __call__(self, sample: Sample, agents: Agents) -> Trajectory:
        """One rollout, tried again while that may help, each time as a trial of its own: what is left of an attempt
        that was given up can spend nothing."""
        seed, attempt = _seed(sample), 0
        while True:
            attempt += 1
            try:
                return await self._attempt(seed, agents)
            except (TaskAppError, ProviderError) as error:
                wait = self._wait(error, attempt)
                if wait is None:
                    raise
            await self.clock.sleep(wait)

    def _wait(self, error: TaskAppError | ProviderError, attempt: int) -> float | None:
        """Seconds until the next attempt; None when there is none."""
        policy, asked = RetryPolicy(), error.retry_after or 0.0
        if not error.retryable or attempt >= self.app.limits.max_attempts or asked > policy.max_retry_after_s:
            return None
        return max(asked, policy.backoff(attempt, self.rng.random()))

    async def _attempt(self, seed: int, agents: Agents) -> Trajectory:
        traces: list[Trace] = []
        trial_id = secrets.token_hex(16)
        correlation_id = f"trace_{trial_id}"
        with self._trial(trial_id, correlation_id, agents, traces) as url:
            body = request_body(
                seed=seed,
                correlation_id=correlation_id,
                run_id=f"prompt-learning-{seed}-{trial_id[:8]}",
                env=self.asked.env,
                policy={**self.asked.policy, "inference_url": url},
                max_time_s=self.app.limits.timeout_s,
            )
            answer = await self.app.rollout(body)
            score = score_of(answer)
        ended = whole(traces)
        for trace in ended:
            agents.trace(trace)
        return Trajectory(messages=(), output=ended[-1].output if ended else "", score=score)

    def _trial(
        self, trial_id: str, correlation_id: str, agents: Agents, traces: list[Trace]
    ) -> AbstractContextManager[str]:
        spec = TrialSpec(
            trial_id=trial_id,
            correlation_id=correlation_id,
            program=agents.program,
            baseline=self.baseline,
            module=next(iter(self.baseline.modules)),
            phase=agents.phase,
            repeat=agents.repeat,
            on_call=agents.note,
            on_trace=traces.append,
        )
        return self.desk.open(spec)


def whole(traces: Sequence[Trace]) -> list[Trace]:
    """The runs of modules, in the order in which they ended, from traces that are made call by call.

    An agent that calls its model again with the results of its tools makes a trace each time; the last one holds the
    whole exchange. An answer that is a tool call alone, as apps make a model give a label, is that call's arguments.
    """
    last = {(trace.module, canonical_json(_plain(trace.values))): trace for trace in traces}
    kept = {id(trace) for trace in last.values()}
    return [_answered(trace) for trace in traces if id(trace) in kept]


def _answered(trace: Trace) -> Trace:
    *before, reply = trace.steps or (Message("assistant", ""),)
    said = reply.content if reply.content.strip() else "\n".join(call.arguments for call in reply.tool_calls)
    steps = (*before, Message("assistant", said))
    return replace(trace, steps=steps if exchange_problem(steps) is None else steps[-1:])


def _plain(values: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in values.items()}


def _seed(sample: Sample) -> int:
    seed = sample.inputs.get("seed")
    if not isinstance(seed, int):
        raise ConfigError("the samples of a remote program are seeds: inputs={'seed': 0}; see RemoteApp.samples")
    return seed
