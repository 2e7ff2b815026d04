"""The experiment file: what runs on what, how often, and what all of it may spend."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, JsonValue, Strict, ValidationError

from rollouts.budget import Budget
from rollouts.dtypes import Endpoint
from rollouts.errors import ConfigError
from rollouts.experiments.config import JobConfig
from rollouts.experiments.config_base import Table, setting
from rollouts.experiments.config_convert import to_endpoint, to_module_models, to_proposer
from rollouts.experiments.config_errors import Problem, config_error, from_pydantic, without_secrets
from rollouts.experiments.config_keys import Settings
from rollouts.experiments.config_limits import ConstraintsTable
from rollouts.experiments.config_programs import ModuleModelTable, ProgramTable
from rollouts.experiments.config_tables import Folds, PolicyTable, ProposerTable, Size, TestSize
from rollouts.experiments.loading import read_file
from rollouts.experiments.near_names import did_you_mean
from rollouts.experiments.sweep.methods import START, Method, methods_of
from rollouts.experiments.tasks import task_names
from rollouts.llm.registry import spec_of

SIMULATED = "simulated"
_NAME = re.compile(r"[A-Za-z0-9_][\w.-]{0,59}", re.ASCII)
_NAMED = "name made of letters, digits and . _ -, that begins with no dot"
_OF_A_JOB = ("model", "proposer", "models", "data", "constraints")
Seeds = Annotated[int, Field(ge=1)] | Annotated[tuple[Annotated[int, Field(ge=0)], ...], Strict(False)]


class BudgetTable(Table):
    """Hard caps; what a call may take at worst is reserved before it leaves."""

    max_rollouts: int | None = setting(None, "Most runs of the program on a row.", shown="no cap", ge=1)
    max_calls: int | None = setting(None, "Most calls to any model, retries counted.", shown="no cap", ge=1)
    max_tokens: int | None = setting(None, "Most tokens, prompts and answers together.", shown="no cap", ge=1)
    max_cost_usd: float | None = setting(None, "Most dollars.", shown="no cap", ge=0)
    max_seconds: float | None = setting(None, "Most seconds of wall-clock time.", shown="no cap", gt=0)

    @property
    def budget(self) -> Budget:
        """The caps as a `Budget`."""
        return Budget(**self.model_dump())


class DataTable(Table):
    """How the rows of the task are divided; every seed divides them anew, alike for all methods."""

    train: Size | None = setting(None, "Training rows: a number or a share.", shown="30 % and at most 200")
    val: Size | None = setting(None, "Validation rows: a number or a share.", shown="35 % and at most 300")
    test: TestSize | None = setting(None, "Test rows, which no search sees.", shown="35 % and at most 500")
    folds: Folds | None = setting(None, "Cross-validation instead of `test`: the seeds test one of so many parts each.")


class ExperimentConfig(Table):
    """One experiment: every method, with every budget, with every seed."""

    name: str = setting(..., "Name of the experiment in lists and reports.", kind=_NAMED, pattern=f"^{_NAME.pattern}$")
    description: str = setting("", "What it is for, in a sentence.")
    task: str | None = setting(None, f"A task that comes with the package: {', '.join(task_names())}.")
    job: str | None = setting(
        None, "Instead of `task`: a job file with program, data, score and models of your own.", min_length=1
    )
    seeds: Seeds = setting(10, "Number of seeds (from 0), or a list of them.")
    baseline: str | None = setting(None, "Method that the others are compared with.", shown="the first one")
    jobs: int = setting(4, "Runs at once.", ge=1)
    slots: int = setting(8, "Rollouts in flight at once, in each run.", ge=1)
    model: PolicyTable = setting(PolicyTable(provider=SIMULATED), "The task model.", shown='"simulated"')
    proposer: ProposerTable = setting(ProposerTable(), "The model that writes instructions.")
    models: dict[str, ModuleModelTable] = setting({}, "Models of single modules, by module name.")
    data: DataTable = setting(DataTable(), "How the rows are divided.")
    constraints: ConstraintsTable = setting(ConstraintsTable(), "What a prompt that ships must satisfy.")
    total: BudgetTable = setting(BudgetTable(), "Hard caps of all runs together.")
    budgets: dict[str, BudgetTable] = setting(..., "Hard caps of one run, by a name of your own.", min_length=1)
    methods: dict[str, dict[str, JsonValue]] = setting(
        ..., "Methods by a name of your own: `algorithm` and its settings.", kind="table of tables", min_length=1
    )

    @property
    def all_seeds(self) -> tuple[int, ...]:
        """The seeds, one by one."""
        return tuple(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds

    @property
    def simulated(self) -> bool:
        """Whether the task's own simulated model answers."""
        return self.model.provider == SIMULATED

    def endpoints(self) -> tuple[Endpoint, Endpoint, dict[str, Endpoint]]:
        """Task model, proposer, and models of single modules. Raises ConfigError where no model is named."""
        program = ProgramTable(path="tasks:program", models=self.models)
        model = self.model
        if self.simulated:
            model = model.model_copy(update={"model": self.task})
        job = JobConfig(policy=model, proposer=self.proposer, program=program)
        return to_endpoint(job), to_proposer(job), to_module_models(job)


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """An experiment file that passed every check; `notes` tell what was accepted without effect."""

    config: ExperimentConfig
    methods: Mapping[str, Method]
    base_dir: Path
    notes: tuple[str, ...] = ()

    @property
    def baseline(self) -> str:
        """The method that the others are compared with."""
        return self.config.baseline or next(iter(self.methods))

    @property
    def resolved(self) -> dict[str, Any]:
        """All settings with defaults filled in, as JSON values. Holds no secret."""
        plain = without_secrets(self.config.model_dump(mode="json", exclude_none=True))
        methods = {name: method.to_json() for name, method in self.methods.items()}
        return {**plain, "baseline": self.baseline, "seeds": list(self.config.all_seeds), "methods": methods}


