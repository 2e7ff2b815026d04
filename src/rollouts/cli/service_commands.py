"""`rollouts keys`, `rollouts jobs` and `rollouts train`: the commands and their options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rollouts.cli.options import Config, Json, Out, StorePlace

keys_app = typer.Typer(help="API keys of a service.", no_args_is_help=True)
jobs_app = typer.Typer(help="Jobs of a running service (its key in ROLLOUTS_API_KEY).", no_args_is_help=True)

ServiceConfig = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="The service's settings (TOML).", show_default=False)
]
Backend = Annotated[
    str | None, typer.Option("--backend", metavar="URL", help="Where the service is (or ROLLOUTS_URL).")
]
JobId = Annotated[str, typer.Argument(metavar="JOB", help="Id of the job.", show_default=False)]


@keys_app.command("create")
def keys_create(
    *,
    name: Annotated[str, typer.Option("--name", help="What it is for.")] = "key",
    scope: Annotated[
        list[str] | None,
        typer.Option("--scope", help="read, jobs (the default; includes read) or admin (includes both)."),
    ] = None,
    owner: Annotated[str, typer.Option("--owner", help="Whose jobs it sees.")] = "default",
    days: Annotated[float | None, typer.Option("--days", min=0, help="Days until it ends; default: never.")] = None,
    config: ServiceConfig = None,
    store: StorePlace = None,
    as_json: Json = False,
) -> int:
    """Makes a key and prints it, this once."""
    from rollouts.cli import keys

    return keys.create(config, store, name=name, owner=owner, scopes=scope or ["jobs"], days=days, as_json=as_json)


@keys_app.command("list")
def keys_list(config: ServiceConfig = None, store: StorePlace = None, as_json: Json = False) -> int:
    """All keys, without their secrets."""
    from rollouts.cli import keys

    return keys.list_keys(config, store, as_json=as_json)


@keys_app.command("revoke")
def keys_revoke(
    key_id: Annotated[
        str, typer.Argument(metavar="ID", help="Id of the key (rollouts keys list).", show_default=False)
    ],
    config: ServiceConfig = None,
    store: StorePlace = None,
    as_json: Json = False,
) -> int:
    """Ends a key for ever."""
    from rollouts.cli import keys

    return keys.revoke(config, store, key_id, as_json=as_json)


@keys_app.command("upload")
def keys_upload(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The environment variable.")] = "ENVIRONMENT_API_KEY",
    backend: Backend = None,
) -> int:
    """Gives a running service a task app's key, sealed: the value of the environment variable NAME."""
    from rollouts.cli import keys

    return keys.upload(backend, name)


@jobs_app.command("list")
def jobs_list(
    *,
    limit: Annotated[int, typer.Option("--limit", min=1, max=500, help="Most jobs to show.")] = 50,
    status: Annotated[
        str | None, typer.Option("--status", help="queued, running, paused, succeeded, failed or cancelled.")
    ] = None,
    backend: Backend = None,
    as_json: Json = False,
) -> int:
    """The newest jobs."""
    from rollouts.cli import jobs

    return jobs.list_jobs(backend, limit=limit, status=status, as_json=as_json)


@jobs_app.command("show")
def jobs_show(job_id: JobId, backend: Backend = None, as_json: Json = False) -> int:
    """One job: status, best prompt, spend."""
    from rollouts.cli import jobs

    return jobs.show(backend, job_id, as_json=as_json)


@jobs_app.command("follow")
def jobs_follow(
    job_id: JobId,
    backend: Backend = None,
    as_json: Annotated[bool, typer.Option("--json", help="One event a line, as JSON.")] = False,
) -> int:
    """Prints a job's events until it ends. Exit code 1 when it failed or was cancelled."""
    from rollouts.cli import jobs

    return jobs.follow(backend, job_id, as_json=as_json)


@jobs_app.command("cancel")
def jobs_cancel(job_id: JobId, backend: Backend = None, as_json: Json = False) -> int:
    """Ends a job; the best so far is kept."""
    from rollouts.cli import jobs

    return jobs.order(backend, job_id, "cancel", as_json=as_json)


@jobs_app.command("pause")
def jobs_pause(job_id: JobId, backend: Backend = None, as_json: Json = False) -> int:
    """Stops a job until it is resumed."""
    from rollouts.cli import jobs

    return jobs.order(backend, job_id, "pause", as_json=as_json)


@jobs_app.command("resume")
def jobs_resume(job_id: JobId, backend: Backend = None, as_json: Json = False) -> int:
    """Lets a paused job go on."""
    from rollouts.cli import jobs

    return jobs.order(backend, job_id, "resume", as_json=as_json)


def train(
    config: Config,
    *,
    poll: Annotated[bool, typer.Option("--poll", help="Follows the job and writes the result files.")] = False,
    interval: Annotated[
        float, typer.Option("--poll-interval", min=0.05, metavar="S", help="Seconds between two looks at the job.")
    ] = 1.0,
    timeout: Annotated[
        float | None,
        typer.Option("--poll-timeout", min=0, metavar="S", help="Seconds to follow it; the job goes on after that."),
    ] = None,
    backend: Backend = None,
    stream_format: Annotated[
        str, typer.Option("--stream-format", help="cli, or json: one event a line on stdout, all else to stderr.")
    ] = "cli",
    out: Out = None,
    job: Annotated[
        str | None, typer.Option("--job", metavar="JOB", help="Follows this job of the file, and submits none.")
    ] = None,
) -> int:
    """Optimizes the prompt of a task app on a running service (its key in ROLLOUTS_API_KEY).

    Ctrl-C stops the following; the job goes on.
    """
    from rollouts.cli.train import Wishes
    from rollouts.cli.train import train as run_train

    if stream_format not in ("cli", "json"):
        raise typer.BadParameter("--stream-format is cli or json")
    wishes = Wishes(
        backend=backend,
        poll=poll,
        interval_s=interval,
        timeout_s=timeout,
        stream_format="json" if stream_format == "json" else "cli",
        out=out,
        job_id=job,
    )
    return run_train(config, wishes)
