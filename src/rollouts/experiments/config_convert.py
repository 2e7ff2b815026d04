"""From the tables of a job file to the plain values that the other rooms take."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from rollouts.budget import Budget, Constraints
from rollouts.datasets import DatasetSpec, is_file_path
from rollouts.dtypes import Endpoint, FewShotExample, Price, PromptTemplate, Sampling, placeholders, unescaped
from rollouts.errors import ConfigError, TemplateError
from rollouts.experiments.config import JobConfig
from rollouts.experiments.config_compat import OTHER_NAMES
from rollouts.experiments.config_tables import DatasetTable, MessageTable, ModelTable, PriceTable, Rows

JUDGE = "llm_judge"
_WITH_PROVIDER = ("timeout_s", "stream")
_WITH_ADDRESS = ("base_url", "api_key_env")
_WITH_MODEL = ("price", "extra")


def to_endpoint(job: JobConfig) -> Endpoint:
    """The task model. Raises ConfigError when no model is named."""
    return endpoint_of(job.policy)


def endpoint_of(table: ModelTable) -> Endpoint:
    """The model of a table that leaves nothing to other ones. Raises ConfigError when no model is named."""
    return replace(_named(table.provider, table.model), **_settings(table))


def to_proposer(job: JobConfig) -> Endpoint:
    """The model that writes instructions: the task model wherever the proposer table does not say otherwise."""
    return _other(job, job.proposer)


def to_judge(job: JobConfig) -> Endpoint | None:
    """The judging model, None where the score needs none."""
    return None if job.score.judge is None else _other(job, job.score.judge)


def to_module_models(job: JobConfig) -> dict[str, Endpoint]:
    """The models of single modules of the program: the task model wherever their tables do not say otherwise."""
    tables = {} if job.program is None else job.program.models
    sampling = to_endpoint(job).sampling
    return {name: _other(job, table, sampling) for name, table in tables.items()}


def _other(job: JobConfig, table: ModelTable, sampling: Sampling | None = None) -> Endpoint:
    """`table` over the task model. Address and key come with the provider, price and `extra` with model."""
    task = to_endpoint(job)
    if table.provider is None and table.model is None:
        named = task
    elif table.provider is None and "/" not in (table.model or ""):
        named = _named(task.provider, table.model)
    elif table.model is None and OTHER_NAMES.get(table.provider or "", table.provider) == task.provider:
        named = task
    else:
        named = _named(table.provider, table.model)
    inherited: tuple[str, ...] = ()
    if named.provider == task.provider:
        # A key never follows to another address.
        same_address = table.base_url in (None, task.base_url)
        same_model = same_address and named.model == task.model
        inherited = _WITH_PROVIDER + _WITH_ADDRESS * same_address + _WITH_MODEL * same_model
    settings = {name: getattr(task, name) for name in inherited} | _settings(table, sampling)
    return replace(_bare(named), **settings)


def _bare(endpoint: Endpoint) -> Endpoint:
    return Endpoint(provider=endpoint.provider, model=endpoint.model)


def _named(provider: str | None, model: str | None) -> Endpoint:
    if provider is not None and model is not None:
        named = Endpoint(provider=provider, model=model)
    else:
        named = Endpoint.parse(provider or model or "")
    return replace(named, provider=OTHER_NAMES.get(named.provider, named.provider))


def _settings(table: ModelTable, sampling: Sampling | None = None) -> dict[str, Any]:
    """What the table says beside provider and model; what it leaves out is left out, or as in `sampling`."""
    values = {
        "base_url": table.base_url,
        "timeout_s": table.timeout_s,
        "price": None if table.price is None else _price(table.price),
        "api_key_env": table.api_key_env,
        "stream": table.stream,
        "extra": None if table.extra is None else dict(table.extra),
    }
    said = {
        "temperature": table.temperature,
        "max_tokens": table.max_completion_tokens,
        "top_p": table.top_p,
        "seed": table.seed,
        "stop": table.stop,
    }
    made = replace(sampling or Sampling(), **_given(said))
    return {"sampling": made, **_given(values)}


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _price(table: PriceTable) -> Price:
    cached = table.cached_input
    return Price(
        input=Decimal(str(table.input)),
        output=Decimal(str(table.output)),
        cached_input=None if cached is None else Decimal(str(cached)),
    )


def to_budget(job: JobConfig) -> Budget:
    """The hard caps of the run."""
    stop = job.termination_config
    return Budget(
        max_cost_usd=None if stop.max_cost_usd is None else Decimal(str(stop.max_cost_usd)),
        max_tokens=stop.max_tokens,
        max_calls=stop.max_calls,
        max_rollouts=stop.budget,
        max_seconds=stop.max_time_seconds,
    )


def to_module_budgets(job: JobConfig) -> dict[str, Budget]:
    """The hard caps of single modules."""
    return {
        name: Budget(
            max_cost_usd=None if table.max_cost_usd is None else Decimal(str(table.max_cost_usd)),
            max_tokens=table.max_tokens,
            max_calls=table.max_calls,
            max_seconds=table.max_time_seconds,
            max_trials=table.max_trials,
        )
        for name, table in job.termination_config.modules.items()
    }


def to_constraints(job: JobConfig) -> Constraints:
    """What the shipped prompt must satisfy."""
    table = job.constraints
    modules = {name: Constraints(**limits.model_dump()) for name, limits in table.modules.items()}
    return Constraints(**table.model_dump(exclude={"modules"}), modules=modules)


def to_template(job: JobConfig, *, user_template: str = "") -> PromptTemplate:
    """The starting prompt; `user_template` is its user message where the job has none.

    Raises TemplateError when it has no user message and the data set's inputs, from which one is made, are not named,
    when its messages have no order that a prompt can have, or when a demonstration among them shows a row.
    """
    prompt = job.initial_prompt
    demos = [FewShotExample(demo.input, demo.output) for demo in prompt.few_shot_examples]
    system, user = prompt.system or "", prompt.user
    if prompt.messages is not None:
        system, user, shown = _from_messages(prompt.messages, _inputs(job))
        demos = shown + demos
    return PromptTemplate(
        system=system, user_template=user or user_template or _user_of(job, system), few_shot_examples=tuple(demos)
    )


def _user_of(job: JobConfig, system: str) -> str:
    open_inputs = [name for name in _inputs(job) if name not in placeholders(system)]
    if not open_inputs:
        raise TemplateError(
            'no user message: set initial_prompt.user, for example "Query: {query}", or name the columns that fill it '
            "in dataset.inputs"
        )
    if len(open_inputs) == 1:
        return "{" + open_inputs[0] + "}"
    return "\n".join(f"{name}: {{{name}}}" for name in open_inputs)


def _inputs(job: JobConfig) -> list[str]:
    return list(job.dataset.inputs or ()) if job.dataset is not None else []


def _from_messages(
    messages: Sequence[MessageTable], inputs: Sequence[str]
) -> tuple[str, str | None, list[FewShotExample]]:
    """(system, user template, demonstrations) of a list of messages."""
    places = [(n if m.order is None else m.order, n, m) for n, m in enumerate(messages)]
    ordered = [(number, message) for _, number, message in sorted(places, key=lambda place: place[:2])]
    system = "\n\n".join(message.content for _, message in ordered if message.role == "system")
    demos: list[FewShotExample] = []
    shown: list[tuple[int, str]] = []
    waiting: list[tuple[int, str]] = []
    for number, message in ordered:
        if message.role == "user":
            waiting.append((number, message.content))
        elif message.role == "assistant":
            if not waiting:
                raise TemplateError("an assistant message must follow the user message that it answers")
            demos.append(FewShotExample(unescaped(_joined(waiting)), unescaped(message.content)))
            shown += [*waiting, (number, message.content)]
            waiting = []
    user = _joined(waiting)
    _check_demonstrations(shown, placeholders(system) | placeholders(user) | set(inputs))
    return system, user or None, demos


def _joined(numbered: Sequence[tuple[int, str]]) -> str:
    return "\n\n".join(text for _, text in numbered)


def _check_demonstrations(shown: Sequence[tuple[int, str]], names: Collection[str]) -> None:
    """Raises TemplateError where a message of a demonstration has a placeholder of these names; of any, if there are
    none."""
    for number, text in shown:
        found = [name for name in sorted(placeholders(text)) if name in names or not names]
        if found:
            raise TemplateError(
                f"messages[{number}] is part of a demonstration (a user message and the assistant message that answers "
                f"it), which is sent as it stands: nothing fills its {{{found[0]}}}. Put placeholders into the last "
                f"user message or the system message; or write \\{{{found[0]}}} (in TOML, between single quotes) if it "
                "is meant as it stands"
            )


def to_score(job: JobConfig, base_dir: Path) -> dict[str, Any]:
    """`metric` (a name of `rollouts.evaluation.metrics` or `package.module:function`), its `options`, and the `rubric`.

    `rubric` is None where no judge scores. The option `schema_path` is absolute, taken from `base_dir`.
    """
    score = job.score
    options: dict[str, Any] = {"pattern": score.pattern, "tolerance": score.tolerance}
    if score.schema_path is not None:
        options["schema_path"] = located(score.schema_path, base_dir)
    return {
        "metric": metric_of(job),
        "options": {**score.options, **_given(options)},
        "rubric": None if score.judge is None else score.judge.rubric,
    }


def metric_of(job: JobConfig) -> str:
    """The metric's name as `rollouts.evaluation.metrics` knows it, or its import path."""
    score = job.score
    name = (score.metric or ("exact_match" if score.judge is None else JUDGE)).strip()
    if ":" in name:
        return name
    plain = name.lower().replace("-", "_")
    return JUDGE if plain == "judge" else plain


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetPlan:
    """What to read and how to divide it.

    `own` are the parts (`val`, `test`) that have a source of their own; the other parts of `train`, `val` and `test`
    are drawn from `pool`. `sizes` are the stated ones: a number of rows, or a share of the part's source. Parts with
    neither size nor source are left to the data. `rows` are parts by the numbers of their rows in `pool`. `data_dir` is
    where built-in data sets are looked for first. With `folds`, the test rows are one part of `pool` in so many.
    """

    pool: DatasetSpec
    own: Mapping[str, DatasetSpec] = field(default_factory=dict)
    sizes: Mapping[str, int | float] = field(default_factory=dict)
    rows: Mapping[str, Sequence[int]] = field(default_factory=dict)
    folds: int | None = None
    stratify: bool = True
    data_dir: Path | None = None


