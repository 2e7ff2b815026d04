"""What is kept of an experiment: one JSON record for each run, and a log of all events, one JSON object a line."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TextIO

import numpy as np

from rollouts.budget import Spend
from rollouts.dtypes import SCHEMA_VERSION, Call, Program, opened
from rollouts.errors import ConfigError
from rollouts.prompt_optimization.saving import write_json
from rollouts.store import RolloutRow, Store

RECORD, EVENTS, SETTINGS = "record.json", "events.jsonl", "experiment.json"
RUNS = "runs"
RESOURCES = ("rollouts", "calls", "tokens", "micros", "seconds")

Status = Literal["done", "failed", "skipped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One run of an experiment, as its `record.json` holds it.

    `score` and `start` are mean scores on the test rows (`{mean, low, high, n}`) of what the run found and of the
    start; `validation` the same two on validation rows, by the search's own estimate. `settings` is all that decided
    what the run did. `spend` is a `Spend`; a run that was killed and resumed may have spent a little less than it says.

    `trials` are the search's trials in order and `allocation` r-MIPRO's rounds, each as its event with the `spend`
    until then. `convergence` holds the columns `best` (estimate of the leader after each trial) and the amounts spent.
    `bottleneck` are the modules by head-room. `rollout` tells what one rollout of the `start` and the `best` program
    took: `{n, micros, tokens, latency_s, p50_s, p95_s}`. `prompts` are the modules' templates, `start` and `best`.
    """

    experiment: str
    run: str
    task: str
    model: str
    method: str
    algorithm: str
    budget: str
    seed: int
    status: Status
    error: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    score: Mapping[str, Any] | None = None
    start: Mapping[str, Any] | None = None
    validation: Mapping[str, float | None] = field(default_factory=dict)
    verdict: Mapping[str, Any] | None = None
    stop_reason: str = ""
    notes: Sequence[str] = ()
    spend: Mapping[str, Any] = field(default_factory=dict)
    spend_by_phase: Mapping[str, Any] = field(default_factory=dict)
    elapsed_s: float = 0.0
    trials: Sequence[Mapping[str, Any]] = ()
    convergence: Mapping[str, Sequence[float | None]] = field(default_factory=dict)
    allocation: Sequence[Mapping[str, Any]] = ()
    bottleneck: Sequence[Mapping[str, Any]] = ()
    rollout: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    prompts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def mean(self) -> float | None:
        """The mean test score; None where there is none."""
        return None if self.score is None else self.score.get("mean")

    def to_json(self) -> dict[str, Any]:
        """All fields, with a schema version."""
        return {"schema_version": SCHEMA_VERSION, **asdict(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | str) -> RunRecord:
        """The inverse of `to_json`; raises ConfigError for what is no record or of a newer version."""
        found = opened(data, "record", required=("experiment", "run", "method", "seed", "status"))
        known = {entry.name for entry in fields(cls)}
        try:
            return cls(**{name: value for name, value in found.items() if name in known})
        except TypeError as error:
            raise ConfigError(f"the record has a key that is missing: {error}") from None


def save_record(record: RunRecord, folder: Path) -> None:
    """Writes `record.json`, whole or not at all."""
    write_json(folder / RECORD, record.to_json())


def load_records(place: Path | str) -> list[RunRecord]:
    """The records of an experiment's folder in the order of its file, of a folder of one run, or of one `record.json`.

    Raises ConfigError where there are none.
    """
    path = Path(place)
    if path.is_dir():
        found = [path / RECORD] if (path / RECORD).exists() else sorted((path / RUNS).glob(f"*/{RECORD}"))
    else:
        found = [path] if path.exists() else []
    if not found:
        raise ConfigError(f"{path}: holds no run of an experiment; name a folder that rollouts experiment run has made")
    settings = load_settings(path)
    methods, budgets = list(settings.get("methods", ())), list(settings.get("budgets", ()))

    def place_of(record: RunRecord) -> tuple[int, int, int]:
        method = methods.index(record.method) if record.method in methods else len(methods)
        return method, budgets.index(record.budget) if record.budget in budgets else -1, record.seed

    return sorted(map(_read, found), key=place_of)


def load_settings(place: Path | str) -> dict[str, Any]:
    """The settings of the experiment in a folder, with defaults filled in; empty where there are none."""
    path = Path(place) / SETTINGS
    if not path.exists():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))["config"])
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: holds no settings of an experiment ({error})") from None


