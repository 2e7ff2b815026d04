"""Demonstrations from runs that went well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rollouts.datasets import samples_from_dicts
from rollouts.dtypes import (
    Endpoint,
    EnvironmentFactory,
    Evaluation,
    FewShotExample,
    Program,
    PromptTemplate,
    Sample,
    ScoreFn,
    fill,
)
from rollouts.evaluation import Cell, Task
from rollouts.prompt_optimization.splits import chosen_rows
from rollouts.prompt_optimization.study import Study, StudyOptions, running

_FIRST_SHARE = 4
_LEAST_FIRST = 16


async def collect_successes(
    study: Study, template: PromptTemplate, samples: Sequence[Sample], threshold: float, *, enough: int | None = None
) -> tuple[list[FewShotExample], int]:
    """(input, output) of the runs that scored at least `threshold`, in the order of `samples`; and how many were run.

    All run at once, but a first part goes ahead: when none of it succeeds, the rest is not paid for. `enough`
    successes end it too.
    """
    first = max(_LEAST_FIRST, len(samples) // _FIRST_SHARE)
    program = Program.single(template)
    successes: list[FewShotExample] = []
    attempted = 0
    for part in (samples[:first], samples[first:]):
        evaluations = await study.evaluate([Cell(program, sample) for sample in part], phase="bootstrap")
        attempted += len(part)
        for sample, evaluation in zip(part, evaluations, strict=True):
            if evaluation.value is not None and evaluation.value >= threshold and evaluation.output.strip():
                successes.append(_demonstration(template, sample, evaluation))
        if not successes or (enough is not None and len(successes) >= enough):
            break
    return successes[:enough], attempted


def _demonstration(template: PromptTemplate, sample: Sample, evaluation: Evaluation) -> FewShotExample:
    """Tool calls between question and answer are kept as messages."""
    steps: tuple[Any, ...] = ()
    if evaluation.trajectory is not None and evaluation.calls > 1:
        messages = evaluation.trajectory.messages
        last_user = max(i for i, message in enumerate(messages) if message.role == "user")
        steps = messages[last_user + 1 :]
    return FewShotExample(fill(template.user_template, sample.inputs), evaluation.output.strip(), steps)


async def bootstrap_demos(  # noqa: PLR0913 - one argument per decision of the caller
    template: PromptTemplate,
    dataset: Sequence[Mapping[str, Any]],
    seeds: Sequence[int],
    endpoint: Endpoint,
    score_fn: ScoreFn,
    max_demos: int,
    *,
    threshold: float = 1.0,
    environment_factory: EnvironmentFactory | None = None,
    options: StudyOptions | None = None,
) -> list[FewShotExample]:
    """Up to `max_demos` demonstrations from runs of `template` on the rows `seeds` that scored >= `threshold`."""
    samples = samples_from_dicts(dataset, template.placeholders)
    task = Task(endpoint=endpoint, score_fn=score_fn, environment_factory=environment_factory)
    chosen = chosen_rows(samples, seeds)
    async with running(task, [], replace(options or StudyOptions(), method="bootstrap")) as study:
        return (await collect_successes(study, template, chosen, threshold, enough=max_demos))[0]
