"""`rollouts train`: a job of a service, from the file of the walkthroughs to the result files.

The file goes to the service as it is, by the route of the synth-ai SDK: what its keys mean for either algorithm, which
of them have no effect, and how seeds that nobody named are drawn, is known there and nowhere else.
"""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from rollouts.cli import failures, words
from rollouts.cli.listing import Display, Listing, Outcome
from rollouts.cli.running import check_folder
from rollouts.client import Client, Event, Job
from rollouts.errors import ConfigError, RolloutsError, ServiceError
from rollouts.experiments.config_keys import JOB
from rollouts.experiments.loading import read_file
from rollouts.prompt_optimization.saving import write_json

METADATA = "job_metadata.json"
_SECTIONS = (JOB, "policy_optimization")
_POLICY = {"provider": "openai", "model": "gpt-4o-mini"}
_URLS = ("task_app_url", "localapi_url", "local_api_url")
_INVALID = 422


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the command line asks for. `job_id` names a job that was submitted before; without `timeout_s` the waiting
    has no end."""

    backend: str | None = None
    poll: bool = False
    interval_s: float = 1.0
    timeout_s: float | None = None
    stream_format: Literal["cli", "json"] = "cli"
    out: str | None = None
    job_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingFile:
    """What the file says: the job for the service, what to show, and where the results go."""

    job: Mapping[str, Any]
    display: Display
    folder: Path
    notes: tuple[str, ...]

    @property
    def algorithm(self) -> str:
        """Name of the search."""
        return str(self.job[JOB].get("algorithm", "mipro"))


def train(path: Path, wishes: Wishes) -> int:
    """Submits the job of the file, and with `poll` follows it to its end and writes the result files.

    The exit code is 0 when the job succeeded (or was submitted), 1 when it failed, was cancelled or goes on after
    `timeout_s`, 130 after Ctrl-C, which ends the following and not the job.
    """
    file = read_training_file(path, out=wishes.out)
    check_folder(file.folder)
    out = _Out(file, as_json=wishes.stream_format == "json")
    out.notes(file.notes)
    with Client(wishes.backend) as client:
        job = _submitted(client, file) if wishes.job_id is None else client.job(wishes.job_id)
        out.notes(job.data.get("warnings", ()))
        out.begin(job)
        if not (wishes.poll or wishes.job_id):
            out.say(_hint(path, job.id, wishes))
            return 0
        try:
            over = _followed(client, job.id, wishes, out)
            if over is None:
                out.say(f"after {wishes.timeout_s:g} s the job is not over; it goes on. {_hint(path, job.id, wishes)}")
                return failures.FAILED
            return _ended(client, over, file.folder, out)
        except KeyboardInterrupt:
            out.say(f"\nstopped following; the job goes on. {_hint(path, job.id, wishes)}")
            return failures.INTERRUPTED


def read_training_file(path: Path, *, out: str | None = None) -> TrainingFile:
    """Reads the file; `out` goes over its results folder. Raises ConfigError that says what is wrong."""
    data = read_file(path)
    section = next((data[name] for name in _SECTIONS if isinstance(data.get(name), dict)), None)
    if section is None:
        raise ConfigError(f"{path}: {JOB}: missing; a training file has the table [{JOB}]")
    if "dataset" in section and not any(section.get(name) for name in _URLS):
        raise ConfigError(f"{path}: train needs `task_app_url`; for a job with a data set use rollouts optimize {path}")
    display, notes = _display(path, data.get("display", {}))
    job = {"name": path.stem, "policy": _POLICY, **section}
    if "policy" not in section:
        notes += (f"no model is named: {'/'.join(_POLICY.values())} is taken, as in the walkthroughs",)
    if job.pop("env_file_path", None):
        notes += ("env_file_path has no effect: the key of the service is read from ROLLOUTS_API_KEY",)
    folder = job.pop("results_folder", None) or str(Path("results") / path.stem)
    if not isinstance(folder, str):
        raise ConfigError(f"{path}: {JOB}.results_folder: expected text, the path of a folder")
    return TrainingFile(job={JOB: job}, display=display, folder=Path(out or folder), notes=notes)


def _display(path: Path, table: Any) -> tuple[Display, tuple[str, ...]]:
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: display: expected a table")
    names = [field.name for field in fields(Display)]
    for name in names:
        if not isinstance(table.get(name, True), bool):
            raise ConfigError(f"{path}: display.{name}: expected true or false")
    notes = tuple(f"display.{name} has no effect; there are {', '.join(names)}" for name in table if name not in names)
    return replace(Display(), **{name: table[name] for name in names if name in table}), notes


def _submitted(client: Client, file: TrainingFile) -> Job:
    try:
        return client.train(file.job)
    except ServiceError as error:
        if error.status != _INVALID:
            raise
        raise ConfigError(str(error)) from None


def _followed(client: Client, job_id: str, wishes: Wishes, out: _Out) -> Job | None:
    """The job when it is over, all its events shown; None when it is not in time."""
    end = None if wishes.timeout_s is None else time.monotonic() + wishes.timeout_s
    while not client.job(job_id).ended:
        out.show(client.events(job_id, since_seq=out.seq))
        if end is not None and time.monotonic() >= end:
            return None
        time.sleep(wishes.interval_s)
    # The stream of a job that is over ends with its last event, which may not have been committed a moment ago.
    out.show(client.stream(job_id, since_seq=out.seq))
    return client.job(job_id)


def _ended(client: Client, job: Job, folder: Path, out: _Out) -> int:
    try:
        results = client.results(job.id)
    except ServiceError as error:
        if error.code != "no_result":
            raise
        results = {"summary": {}, "files": {}}
    files = write_files(folder, results["files"], job)
    out.end(Outcome(job=job, summary=results["summary"], spend=client.spend(job.id)), files)
    return 0 if job.status == "succeeded" else failures.FAILED


def write_files(folder: Path, contents: Mapping[str, Any], job: Job) -> dict[str, str]:
    """The paths of the result files. A name is the service's, and may not lead out of the folder."""
    files = {}
    try:
        for name, content in contents.items():
            if Path(name).name != name or not name.endswith(".json"):
                continue
            told = {**content, "job": dict(job.data)} if name == METADATA else content
            write_json(folder / name, told)
            files[name] = str(folder / name)
    except OSError as error:
        raise RolloutsError(
            f"the results cannot be written to {folder}: {error.strerror or error}; the service keeps them: make "
            f"room, or name another folder with --out, and run the command again with --job {job.id}"
        ) from error
    return files


