"""A job on disk, a provider in a thread, and the command line in this process."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rollouts.cli.app import run
from rollouts.testing import MockProvider

LABELS = ("billing", "bugs", "sales")
CONFIG = """\
[prompt_learning]
name = "job"

[prompt_learning.dataset]
path = "rows.csv"
train = 20
val = 20
test = 20

[prompt_learning.initial_prompt]
system = "Route the ticket."
user = "Ticket: {text}"

[prompt_learning.policy]
provider = "openai_compatible"
model = "mock"
base_url = "http://127.0.0.1:9/v1"
max_completion_tokens = 16
price = { input = 1.0, output = 4.0 }

[prompt_learning.mipro]
num_iterations = 4
num_candidates = 2
proposal_rounds = 1
minibatch_size = 8

[prompt_learning.termination_config]
budget = 200
"""


def label_of(text: str) -> str:
    return LABELS[zlib.crc32(text.encode()) % 3]


def reply(body: dict[str, Any]) -> str:
    """Right with demonstrations in the prompt, and on every third row without."""
    *shown, last = body["messages"]
    if not last["content"].startswith("Ticket: "):
        return f"<instruction>Answer with one of {', '.join(LABELS)} and nothing else.</instruction>"
    text = last["content"].removeprefix("Ticket: ")
    right = len(shown) > 1 or zlib.crc32(f"{text}!".encode()) % 3 == 0
    return label_of(text) if right else "no idea"


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON object on stdout."""
        return json.loads(self.out)


@dataclass(frozen=True)
class Cli:
    """Runs a command line in a folder that holds `job.toml` and its data."""

    folder: Path
    capture: pytest.CaptureFixture[str]

    @property
    def job(self) -> Path:
        return self.folder / "job.toml"

    def __call__(self, *arguments: object) -> Answer:
        self.capture.readouterr()
        code = run([str(argument) for argument in arguments])
        out, err = self.capture.readouterr()
        assert "Traceback" not in err + out
        return Answer(code, out, err)

    def change(self, old: str, new: str) -> None:
        text = self.job.read_text()
        assert old in text
        self.job.write_text(text.replace(old, new))


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    monkeypatch.chdir(tmp_path)
    for name in (
        "ROLLOUTS_STORE",
        "ROLLOUTS_DEBUG",
        "OPENAI_COMPATIBLE_API_KEY",
        "OPENAI_API_KEY",
        "ANTHROPIC_API_KEY",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "120")
    texts = [f"ticket number {number} is open" for number in range(60)]
    (tmp_path / "rows.csv").write_text("text,label\n" + "".join(f"{text},{label_of(text)}\n" for text in texts))
    (tmp_path / "job.toml").write_text(CONFIG)
    return Cli(tmp_path, capsys)


@pytest.fixture
def provider(cli: Cli) -> Iterator[Callable[..., MockProvider]]:
    """Starts a provider and points the job at it."""
    started = []

    def start(**settings: Any) -> MockProvider:
        context = MockProvider.in_thread(**{"reply": reply, **settings})
        mock = context.__enter__()
        started.append(context)
        cli.change("http://127.0.0.1:9/v1", mock.base_url)
        return mock

    yield start
    for context in started:
        context.__exit__(None, None, None)


def environment() -> dict[str, str]:
    """For subprocesses: this one's, without what would change the outcome."""
    hidden = ("ROLLOUTS_STORE", "ROLLOUTS_DEBUG")
    return {name: value for name, value in os.environ.items() if name not in hidden}
