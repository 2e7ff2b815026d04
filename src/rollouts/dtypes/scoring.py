"""Rows in, scores out: samples, trajectories, metrics, evaluations."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from rollouts.dtypes.digests import digest_of
from rollouts.dtypes.messages import Message, Tool, Usage


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One row: what the template's placeholders are filled from, and what the answer should be.

    `id` names the row in reports and keys; two rows of one data set never share it.
    """

    inputs: Mapping[str, Any]
    ground_truth: Any = None
    id: str = ""

    def __getitem__(self, name: str) -> Any:
        return self.inputs[name]

    @property
    def digest(self) -> str:
        """Content key of inputs and ground truth, without the id."""
        cached = self.__dict__.get("_digest")
        if cached is None:
            cached = digest_of([dict(self.inputs), self.ground_truth])
            self.__dict__["_digest"] = cached
        return str(cached)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One model call of a trajectory. `module` names the module of the program that made it."""

    module: str
    usage: Usage
    cost_micros: int
    latency_s: float
    cached: bool = False
    key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectory:
    """What happened when a program ran on a sample.

    `messages` is the conversation of the module that answered last: prompt, answers, tool calls and results.
    `output` is the program's answer: the text of the last assistant message unless the program says otherwise.
    """

    messages: tuple[Message, ...]
    output: str
    calls: tuple[Call, ...] = ()

    @property
    def usage(self) -> Usage:
        if len(self.calls) == 1:
            return self.calls[0].usage
        total = Usage()
        for call in self.calls:
            total = total + call.usage
        return total

    @property
    def cost_micros(self) -> int:
        return sum(call.cost_micros for call in self.calls)

    @property
    def latency_s(self) -> float:
        """Seconds spent in model calls, waits for rate limits and retries left out."""
        return sum(call.latency_s for call in self.calls)


@dataclass(frozen=True, slots=True)
class Metric:
    """One measured number. Weight 0 means: reported, but not part of the score."""

    name: str
    value: float
    weight: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Metrics of one rollout. `feedback` is text for a reflecting optimizer; `modules` are per-module scores."""

    metrics: tuple[Metric, ...]
    feedback: str | None = None
    modules: Mapping[str, float] = field(default_factory=dict)

    @property
    def value(self) -> float:
        """Weighted mean of the metrics; NaN when no metric has weight."""
        if len(self.metrics) == 1 and self.metrics[0].weight:
            return self.metrics[0].value
        weight = sum(metric.weight for metric in self.metrics)
        if not weight:
            return math.nan
        return sum(metric.value * metric.weight for metric in self.metrics) / weight


ScoreFn = Callable[[Trajectory, Sample], "Score | float | Awaitable[Score | float]"]
"""(trajectory, sample) -> Score, or a plain number; may be async."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a rollout has no score. `kind` is the error's class name, `stage` is `call`, `score` or `timeout`."""

    kind: str
    message: str
    stage: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """One program on one sample: either a score or a failure, never both.

    `key` is the rollout's content key. `cached` says that it came from the store and cost nothing now.
    """

    key: str
    program: str
    sample_id: str
    repeat: int = 0
    score: Score | None = None
    failure: Failure | None = None
    output: str = ""
    usage: Usage = field(default_factory=Usage)
    cost_micros: int = 0
    latency_s: float = 0.0
    calls: int = 0
    cached: bool = False
    trajectory: Trajectory | None = None

    @property
    def value(self) -> float | None:
        """The score as a number; None for a failure."""
        return None if self.score is None else self.score.value


@runtime_checkable
class Environment(Protocol):
    """Tools for one sample. A fresh one is made per rollout and closed after it."""

    def tools(self) -> tuple[Tool, ...]:
        """The tools that the model may call."""
        ...

    async def call(self, name: str, arguments: Mapping[str, Any]) -> str:
        """Runs a tool; raises on wrong names or arguments, and the message goes back to the model."""
        ...

    async def close(self) -> None:
        """Frees what the environment holds."""
        ...


EnvironmentFactory = Callable[[dict[str, Any]], Environment]
