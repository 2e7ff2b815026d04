"""What a job may not ask of the server, though its owner may ask it of a machine of his own.

Data comes by a built-in name, inline, or from below `data_dir`. Code, and what is as good as code (an MCP server's
command, a pattern that may take for ever to match), needs `allow_code`. Addresses and key variables of models need
`allow_endpoints`: with both a job could have the server's keys sent to a place of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rollouts.datasets import is_file_path
from rollouts.datasets.spec import is_built_in
from rollouts.experiments.config import JobConfig
from rollouts.experiments.config_convert import located, metric_of
from rollouts.experiments.config_errors import Problem, config_error
from rollouts.service.settings import ServiceSettings

_JOB = "prompt_learning."
_DATA_PATHS = ("path", "name", "train_path", "val_path", "test_path")
_PATTERN_METRICS = ("regex", "json_schema")

Found = Iterator[tuple[str, str]]


def check_rules(job: JobConfig, settings: ServiceSettings, *, inline: bool = False) -> None:
    """Raises ConfigError that lists everything the job may not ask for. `inline`: its `dataset.path`, and no other path
    of it, is the server's own."""
    checks = [_places(job), _data(job, settings, inline), *(_code(job),) * (not settings.allow_code)]
    if not settings.allow_endpoints:
        checks.append(_endpoints(job))
    problems = [Problem(key=_JOB + key, message=message) for found in checks for key, message in found]
    if problems:
        raise config_error("job", problems)


def _places(job: JobConfig) -> Found:
    if job.execution.store is not None:
        yield "execution.store", "jobs are kept in the service's store; leave it out"
    if job.dataset is not None and job.dataset.data_dir is not None:
        yield "dataset.data_dir", "is the service's own setting; leave it out"


def _data(job: JobConfig, settings: ServiceSettings, inline: bool) -> Found:
    if job.dataset is not None:
        paths = {name: getattr(job.dataset, name) for name in _DATA_PATHS if not (inline and name == "path")}
        for key, path in paths.items():
            if path is not None:
                yield from _below(f"dataset.{key}", path, settings.data_dir)
                if job.dataset.format is not None and is_built_in(path):
                    # The loader would take it for a file of the working directory.
                    yield f"dataset.{key}", "a built-in data set has a format of its own; leave dataset.format out"
    for key, path in (
        ("score.schema_path", job.score.schema_path),
        ("score.options.schema_path", job.score.options.get("schema_path")),
    ):
        if path is not None:
            yield from _below(key, str(path), settings.data_dir)


def _below(key: str, path: str, folder: Path | None) -> Found:
    if not is_file_path(path):
        if path.startswith("hf:"):
            yield key, "the service downloads no data; send the rows with the job, as `rows`"
    elif folder is None:
        yield key, "this service has no data_dir, so jobs cannot name files; send the rows with the job, as `rows`"
    elif "://" in path or not Path(located(path, folder.resolve())).is_relative_to(folder.resolve()):
        yield key, "must be a path below the service's data_dir, written relative to it"


def _code(job: JobConfig) -> Found:
    allow = "this service was started without allow_code"
    metric = metric_of(job)
    if ":" in metric:
        yield "score.metric", f"Python code of the server cannot be named: {allow}"
    if metric in _PATTERN_METRICS:
        yield "score.metric", f"{metric!r} takes patterns, which may take for ever to match: {allow}"
    if job.program is not None:
        yield "program.path", f"Python code of the server cannot be named: {allow}"
    if job.environment is not None and (":" in job.environment.name or job.environment.name.strip().lower() == "mcp"):
        yield "environment.name", f"code and MCP servers cannot be named: {allow}"


def _endpoints(job: JobConfig) -> Found:
    modules = {} if job.program is None else job.program.models
    tables = {
        "policy": job.policy,
        "proposer": job.proposer,
        "score.judge": job.score.judge,
        **{f"program.models.{name}": table for name, table in modules.items()},
    }
    for key, table in tables.items():
        for name in ("base_url", "api_key_env", "extra"):
            if table is not None and getattr(table, name):
                yield f"{key}.{name}", "belongs to the service's settings ([models]); leave it out"