def _read(path: Path) -> RunRecord:
    try:
        return RunRecord.from_json(path.read_text(encoding="utf-8"))
    except (OSError, ConfigError) as error:
        raise ConfigError(f"{path}: {error}") from None


class EventLog:
    """Appends to `events.jsonl`: `{time, run, kind, data, spend}`, each line written before the call returns."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: TextIO | None = None

    def __enter__(self) -> EventLog:
        torn = _is_torn(self._path)
        self._file = self._path.open("a", encoding="utf-8", buffering=1)
        if torn:
            self._file.write("\n")
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, run: str, kind: str, data: Mapping[str, Any], spend: Spend | None = None) -> None:
        """One line. `run` is empty for what concerns the experiment."""
        amounts = None if spend is None else spend.to_json()
        line = {"time": time.time(), "run": run, "kind": kind, "data": data, "spend": amounts}
        if self._file is not None:
            self._file.write(json.dumps(line, ensure_ascii=False, default=str) + "\n")


def _is_torn(path: Path) -> bool:
    """Whether the last line has no end: the process that wrote it was killed."""
    if not path.exists() or not path.stat().st_size:
        return False
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def read_events(path: Path, run: str | None = None) -> Iterator[dict[str, Any]]:
    """The lines of a log, of one run or of all; a line that was cut by a crash is left out."""
    if not path.exists():
        return
    named = "" if run is None else json.dumps(run)
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            if named not in line:  # told without reading the whole line, of which there may be very many
                continue
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if run is None or event["run"] == run:
                yield event


def first_told(events: Iterable[Mapping[str, Any]], kind: str, number: str) -> list[dict[str, Any]]:
    """The data of a run's numbered events in order, each with the `spend` at its time.

    A run that was killed takes the same decisions again, from the store: what it told first has the true spend.
    """
    found: dict[int, dict[str, Any]] = {}
    for event in events:
        if event["kind"] == kind:
            found.setdefault(event["data"][number], {**event["data"], "spend": event["spend"]})
    return [found[key] for key in sorted(found)]


def convergence_of(trials: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The leader's estimate after each trial, and what had been spent by then; amounts never fall."""
    out: dict[str, list[Any]] = {"best": [trial.get("best") for trial in trials]}
    for resource in RESOURCES:
        amounts = [float((trial.get("spend") or {}).get(resource, 0)) for trial in trials]
        out[resource] = np.maximum.accumulate(amounts).tolist() if amounts else []
    return out


def rollout_costs(store: Store, run: str, programs: Mapping[str, Program]) -> dict[str, dict[str, Any]]:
    """What one rollout of each of `programs` takes, by the rollouts of this run; None where it had none.

    A call that was served from the store was free here and will not be so elsewhere: it counts with what it saved.
    """
    rows: dict[str, list[RolloutRow]] = {program.digest: [] for program in programs.values()}
    for row in store.scan_rollouts(run, failed=False):
        if row.program in rows:
            rows[row.program].append(row)
    return {name: _took(rows[program.digest]) for name, program in programs.items()}


def _took(rows: Sequence[RolloutRow]) -> dict[str, Any]:
    if not rows:
        return {"n": 0, "micros": None, "tokens": None, "latency_s": None, "p50_s": None, "p95_s": None}
    calls = [call for row in rows for call in map(Call.from_json, row.data.get("calls", ()))]
    saved = sum(call.saved_micros for call in calls)
    seconds = [row.latency_s for row in rows]
    p50, p95 = np.quantile(seconds, [0.5, 0.95])
    return {
        "n": len(rows),
        "micros": (sum(row.cost_micros for row in rows) + saved) / len(rows),
        "tokens": float(np.mean([row.prompt_tokens + row.completion_tokens for row in rows])),
        "latency_s": float(np.mean(seconds)),
        "p50_s": float(p50),
        "p95_s": float(p95),
    }
