"""The composition root: a job file becomes objects, and a study that runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from rollouts.agents import AgentLimits
from rollouts.datasets import PARTS, cross_validation, fitted_sizes, load, remarks_on, split, usable_rows
from rollouts.dtypes import Endpoint, EnvironmentFactory, Program, Sample, ScoreFn
from rollouts.environments import make_environment_factory
from rollouts.errors import ConfigError, DataError
from rollouts.evaluation import Task
from rollouts.evaluation.metrics import BuiltIn, resolve_metric
from rollouts.experiments.config import JobConfig
from rollouts.experiments.config_convert import (
    DatasetPlan,
    to_budget,
    to_constraints,
    to_dataset,
    to_endpoint,
    to_judge,
    to_module_budgets,
    to_module_models,
    to_proposer,
    to_score,
)
from rollouts.experiments.config_search import gepa_settings, mipro_settings, rmipro_settings
from rollouts.experiments.judging import StudyGenerate
from rollouts.experiments.loading import LoadedConfig
from rollouts.experiments.results import contents_of, write_results
from rollouts.experiments.starting import make_importable, to_start
from rollouts.integrations.tracking import Tracking, make_tracker
from rollouts.llm.retry import RetryPolicy
from rollouts.prompt_optimization import GEPAConfig, MIPROConfig, OptimizationResult, RMIPROConfig, Splits, StudyOptions
from rollouts.prompt_optimization.gepa import default_reflector, gepa
from rollouts.prompt_optimization.mipro import default_proposers, mipro
from rollouts.prompt_optimization.opening import closing, open_study
from rollouts.prompt_optimization.rmipro import default_writers, rmipro
from rollouts.prompt_optimization.splits import chosen_rows, mixed, shown_inputs
from rollouts.prompt_optimization.study import Study
from rollouts.store import Store, events_of

DEFAULT_STORE = ".rollouts/rollouts.db"


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything that a run needs, checked, with nothing spent and no connection made.

    `start` is the program to improve; the kind of `settings` says by which search. `store` is a path or URL; `folder`
    is where the result files go. `tracking` makes what tells a tracker of experiments. `work` takes the place of the
    search, for what is none.
    """

    config: Mapping[str, Any]
    start: Program
    data: Splits
    task: Task
    proposer: Endpoint
    others: tuple[Endpoint, ...]
    settings: MIPROConfig | GEPAConfig
    options: StudyOptions
    store: str
    folder: Path
    generate: StudyGenerate
    notes: tuple[str, ...] = ()
    tracking: Callable[[], Tracking] | None = None
    work: Callable[[Study], Coroutine[Any, Any, OptimizationResult]] | None = None


@dataclass(frozen=True, kw_only=True)
class Remote:
    """What takes the place of program, data set and metric where the task runs in a task app."""

    start: Program
    data: Splits
    score_fn: ScoreFn


