"""A `Program` of this library as a task app: its modules call the model that the client names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fastapi import FastAPI

from rollouts.dtypes import Endpoint, EnvironmentFactory, Program, PromptTemplate, Sample, Score, ScoreFn, as_program
from rollouts.errors import TaskAppError
from rollouts.evaluation import Task, evaluate_sample
from rollouts.taskapp.app import create_task_app
from rollouts.taskapp.calls import Rollout

_NOBODY = Endpoint(provider="openai_compatible", model="named by each request")


def serve_program(
    app_id: str,
    samples: Sequence[Sample],
    program: Program | PromptTemplate,
    score_fn: ScoreFn,
    *,
    description: str = "",
    environment_factory: EnvironmentFactory | None = None,
    keys: Sequence[str] | None = None,
) -> FastAPI:
    """`create_task_app` for a template or program that is scored by `score_fn`; with `environment_factory` its modules
    are agents with tools."""
    start = as_program(program)
    task = Task(endpoint=_NOBODY, score_fn=score_fn, environment_factory=environment_factory)
    rollout = _ProgramRollout(program=start, task=task)
    return create_task_app(app_id, samples, rollout, description=description, baseline=start, keys=keys)


@dataclass(frozen=True, slots=True, kw_only=True)
class _ProgramRollout:
    program: Program
    task: Task

    async def __call__(self, rollout: Rollout) -> Score:
        task = replace(self.task, endpoint=rollout.endpoint)
        clients = {rollout.endpoint.connection: rollout.client}
        evaluation = await evaluate_sample(self.program, rollout.sample, task, clients, key=rollout.sample.id)
        score, failure = evaluation.score, evaluation.failure
        if score is None:
            at_model = failure is not None and failure.stage == "call"
            raise TaskAppError(failure.message if failure else "no score", status=502 if at_model else 500)
        return score
