"""Online jobs: a job file whose prompt meets live traffic instead of a data set."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from rollouts.dtypes import Program, Sample, Score, Trajectory
from rollouts.errors import ConfigError, EvaluationError
from rollouts.experiments.config import JobConfig
from rollouts.experiments.config_convert import to_template
from rollouts.experiments.job import Job, Remote, prepare
from rollouts.prompt_optimization import MIPROConfig, OptimizationResult, Splits, Study
from rollouts.prompt_optimization.mipro import default_proposers
from rollouts.service.interceptor import Interceptor
from rollouts.service.jobs import JobRow
from rollouts.service.jobs.runners import load_job, ready
from rollouts.service.online.system import OnlineSystem, Systems
from rollouts.service.online.work import OnlineOptions, serve
from rollouts.service.settings import ServiceSettings
from rollouts.store import events_of

_WHOLE_MESSAGE = "{message}"


@dataclass(frozen=True, kw_only=True)
class OnlineRunner:
    """Jobs whose row holds a job file under `config` and `OnlineOptions` under `online`."""

    settings: ServiceSettings
    interceptor: Interceptor
    systems: Systems

    @asynccontextmanager
    async def prepared(self, row: JobRow) -> AsyncIterator[Job]:
        """See `JobRunner.prepared`."""
        settings = self.settings
        loaded = load_job(row.config["config"], settings, name=row.name, remote=True)
        if loaded.config.algorithm != "mipro":
            raise ConfigError("online mode is MIPRO's: set algorithm to mipro")
        start = _start(loaded.config)
        nothing = [Sample(inputs=dict.fromkeys(start.placeholders, ""))]
        remote = Remote(start=start, data=Splits(train=nothing, val=nothing), score_fn=_no_score)
        job = prepare(loaded, {}, resolve=settings.resolve, remote=remote)
        job = ready(job, settings.results_dir / row.id, config=job.config)
        options = OnlineOptions(**row.config["online"])
        await asyncio.to_thread(self.systems.address, row.owner, row.id)
        async with AsyncExitStack() as stack:

            def work(study: Study) -> Coroutine[Any, Any, OptimizationResult]:
                endpoints = dict.fromkeys(start.modules, job.task.endpoint)
                desk = self.interceptor.desk(row.id, study, endpoints, live=True)
                stack.callback(desk.close)
                stack.callback(self.systems.close, row.id)
                return self._serve(job, study, OnlineSystem(study, start, desk, seed=job.settings.seed), options)

            yield replace(job, work=work)

    def forget(self, row: JobRow) -> None:
        """Its jobs have no secrets of their own."""

    async def _serve(self, job: Job, study: Study, system: OnlineSystem, options: OnlineOptions) -> OptimizationResult:
        assert isinstance(job.settings, MIPROConfig)
        system.replay(await asyncio.to_thread(events_of, study.store, study.run_id))
        self.systems.open(study.run_id, system)
        proposers = default_proposers(study, job.proposer, job.settings.seed)
        return await serve(study, system, job.settings, proposers, options)


def _start(config: JobConfig) -> Program:
    prompt = config.initial_prompt
    if prompt.system is None and prompt.messages is None:
        raise ConfigError("online mode needs prompt_learning.initial_prompt: the prompt that the traffic carries now")
    return Program.single(to_template(config, user_template=_WHOLE_MESSAGE))


def _no_score(trajectory: Trajectory, sample: Sample) -> Score:
    raise EvaluationError("an online job has no data set: its scores are the rewards that are sent to it")
