"""What a job file must satisfy beyond types: settings that contradict each other, and what cannot run here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from rollouts.datasets import PARTS
from rollouts.datasets.spec import BUILT_IN, is_built_in
from rollouts.dtypes import Endpoint, check_placeholders, placeholders
from rollouts.environments import make_environment_factory
from rollouts.errors import ConfigError
from rollouts.evaluation.metrics import METRICS
from rollouts.experiments.config import JobConfig
from rollouts.experiments.config_convert import (
    JUDGE,
    metric_of,
    to_dataset,
    to_endpoint,
    to_judge,
    to_module_models,
    to_proposer,
    to_template,
)
from rollouts.experiments.config_errors import Problem, is_secret
from rollouts.experiments.config_search import most_demos, searches_demos
from rollouts.experiments.config_tables import DatasetTable, ModelTable
from rollouts.experiments.near_names import did_you_mean
from rollouts.llm.registry import spec_of

_JOB = "prompt_learning."


def check(job: JobConfig, *, remote: bool = False) -> list[Problem]:
    """All contradictions of a job whose settings are each valid. `remote`: its task runs in a task app."""
    data = _remote if remote else _dataset
    return [
        Problem(key=_JOB + key, message=message)
        for checks in (_mode, data, _start, _environment, _score, _models, _searches, _limits, _store)
        for key, message in checks(job)
    ]


Found = Iterator[tuple[str, str]]


def _mode(job: JobConfig) -> Found:
    if job.mipro.mode == "online":
        yield "mipro.mode", 'online mode comes with the service; leave it out, or set mode = "offline"'


def _dataset(job: JobConfig) -> Found:
    data = job.dataset
    if data is None:
        if job.task_app_url is not None:
            yield "task_app_url", "task apps come with the service; set [prompt_learning.dataset] to run the task here"
        else:
            yield "dataset", "missing; name the file with your examples in [prompt_learning.dataset] path"
        return
    sources = [name for name in ("path", "name", "train_path") if getattr(data, name) is not None]
    if not sources:
        yield "dataset.path", "missing; set path, name, or train_path"
    for first, second in pairwise(sources):
        yield f"dataset.{second}", f"{first} already names the rows; keep one of the two"
    if data.data_dir is not None and not is_built_in(data.name or data.path or ""):
        yield "dataset.data_dir", "is for built-in data sets alone; files are named by their path"
    yield from _sizes(data)
    if data.name is not None and not is_built_in(data.name):
        yield "dataset.name", f"no built-in data set {data.name!r}; they are {', '.join(BUILT_IN)}; files go into path"
    new = set(data.rename_labels.values())
    for label in data.labels or ():
        if label in data.rename_labels and label not in new:
            yield "dataset.labels", f"{label!r} is renamed to {data.rename_labels[label]!r}; write the new name"
    yield from _numbered(data)
    yield from _folded(data)
    if len(sources) == 1:
        yield from _readable("dataset", lambda: to_dataset(job, Path()))


def _remote(job: JobConfig) -> Found:
    for name, own in (("dataset", "rows"), ("program", "program"), ("environment", "tools")):
        if getattr(job, name) is not None:
            yield name, f"the task app has {own} of its own; leave it out"
    for name in ("metric", "judge"):
        if getattr(job.score, name) is not None:
            yield f"score.{name}", "the task app scores by itself; leave it out"


def _sizes(data: DatasetTable) -> Found:
    shares: dict[str, float] = {}
    for part in PARTS:
        size = getattr(data, part)
        own_file = getattr(data, f"{part}_path") is not None
        if isinstance(size, float) and not own_file:
            shares[part] = size
    total = sum(shares.values())
    if total > 1 + 1e-9:
        text = " + ".join(f"{part} {share:g}" for part, share in shares.items())
        yield f"dataset.{next(iter(shares))}", f"the shares add up to {total:g} ({text}); they may be at most 1"
    rows = sum(size for part in PARTS if type(size := getattr(data, part)) is int)
    whole = not (data.train_path or data.val_path or data.test_path)
    if whole and data.limit is not None and rows > data.limit:
        yield "dataset.limit", f"{data.limit} rows are read, but train, val and test ask for {rows}"


def _numbered(data: DatasetTable) -> Found:
    named = [part for part in PARTS if getattr(data, f"{part}_rows") is not None]
    if not named:
        return
    for part in ("train", "val"):
        if part not in named:
            yield f"dataset.{part}_rows", f"missing; {named[0]}_rows is given by numbers, so these must be, too"
    for part in named:
        if getattr(data, part) is not None:
            yield f"dataset.{part}", f"{part}_rows already names the rows; keep one of the two"
    for name in ("train_path", "val_path", "test_path", "limit"):
        if getattr(data, name) is not None:
            yield f"dataset.{name}", f"cannot stand with {named[0]}_rows, whose numbers are those of one whole file"


def _folded(data: DatasetTable) -> Found:
    for name in ("test", "test_path", "train_rows", "val_rows", "test_rows"):
        if data.folds is not None and getattr(data, name) is not None:
            yield f"dataset.{name}", "folds already says which rows are tested; keep one of the two"


def _start(job: JobConfig) -> Found:
    if job.program is None:
        yield from _prompt(job)
        return
    for name in sorted(job.initial_prompt.model_fields_set - {"frozen"}):
        if getattr(job.initial_prompt, name):
            yield f"initial_prompt.{name}", "the program has prompts of its own; leave one of the two out"


def _prompt(job: JobConfig) -> Found:
    prompt = job.initial_prompt
    if prompt.messages is not None and (prompt.system is not None or prompt.user is not None):
        yield "initial_prompt.messages", "the prompt is given twice: as messages, and as system or user; keep one"
        return
    if job.dataset is None:
        return
    try:
        template = to_template(job)
        if job.dataset.inputs is not None:
            check_placeholders(template, list(job.dataset.inputs))
    except ConfigError as error:
        yield "initial_prompt", str(error)
        return
    text = f"{template.system}\n{template.user_template}"
    for n, span in enumerate(prompt.frozen):
        if span not in template.system and span not in template.user_template:
            yield f"initial_prompt.frozen[{n}]", f"{span!r} does not stand in the prompt"
    for name, need in prompt.wildcards.items():
        if need == "REQUIRED" and name not in placeholders(text):
            yield f"initial_prompt.wildcards.{name}", f"the prompt does not use {{{name}}}, which is REQUIRED"


def _environment(job: JobConfig) -> Found:
    table = job.environment
    # A factory of the user's own is imported by the run, not by reading the file.
    if table is not None and ":" not in table.name:
        yield from _readable("environment", lambda: make_environment_factory(table.name, **table.options))


def _score(job: JobConfig) -> Found:
    score, metric = job.score, metric_of(job)
    if ":" not in metric and metric not in METRICS:
        hint, names = did_you_mean(metric, METRICS), ", ".join(sorted(METRICS))
        yield "score.metric", f"no metric {metric!r}{hint} Metrics: {names}, or your own as 'package.module:function'"
    elif score.judge is not None and metric != JUDGE:
        yield "score.judge", f"is used by the metric 'judge' alone, and the metric is '{metric}'; keep one of the two"
    elif score.judge is None and metric == JUDGE:
        yield "score.metric", "'judge' needs a rubric: add [prompt_learning.score.judge] with rubric = \"...\""
    for name in ("pattern", "tolerance"):
        if getattr(score, name) is not None and name in score.options:
            yield f"score.options.{name}", f"is also set as score.{name}; keep one of the two"


def _models(job: JobConfig) -> Found:
    policy = job.policy
    if policy.model is None and policy.provider != "local":
        yield "policy.model", 'missing; name the task model, for example provider = "openai", model = "gpt-4.1-nano"'
    elif policy.provider is None and "/" not in (policy.model or "").strip("/") and policy.model != "local":
        yield "policy.provider", f'missing; set provider, or write the model as "provider/{policy.model}"'
    else:
        yield from _readable("policy", lambda: _known(to_endpoint(job)))
        yield from _readable("proposer", lambda: _known(to_proposer(job)))
        yield from _readable("score.judge", lambda: _known(to_judge(job)))
        yield from _readable("program.models", lambda: _known(*to_module_models(job).values()))
    modules = {} if job.program is None else job.program.models
    tables: dict[str, ModelTable | None] = {
        "policy": job.policy,
        "proposer": job.proposer,
        "score.judge": job.score.judge,
        **{f"program.models.{name}": table for name, table in modules.items()},
    }
    for key, table in tables.items():
        parts = urlsplit(table.base_url) if table is not None and table.base_url is not None else None
        if parts is None:
            continue
        if parts.password is not None or any(is_secret(name) or name == "key" for name, _ in parse_qsl(parts.query)):
            yield f"{key}.base_url", "holds a key or password; keys belong in the environment or .env: set api_key_env"


def _known(*endpoints: Endpoint | None) -> None:
    for endpoint in endpoints:
        if endpoint is not None:
            spec_of(endpoint.provider)


def _readable(key: str, convert: Callable[[], object]) -> Found:
    try:
        convert()
    except ConfigError as error:
        yield key, str(error)


def _searches(job: JobConfig) -> Found:
    yield from {"mipro": _mipro, "gepa": _gepa, "rmipro": _rmipro}[job.algorithm](job)


def _mipro(job: JobConfig) -> Found:
    mipro = job.mipro
    if mipro.optimize_demos and most_demos(mipro) == 0:
        yield "mipro.num_demos", "is 0, so there are no demonstrations to optimize; set optimize_demos = false"
    elif not mipro.optimize_instructions and not searches_demos(mipro):
        yield "mipro.optimize_instructions", "nothing to optimize: neither instructions nor demonstrations are"
    for name in ("max_bootstrapped_demos", "max_labeled_demos"):
        most = getattr(mipro, name)
        if most is not None and mipro.num_demos is not None and most > mipro.num_demos:
            yield f"mipro.{name}", f"{most} is more than num_demos = {mipro.num_demos}"


def _gepa(job: JobConfig) -> Found:
    gepa = job.gepa
    if gepa.elite_size is not None and gepa.elite_size > gepa.population_size:
        yield "gepa.elite_size", f"{gepa.elite_size} is more than population_size = {gepa.population_size}"
    if not gepa.optimize and not gepa.optimize_demos:
        yield "gepa.optimize", 'nothing to optimize: name a text, such as "system", or set optimize_demos = true'
    if not isinstance(gepa.objective, str) and "score" not in gepa.objective:
        yield "gepa.objective", 'the score is missing; write ["score", ...]'


def _rmipro(job: JobConfig) -> Found:
    rmipro = job.rmipro
    if not rmipro.optimize_instructions and not rmipro.optimize_demos:
        yield "rmipro.optimize_instructions", "nothing to optimize: neither instructions nor demonstrations are"


def _limits(job: JobConfig) -> Found:
    tables = {"": job.constraints} | {f"modules.{name}.": limits for name, limits in job.constraints.modules.items()}
    for place, limits in tables.items():
        if limits.max_latency_s and limits.max_p95_latency_s and limits.max_p95_latency_s > limits.max_latency_s:
            yield f"constraints.{place}max_p95_latency_s", "is more than max_latency_s, at which every rollout is cut"
    if job.termination_config.modules and job.algorithm != "rmipro":
        yield (
            "termination_config.modules",
            f'the algorithm is {job.algorithm}, which does not divide a budget; set algorithm = "rmipro"',
        )


def _store(job: JobConfig) -> Found:
    store = job.execution.store
    if store is not None and "://" in store and urlsplit(store).password is not None:
        yield (
            "execution.store",
            "holds a password; leave it out of the file (PostgreSQL reads PGPASSWORD and .pgpass)",
        )
