"""`rollouts experiment` on a job of the user's own, against a provider on this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rollouts.experiments.sweep.records import load_records
from rollouts.testing import MockProvider
from tests.cli.conftest import Cli, environment, reply
from tests.cli.test_processes import COMMAND, wait_for

EXPERIMENT = """\
job = "job.toml"
seeds = 2
jobs = 2
slots = 4

[total]
max_calls = 2000

[budgets.all]
max_calls = 400

[methods.start]
algorithm = "start"

[methods.mipro]
algorithm = "mipro"
num_candidates = 2
num_trials = 4
minibatch_size = 6
"""
Provider = Callable[..., MockProvider]


@pytest.fixture
def file(cli: Cli) -> Path:
    path = cli.folder / "e.toml"
    path.write_text(EXPERIMENT)
    return path


def test_a_run_compares_and_reports_and_goes_on_with_more_seeds(cli: Cli, provider: Provider, file: Path) -> None:
    mock = provider()
    answer = cli("experiment", "run", file)
    assert answer.code == 0, answer.err
    assert "4/4" in answer.out
    assert "too few seeds" in answer.out
    calls = mock.calls
    folder = cli.folder / "results" / "e"
    assert "</html>" in (folder / "report.html").read_text()
    again = cli("experiment", "run", file, "--resume", "--seeds", 3, "--json")
    assert again.code == 0, again.err
    assert (len(again.json["runs"]), again.json["left"]) == (6, 0)
    assert again.json["spend"]["calls"] == mock.calls > calls
    compared = cli("experiment", "compare", folder, "--json").json
    (table,) = compared["tables"]
    assert table["comparison"]["baseline"] == "start"
    assert table["comparison"]["rows"][0]["n"] == 3
    assert cli("experiment", "compare", folder, "--test", "wilcoxon", "--baseline", "mipro").code == 0
    report = cli("experiment", "report", folder, "--out", cli.folder / "r.html")
    assert report.code == 0
    assert (cli.folder / "r.html").exists()


def test_the_price_of_a_dry_run_is_nothing(cli: Cli, provider: Provider, file: Path) -> None:
    mock = provider()
    answer = cli("experiment", "run", file, "--dry-run", "--seeds", 5)
    assert answer.code == 0
    assert mock.calls == 0
    assert "10 runs" in answer.out
    assert "bootstrap_threshold = 1.0" in answer.out
    assert not (cli.folder / "results").exists()


def test_a_broken_provider_fails_the_runs_and_the_command_says_so(cli: Cli, provider: Provider, file: Path) -> None:
    provider(faults={401: 1.0})
    answer = cli("experiment", "run", file, "--json")
    assert answer.code == 1
    assert {run["status"] for run in answer.json["runs"]} == {"failed"}
    assert cli("experiment", "compare", cli.folder / "results" / "e").code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "nowhere.toml"), "cannot be read"),
        (("compare", "."), "holds no run"),
        (("report", "."), "holds no run"),
        (("compare",), "--help"),
    ],
)
def test_wrong_usage_is_told(cli: Cli, arguments: tuple[str, ...], said: str) -> None:
    answer = cli("experiment", *arguments)
    assert answer.code == 2
    assert said in answer.err


def test_a_job_that_is_wrong_is_told_before_anything_is_made(cli: Cli, file: Path) -> None:
    file.write_text(EXPERIMENT.replace("job.toml", "jab.toml"))
    answer = cli("experiment", "run", file)
    assert answer.code == 2
    assert "jab.toml" in answer.err
    assert not (cli.folder / "results").exists()


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals are those of POSIX")
@pytest.mark.parametrize("after", [3, 60, 150])
def test_after_kill_9_nothing_is_done_twice(cli: Cli, provider: Provider, file: Path, after: int) -> None:
    whole = cli.folder / "whole"
    asked: Counter[str] = Counter()

    def counting(body: dict[str, Any]) -> str:
        asked[json.dumps(body, sort_keys=True)] += 1
        return reply(body)

    mock = provider(reply=counting, latency=0.01)
    assert cli("experiment", "run", file, "--out", whole).code == 0
    undisturbed = asked.copy()
    asked.clear()
    command = [*COMMAND, "experiment", "run", str(file)]
    before = mock.calls
    process = subprocess.Popen(
        command, cwd=cli.folder, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait_for(mock, before + after)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)
    while mock.in_flight:
        time.sleep(0.01)
    assert cli("experiment", "run", file, "--resume").code == 0
    scores = [[(r.run, r.score) for r in load_records(folder)] for folder in (whole, cli.folder / "results" / "e")]
    assert scores[0] == scores[1]
    assert asked.keys() == undisturbed.keys()
    in_flight = 2 * 4
    # Answers that came are committed in batches; those of the last one are lost as well.
    assert (asked - undisturbed).total() <= 3 * in_flight
