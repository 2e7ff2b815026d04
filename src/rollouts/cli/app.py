"""The commands and their options. Whatever is heavy is imported by the command that needs it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.models import CommandInfo

from rollouts.cli import failures
from rollouts.cli.experiment_commands import experiment_app
from rollouts.cli.help import plain_help
from rollouts.cli.options import (
    Budget,
    Calls,
    Config,
    ConfigOption,
    FailFast,
    FailUnder,
    Jobs,
    Json,
    Limit,
    MaybeConfig,
    Method,
    Out,
    Seed,
    Settings,
    StorePlace,
    Track,
    Usd,
)
from rollouts.cli.run_commands import runs_app
from rollouts.cli.service_commands import ServiceConfig, jobs_app, keys_app, train
from rollouts.errors import ConfigError

_EPILOG = " ".join(failures.EXIT_CODES.split())

app = typer.Typer(
    name="rollouts",
    help="Better prompts for LLM programs, within a hard budget, with an honest verdict.",
    epilog=_EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
config_app = typer.Typer(help="The job file: reference and check.", no_args_is_help=True)
app.add_typer(runs_app, name="runs")
app.add_typer(config_app, name="config")
app.add_typer(experiment_app, name="experiment")
app.add_typer(jobs_app, name="jobs")
app.add_typer(keys_app, name="keys")
app.command(epilog=_EPILOG)(train)


def run(arguments: Sequence[str]) -> int:
    """Runs a command line and returns its exit code; what goes wrong is printed, never raised."""
    given = list(arguments)
    try:
        code: Any = app(given, prog_name="rollouts", standalone_mode=False)
        sys.stdout.flush()
        return int(code or 0)
    except typer.Abort:
        print("aborted", file=sys.stderr)  # noqa: T201
        return failures.INTERRUPTED
    except KeyboardInterrupt:
        return failures.INTERRUPTED
    except BrokenPipeError:
        return _closed_pipe()
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):  # typer turns the one into the other
            return _closed_pipe()
        return failures.report(ConfigError(f"code of the job tried to end the process: {error!r}"), given)
    except Exception as error:  # noqa: BLE001 - the boundary at which an error becomes a message and an exit code
        wrong_usage = getattr(error, "format_message", None)
        if wrong_usage is None:
            return failures.report(error, given)
        message = f"{wrong_usage()} (see: rollouts {_command(given)}--help)"
        failures.fail(message, kind="UsageError", code=failures.USAGE, as_json="--json" in given)
        return failures.USAGE


def _closed_pipe() -> int:
    # What is left in the buffer has nowhere to go; writing it at exit would fail once more.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return failures.CLOSED_PIPE


def _command(arguments: list[str]) -> str:
    """The words of `arguments` that name a command or a group of them, each with a space."""
    known, words = app, []
    for word in arguments[:2]:
        groups = {group.name: group.typer_instance for group in known.registered_groups}
        if word not in groups and word not in map(_name_of, known.registered_commands):
            break
        words.append(f"{word} ")
        if (inner := groups.get(word)) is None:
            break
        known = inner
    return "".join(words)


def _name_of(command: CommandInfo) -> str:
    return command.name or getattr(command.callback, "__name__", "").replace("_", "-")


def _version(wanted: bool) -> None:
    if wanted:
        import rollouts

        print(f"rollouts {rollouts.__version__}")  # noqa: T201
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Shows the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Shows tracebacks (or ROLLOUTS_DEBUG=1).")] = False,
) -> None:
    if debug:
        os.environ["ROLLOUTS_DEBUG"] = "1"


@app.command(epilog=_EPILOG)
def demo(
    *,
    budget: Budget = None,
    seed: Seed = None,
    out: Out = None,
    store: StorePlace = None,
    jobs: Jobs = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continues the newest unfinished run.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Shows plan and estimate; calls nothing.")] = False,
    as_json: Json = False,
) -> int:
    """Optimizes a prompt of the embedded model on shipped data: no key, no network."""
    from rollouts.cli.optimizing import Wishes, optimize
    from rollouts.cli.running import overrides
    from rollouts.experiments.demo import demo_config

    loaded = demo_config(overrides([], budget=budget, seed=seed, out=out, store=store, jobs=jobs))
    return optimize(loaded, Wishes(dry_run=dry_run, resume=resume, as_json=as_json))


@app.command(epilog=_EPILOG)
def optimize(
    config: MaybeConfig = None,
    *,
    config_option: ConfigOption = None,
    method: Method = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Shows plan and estimate; calls nothing.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Tries a few rows: is there anything to gain?")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Continues the newest unfinished run of this job.")] = False,
    run_id: Annotated[str | None, typer.Option("--run", metavar="RUN", help="Continues this run.")] = None,
    budget: Budget = None,
    budget_usd: Usd = None,
    max_calls: Calls = None,
    jobs: Jobs = None,
    fail_fast: FailFast = None,
    track: Track = None,
    limit: Limit = None,
    seed: Seed = None,
    store: StorePlace = None,
    out: Out = None,
    settings: Settings = None,
    as_json: Json = False,
    fail_under: FailUnder = None,
) -> int:
    """Searches for a better prompt and says whether to ship it.

    Ctrl-C ends the run well: the best so far is kept. A second one ends at once; nothing that was paid is lost.
    """
    from rollouts.cli.optimizing import Wishes
    from rollouts.cli.optimizing import optimize as run_optimize
    from rollouts.cli.running import overrides
    from rollouts.experiments.loading import load_config

    path = _one_of(config, config_option)
    changes = overrides(
        settings or [],
        method=method,
        budget=budget,
        budget_usd=budget_usd,
        max_calls=max_calls,
        jobs=jobs,
        fail_fast=fail_fast,
        track=track,
        limit=limit,
        seed=seed,
        store=store,
        out=out,
    )
    wishes = Wishes(dry_run=dry_run, check=check, resume=resume, run_id=run_id, fail_under=fail_under, as_json=as_json)
    return run_optimize(load_config(path, changes), wishes)


def _one_of(argument: Path | None, option: Path | None) -> Path:
    if (argument is None) == (option is None):
        raise typer.BadParameter("name the job file once: rollouts optimize CONFIG.toml, or --config CONFIG.toml")
    return argument or option or Path()


@app.command(epilog=_EPILOG)
def evaluate(
    config: Config,
    *,
    prompt: Annotated[
        Path | None,
        typer.Option("--prompt", metavar="FILE", help="best_prompt.json or a template; default: the job's own prompt."),
    ] = None,
    split: Annotated[str, typer.Option("--split", help="train, val, test or all.")] = "test",
    limit: Annotated[int | None, typer.Option("--limit", min=1, metavar="N", help="Most rows to score.")] = None,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Rollouts of each row.")] = 1,
    budget: Budget = None,
    budget_usd: Usd = None,
    max_calls: Calls = None,
    jobs: Jobs = None,
    fail_fast: FailFast = None,
    store: StorePlace = None,
    settings: Settings = None,
    as_json: Json = False,
    fail_under: FailUnder = None,
) -> int:
    """Scores one prompt, with interval, failures and worst rows."""
    from rollouts.cli.evaluating import Wishes
    from rollouts.cli.evaluating import evaluate as run_evaluate
    from rollouts.cli.running import overrides
    from rollouts.experiments.loading import load_config

    changes = overrides(
        settings or [],
        budget=budget,
        budget_usd=budget_usd,
        max_calls=max_calls,
        jobs=jobs,
        fail_fast=fail_fast,
        store=store,
    )
    wishes = Wishes(prompt=prompt, part=split, limit=limit, repeats=repeats, fail_under=fail_under, as_json=as_json)
    return run_evaluate(load_config(config, changes), wishes)


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="The file to write.")] = Path("job.toml"),
    *,
    data: Annotated[str | None, typer.Option("--data", help="File, hf:owner/name, or built-in name.")] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", metavar="[NAME=]COLUMN", help="A column that the prompt reads; may be repeated."),
    ] = None,
    ground_truth: Annotated[
        str | None, typer.Option("--ground-truth", metavar="COLUMN", help="Column with the answer.")
    ] = None,
    endpoint: Annotated[str | None, typer.Option("--endpoint", help="provider/model.")] = None,
    metric: Annotated[str | None, typer.Option("--metric", help="Name, or package.module:function.")] = None,
    budget: Budget = None,
    system: Annotated[str | None, typer.Option("--system", help="Your instruction today.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Asks nothing; takes the suggestions.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrites the file.")] = False,
) -> int:
    """Writes a commented job file."""
    from rollouts.cli.setup import Given
    from rollouts.cli.setup import init as run_init

    given = Given(
        data=data,
        inputs=inputs or (),
        ground_truth=ground_truth,
        endpoint=endpoint,
        metric=metric,
        budget=budget,
        system=system,
        yes=yes,
        force=force,
    )
    return run_init(path, given)


@app.command()
def serve(
    *,
    config: ServiceConfig = None,
    host: Annotated[str | None, typer.Option("--host", help="Address to listen on; default: 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option("--port", help="Port, by default 8000; 0 takes a free one.")] = None,
    store: StorePlace = None,
    slots: Annotated[
        int | None, typer.Option("--slots", min=1, metavar="N", help="Rollouts in flight at once, over all jobs.")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", metavar="DIR", help="Folder below which jobs may name files.")
    ] = None,
    allow_code: Annotated[
        bool, typer.Option("--allow-code", help="Jobs may name Python code of this machine.")
    ] = False,
    demo_keys: Annotated[
        bool, typer.Option("--demo-keys", help="Whoever asks on this machine gets an API key of a few hours.")
    ] = False,
) -> int:
    """Runs the service: jobs over HTTP. Unfinished jobs go on where they were."""
    from rollouts.cli.service import serve as run_service

    switches = {"allow_code": allow_code or None, "demo_keys": demo_keys or None}
    return run_service(config, host=host, port=port, store=store, slots=slots, data_dir=data_dir, **switches)


@app.command("serve-model")
def serve_model(
    model: Annotated[str, typer.Option("--model", help="smollm2-135m, or a .gguf file.")] = "smollm2-135m",
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="Port; 0 takes a free one.")] = 8080,
) -> int:
    """Serves the embedded model as an OpenAI-compatible API until Ctrl-C."""
    from rollouts.cli.serving import serve

    return serve(model, host, port)


@app.command("task-app")
def task_app(
    name: Annotated[str, typer.Argument(help="banking77, calculator or tickets.")],
    *,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option("--port", help="Port; each app has one of its own.")] = None,
    data_dir: Annotated[Path | None, typer.Option("--data-dir", metavar="DIR", help="Folder with data sets.")] = None,
    tunnel: Annotated[bool, typer.Option("--tunnel", help="Opens a public address with cloudflared.")] = False,
) -> int:
    """Serves one of the shipped task apps until Ctrl-C; its key is ENVIRONMENT_API_KEY."""
    from rollouts.cli.taskapp import serve

    return serve(name, host, port, data_dir=data_dir, public=tunnel)


@config_app.command("schema")
def config_schema(
    markdown: Annotated[bool, typer.Option("--markdown", help="The reference as Markdown.")] = False,
) -> int:
    """Prints the JSON schema of a job file."""
    from rollouts.cli.setup import schema

    return schema(markdown=markdown)


@config_app.command("check")
def config_check(config: Config, settings: Settings = None, as_json: Json = False) -> int:
    """Loads settings and data, checks keys and prices, and prints a summary; calls nothing."""
    from rollouts.cli.setup import check

    return check(config, settings or [], as_json=as_json)


plain_help(app)
