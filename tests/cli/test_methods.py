"""GEPA, agents with tools, and programs of several modules, from a job file to the files and reports."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rollouts import load_program
from rollouts.errors import ConfigError
from rollouts.testing import MockProvider
from tests.cli.conftest import LABELS, Cli, label_of

Provider = Callable[..., MockProvider]

MIPRO = """\
[prompt_learning.mipro]
num_iterations = 4
num_candidates = 2
proposal_rounds = 1
minibatch_size = 8
"""
GEPA = """\
[prompt_learning.gepa]
generations = 3
population_size = 4
children_per_generation = 2
minibatch_size = 3
rule_candidates = 0
"""
PROMPT = """\
[prompt_learning.initial_prompt]
system = "Route the ticket."
user = "Ticket: {text}"
"""
PROGRAM = """\
from rollouts import Program, PromptTemplate


async def run(sample, agents):
    found = await agents["find"](sample.inputs)
    return (await agents["say"]({"found": found.output})).output


def make():
    return Program(
        modules={"find": PromptTemplate("Find.", "Ticket: {text}"), "say": PromptTemplate("Say it.", "Found: {found}")},
        run=run,
    )


program = make()
"""


def reply(body: dict[str, Any]) -> str:
    """Answers tickets by an instruction that names the teams; every rewrite does, each in its own words."""
    system, last = body["messages"][0]["content"], body["messages"][-1]["content"]
    if last.startswith("Ticket: "):
        return label_of(last.removeprefix("Ticket: ")) if LABELS[0] in system else "no idea"
    if last.startswith("Found: "):
        return last.removeprefix("Found: ")
    return f"<instruction>Answer with one of {', '.join(LABELS)}. Rule {len(system) % 89}.</instruction>"


def calculating(body: dict[str, Any]) -> str | dict[str, Any]:
    """Says what the calculator says, if the instruction tells it to use it."""
    system, last = body["messages"][0]["content"], body["messages"][-1]
    if last["role"] == "tool":
        return str(last["content"])
    if not last["content"].startswith("Sum: "):
        return "<instruction>Use the calculator.</instruction>"
    expression = last["content"].removeprefix("Sum: ")
    if "calculator" not in system or "tools" not in body:
        return "about a hundred"
    return {"tool_calls": [{"name": "calculate", "arguments": {"expression": expression}}]}


@pytest.fixture
def gepa(cli: Cli) -> Cli:
    cli.change(MIPRO, GEPA)
    cli.change('name = "job"', 'name = "job"\nalgorithm = "gepa"')
    return cli


@pytest.fixture
def sums(cli: Cli) -> Cli:
    """A task that needs a tool."""
    rows = [(f"{a} * {a + 7}", a * (a + 7)) for a in range(11, 71)]
    (cli.folder / "rows.csv").write_text("text,label\n" + "".join(f"{text},{answer}\n" for text, answer in rows))
    cli.change('system = "Route the ticket."\nuser = "Ticket: {text}"', 'system = "Solve it."\nuser = "Sum: {text}"')
    cli.change(
        "[prompt_learning.policy]",
        '[prompt_learning.environment]\nname = "calculator"\nlimits = { max_turns = 4 }\n\n[prompt_learning.policy]',
    )
    return cli


@pytest.fixture
def steps(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cli]:
    """A program of two modules beside the job file, which is not in the working directory."""
    name = f"program_{abs(hash(str(cli.folder)))}"
    (cli.folder / f"{name}.py").write_text(PROGRAM)
    cli.change(PROMPT, f'[prompt_learning.program]\npath = "{name}:program"\n')
    (cli.folder / "elsewhere").mkdir()
    monkeypatch.chdir(cli.folder / "elsewhere")
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield cli
    sys.modules.pop(name, None)


def history(folder: Path) -> Any:
    return json.loads((folder / "score_history.json").read_text())


def test_gepa_finds_reports_and_keeps_its_lineage(gepa: Cli, provider: Provider) -> None:
    mock = provider(reply=reply)
    answer = gepa("optimize", "--method", "gepa", "--config", gepa.job, "--json")
    assert answer.code == 0, answer.err
    found = answer.json
    assert (found["method"], found["verdict"]) == ("gepa", "ship")
    assert found["test"]["best"]["mean"] == 1 > found["test"]["baseline"]["mean"]
    assert found["spend"]["total"]["calls"] == mock.calls
    assert sum(part["calls"] for part in found["spend"]["by_phase"].values()) == mock.calls
    assert "generation 1/3 " in answer.err
    assert re.search(r"child 1 mutation of g0 accepted as g1 gap \+", answer.err)

    run = found["run_id"]
    shown = gepa("runs", "show", run, "--json").json
    children = shown["children"]
    assert children == history(gepa.folder / "results" / "job")["children"]
    known = {"g0"}
    for child in children:
        assert set(child["parents"]) <= known
        assert (child["id"] is not None) == child["accepted"]
        assert child["accepted"] or child["reason"]
        known |= {child["id"]} - {None}
    assert len(shown["history"]) == found["trials"]
    page = gepa("runs", "show", run).out
    assert "method: gepa" in page
    assert "Generations" in page
    lineage = page.partition("Lineage")[2]
    for child in children:
        row = next(line for line in lineage.splitlines() if re.match(rf"\D*\b{child['child']} ", line))
        assert all(name in row for name in (child["id"] or "–", *child["parents"], child["origin"]))
    (row,) = [line for line in gepa("runs", "list").out.splitlines() if "gepa-" in line]
    assert " gepa " in row
    assert "+Answer with one of" in gepa("runs", "diff", run).out


def test_a_method_on_the_command_line_takes_the_place_of_the_files(cli: Cli, provider: Provider) -> None:
    provider(reply=reply)
    answer = cli("optimize", "--config", cli.job, "--method", "gepa", "--json", "--budget", 120)
    assert answer.code == 0, answer.err
    assert answer.json["method"] == "gepa"
    assert "prompt_learning.mipro has no effect here: the algorithm is gepa" in answer.err
    again = cli("optimize", cli.job, "--json")
    assert (again.code, again.json["method"]) == (0, "mipro")
    assert "children" not in cli("runs", "show", "latest", "--json").json


@pytest.mark.parametrize("named", [(), ("job.toml", "--config", "job.toml")])
def test_the_job_file_is_named_once(cli: Cli, named: tuple[str, ...]) -> None:
    answer = cli("optimize", *named)
    assert answer.code == 2
    assert "name the job file once" in answer.err


@pytest.mark.parametrize("method", ["mipro", "gepa"])
def test_dry_run_makes_the_plan_of_the_run(gepa: Cli, provider: Provider, method: str) -> None:
    provider(reply=reply)
    for cap in ("max_cost_usd=0.01", "max_tokens=9000"):
        named = (gepa.job, "--method", method, "--set", f"termination_config.{cap}", "--store", f"{cap}.db")
        guess = gepa("optimize", *named, "--json", "--dry-run").json
        assert gepa("optimize", *named, "--json").code == 0
        events = gepa("runs", "show", "latest", "--events", "--json", "--store", f"{cap}.db").json["events"]
        (made,) = [event["data"] for event in events if event["kind"] == "plan"]
        assert guess["plan"] == made
        assert {"baseline", "search", "test", "propose"} <= {phase["phase"] for phase in guess["phases"]}
        assert all(0 < phase["usd"] < phase["worst_usd"] for phase in guess["phases"])
    shown = gepa("optimize", gepa.job, "--dry-run", "--method", method).out
    assert ("generations of at most 2 children" if method == "gepa" else "a race of all candidates") in shown


def test_worst_case_of_a_gepa_dry_run_holds(gepa: Cli, provider: Provider) -> None:
    mock = provider(reply=reply, tokenizer="bytes")
    guess = gepa("optimize", gepa.job, "--dry-run", "--json").json
    assert gepa("optimize", gepa.job, "--json").code == 0
    assert mock.tokens <= guess["total"]["worst_tokens"]
    assert mock.micros <= guess["total"]["worst_usd"] * 1e6


def test_check_of_a_gepa_job(gepa: Cli, provider: Provider) -> None:
    provider(reply=reply)
    answer = gepa("optimize", gepa.job, "--check", "--json", "--budget", 400)
    assert answer.code == 0, answer.err
    assert max(variant["score"]["mean"] for variant in answer.json["variants"]) == 1


def test_several_objectives_show_the_front(gepa: Cli, provider: Provider) -> None:
    def wordy(body: dict[str, Any]) -> str:
        said = reply(body)
        return said.replace(". Rule", f". {'Think. ' * 9}Rule") if "<instruction>" in said else said

    provider(reply=wordy)
    gepa.change("[prompt_learning.gepa]", '[prompt_learning.gepa]\nobjective = ["score", "cost", "length"]')
    answer = gepa("optimize", gepa.job, "--json")
    assert answer.code == 0, answer.err
    front = answer.json["front"]
    assert len(front) > 1
    kept = json.loads(Path(answer.json["files"]["front.json"]).read_text())
    assert [{name: entry[name] for name in entry if name != "prompt"} for entry in kept] == front
    assert all(entry["prompt"]["messages"] and entry["cost"] > 0 < entry["length"] for entry in kept)
    assert "Front" in gepa("optimize", gepa.job).out


@pytest.mark.parametrize("method", ["mipro", "gepa"])
def test_an_agent_with_tools(sums: Cli, provider: Provider, method: str) -> None:
    mock = provider(reply=calculating)
    answer = sums("optimize", sums.job, "--method", method, "--json", "--set", "gepa.rule_candidates=0")
    assert answer.code == 0, answer.err
    assert answer.json["test"]["best"]["mean"] == 1 > answer.json["test"]["baseline"]["mean"] == 0
    assert answer.json["spend"]["total"]["calls"] == mock.calls > answer.json["rollouts"]["done"]
    best = answer.json["files"]["best_prompt.json"]
    scored = sums("evaluate", sums.job, "--prompt", best, "--json").json
    assert (scored["score"]["mean"], scored["rollouts"]["cached"]) == (1, 20)
    guess = sums("optimize", sums.job, "--method", method, "--dry-run", "--json").json
    (baseline,) = [phase for phase in guess["phases"] if phase["phase"] == "baseline"]
    assert baseline["calls"] == 2 * baseline["rollouts"]


def test_limits_of_tools_and_wrong_tools(sums: Cli, provider: Provider) -> None:
    provider(reply=calculating)
    sums.change('system = "Solve it."', 'system = "Use the calculator."')
    assert sums("evaluate", sums.job, "--json").json["score"]["mean"] == 1
    # The last turn has no tools.
    assert sums("evaluate", sums.job, "--json", "--set", "environment.limits.max_turns=1").json["score"]["mean"] == 0
    for name, said in (("calculater", "calculator"), ("nowhere:make", "nowhere")):
        answer = sums("config", "check", sums.job, "--set", f"environment.name={name}")
        assert answer.code == 2
        assert said in answer.err


@pytest.mark.parametrize("method", ["mipro", "gepa"])
def test_a_program_of_two_modules(steps: Cli, provider: Provider, method: str) -> None:
    mock = provider(reply=reply)
    named = ("--method", method, "--set", "gepa.rule_candidates=0")
    checked = steps("config", "check", steps.job)
    assert checked.code == 0, checked.err
    assert "Module find: 'Find.'" in checked.out
    answer = steps("optimize", steps.job, *named, "--json")
    assert answer.code == 0, answer.err
    found = answer.json
    assert found["test"]["best"]["mean"] == 1 > found["test"]["baseline"]["mean"] == 0
    assert found["spend"]["total"]["calls"] == mock.calls

    files = {name: json.loads(Path(path).read_text()) for name, path in found["files"].items()}
    best = files["best_prompt.json"]
    assert set(best) == {"modules", "program"}
    assert set(best["modules"]) == set(best["program"]["modules"]) == {"find", "say"}
    assert LABELS[0] in best["modules"]["find"]["instruction"]["content"]
    assert set(files["selected_demos.json"]["modules"]) == {"find", "say"}
    with pytest.raises(ConfigError, match="pass that function"):
        load_program(found["files"]["best_prompt.json"])
    if method == "mipro":
        assert all(
            set(trial["modules"]) == {"find", "say"}
            for trial in files["score_history.json"]["trials"]
            if trial["candidates"] == 1
        )

    scored = steps("evaluate", steps.job, "--prompt", found["files"]["best_prompt.json"], "--json").json
    assert (scored["score"]["mean"], scored["rollouts"]["cached"]) == (1, 20)
    run = found["run_id"]
    shown = steps("runs", "diff", run).out
    assert "Module find:" in shown
    assert "Module say:" in shown
    diff = steps("runs", "diff", run, "--json").json
    assert diff["modules"]["find"]["instruction"]
    assert not diff["same"]
    assert steps("runs", "show", run).code == 0
    exported = json.loads(steps("runs", "export", run, "--format", "openai").out)
    assert set(exported["modules"]) == {"find", "say"}
    assert "Module say:" in steps("optimize", steps.job, *named).out


def test_check_and_dry_run_of_a_program(steps: Cli, provider: Provider) -> None:
    mock = provider(reply=reply)
    guess = steps("optimize", steps.job, "--dry-run", "--json").json
    (baseline,) = [phase for phase in guess["phases"] if phase["phase"] == "baseline"]
    assert baseline["calls"] == 2 * baseline["rollouts"]
    assert mock.calls == 0
    checked = steps("optimize", steps.job, "--check", "--json", "--budget", 800)
    assert checked.code == 0, checked.err
    names = [variant["name"] for variant in checked.json["variants"]]
    assert any(name.startswith("find: ") for name in names)


def test_each_module_has_the_model_of_its_own(steps: Cli, provider: Provider) -> None:
    mock = provider(reply=reply)
    with steps.job.open("a") as file:
        file.write('\n[prompt_learning.program.models.say]\nmodel = "small"\nmax_completion_tokens = 7\n')
    assert steps("evaluate", steps.job, "--json").code == 0
    sent = {(body["messages"][-1]["content"].partition(":")[0], body["model"]) for body in mock.requests}
    assert sent == {("Ticket", "mock"), ("Found", "small")}
    limits = {body["model"]: body.get("max_tokens", body.get("max_completion_tokens")) for body in mock.requests}
    assert limits == {"mock": 16, "small": 7}
    steps.change("models.say", "models.sey")
    answer = steps("evaluate", steps.job)
    assert answer.code == 2
    assert "did you mean 'say'? Its modules: find, say" in answer.err


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("nowhere:program", "there is no module 'nowhere'"),
        ("{}:progrem", "did you mean 'program'?"),
        ("{}:PROGRAM", "has no 'PROGRAM'"),
        ("json:loads.__name__", "is a str, not a rollouts.Program"),
        ("program", "expected text of the form"),
    ],
)
def test_a_program_that_is_none(steps: Cli, path: str, said: str) -> None:
    name = re.search(r'path = "(program_\d+):', steps.job.read_text())
    assert name is not None
    answer = steps("config", "check", steps.job, "--set", f"program.path={path.format(name[1])}")
    assert answer.code == 2
    assert said in answer.err


def test_a_function_that_makes_the_program(steps: Cli, provider: Provider) -> None:
    provider(reply=reply)
    steps.change(':program"', ':make"')
    assert steps("evaluate", steps.job, "--json", "--limit", 3).json["rollouts"]["scored"] == 3
