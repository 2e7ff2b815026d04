"""Programs, tasks and evaluators to test with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rollouts.budget import Budget, Ledger
from rollouts.dtypes import Endpoint, Program, PromptTemplate, Sample, Sampling, Score, Trajectory
from rollouts.evaluation import Cell, Evaluator, FailureLimit, Task
from rollouts.executors import LocalExecutor
from rollouts.llm.client import Provider
from rollouts.llm.connect import CallContext, wrap
from rollouts.llm.retry import RetryPolicy
from rollouts.store.base import Store
from rollouts.testing import ScriptedLLM

ENDPOINT = Endpoint(provider="fake", model="m", sampling=Sampling(max_tokens=8))
TEMPLATE = PromptTemplate("Say it.", "Q: {q}")
PROGRAM = Program.single(TEMPLATE)


def samples(n: int) -> list[Sample]:
    return [Sample(inputs={"q": f"question {i}"}, ground_truth=f"answer {i}", id=str(i)) for i in range(n)]


def cells(n: int, program: Program = PROGRAM, repeat: int = 0) -> list[Cell]:
    return [Cell(program, sample, repeat) for sample in samples(n)]


def right(trajectory: Trajectory, sample: Sample) -> float:
    return float(trajectory.output == sample.ground_truth)


def answers(n: int) -> dict[str, str]:
    return {f"Q: question {i}": f"answer {i}" for i in range(n)}


def evaluator(
    provider: Provider | None = None,
    *,
    score_fn: Any = right,
    budget: Budget | None = None,
    store: Store | None = None,
    run_id: str = "run",
    slots: int = 4,
    limit: FailureLimit | None = None,
    retry: RetryPolicy | None = None,
    **task: Any,
) -> Evaluator:
    llm = provider or ScriptedLLM(answers(200))
    ledger = Ledger(budget or Budget())
    context = CallContext(ledger, store=store, run_id=run_id, slots=slots, retry=retry or RetryPolicy())
    client = wrap(llm, context)
    return Evaluator(
        Task(endpoint=ENDPOINT, score_fn=score_fn, metric_id=task.pop("metric_id", "right"), **task),
        {ENDPOINT.connection: client},
        executor=LocalExecutor(slots),
        ledger=ledger,
        store=store,
        run_id=run_id,
        failure_limit=limit or FailureLimit(share=1.0),
        clock=context.run_clock,
    )


def kinds(evaluations: Sequence[Any]) -> Mapping[str, int]:
    out: dict[str, int] = {}
    for evaluation in evaluations:
        name = "ok" if evaluation.failure is None else f"{evaluation.failure.stage}:{evaluation.failure.kind}"
        out[name] = out.get(name, 0) + 1
    return out


def one(value: float) -> Score:
    from rollouts.dtypes import Metric

    return Score(metrics=(Metric("m", value),))