def to_dataset(job: JobConfig, base_dir: Path) -> DatasetPlan:
    """The data set, its files taken from `base_dir`. Raises ConfigError where it contradicts itself."""
    table = job.dataset
    if table is None:
        raise ConfigError("the job has no [prompt_learning.dataset]")

    def spec(path: str) -> DatasetSpec:
        return DatasetSpec(
            path=located(path, base_dir),
            format=table.format,
            columns=table.columns or (),
            inputs=to_inputs(table),
            ground_truth=table.ground_truth,
            rename_labels=dict(table.rename_labels),
            labels=table.labels or (),
            id=table.id,
            delimiter=table.delimiter,
            quoting=table.quoting,
            split=table.split,
            limit=table.limit,
            seed=job.seed,
        )

    pool = table.path or table.name or table.train_path
    if pool is None:
        raise ConfigError("the data set has no path, name or train_path")
    own = {"val": table.val_path, "test": table.test_path}
    sizes = {"train": table.train, "val": table.val, "test": table.test}
    rows = {"train": table.train_rows, "val": table.val_rows, "test": table.test_rows}
    return DatasetPlan(
        pool=spec(pool),
        own={part: spec(path) for part, path in own.items() if path is not None},
        sizes={part: size for part, size in sizes.items() if size is not None},
        rows={part: _numbers(numbers) for part, numbers in rows.items() if numbers is not None},
        folds=table.folds,
        stratify=table.stratify,
        data_dir=None if table.data_dir is None else Path(located(table.data_dir, base_dir)),
    )


def _numbers(rows: Rows) -> Sequence[int]:
    if not isinstance(rows, Mapping):
        return rows
    if "end" not in rows or rows.get("step", 1) < 1 or rows.get("start", 0) < 0:
        raise ConfigError("a range of rows is { start = 0, end = 50, step = 1 }, with an end and a step of at least 1")
    return range(rows.get("start", 0), rows["end"], rows.get("step", 1))


def to_inputs(table: DatasetTable) -> dict[str, str]:
    """Placeholder -> column; empty where the file does not say, which leaves it to the data set."""
    inputs = table.inputs or ()
    return dict(inputs) if isinstance(inputs, Mapping) else {name: name for name in inputs}


def located(path: str, base_dir: Path) -> str:
    """`path` as an absolute path, taken from `base_dir`; built-in names, `hf:` names and URLs stay as they are."""
    if not is_file_path(path) or "://" in path:
        return path
    return str((base_dir / Path(path).expanduser()).resolve())
