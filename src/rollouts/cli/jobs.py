"""`rollouts jobs`: the jobs of a running service, over HTTP."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Any

from rich.table import Table

from rollouts.cli import failures, words
from rollouts.client import Client, Event, Job
from rollouts.errors import ServiceError

FAILED = frozenset({"failed", "cancelled"})


def list_jobs(backend: str | None, *, limit: int, status: str | None, as_json: bool) -> int:
    """The newest jobs of the key's owner."""
    with Client(backend) as client:
        jobs = client.jobs(limit=limit, status=status)
    if as_json:
        failures.print_json({"jobs": [job.data for job in jobs]})
        return 0
    table = Table()
    for column in ("job", "name", "kind", "status", "best", "age"):
        table.add_column(column, overflow="fold")
    for job in jobs:
        kind, age = str(job.data.get("kind", "")), words.age(job.data["created_at"])
        table.add_row(job.id, job.name, kind, job.status, words.score(job.best_score), age)
    words.make_console().print(table if jobs else "no jobs yet")
    return 0


def show(backend: str | None, job_id: str, *, as_json: bool) -> int:
    """One job: where it stands, what it found and what it cost."""
    with Client(backend) as client:
        job, spend = client.job(job_id), client.spend(job_id)
        best = _best_prompt(client, job_id)
    if as_json:
        failures.print_json({**job.data, "spend": spend, "best_prompt": best})
        return 0
    console = words.make_console()
    console.print(_headline(job), soft_wrap=True)
    console.print_json(json.dumps({"spend": spend, "best_prompt": best}))
    return 0


def follow(backend: str | None, job_id: str, *, as_json: bool) -> int:
    """Prints the job's events until it ends; with JSON, one event a line. 0 when it succeeded."""
    with Client(backend) as client:
        for event in client.stream(job_id):
            print(_line(event, as_json=as_json))  # noqa: T201
            sys.stdout.flush()
        job = client.job(job_id)
    words.make_console(stderr=as_json).print(_headline(job), soft_wrap=True)
    return failures.FAILED if job.status in FAILED else 0


def order(backend: str | None, job_id: str, what: str, *, as_json: bool) -> int:
    """Cancels, pauses or resumes a job."""
    with Client(backend) as client:
        job: Job = getattr(client, what)(job_id)
    if as_json:
        failures.print_json(job.data)
    else:
        words.make_console().print(_headline(job), soft_wrap=True)
    return 0


def _best_prompt(client: Client, job_id: str) -> dict[str, Any] | None:
    try:
        return client.best_prompt(job_id)
    except ServiceError as error:
        if error.code != "no_result":
            raise
        return None


def _headline(job: Job) -> str:
    text = f"{job.id}{f' ({job.name})' if job.name else ''}: {job.status}"
    if job.best_score is not None:
        text += f", best {words.score(job.best_score)}"
    return f"{text}: {job.error}" if job.error else text


def _line(event: Event, *, as_json: bool) -> str:
    if as_json:
        return json.dumps(asdict(event), ensure_ascii=False)
    return f"{event.seq:5d}  {event.kind:12s} {words.short(json.dumps(event.data, ensure_ascii=False), 160)}"
