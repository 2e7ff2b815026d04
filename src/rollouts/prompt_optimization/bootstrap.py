"""Demonstrations from runs that went well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from rollouts.datasets import samples_from_dicts
from rollouts.dtypes import (
    Endpoint,
    EnvironmentFactory,
    FewShotExample,
    Program,
    PromptTemplate,
    Sample,
    ScoreFn,
)
from rollouts.evaluation import Cell, Task
from rollouts.prompt_optimization.demos import DemoLimits, DemoSet, build_demo_sets, own_demos, with_one_answer
from rollouts.prompt_optimization.opening import running
from rollouts.prompt_optimization.splits import chosen_rows
from rollouts.prompt_optimization.study import Study, StudyOptions
from rollouts.prompt_optimization.traces import Success, demonstrations, went_well
from rollouts.prompt_optimization.usual import DemoCounts

_FIRST_SHARE = 4
_LEAST_FIRST = 16


async def collect_successes(
    study: Study, program: Program, samples: Sequence[Sample], threshold: float, *, enough: int | None = None
) -> tuple[list[Success], int]:
    """The samples on which the run of `program`, or of one of its modules, went well (see `went_well`), in the order of
    `samples`, with their evaluations; and how many were run.

    All run at once, but a first part goes ahead: when none of it succeeds, the rest is not paid for. `enough`
    successes end it too.
    """
    first = max(_LEAST_FIRST, len(samples) // _FIRST_SHARE)
    successes: list[Success] = []
    attempted = 0
    for part in (samples[:first], samples[first:]):
        evaluations = await study.evaluate([Cell(program, sample) for sample in part], phase="bootstrap")
        attempted += len(part)
        for sample, evaluation in zip(part, evaluations, strict=True):
            if went_well(program, evaluation, threshold):
                successes.append((sample, evaluation))
        if not successes or (enough is not None and len(successes) >= enough):
            break
    return successes[:enough], attempted


class DemoSettings(DemoCounts, Protocol):
    """The settings of an optimizer that concern demonstrations; see `MIPROConfig`."""

    @property
    def num_demo_sets(self) -> int: ...
    @property
    def bootstrap_threshold(self) -> float: ...
    @property
    def seed(self) -> int: ...


def rows_to_show(study: Study, start: Program, train: Sequence[Sample]) -> list[Sample]:
    """The training rows that can be shown as they are, with the answer that a demonstration shows."""
    return with_one_answer(list(filter(start.filled_by, train)), study.evaluator.task.score_fn)


async def demo_sets_of(
    study: Study, start: Program, attempts: Sequence[Sample], train: Sequence[Sample], settings: DemoSettings
) -> tuple[dict[str, list[DemoSet]], int]:
    """Module -> demonstration sets to choose from; and how many rollouts were made for them.

    The ground truth is the answer of a one-module program that the rows fill: others learn from runs that went well.
    """
    if not settings.optimize_demos:
        return {name: [own_demos(template)] for name, template in start.modules.items()}, 0
    threshold = settings.bootstrap_threshold
    successes, attempted = await collect_successes(study, start, attempts, threshold)
    shown = demonstrations(start, successes, threshold)
    limits = DemoLimits(
        bootstrapped=settings.max_bootstrapped_demos, labelled=settings.max_labeled_demos, sets=settings.num_demo_sets
    )
    rows = rows_to_show(study, start, train)
    sets = {
        name: build_demo_sets(template, rows, shown[name], limits, seed=settings.seed)
        for name, template in start.modules.items()
    }
    sources = {name: [entry.source for entry in entries] for name, entries in sets.items()}
    study.emit("demo_sets", sources=sources, successes=len(successes))
    return sets, attempted


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
        program = Program.single(template)
        successes, _ = await collect_successes(study, program, chosen, threshold, enough=max_demos)
    return demonstrations(program, successes, threshold)["main"]
