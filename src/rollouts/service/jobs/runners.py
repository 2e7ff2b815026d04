"""From a job's row to a study that can run. One runner for each kind of job."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from rollouts.datasets import is_file_path
from rollouts.errors import ConfigError, DataError
from rollouts.experiments.config_errors import Problem, config_error
from rollouts.experiments.config_keys import JOB
from rollouts.experiments.estimate import check_models
from rollouts.experiments.job import Job, prepare
from rollouts.experiments.loading import LoadedConfig, parse_config
from rollouts.service.jobs.model import JobRow
from rollouts.service.jobs.rules import check_rules
from rollouts.service.settings import ServiceSettings


class JobRunner(Protocol):
    """Knows one kind of job."""

    def prepared(self, row: JobRow) -> AbstractAsyncContextManager[Job]:
        """Everything that the run needs, while the context lasts, with nothing spent.

        It is entered once before the job is taken, for its errors, and again whenever the job begins or goes on; each
        time it must come to the same study. Raises RolloutsError that says what to change.
        """
        ...

    def forget(self, row: JobRow) -> None:
        """The job is over and cannot go on: secrets that were kept for it alone are deleted."""
        ...


class NativeRunner:
    """Jobs of the job file: `config` is its JSON under `config`, and maybe inline `rows`."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._settings = settings

    @asynccontextmanager
    async def prepared(self, row: JobRow) -> AsyncIterator[Job]:
        """See `JobRunner.prepared`."""
        yield await asyncio.to_thread(self._prepare, row)

    def forget(self, row: JobRow) -> None:
        """Its jobs have no secrets."""

    def _prepare(self, row: JobRow) -> Job:
        folder, rows = self._settings.results_dir / row.id, row.config.get("rows")
        if rows is None:
            return self._job(row, folder)
        _check_alone(row.config["config"])
        file = _written(rows, folder / "rows.jsonl")
        try:
            return self._job(row, folder, file)
        except (ConfigError, DataError) as error:
            raise type(error)(str(error).replace(file, "rows")) from None

    def _job(self, row: JobRow, folder: Path, file: str | None = None) -> Job:
        settings, inline = self._settings, file is not None
        overrides = [f"dataset.path={json.dumps(file, ensure_ascii=False)}"] if inline else []
        loaded = load_job(row.config["config"], settings, overrides, name=row.name, inline=inline)
        job = prepare(loaded, {}, resolve=settings.resolve)
        return ready(job, folder, config=_without_places(job.config, inline=inline))


def load_job(
    config: Mapping[str, Any],
    settings: ServiceSettings,
    overrides: Sequence[str] = (),
    *,
    name: str = "",
    inline: bool = False,
    remote: bool = False,
) -> LoadedConfig:
    """The checked settings of a job file that came as JSON, its paths taken from the service's `data_dir`.

    `name` goes before the file's own. `inline` says that the overrides name a file of the service as data set, `remote`
    that the task runs in a task app. Raises ConfigError for what is wrong, or not for jobs to ask for.
    """
    base = (settings.data_dir or settings.results_dir).resolve()
    loaded = parse_config(config, overrides, source="job", base_dir=base, remote=remote)
    check_rules(loaded.config, settings, inline=inline)
    changes: dict[str, Any] = {"name": name} if name else {}
    data = loaded.config.dataset
    if data is not None and settings.data_dir is not None and not is_file_path(data.name or data.path or "."):
        changes["dataset"] = data.model_copy(update={"data_dir": str(base)})
    return replace(loaded, config=loaded.config.model_copy(update=changes))


def ready(job: Job, folder: Path, *, config: Mapping[str, Any]) -> Job:
    """The job with its files in `folder`, and `config` as what is kept with the run. Raises ConfigError when its models
    cannot be called."""
    problems = check_models(job)
    if problems:
        raise config_error("job", [Problem(key="", message=problem) for problem in problems])
    return replace(job, folder=folder, config=config, options=replace(job.options, config=config))


def _without_places(config: Mapping[str, Any], *, inline: bool) -> dict[str, Any]:
    """The settings without the server's own paths, which are nobody's business."""
    job = dict(config[JOB])
    data = {name: value for name, value in job["dataset"].items() if name != "data_dir"}
    return {**config, JOB: {**job, "dataset": {**data, **({"path": "rows"} if inline else {})}}}


def _check_alone(config: Mapping[str, Any]) -> None:
    for table in config.values():
        data = table.get("dataset") if isinstance(table, dict) else None
        if isinstance(data, dict) and "path" in data:
            raise ConfigError("job: the rows are given twice: as rows, and by dataset.path; keep one of the two")


def _written(rows: list[dict[str, Any]], file: Path) -> str:
    """The path of the file with the rows, which is written once: a run may be reading it."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_suffix(".new")
        temporary.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        temporary.replace(file)
    return str(file.resolve())