def prepare(
    loaded: LoadedConfig,
    environment: Mapping[str, str] = os.environ,
    *,
    resolve: Callable[[Endpoint], Endpoint] = lambda named: named,
    remote: Remote | None = None,
) -> Job:
    """Objects from a checked job file.

    Raises ConfigError, DataError or TemplateError that say what to change. `ROLLOUTS_STORE` in `environment` is the
    store where the file names none. `resolve` says which endpoint is meant by one that the file names.
    """
    job = loaded.config
    make_importable(job, loaded.base_dir)
    start = to_start(job) if remote is None else remote.start
    # An environment may read of a row what no prompt shows.
    shown = shown_inputs(start) if job.environment is None else frozenset[str]()
    data = remote.data if remote else load_splits(to_dataset(job, loaded.base_dir), job.seed, start.placeholders, shown)
    data.check(start)
    named, generate = to_judge(job), StudyGenerate()
    judge = None if named is None else resolve(named)
    score = to_score(job, loaded.base_dir)
    options = dict(score["options"])
    if judge is not None:
        options |= {"generate": generate, "endpoint": judge, "rubric": score["rubric"]}
    endpoint = resolve(to_endpoint(job))
    proposer = resolve(to_proposer(job))
    slots = job.execution.slots
    score_fn = resolve_metric(score["metric"], **options) if remote is None else remote.score_fn
    notes = (*data.remarks, *_unscored(data, score_fn, job.score.failure_share))
    return Job(
        config=loaded.resolved,
        start=start,
        data=data,
        task=Task(
            endpoint=endpoint,
            endpoints={name: resolve(model) for name, model in to_module_models(job).items()},
            score_fn=score_fn,
            environment_factory=_environment(job),
            limits=AgentLimits() if job.environment is None else AgentLimits(**job.environment.limits.model_dump()),
            timeout_s=job.execution.rollout_timeout_s,
        ),
        proposer=proposer,
        others=(proposer,) if judge is None else (proposer, judge),
        settings=_settings(job, start),
        options=StudyOptions(
            budget=to_budget(job),
            constraints=to_constraints(job),
            module_budgets=to_module_budgets(job),
            slots=slots,
            max_failure_share=job.score.failure_share,
            retry=RetryPolicy.fail_fast() if job.execution.fail_fast else RetryPolicy(),
            config=loaded.resolved,
            name=job.name or "",
            method=job.algorithm,
            notes=notes,
        ),
        store=job.execution.store or environment.get("ROLLOUTS_STORE") or DEFAULT_STORE,
        folder=Path(job.results_folder or "results"),
        generate=generate,
        notes=(*loaded.notes, *notes),
        tracking=_tracking(job, loaded.resolved),
    )


def _unscored(data: Splits, score_fn: ScoreFn, failure_share: float) -> list[str]:
    """What to say of rows that the metric cannot score, whatever the answer. Raises DataError where they are more than
    the share of failures at which a run is stopped."""
    if not isinstance(score_fn, BuiltIn):
        return []
    notes = []
    for part in PARTS:
        rows = getattr(data, part)
        reasons = [reason for row in rows if (reason := score_fn.unscorable(row)) is not None]
        if len(reasons) > failure_share * len(rows):
            raise DataError(f"{len(reasons)} of {len(rows)} {part} rows cannot be scored: {reasons[0]}")
        if reasons:
            notes.append(f"{len(reasons)} of {len(rows)} {part} rows cannot be scored and will fail: {reasons[0]}")
    return notes


def _settings(job: JobConfig, start: Program) -> MIPROConfig | GEPAConfig:
    if job.algorithm == "gepa":
        return GEPAConfig(**gepa_settings(job, start))
    if job.algorithm == "rmipro":
        return RMIPROConfig(**rmipro_settings(job, start))
    return MIPROConfig(**mipro_settings(job, start))


def _environment(job: JobConfig) -> EnvironmentFactory | None:
    table = job.environment
    return None if table is None else make_environment_factory(table.name, **table.options)


def _tracking(job: JobConfig, settings: Mapping[str, Any]) -> Callable[[], Tracking] | None:
    """Makes what tells the job's tracker. Raises ConfigError where its package is missing."""
    name = job.execution.track
    if name is None:
        return None
    make_tracker(name)
    called, project = job.name or "rollouts", job.execution.track_project
    return lambda: Tracking(make_tracker(name), name=called, project=project, settings=settings)


