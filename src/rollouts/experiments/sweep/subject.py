"""What an experiment runs on: a task of the package, or the user's own job."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rollouts.budget import Budget, check_module_budgets
from rollouts.datasets import PARTS, cross_validation, fitted_sizes, split, usable_rows
from rollouts.dtypes import Sample
from rollouts.errors import ConfigError
from rollouts.evaluation import Task
from rollouts.experiments.config import JobConfig
from rollouts.experiments.config_convert import to_constraints
from rollouts.experiments.estimate import check_models
from rollouts.experiments.job import Job, prepare
from rollouts.experiments.judging import StudyGenerate
from rollouts.experiments.loading import load_config
from rollouts.experiments.near_names import did_you_mean
from rollouts.experiments.sweep.cells import Cell
from rollouts.experiments.sweep.config import SIMULATED, DataTable, Experiment
from rollouts.experiments.sweep.methods import SEARCHES
from rollouts.experiments.tasks import load_task
from rollouts.prompt_optimization import MIPROConfig, Splits, StudyOptions

_DECIDED_HERE = ("algorithm", "seed", "name", "results_folder", "termination_config", "execution", *SEARCHES)


class Subject:
    """Makes the job of every run. Raises ConfigError for what no run could do, before any is started."""

    def __init__(self, experiment: Experiment) -> None:
        self._experiment, config = experiment, experiment.config
        self._bundle = None if config.task is None else load_task(config.task)
        self._by_seed: dict[int, Job] = {}
        self._first = self._of_seed(config.all_seeds[0])
        self._check_modules()
        self._check_models()

    def _check_modules(self) -> None:
        modules = tuple(self._first.start.modules)
        for name, method in self._experiment.methods.items():
            try:
                check_module_budgets(method.module_budgets, modules)
            except ConfigError as error:
                raise ConfigError(f"methods.{name}.module_budgets: {error}") from None
        for name in self._first.task.endpoints:
            if name not in modules:
                hint = did_you_mean(name, modules)
                raise ConfigError(f"models.{name}: no such module{hint} There are: {', '.join(modules)}")

    def _check_models(self) -> None:
        """Keys, and prices where money is capped, of all models but the simulated one."""
        config, job = self._experiment.config, self._first
        named = (job.task.endpoint, *job.task.endpoints.values(), *job.others)
        real = [endpoint for endpoint in named if endpoint.provider != SIMULATED]
        if real:
            capped = any(budget.max_cost_usd is not None for budget in (config.total, *config.budgets.values()))
            options = replace(job.options, budget=Budget(max_cost_usd=1 if capped else None))
            task = replace(job.task, endpoint=real[0], endpoints={})
            if problems := check_models(replace(job, task=task, others=tuple(real), options=options)):
                raise ConfigError("\n  ".join(problems))

    @property
    def model(self) -> str:
        """The task model, as `provider/model`."""
        return self._first.task.endpoint.name

    @property
    def name(self) -> str:
        """The task, or the name of the job."""
        return self._experiment.config.task or self._first.options.name

    def test_rows(self, seed: int) -> int:
        """Rows that the start is scored on."""
        data = self._of_seed(seed).data
        return len(data.test or data.val)

    def job(self, cell: Cell, caps: Budget) -> Job:
        """The job of one run, under `caps`."""
        # A judge is bound to the study of its job: runs share none.
        job = self._of_seed(cell.seed) if self._bundle is not None else self._from_file(cell.seed)
        method, config = self._experiment.methods[cell.method], self._experiment.config
        providers: dict[str, Any] = {}
        if config.simulated and self._bundle is not None:
            providers = {job.task.endpoint.name: self._bundle.simulate(cell.seed)}
        options = replace(
            job.options,
            budget=caps,
            module_budgets=method.module_budgets,
            slots=config.slots,
            providers=providers,
            config=self.identity(cell),
            name=config.name,
            method=method.algorithm,
            run_id=cell.name,
        )
        return replace(job, settings=method.for_run(cell.seed, config.slots, job.settings), options=options)

    def identity(self, cell: Cell) -> dict[str, Any]:
        """All that decides what a run does, as JSON: a run is continued, or counted as done, only where it is equal."""
        config, job = self._experiment.config, self._of_seed(cell.seed)
        endpoints = {"task": job.task.endpoint, "proposer": job.proposer, **job.task.endpoints}
        decides = {
            "task": config.task or job.config,
            "models": {name: [endpoint.name, endpoint.digest] for name, endpoint in endpoints.items()},
            "data": config.data.model_dump(exclude_none=True),
            "constraints": asdict(job.options.constraints),
            "method": self._experiment.methods[cell.method].to_json(),
            "budget": config.budgets[cell.budget].model_dump(exclude_none=True) if cell.budget else {},
            "seed": cell.seed,
        }
        return dict(json.loads(json.dumps(decides, default=str)))

    def _of_seed(self, seed: int) -> Job:
        if seed not in self._by_seed:
            self._by_seed[seed] = self._from_file(seed) if self._bundle is None else self._from_task(seed)
        return self._by_seed[seed]

    def _from_file(self, seed: int) -> Job:
        path = self._experiment.base_dir / Path(self._experiment.config.job or "").expanduser()
        job = prepare(load_config(path, [f"seed={seed}"]))
        told = {key: value for key, value in job.config["prompt_learning"].items() if key not in _DECIDED_HERE}
        return replace(job, config=told)

    def _from_task(self, seed: int) -> Job:
        config, bundle = self._experiment.config, self._bundle
        if bundle is None:
            raise ConfigError("the experiment names no task")
        endpoint, proposer, endpoints = config.endpoints()
        data = _splits(bundle.samples, config.data, seed)
        data.check(bundle.program)
        return Job(
            config={},
            start=bundle.program,
            data=data,
            task=Task(
                endpoint=endpoint,
                endpoints=endpoints,
                score_fn=bundle.score_fn,
                environment_factory=bundle.environment_factory,
            ),
            proposer=proposer,
            others=(proposer,),
            settings=MIPROConfig(description=bundle.description),
            options=StudyOptions(constraints=to_constraints(JobConfig(constraints=config.constraints))),
            store="",
            folder=Path(),
            generate=StudyGenerate(),
        )


def _splits(samples: Sequence[Sample], data: DataTable, seed: int) -> Splits:
    """The rows divided by the seed; parts that the file says nothing of share what the others leave."""
    given: dict[str, int | float] = data.model_dump(exclude_none=True, exclude={"folds"})
    parts: dict[str, Sequence[Sample]] = {}
    rows = usable_rows(samples)
    if data.folds is not None:
        parts["test"], rows = cross_validation(rows, data.folds, seed)
    wanted = [name for name in PARTS if name not in parts]
    return Splits.of(parts | split(rows, fitted_sizes(len(rows), given, wanted), seed=seed))
