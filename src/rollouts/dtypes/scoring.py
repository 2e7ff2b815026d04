"""Rows in, scores out: samples, trajectories, metrics, evaluations."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from rollouts.dtypes.digests import digest_of
from rollouts.dtypes.messages import Message, Usage


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
    """One model call of a trajectory: `turn` counts the calls of one run of `module` from 1.

    `latency_s` is the model's time in seconds; `cost_micros` are millionths of a dollar, `saved_micros` those
    that were not paid because the answer was known.
    """

    module: str
    usage: Usage
    cost_micros: int
    latency_s: float
    cached: bool = False
    key: str = ""
    turn: int = 1
    saved_micros: int = 0

    def to_json(self) -> list[Any]:
        """The fields as a JSON list; `from_json` reads it back."""
        usage = [self.usage.prompt_tokens, self.usage.completion_tokens, self.usage.cached_tokens]
        return [self.module, *usage, self.cost_micros, self.latency_s, self.cached, self.turn, self.saved_micros]

    @classmethod
    def from_json(cls, data: Sequence[Any]) -> Call:
        """The inverse of `to_json`; what an older version left out has its default."""
        module, prompt, completion, cached_tokens, micros, latency_s, cached, turn, saved = [
            *data,
            *_UNSAID[len(data) :],
        ]
        return cls(
            module=module,
            usage=Usage(prompt_tokens=prompt, completion_tokens=completion, cached_tokens=cached_tokens),
            cost_micros=micros,
            latency_s=latency_s,
            cached=cached,
            turn=turn,
            saved_micros=saved,
        )


_UNSAID: tuple[Any, ...] = ("", 0, 0, 0, 0, 0.0, False, 1, 0)

ToolError = Literal["unknown_tool", "bad_arguments", "raised", "timeout"]
StopReason = Literal["answer", "turn_limit", "repeated_calls"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolUse:
    """One tool call that was answered. `turn` is that of the model call which asked for it.

    `error` says why it has no result: there is no such tool, its arguments are no JSON object that fits the schema,
    it raised, or it took too long; the model was told so. `output_chars` is the result's length before it was cut.
    """

    module: str
    turn: int
    name: str
    latency_s: float
    output_chars: int
    error: ToolError | None = None
    cut: bool = False

    def to_json(self) -> dict[str, Any]:
        """The fields as a JSON object; `ToolUse(**data)` reads it back."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """One run of one module: what its template was filled with, and all messages after its user message."""

    module: str
    values: Mapping[str, Any]
    steps: tuple[Message, ...]

    @property
    def output(self) -> str:
        """What the module answered; empty for a run that was cut off before it did."""
        return self.steps[-1].content if self.steps and self.steps[-1].role == "assistant" else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectory:
    """What happened when a program ran on a sample.

    `messages` is the conversation of the module that answered last: prompt, answers, tool calls and results.
    `output` is the program's answer: the text of the last assistant message unless the program says otherwise.
    `traces` are the runs of its modules in the order in which they ended.
    `stop_reason` is `answer` when the model ended by itself; otherwise its tools were taken away and the answer is what
    it then said: it had come to its last turn, or kept making the same call.
    `cut` says that the answer of a module ended at its limit of tokens (`Sampling.max_tokens`).
    `score` is what the place where the program ran says it was worth, where that judges by itself (a task app).
    """

    messages: tuple[Message, ...]
    output: str
    calls: tuple[Call, ...] = ()
    traces: tuple[Trace, ...] = ()
    tool_uses: tuple[ToolUse, ...] = ()
    stop_reason: StopReason = "answer"
    cut: bool = False
    score: Score | None = None

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

    @property
    def tool_s(self) -> float:
        """Seconds spent in tools, those that ran at the same time added up."""
        return sum(use.latency_s for use in self.tool_uses)


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
    """Why a rollout has no score. `kind` is the error's class name, `stage` is `call` (of a model),
    `agent`, `program` (its own code), `score`, `timeout`, `latency` (cut at a latency cap, that of `module` where it is
    named) or `budget`. `outage` says that the model's endpoint was down or asked for fewer requests to the end."""

    kind: str
    message: str
    stage: str
    module: str = ""
    outage: bool = False

    @property
    def of_program(self) -> bool:
        """Whether it speaks against the program: not a rollout that the budget left out or an outage kept from its
        answer, and not one cut at a latency cap, which the constraint counts."""
        return not self.outage and self.stage not in ("budget", "latency")


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
    def full_micros(self) -> int:
        """What it costs where no answer is known yet, in millionths of a dollar."""
        calls = () if self.trajectory is None else self.trajectory.calls
        return self.cost_micros + sum(call.saved_micros for call in calls)

    @property
    def value(self) -> float | None:
        """The score as a number; None for a failure."""
        return None if self.score is None else self.score.value