def load_experiment(path: Path | str, changes: Mapping[str, Any] | None = None) -> Experiment:
    """Reads an experiment file; `changes` replace top-level settings.

    Raises ConfigError that lists everything wrong with the file, one line for each problem.
    """
    path = Path(path)
    data = read_file(path)
    data |= {key: value for key, value in (changes or {}).items() if value is not None}
    data.setdefault("name", re.sub(r"[^\w-]+", "_", path.stem, flags=re.ASCII))
    return parse_experiment(data, source=str(path), base_dir=path.resolve().parent)


def parse_experiment(
    data: Mapping[str, Any], *, source: str = "experiment", base_dir: Path | None = None
) -> Experiment:
    """`load_experiment` for settings that are parsed already."""
    settings = Settings(root=ExperimentConfig)
    settings.add_file({key: _model(value) if key in ("model", "proposer") else value for key, value in data.items()})
    problems = settings.problems
    config: ExperimentConfig | None = None
    try:
        config = ExperimentConfig.model_validate(settings.values)
    except ValidationError as error:
        problems += from_pydantic(error, ExperimentConfig, settings.values, settings.written)
    methods: dict[str, Method] = {}
    if config is not None:
        methods, wrong = methods_of(config.methods)
        problems += [*wrong, *_check(config, settings.values)]
    if problems or config is None:
        raise config_error(source, problems)
    notes = tuple(dict.fromkeys(settings.notes))
    return Experiment(config=config, methods=methods, base_dir=base_dir or Path.cwd(), notes=notes)


def _model(value: Any) -> Any:
    """A model may be named by a text alone: `simulated`, `local`, `openai/gpt-4.1-nano`."""
    if not isinstance(value, str):
        return value
    return {"provider": value} if value == SIMULATED else {"model": value}


def _check(config: ExperimentConfig, given: Mapping[str, Any]) -> list[Problem]:
    """What is wrong with settings that are each valid."""
    out = [*_subject(config, given), *_names(config)]
    if len(set(config.all_seeds)) < max(1, len(config.all_seeds)):
        out.append(Problem(key="seeds", message="a seed stands there twice; name each once"))
    if config.data.folds is not None and config.data.test is not None:
        out.append(Problem(key="data.test", message="folds already says which rows are tested; keep one of the two"))
    if config.task is not None and not out:
        out += _endpoints(config)
    return out


def _subject(config: ExperimentConfig, given: Mapping[str, Any]) -> list[Problem]:
    if (config.task is None) == (config.job is None):
        return [Problem(key="task", message='name one of the two: task = "..." or job = "job.toml"')]
    if config.task is None:
        message = "the job file says this; change it there"
        return [Problem(key=key, message=message) for key in _OF_A_JOB if key in given]
    if config.task not in task_names():
        return [Problem(key="task", message=_unknown("task", config.task, task_names()))]
    return []


def _names(config: ExperimentConfig) -> list[Problem]:
    out = []
    for table, names in (("budgets", config.budgets), ("methods", config.methods)):
        for name in names:
            if not _NAME.fullmatch(name):
                out.append(Problem(key=f"{table}.{name}", message=f"expected a {_NAMED}"))
    for name, budget in config.budgets.items():
        if not budget.model_fields_set:
            out.append(Problem(key=f"budgets.{name}", message="no cap is set; set at least max_rollouts"))
    if config.baseline is not None and config.baseline not in config.methods:
        out.append(Problem(key="baseline", message=_unknown("method", config.baseline, tuple(config.methods))))
    if all(table.get("algorithm") == START for table in config.methods.values()):
        out.append(Problem(key="methods", message="there is no search among them; add one"))
    return out


def _endpoints(config: ExperimentConfig) -> list[Problem]:
    try:
        task, proposer, models = config.endpoints()
        for endpoint in (task, proposer, *models.values()):
            if endpoint.provider != SIMULATED:
                spec_of(endpoint.provider)
    except ConfigError as error:
        return [Problem(key="model", message=str(error))]
    return []


def _unknown(what: str, name: str, known: Sequence[str]) -> str:
    return f"there is no {what} {name!r}{did_you_mean(name, known)} There are: {', '.join(known)}"


def to_toml(values: Mapping[str, Any], where: str = "") -> str:
    """JSON values as TOML, tables last."""
    plain = {key: value for key, value in values.items() if not isinstance(value, Mapping)}
    lines = [f"{_key(key)} = {json.dumps(value, ensure_ascii=False)}" for key, value in plain.items()]
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            name = f"{where}{_key(key)}"
            body = to_toml(value, f"{name}.")
            lines.append(f"\n[{name}]\n{body}" if any(not isinstance(v, Mapping) for v in value.values()) else body)
    return "\n".join(lines)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[\w-]+", name, re.ASCII) else json.dumps(name)
