"""`rollouts init` and `rollouts config`."""

from __future__ import annotations

import os
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import typer
from rich.console import Console

from rollouts.cli import failures, reports, words
from rollouts.datasets import PARTS, DatasetSpec, detect_ground_truth, is_file_path
from rollouts.datasets.columns import is_missing
from rollouts.datasets.loading import open_table
from rollouts.datasets.spec import text_of
from rollouts.datasets.tables import Table
from rollouts.dtypes import Endpoint, placeholder_name
from rollouts.errors import ConfigError, DataError
from rollouts.experiments.config_docs import config_json_schema, config_markdown
from rollouts.experiments.config_template import Answers, template_toml
from rollouts.experiments.estimate import check_models
from rollouts.experiments.job import prepare
from rollouts.experiments.loading import DEFAULT_BUDGET, load_config, parse_config
from rollouts.llm.registry import spec_of
from rollouts.prompt_optimization.proposers.rules import listed

_SEEN_ROWS = 2000
_MOST_LABELS = 50
_DATA = "Data file (CSV, TSV, JSONL, JSON, Parquet), hf:owner/name, or a built-in name"
_METRIC = "Metric (exact_match, contains, f1, numeric_match, or package.module:function)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What the command line said; None and empty are open questions."""

    data: str | None = None
    inputs: Sequence[str] = ()
    ground_truth: str | None = None
    endpoint: str | None = None
    metric: str | None = None
    budget: int | None = None
    system: str | None = None
    yes: bool = False
    force: bool = False


def init(path: Path, given: Given) -> int:
    """Asks for what was not given, and writes a commented job file that loads."""
    if path.exists() and not given.force:
        raise ConfigError(f"{path} exists already; name another file, or overwrite it with --force")
    data = given.data or _ask(_DATA, "tickets", given)
    spec, table, columns = _opened(data)
    last = next((column for column in reversed(columns) if not column.lower().endswith("id")), columns[-1])
    suggested = spec.ground_truth or _detected(columns, given.inputs) or last
    truth = given.ground_truth or _ask(f"Column with the right answer ({', '.join(columns)})", suggested, given)
    inputs = _inputs(given, spec, columns, truth)
    labels = _labels(table, truth)
    endpoint = _endpoint(given)
    answers = Answers(
        data_path=_relative(data, path),
        inputs=inputs,
        ground_truth=truth,
        provider=endpoint.provider,
        model=endpoint.model,
        labels=labels,
        system=given.system or _ask("Your instruction today", _instruction(labels), given),
        metric=given.metric or _ask(_METRIC, "exact_match", given),
        budget=_budget(given),
        max_completion_tokens=16 if labels else 256,
    )
    text = template_toml(answers)
    parse_config(tomllib.loads(text), source=str(path), base_dir=path.resolve().parent)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror or error}; name another file") from None
    console = words.make_console()
    console.print(f"wrote {path}", soft_wrap=True)
    console.print(f"next: rollouts config check {path}; rollouts optimize {path} --dry-run", soft_wrap=True)
    return 0


def _ask(question: str, default: str, given: Given) -> str:
    return default if given.yes else str(typer.prompt(question, default=default))


def _budget(given: Given) -> int:
    if given.budget is not None:
        return given.budget
    return DEFAULT_BUDGET if given.yes else int(typer.prompt("Most rollouts", default=DEFAULT_BUDGET, type=int))


def _opened(data: str) -> tuple[DatasetSpec, Table, tuple[str, ...]]:
    """What the source is known to be, its table, and the columns that have a name."""
    spec, table = open_table(DatasetSpec(path=data if not is_file_path(data) else str(Path(data).expanduser())))
    columns = tuple(column for column in table.columns if column)
    if len(columns) < 2:
        found = f"has only the column {columns[0]!r}" if columns else "has no named column"
        raise ConfigError(f"{data}: {found}{table.hint}; a job needs one for the input and one for the right answer")
    return spec, table, columns


def _detected(columns: Sequence[str], inputs: Sequence[str]) -> str | None:
    used = {text.partition("=")[2] or text for text in inputs}
    try:
        return detect_ground_truth(columns, used)
    except DataError:
        return None