def load_splits(
    plan: DatasetPlan, seed: int, placeholders: frozenset[str] = frozenset(), shown: frozenset[str] = frozenset()
) -> Splits:
    """Reads the files and divides the rows; parts with a file of their own take their rows from there.

    No row may lack a value for one of the `placeholders` that is a column, and no two splits have rows with the same
    values of the inputs `shown` (empty: of all).
    """
    read = partial(load, placeholders=placeholders, data_dir=plan.data_dir)
    divide = partial(split, seed=seed, stratify=plan.stratify, shown=shown)
    if plan.rows:
        numbered = _by_number(plan, read(plan.pool), divide)
        return replace(numbered, train=mixed(numbered.train, seed)).apart(shown)
    parts: dict[str, list[Sample]] = {}
    notes: list[str] = []
    for name, spec in plan.own.items():
        rows = read(spec)
        notes += (f"{name} file: {remark}" for remark in remarks_on(rows, shown))
        parts[name] = divide(rows, {name: plan.sizes.get(name, 1.0)})[name]
    pool = read(plan.pool)
    notes += remarks_on(pool, shown)
    if plan.folds is not None:
        parts["test"], pool = cross_validation(pool, plan.folds, seed, plan.stratify, shown)
    wanted = [name for name in PARTS if name not in parts]
    parts |= divide(pool, fitted_sizes(len(usable_rows(pool, shown)), plan.sizes, wanted))
    return Splits.of(parts, notes).apart(shown)


def _by_number(plan: DatasetPlan, pool: Sequence[Sample], divide: Callable[..., dict[str, list[Sample]]]) -> Splits:
    """Rows by their numbers; test rows that are not named are drawn from those that are left."""
    owners: dict[int, str] = {}
    for part, numbers in plan.rows.items():
        for number in numbers:
            if owners.setdefault(number, part) != part:
                raise ConfigError(
                    f"row {number} is in {owners[number]}_rows and in {part}_rows; the splits must not overlap"
                )
    parts = {part: chosen_rows(pool, numbers, name=f"dataset.{part}_rows") for part, numbers in plan.rows.items()}
    if "test" not in parts:
        named = {repr(pool[number].inputs) for number in owners}
        rest = [sample for sample in pool if repr(sample.inputs) not in named]
        size = plan.sizes.get("test", 1.0)
        parts["test"] = divide(rest, {"test": size})["test"] if rest and size else []
    return Splits.of(parts)


async def run_job(job: Job, store: Store, *, options: StudyOptions | None = None) -> tuple[OptimizationResult, Study]:
    """Runs the job in `store`, to its end or to where the budget or a stop ends it, and returns result and study."""
    opened: list[Study] = []

    async def work(opts: StudyOptions) -> OptimizationResult:
        study = open_study(job.task, job.others, opts)
        opened.append(study)
        job.generate.bind(study)
        return await closing(study, _search(job, study))

    opts = replace(options or job.options, store=store)
    if job.tracking is None:
        result = await work(opts)
    else:
        result = await job.tracking().around(work, opts, lambda found: result_files(job, found, store))
    return result, opened[0]


def _search(job: Job, study: Study) -> Coroutine[Any, Any, OptimizationResult]:
    settings = job.settings
    if job.work is not None:
        return job.work(study)
    if isinstance(settings, GEPAConfig):
        return gepa(study, job.start, job.data, settings, default_reflector(study, job.proposer, settings.seed))
    if isinstance(settings, RMIPROConfig):
        return rmipro(study, job.start, job.data, settings, default_writers(study, job.proposer, settings))
    return mipro(study, job.start, job.data, settings, default_proposers(study, job.proposer, settings.seed))


def save(job: Job, result: OptimizationResult, store: Store) -> dict[str, str]:
    """Writes the result files and returns their paths by name."""
    return write_results(job.folder, result_files(job, result, store), result.run_id)


def result_files(job: Job, result: OptimizationResult, store: Store) -> dict[str, Any]:
    """The contents of the result files, by name."""
    return contents_of(
        result,
        config=job.config,
        seed=job.settings.seed,
        events=numbered(store, result.run_id, "trial"),
        children=numbered(store, result.run_id, "child"),
        rounds=numbered(store, result.run_id, "round"),
    )


def numbered(store: Store, run_id: str, what: Literal["trial", "child", "round"]) -> list[Mapping[str, Any]]:
    """The run's trials, GEPA's children, or r-MIPRO's rounds, in order; of those that a resumed run made again, the
    later ones."""
    kind = "allocation" if what == "round" else what
    found = {e.data[what]: e.data for e in events_of(store, run_id, kind)}
    return [found[number] for number in sorted(found)]
