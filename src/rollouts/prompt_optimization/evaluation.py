"""A template on some rows, as one score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rollouts.datasets import samples_from_dicts
from rollouts.dtypes import Endpoint, EnvironmentFactory, Program, PromptTemplate, ScoreFn
from rollouts.errors import EvaluationError
from rollouts.evaluation import Cell, Task, summarise
from rollouts.prompt_optimization.opening import running
from rollouts.prompt_optimization.splits import chosen_rows
from rollouts.prompt_optimization.study import StudyOptions


async def evaluate_template(
    template: PromptTemplate,
    seeds: Sequence[int],
    dataset: Sequence[Mapping[str, Any]],
    endpoint: Endpoint,
    score_fn: ScoreFn,
    environment_factory: EnvironmentFactory | None = None,
    max_concurrent: int = 10,
    *,
    options: StudyOptions | None = None,
) -> PromptTemplate:
    """`template` with its mean score on the rows `seeds` of `dataset`.

    Failed rollouts are left out of the mean. Raises EvaluationError when none has a score.
    """
    samples = samples_from_dicts(dataset, template.placeholders)
    chosen = chosen_rows(samples, seeds)
    opts = options or StudyOptions()
    opts = replace(opts, method="evaluate", slots=opts.slots or max_concurrent)
    task = Task(endpoint=endpoint, score_fn=score_fn, environment_factory=environment_factory)
    async with running(task, [], opts) as study:
        program = Program.single(template)
        summary = summarise(await study.evaluate([Cell(program, sample) for sample in chosen], phase="evaluate"))
        if summary.mean is None:
            reasons = "; ".join(summary.failures) or "the budget left no rollout"
            raise EvaluationError(f"no rollout has a score: {reasons}")
    return replace(template, score=summary.mean)
