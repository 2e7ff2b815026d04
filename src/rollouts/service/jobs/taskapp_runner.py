"""Jobs whose rollouts are made in a task app."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from rollouts.datasets import PARTS, auto_sizes
from rollouts.dtypes import Program
from rollouts.errors import ConfigError, TaskAppError
from rollouts.experiments.config import JobConfig
from rollouts.experiments.config_convert import to_endpoint, to_template
from rollouts.experiments.job import Job, Remote, prepare
from rollouts.prompt_optimization import Splits, Study
from rollouts.service.guard import UrlPolicy
from rollouts.service.interceptor import Interceptor
from rollouts.service.jobs.model import JobRow
from rollouts.service.jobs.runners import load_job, ready
from rollouts.service.keys import EnvKeys
from rollouts.service.settings import ServiceSettings
from rollouts.taskapp import AppLimits, Asked, LateDesk, RemoteApp, remote_program, reward_of

KEY_NAME = "ENVIRONMENT_API_KEY"
"""The environment key that apps are sent where a job names none."""

OWN_KEY = "job-"
"""How the names of keys begin that came with a job and are kept for it alone. Nobody can upload one of such a name."""

_WHOLE_MESSAGE = "{message}"
_WAITS_S = (1.0, 2.0, 4.0, 8.0)


@dataclass(frozen=True, kw_only=True)
class TaskAppRunner:
    """Jobs that name a `task_app`: its `url`, the seeds of the three parts, and what else `TaskAppRef` has. `config` is
    a job file without data set and metric.

    The prompt to improve is the job's, which must be the app's to the letter, or what the app tells of itself. Where
    the job has no user message, the app's own stay as they are.
    """

    settings: ServiceSettings
    env_keys: EnvKeys
    interceptor: Interceptor

    @asynccontextmanager
    async def prepared(self, row: JobRow) -> AsyncIterator[Job]:
        """See `JobRunner.prepared`."""
        settings, asked = self.settings, row.config["task_app"]
        loaded = await asyncio.to_thread(load_job, row.config["config"], settings, name=row.name, remote=True)
        async with AsyncExitStack() as stack:
            app = await asyncio.to_thread(self._app, row.owner, asked)
            stack.push_async_callback(app.close)
            # An app may be started together with the service, and later than a job that goes on.
            data, baseline = await _told(app, asked, loaded.config, waits_s=_WAITS_S if row.started_at else ())
            desk = LateDesk()
            start = remote_program(app, baseline, desk, asked=_asked(loaded.config, asked), version=row.id)
            remote = Remote(start=start, data=data, score_fn=reward_of)
            job = prepare(loaded, {}, resolve=settings.resolve, remote=remote)
            endpoints = {name: job.task.endpoints.get(name, job.task.endpoint) for name in start.modules}

            def bind(study: Study) -> None:
                opened = self.interceptor.desk(row.id, study, endpoints)
                stack.callback(opened.close)
                desk.bind(opened)

            job = ready(job, settings.results_dir / row.id, config={**job.config, "task_app": asked})
            yield replace(job, options=replace(job.options, on_start=bind))

    def forget(self, row: JobRow) -> None:
        """See `JobRunner.forget`."""
        name = row.config["task_app"].get("key_name") or ""
        if name.startswith(OWN_KEY):
            self.env_keys.remove(row.owner, name)

    def _app(self, owner: str, asked: Mapping[str, Any]) -> RemoteApp:
        policy = UrlPolicy.of(self.settings.allow_networks, bound_to=self.settings.host)
        url, name = policy.check(asked["url"], "task_app.url"), asked.get("key_name")
        key = self.env_keys.get(owner, name or KEY_NAME)
        if name and key is None:
            raise ConfigError(f"task_app.key_name: there is no environment key {name!r}; upload it, or name another")
        limits = {name: asked[name] for name in ("timeout_s", "slots", "max_attempts") if asked.get(name) is not None}
        return RemoteApp(url, key or "", limits=AppLimits(**limits), connector=policy.connector)


async def _told(
    app: RemoteApp, asked: Mapping[str, Any], config: JobConfig, *, waits_s: tuple[float, ...]
) -> tuple[Splits, Program]:
    """Rows and prompt, asked for again after each of `waits_s` while the app is not there."""
    for wait_s in (*waits_s, None):
        try:
            await app.check()
            return await _splits(app, asked, config.seed), await _baseline(app, config)
        except TaskAppError as error:
            if wait_s is None or not error.retryable:
                raise
            await asyncio.sleep(wait_s)
    raise AssertionError("the last attempt returns or raises")


async def _splits(app: RemoteApp, asked: Mapping[str, Any], seed: int) -> Splits:
    train, val, test = (asked.get(f"{part}_seeds") or [] for part in PARTS)
    if not (train or val or test):
        train, val, test = await _drawn(app, seed)
    test, notes = _untouched([*train, *val], test, await app.size())
    rows = await app.samples([*train, *val, *test])
    return Splits(
        train=rows[: len(train)],
        val=rows[len(train) : len(train) + len(val)],
        test=rows[len(train) + len(val) :],
        notes=notes,
    )


def _untouched(seen: Sequence[int], test: Sequence[int], size: int | None) -> tuple[list[int], tuple[str, ...]]:
    """The test seeds whose rows the search does not see, each row once, and a note on the others: an app of `size`
    samples counts seeds around. Raises ConfigError for a seed that search and test both name."""
    both = sorted({*seen} & {*test})
    if both:
        raise ConfigError(f"task_app.test_seeds: the search sees seed {both[0]} too; test on seeds of their own")
    rows = [seed if size is None else seed % size for seed in (*seen, *test)]
    known, kept = set(rows[: len(seen)]), dict[int, int]()
    for row, seed in zip(rows[len(seen) :], test, strict=True):
        if row not in known:
            kept.setdefault(row, seed)
    left_out = len(test) - len(kept)
    of_it = "" if size is None else f"the app has {size} samples, and "
    note = f"{left_out} test seeds were left out: {of_it}they are rows that the search sees, or that are tested already"
    return list(kept.values()), (note,) if left_out else ()


async def _drawn(app: RemoteApp, seed: int) -> tuple[list[int], list[int], list[int]]:
    """Seeds of an app for which the job names none."""
    size = await app.size()
    if size is None:
        raise ConfigError(f"the task app at {app.host} does not tell how many samples it has: name the job's seeds")
    sizes = auto_sizes(size)
    drawn = random.Random(seed).sample(range(size), sum(sizes.values()))
    train, val = sizes["train"], sizes["train"] + sizes["val"]
    return drawn[:train], drawn[train:val], drawn[val:]


async def _baseline(app: RemoteApp, config: JobConfig) -> Program:
    prompt = config.initial_prompt
    if prompt.system is not None or prompt.user is not None or prompt.messages is not None:
        return Program.single(to_template(config, user_template=_WHOLE_MESSAGE))
    told = (await app.info()).baseline
    if told is None:
        raise ConfigError(
            f"the task app at {app.host} does not tell its prompt: give it as prompt_learning.initial_prompt, the same "
            "to the letter"
        )
    return told


def _asked(config: JobConfig, asked: Mapping[str, Any]) -> Asked:
    """What apps are told of the model: its name as the job has it, whatever answers to that name here."""
    named = to_endpoint(config)
    policy = {
        "provider": named.provider,
        "model": named.model,
        "temperature": named.sampling.temperature,
        "max_completion_tokens": named.sampling.max_tokens,
    }
    return Asked(policy=policy, env=asked.get("env") or {})