def _inputs(given: Given, spec: DatasetSpec, columns: Sequence[str], truth: str) -> dict[str, str]:
    """`placeholder=column`, or a column alone."""
    texts = list(given.inputs)
    if not texts:
        known = list(spec.inputs.values()) or [c for c in columns if c != truth and not c.lower().endswith("id")][:1]
        asked = _ask(f"Input columns, separated by commas ({', '.join(columns)})", ",".join(known), given)
        texts = [text.strip() for text in asked.split(",") if text.strip()]
    found: dict[str, str] = {}
    for text in texts:
        name, _, column = text.partition("=")
        name, column = placeholder_name(name or column), column or name
        if column not in columns:
            raise ConfigError(f"the data has no column {column!r}; it has {', '.join(columns)}")
        if found.setdefault(name, column) != column:
            raise ConfigError(
                f"the columns {found[name]!r} and {column!r} would both be {{{name}}}; give one of them another name, "
                f"as in --input '{name}_2={column}'"
            )
    return found


def _labels(table: Table, truth: str) -> list[str]:
    """The labels, where all answers are labels, and few; rows are never left out by them here."""
    if truth not in table.columns:
        raise ConfigError(f"the data has no column {truth!r}; it has {', '.join(table.columns)}")
    answers = [row.values.get(truth) for row in islice(table.rows((truth,)), _SEEN_ROWS)]
    texts = [text_of(answer) for answer in answers if not is_missing(answer)]
    seen = Counter(text for text in texts if text and text.strip())
    if None in texts:
        return []
    few = 0 < len(seen) <= _MOST_LABELS and seen.total() >= 2 * len(seen)
    whole = len(answers) < _SEEN_ROWS
    return sorted(seen) if few and whole and max(map(len, seen)) <= 60 else []


def _instruction(labels: Sequence[str]) -> str:
    return f"Answer with one of:{listed(labels, end='.')}" if labels else "Answer the question."


def _endpoint(given: Given) -> Endpoint:
    if given.endpoint:
        text = given.endpoint
    else:
        keyed = [("OPENAI_API_KEY", "openai/gpt-4.1-nano"), ("ANTHROPIC_API_KEY", "anthropic/claude-haiku-4-5")]
        found = next((model for name, model in keyed if os.environ.get(name)), "local/smollm2-135m")
        text = _ask("Model, as provider/model", found, given)
    endpoint = Endpoint.parse(text)
    spec_of(endpoint.provider)
    return endpoint


def _relative(data: str, path: Path) -> str:
    if not is_file_path(data):
        return data
    return Path(os.path.relpath(Path(data).expanduser().resolve(), path.resolve().parent)).as_posix()


def check(path: Path, settings: Sequence[str], *, as_json: bool) -> int:
    """Loads everything that a run needs and says what was found."""
    console = words.make_console(stderr=as_json)
    loaded = load_config(path, settings)
    job = prepare(loaded)
    problems = check_models(job)
    sizes = {part: len(getattr(job.data, part)) for part in PARTS}
    models = {"task": job.task.endpoint.name, "proposer": job.proposer.name}
    models |= {f"module {name}": endpoint.name for name, endpoint in job.task.endpoints.items()}
    if len(job.others) > 1:
        models["judge"] = job.others[1].name
    if as_json:
        failures.print_json(
            {"ok": not problems, "rows": sizes, "models": models, "notes": list(job.notes), "problems": problems}
        )
    else:
        _show_check(console, path, sizes, models)
        for line in reports.caps_lines(job.options.budget):
            console.print(line)
        for name, template in job.start.modules.items():
            title = "Prompt" if len(job.start.modules) == 1 else f"Module {name}"
            shown = f"{words.short(template.system, 100)!r} + {words.short(template.user_template)!r}"
            console.print(f"{title}: {shown}", soft_wrap=True)
        for note in job.notes:
            console.print(f"note: {note}", style="dim", soft_wrap=True)
    for problem in problems:
        failures.fail(problem, kind="ConfigError", code=failures.USAGE, as_json=False)
    return failures.USAGE if problems else 0


def _show_check(console: Console, path: Path, sizes: dict[str, int], models: dict[str, str]) -> None:
    console.print(f"{path}: the settings and the data are fine", soft_wrap=True)
    console.print("Rows: " + ", ".join(f"{count} {part}" for part, count in sizes.items()))
    console.print("Models: " + ", ".join(f"{use} {name}" for use, name in models.items()), soft_wrap=True)


def schema(*, markdown: bool) -> int:
    """The reference of the job file, on stdout."""
    if markdown:
        print(config_markdown(), end="")  # noqa: T201
    else:
        failures.print_json(config_json_schema())
    return 0