def _hint(path: Path, job_id: str, wishes: Wishes) -> str:
    where = ("--backend", wishes.backend) if wishes.backend else ()
    folder = ("--out", wishes.out) if wishes.out else ()
    follow = shlex.join(["rollouts", "train", str(path), "--job", job_id, *where, *folder])
    end = shlex.join(["rollouts", "jobs", "cancel", job_id, *where])
    return f"Follow it with\n  {follow}\nor end it with\n  {end}"


class _Out:
    """What is printed: text, or one event a line. `seq` is the last event that was shown."""

    def __init__(self, file: TrainingFile, *, as_json: bool) -> None:
        self.seq = 0
        self._as_json = as_json
        self._listing = Listing(file.algorithm, file.display)
        self._console = words.make_console(stderr=as_json)

    def begin(self, job: Job) -> None:
        if self._as_json:
            _print_line({"kind": "begin", "data": {"job": dict(job.data)}})
        else:
            self._lines(self._listing.begin(job))

    def show(self, events: Iterable[Event]) -> None:
        for event in events:
            self.seq = event.seq
            if self._as_json:
                _print_line(asdict(event))
            else:
                self._lines(self._listing.add(event))

    def end(self, outcome: Outcome, files: Mapping[str, str]) -> None:
        if self._as_json:
            job, spend = dict(outcome.job.data), dict(outcome.spend)
            _print_line({"kind": "end", "data": {"job": job, "spend": spend, "files": dict(files)}})
        else:
            self._lines(self._listing.end(outcome))
            self._lines([f"Results: {file}" for file in files.values()])

    def notes(self, notes: Iterable[str]) -> None:
        for note in notes:
            self._console.print(f"note: {note}", style="dim", soft_wrap=True)

    def say(self, text: str) -> None:
        self._console.print(text, soft_wrap=True)

    def _lines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self._console.print(line, soft_wrap=True)


def _print_line(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False))  # noqa: T201
    sys.stdout.flush()
