"""Many (program, sample) pairs: known ones from the store, the rest run with bounded concurrency and recorded."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rollouts.budget import Ledger, Spend
from rollouts.dtypes import (
    Call,
    Evaluation,
    Failure,
    Message,
    Metric,
    Program,
    Sample,
    Score,
    ToolUse,
    Trace,
    Trajectory,
    Usage,
    value_text,
)
from rollouts.errors import BudgetExhausted
from rollouts.evaluation.answers import Answers
from rollouts.evaluation.failures import FailureLimit
from rollouts.evaluation.latency import within_caps
from rollouts.evaluation.metrics import BuiltIn
from rollouts.evaluation.paid import Paid
from rollouts.evaluation.rollout import Task, evaluate_sample, rollout_key
from rollouts.evaluation.scoring import Scoring
from rollouts.evaluation.summary import is_missing
from rollouts.executors import Executor
from rollouts.llm.budgeted import RunClock
from rollouts.llm.client import Client
from rollouts.store.base import ProgramRow, RolloutRow, Row, SampleRow, Store, UseRow

_ONE_ROLLOUT = Spend(rollouts=1)


@dataclass(frozen=True, slots=True)
class Cell:
    """One program on one sample; `repeat` tells apart wished repetitions."""

    program: Program
    sample: Sample
    repeat: int = 0


@dataclass(slots=True)
class Progress:
    """What an evaluator has done so far; read it at any time.

    `spent` and `by_program` also count what earlier processes of the run paid for, once it is served.
    """

    done: int = 0
    failed: int = 0
    cached: int = 0
    queued: int = 0
    by_phase: dict[str, int] = field(default_factory=dict)
    spent: Spend = field(default_factory=Spend)
    by_program: dict[str, Spend] = field(default_factory=dict)

    def note(self, program: str, spend: Spend) -> None:
        """What one rollout of a program took."""
        self.spent = self.spent + spend
        self.by_program[program] = self.by_program.get(program, Spend()) + spend


class Evaluator:
    """Evaluates cells for one run.

    `store` None means that nothing is looked up or recorded. `paid` is what earlier processes of the run paid for.
    A rollout that an outage kept from any answer failed, and is not charged as a rollout. After `stop`, cells that have
    not started are returned as missing; those in flight end normally, or are cut after a grace and missing, too. When
    the time of `clock` is used up, both are missing. Close it with `close`.
    """

    def __init__(  # noqa: PLR0913 - one argument per part of a run, all named
        self,
        task: Task,
        clients: Mapping[str, Client],
        *,
        executor: Executor,
        ledger: Ledger,
        store: Store | None = None,
        run_id: str = "",
        failure_limit: FailureLimit | None = None,
        paid: Paid | None = None,
        clock: RunClock | None = None,
    ) -> None:
        self.task, self.clients, self.executor = task, clients, executor
        self.ledger, self.store, self.run_id = ledger, store, run_id
        self.failure_limit = failure_limit or FailureLimit()
        self.paid = paid or Paid()
        self.progress = Progress()
        self.answers = Answers({end.sampling.max_tokens for end in (task.endpoint, *task.endpoints.values())})
        self._clock = clock
        self._scoring = None if isinstance(task.score_fn, BuiltIn) else Scoring(task.score_fn)
        self._running: dict[str, asyncio.Future[Evaluation]] = {}
        self._in_flight: set[asyncio.Timeout] = set()
        self._wanted: Counter[str] = Counter()
        self._stored: set[str] = set()
        self._stopped: str | None = None
        self._broken: BaseException | None = None

    def stop(self, reason: str, grace_s: float | None = None) -> None:
        """Lets no further rollout start; those in flight are cut after `grace_s` seconds, if that is given."""
        self._stopped = reason
        if grace_s is None:
            return
        until = asyncio.get_running_loop().time() + grace_s
        for scope in self._in_flight:
            when = scope.when()
            if not scope.expired() and (when is None or until < when):
                scope.reschedule(until)

    def close(self) -> None:
        """Frees what the calls of the metric hold."""
        if self._scoring is not None:
            self._scoring.close()

    async def evaluate(self, cells: Sequence[Cell], *, phase: str = "task", priority: int = 0) -> list[Evaluation]:
        """One evaluation per cell, in their order.

        Raises the errors that end a run: see `evaluate_sample`, and TooManyFailures. After one of them no rollout
        starts: it is raised by every batch.
        """
        keys = [rollout_key(cell.program, cell.sample, self.task, cell.repeat) for cell in cells]
        known = self._known(keys, phase)
        out: list[Evaluation | None] = [None] * len(cells)
        todo: list[int] = []
        for index, key in enumerate(keys):
            row = known.get(key)
            if row is None:
                todo.append(index)
            else:
                out[index] = self._served(row, cells[index])
                self.answers.count(row.program, key, row.output, cut=row.data.get("cut", False))
                if (spend := self.paid.use(key)) is not None:
                    self.progress.note(row.program, spend)
        self.progress.cached += len(cells) - len(todo)
        self.failure_limit.total += len(cells) - len(todo)
        self.progress.queued += len(todo)
        self._keep_contents([cells[index] for index in todo])

        queued = set(todo)
        self._wanted.update(keys[index] for index in todo)

        def leave(index: int) -> None:
            if index in queued:
                queued.discard(index)
                self.progress.queued -= 1
                self._leave(keys[index])

        async def job(index: int) -> Evaluation:
            try:
                return await self._once(keys[index], cells[index], phase)
            finally:
                leave(index)

        try:
            for index, evaluation in zip(todo, await self.executor.map(job, todo, priority=priority), strict=True):
                out[index] = evaluation
        finally:
            for index in tuple(queued):  # what a batch that failed or was cancelled leaves
                leave(index)
        return [evaluation for evaluation in out if evaluation is not None]

    def known(self, cells: Sequence[Cell]) -> list[Evaluation]:
        """The scored evaluations that are already stored for `cells`; runs nothing."""
        if self.store is None:
            return []
        keys = [rollout_key(cell.program, cell.sample, self.task, cell.repeat) for cell in cells]
        rows = self.store.rollouts(keys)
        served = (self._served(rows[key], cell) for key, cell in zip(keys, cells, strict=True) if key in rows)
        return [evaluation for evaluation in served if evaluation.score is not None]

    def _served(self, row: RolloutRow, cell: Cell) -> Evaluation:
        return within_caps(_from_row(row, cell), self.task.constraints, cell.program.modules)

    def _known(self, keys: Sequence[str], phase: str) -> Mapping[str, RolloutRow]:
        if self.store is None:
            return {}
        known = self.store.rollouts(keys)
        foreign = [key for key, row in known.items() if row.run_id != self.run_id]
        if foreign:
            self.store.record(*(UseRow(run_id=self.run_id, key=key, phase=phase) for key in foreign))
        return known

    def _keep_contents(self, cells: Sequence[Cell]) -> None:
        """Stores each program and sample once, so that rollouts can be shown whole from their digests."""
        if self.store is None:
            return
        for cell in cells:
            program, sample = cell.program, cell.sample
            if program.digest not in self._stored:
                self._stored.add(program.digest)
                modules = {name: template.to_json() for name, template in program.modules.items()}
                self.store.record(ProgramRow(digest=program.digest, modules=modules))
            if sample.digest not in self._stored:
                self._stored.add(sample.digest)
                self.store.record(
                    SampleRow(digest=sample.digest, inputs=dict(sample.inputs), ground_truth=sample.ground_truth)
                )

    def _leave(self, key: str) -> None:
        """One batch less that waits for this rollout: its result is kept until the last one has it."""
        self._wanted[key] -= 1
        if not self._wanted[key]:
            del self._wanted[key]
            running = self._running.get(key)
            if running is not None and running.done():
                del self._running[key]

    async def _once(self, key: str, cell: Cell, phase: str) -> Evaluation:
        """The rollout, or the result of the same rollout that is already running."""
        while (running := self._running.get(key)) is not None:
            try:
                return await asyncio.shield(running)
            except asyncio.CancelledError:
                me = asyncio.current_task()
                if not running.cancelled() or (me is not None and me.cancelling()):
                    raise
        if self._broken is not None:
            raise self._broken
        if self._stopped is not None:
            return _missing(key, cell, self._stopped)
        future: asyncio.Future[Evaluation] = asyncio.get_running_loop().create_future()
        self._running[key] = future
        try:
            evaluation = await self._run(key, cell, phase)
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError):
                future.cancel()
            else:
                self._broken = error
                future.set_exception(error)
                future.exception()
            raise
        else:
            future.set_result(evaluation)
            return evaluation
        finally:
            if future.cancelled() or self._wanted[key] <= 1:
                del self._running[key]

    async def _run(self, key: str, cell: Cell, phase: str) -> Evaluation:
        ledger = self.ledger
        try:
            left = None if self._clock is None else self._clock.left()
            reservation = ledger.reserve(_ONE_ROLLOUT, phase=f"task/{phase}")
        except BudgetExhausted as error:
            return _missing(key, cell, str(error))
        used = _ONE_ROLLOUT
        # Program and metric can wait for what the budget of calls knows nothing of.
        scope = asyncio.timeout(left)
        self._in_flight.add(scope)
        try:
            async with scope:
                evaluation = await evaluate_sample(
                    cell.program,
                    cell.sample,
                    self.task,
                    self.clients,
                    repeat=cell.repeat,
                    phase=f"task/{phase}",
                    key=key,
                    score_fn=self._scoring,
                )
            if evaluation.failure is not None and self._stopped is not None:
                # A stop keeps failed calls from being sent again: that is no failure of the program.
                evaluation = _missing(key, cell, evaluation.failure.message)
            away = evaluation.failure is not None and evaluation.failure.outage
            if is_missing(evaluation) or (away and not evaluation.calls):
                used = Spend()  # nothing came of it, and nothing was paid for it
        except TimeoutError:
            evaluation, used = _missing(key, cell, self._why_cut()), Spend()
        finally:
            self._in_flight.discard(scope)
            ledger.settle(reservation, used)
        if not is_missing(evaluation):
            self._record(evaluation, cell.sample, phase, used)
            self.failure_limit.count(evaluation.failure)
        return evaluation

    def _why_cut(self) -> str:
        if self._stopped is not None:
            return self._stopped
        assert self._clock is not None
        return str(self._clock.used_up())

    def _record(self, evaluation: Evaluation, sample: Sample, phase: str, used: Spend) -> None:
        progress = self.progress
        progress.done += 1
        progress.failed += evaluation.failure is not None
        progress.by_phase[phase] = progress.by_phase.get(phase, 0) + 1
        spent = Spend(
            micros=evaluation.cost_micros,
            tokens=evaluation.usage.total_tokens,
            calls=evaluation.calls,
            rollouts=used.rollouts,
            seconds=evaluation.latency_s,
        )
        progress.note(evaluation.program, spent)
        trajectory, failure = evaluation.trajectory, evaluation.failure
        if trajectory is not None and (failure is None or failure.stage == "score"):
            self.answers.count(evaluation.program, evaluation.key, evaluation.output, cut=trajectory.cut)
        if self.store is not None:
            rows: list[Row] = [_to_row(evaluation, sample, self.run_id, phase)]
            if evaluation.failure is not None:  # the row stays that of the run in which the rollout failed first
                rows.append(UseRow(run_id=self.run_id, key=evaluation.key, phase=phase))
            self.store.record(*rows)


def _missing(key: str, cell: Cell, reason: str) -> Evaluation:
    return Evaluation(
        key=key,
        program=cell.program.digest,
        sample_id=cell.sample.id,
        repeat=cell.repeat,
        failure=Failure(kind="BudgetExhausted", message=reason, stage="budget"),
    )


def _to_row(evaluation: Evaluation, sample: Sample, run_id: str, phase: str) -> RolloutRow:
    data: dict[str, Any] = {}
    score = evaluation.score
    if score is not None:
        data["metrics"] = [[m.name, m.value, m.weight] for m in score.metrics]
        if score.feedback:
            data["feedback"] = score.feedback
        if score.modules:
            data["modules"] = dict(score.modules)
    trajectory = evaluation.trajectory
    if trajectory is not None and (
        evaluation.calls > 1 or any(call.module != "main" or call.saved_micros for call in trajectory.calls)
    ):
        data["calls"] = [call.to_json() for call in trajectory.calls]
        data["messages"] = [message.to_json() for message in trajectory.messages]
        data["tool_uses"] = [use.to_json() for use in trajectory.tool_uses]
        data["stop_reason"] = trajectory.stop_reason
    if trajectory is not None and trajectory.cut:
        data["cut"] = True
    if trajectory is not None and not _told_by_row(trajectory, sample):
        data["traces"] = [
            [t.module, _plain(t.values), [message.to_json() for message in t.steps]] for t in trajectory.traces
        ]
    failure = evaluation.failure
    usage = evaluation.usage
    return RolloutRow(
        key=evaluation.key,
        run_id=run_id,
        program=evaluation.program,
        sample_id=evaluation.sample_id,
        repeat=evaluation.repeat,
        score=None if score is None else score.value,
        output=evaluation.output,
        failure=None if failure is None else {"kind": failure.kind, "message": failure.message, "stage": failure.stage},
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cached_tokens=usage.cached_tokens,
        cost_micros=evaluation.cost_micros,
        latency_s=evaluation.latency_s,
        data=data,
        created_at=time.time(),
        sample=sample.digest,
        phase=phase,
    )


def _from_row(row: RolloutRow, cell: Cell) -> Evaluation:
    messages = tuple(Message.from_json(message) for message in row.data.get("messages", ()))
    traces = tuple(
        Trace(module=module, values=values, steps=tuple(Message.from_json(message) for message in steps))
        for module, values, steps in row.data.get("traces", ())
    )
    metrics = tuple(Metric(str(name), float(value), float(weight)) for name, value, weight in row.data["metrics"])
    return Evaluation(
        key=row.key,
        program=row.program,
        sample_id=cell.sample.id,
        repeat=row.repeat,
        score=Score(metrics=metrics, feedback=row.data.get("feedback"), modules=row.data.get("modules", {})),
        output=row.output,
        usage=Usage(
            prompt_tokens=row.prompt_tokens, completion_tokens=row.completion_tokens, cached_tokens=row.cached_tokens
        ),
        cost_micros=row.cost_micros,
        latency_s=row.latency_s,
        calls=len(row.data.get("calls", ())) or 1,
        cached=True,
        trajectory=_trajectory(row, messages, traces) if messages or traces else None,
    )


def _trajectory(row: RolloutRow, messages: tuple[Message, ...], traces: tuple[Trace, ...]) -> Trajectory:
    return Trajectory(
        messages=messages,
        output=row.output,
        calls=tuple(map(Call.from_json, row.data.get("calls", ()))),
        traces=traces,
        tool_uses=tuple(ToolUse(**use) for use in row.data.get("tool_uses", ())),
        stop_reason=row.data.get("stop_reason", "answer"),
        cut=row.data.get("cut", False),
    )


def _told_by_row(trajectory: Trajectory, sample: Sample) -> bool:
    """Whether sample and output say all about the module's one run, as they do for most one-module programs."""
    traces = trajectory.traces
    return len(traces) == 1 and traces[0].values is sample.inputs and traces[0].output == trajectory.output


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as a template shows them, where they are no JSON already."""
    return {
        name: value if isinstance(value, str | int | float | bool | None) else value_text(value)
        for name, value in values.items()
    }
