"""r-MIPRO from a job file: budgets and limits by module, results files, resuming, and the bottleneck."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rollouts.testing import MockProvider
from tests.cli.conftest import LABELS, Cli
from tests.cli.test_methods import MIPRO, reply, steps  # noqa: F401 - a fixture

Provider = Callable[..., MockProvider]
RMIPRO = """\
[prompt_learning.rmipro]
num_candidates = 4
num_trials = 24
minibatch_size = 5
"""


@pytest.fixture
def divided(steps: Cli) -> Cli:  # noqa: F811
    """A program of two modules, the first of which lacks the list of teams."""
    steps.change(MIPRO, RMIPRO)
    steps.change('name = "job"', 'name = "job"\nalgorithm = "rmipro"')
    steps.change("budget = 200", "budget = 260")
    return steps


def with_limits(cli: Cli, text: str) -> None:
    with cli.job.open("a") as file:
        file.write(f"\n{text}\n")


def test_it_finds_the_bottleneck_and_says_why(divided: Cli, provider: Provider) -> None:
    mock = provider(reply=reply)
    answer = divided("optimize", divided.job, "--json")
    assert answer.code == 0, answer.err
    found = answer.json
    assert (found["method"], found["verdict"]) == ("rmipro", "ship")
    assert found["test"]["best"]["mean"] == 1 > found["test"]["baseline"]["mean"] == 0
    assert found["spend"]["total"]["calls"] == mock.calls
    assert found["rollouts"]["done"] <= 260
    assert re.search(r"round 1 score .* trials find \d+, say \d+ ", answer.err)

    kept = json.loads(Path(found["files"]["bottleneck.json"]).read_text())
    assert kept["modules"] == found["bottleneck"]["modules"]
    assert kept["modules"][0]["module"] == "find"
    assert [entry["round"] for entry in kept["rounds"]] == list(range(1, found["trials"] + 1))
    told = divided("runs", "bottleneck", found["run_id"], "--json").json
    assert told["modules"] == kept["modules"]
    assert told["scarcest"] == "rollouts"
    assert [told["stretches"][0]["first"], told["stretches"][-1]["last"]] == [1, found["trials"]]
    trials = {line["module"]: line["trials"] for line in told["modules"]}
    for name, count in trials.items():
        assert sum(stretch["trials"][name] for stretch in told["stretches"]) == count
    assert all(line["spend"]["calls"] >= line["spend"]["rollouts"] > 0 for line in told["modules"])

    page = divided("runs", "bottleneck", "latest").out
    assert "Modules by head-room" in page
    assert "Most used up, of what has a cap: rollouts." in page
    assert "round 1" in page
    assert "scheduler: adaptive" in divided("runs", "show", "latest").out
    assert "Modules by head-room" in divided("optimize", divided.job).out


def test_a_run_of_another_method_has_no_bottleneck(divided: Cli, provider: Provider) -> None:
    provider(reply=reply)
    assert divided("optimize", divided.job, "--method", "mipro").code == 0
    answer = divided("runs", "bottleneck", "latest")
    assert answer.code == 2
    assert "its method is mipro, start one with --method rmipro" in answer.err


def test_budgets_of_modules_hold(divided: Cli, provider: Provider) -> None:
    mock = provider(reply=reply)
    with_limits(divided, "[prompt_learning.termination_config.modules.say]\nmax_calls = 120\nmax_trials = 2")
    answer = divided("optimize", divided.job, "--json")
    assert answer.code == 0, answer.err
    said = [body for body in mock.requests if body["messages"][-1]["content"].startswith("Found: ")]
    assert 0 < len(said) <= 120
    (line,) = [line for line in answer.json["bottleneck"]["modules"] if line["module"] == "say"]
    assert line["trials"] <= 2


@pytest.mark.parametrize("cap", ["budget=200", "max_cost_usd=0.01", "max_tokens=9000"])
def test_dry_run_makes_the_plan_of_the_run(divided: Cli, provider: Provider, cap: str) -> None:
    mock = provider(reply=reply, tokenizer="bytes")
    named = (divided.job, "--set", f"termination_config.{cap}", "--json")
    guess = divided("optimize", *named, "--dry-run").json
    assert mock.calls == 0
    assert divided("optimize", *named).code == 0
    events = divided("runs", "show", "latest", "--events", "--json").json["events"]
    (made,) = [event["data"] for event in events if event["kind"] == "plan"]
    assert guess["plan"] == made
    assert {"baseline", "search", "test", "propose"} <= {phase["phase"] for phase in guess["phases"]}
    assert mock.tokens <= guess["total"]["worst_tokens"]


def test_check_of_a_job(divided: Cli, provider: Provider) -> None:
    provider(reply=reply)
    answer = divided("optimize", divided.job, "--check", "--json", "--budget", 800)
    assert answer.code == 0, answer.err
    assert any(variant["name"].startswith("find: ") for variant in answer.json["variants"])


@pytest.mark.parametrize("command", [("optimize", "--check"), ("evaluate",)])
def test_budgets_of_modules_hold_beside_the_search(divided: Cli, provider: Provider, command: tuple[str, ...]) -> None:
    mock = provider(reply=reply)
    with_limits(divided, "[prompt_learning.termination_config.modules.find]\nmax_calls = 7")
    assert divided(*command, divided.job, "--json", "--budget", 800).code in (0, 5)
    assert sum(body["messages"][-1]["content"].startswith("Ticket: ") for body in mock.requests) == 7


def test_a_run_without_budget_left_goes_on_where_it_ended(divided: Cli, provider: Provider) -> None:
    mock = provider(reply=reply)
    assert divided("optimize", divided.job, "--json", "--max-calls", 60).code == 0
    paid = mock.calls
    assert paid <= 60
    run = divided("runs", "list", "--json").json["runs"][0]["run_id"]
    answer = divided("optimize", divided.job, "--json", "--run", run, "--max-calls", 600)
    assert answer.code == 0, answer.err
    assert answer.json["run_id"] == run
    assert answer.json["spend"]["total"]["calls"] == mock.calls > paid
    rounds = divided("runs", "bottleneck", run, "--json").json["stretches"]
    assert rounds[-1]["last"] == answer.json["trials"]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("termination_config.modules.fnid]\nmax_calls = 9", "modules.fnid: the program has no such module; did you"),
        ("termination_config.modules.find]\nmax_call = 9", "did you mean 'max_calls'?"),
        ("termination_config.modules.find]\nmax_calls = 0", "expected an integer of at least 1"),
        ("termination_config.modules.find]\nmax_tokens = 5", "max_tokens = 5 of module 'find' is below one call"),
        ("constraints.modules.sey]\nmax_latency_s = 9", "constraints.modules.sey: the program has no such module"),
        (
            "constraints.modules.say]\nmax_latency_s = 2\nmax_p95_latency_s = 3",
            "constraints.modules.say.max_p95_latency_s: is more than max_latency_s",
        ),
    ],
)
def test_wrong_limits_are_errors_before_anything_is_spent(
    divided: Cli, provider: Provider, table: str, said: str
) -> None:
    mock = provider(reply=reply)
    with_limits(divided, f"[prompt_learning.{table}")
    answer = divided("optimize", divided.job)
    assert answer.code == 2
    assert said in answer.err
    assert mock.calls == 0


def test_other_methods_divide_no_budget(divided: Cli) -> None:
    with_limits(divided, "[prompt_learning.termination_config.modules.find]\nmax_calls = 9")
    answer = divided("optimize", divided.job, "--method", "gepa")
    assert answer.code == 2
    assert 'the algorithm is gepa, which does not divide a budget; set algorithm = "rmipro"' in answer.err


def test_limits_of_a_module_reach_the_run(divided: Cli, provider: Provider) -> None:
    provider(reply=reply)
    with_limits(divided, "[prompt_learning.constraints.modules.find]\nmax_prompt_tokens = 8")
    answer = divided("optimize", divided.job, "--json")
    assert answer.code == 0, answer.err
    best: dict[str, Any] = json.loads(Path(answer.json["files"]["best_prompt.json"]).read_text())
    assert LABELS[0] not in best["modules"]["find"]["instruction"]["content"]


@pytest.mark.parametrize(
    "less",
    [
        "[prompt_learning.termination_config.modules.say]\nmax_calls = 30",
        "[prompt_learning.termination_config.modules.find]\nmax_trials = 1",
        "",
    ],
)
def test_a_verdict_is_not_replaced_by_one_of_fewer_trials(divided: Cli, provider: Provider, less: str) -> None:
    mock = provider(reply=reply)
    run = divided("optimize", divided.job, "--json").json["run_id"]
    paid = mock.calls
    with_limits(divided, less)
    fewer = () if less else ("--set", "termination_config.max_trials=1")
    answer = divided("optimize", divided.job, "--run", run, *fewer)
    assert (answer.code, "is done" in answer.err, mock.calls) == (2, True, paid)
