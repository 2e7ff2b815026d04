"""`rollouts runs export`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from rollouts import load_prompt
from rollouts.dtypes import Program, PromptTemplate
from rollouts.errors import ConfigError
from rollouts.experiments.export import stored_modules
from rollouts.integrations.exports import FORMATS, export_prompt
from rollouts.store import ProgramRow, RunRow, open_store
from rollouts.testing import MockProvider
from tests.cli.conftest import Cli

Provider = Callable[..., MockProvider]


@pytest.fixture
def run(cli: Cli, provider: Provider) -> str:
    """A finished run."""
    provider()
    return str(cli("optimize", cli.job, "--json").json["run_id"])


def test_every_form_goes_to_stdout_alone_or_to_a_file(cli: Cli, run: str) -> None:
    best, file = load_prompt(cli.folder / "results" / "job"), cli.folder / "prompt"
    for form in FORMATS:
        answer = cli("runs", "export", run, "--format", form)
        assert (answer.code, answer.err) == (0, "")
        if form == "json":
            assert replace(PromptTemplate.from_json(answer.json["template"]), score=best.score, id=best.id) == best
        else:
            assert answer.out == export_prompt(best, form)
        silent = cli("runs", "export", run, "--format", form, "--out", file)
        assert (silent.code, silent.out, silent.err) == (0, "", "")
        assert file.read_text() == answer.out
    wrong = cli("runs", "export", run, "--format", "langchian")
    assert (wrong.code, wrong.out) == (2, "")
    assert "Did you mean langchain?" in wrong.err


def test_best_and_start(cli: Cli, run: str) -> None:
    start = json.loads(cli("runs", "export", run, "--which", "start").out)
    assert [message["content"] for message in start] == ["Route the ticket.", "Ticket: {text}"]
    assert json.loads(cli("runs", "export", run, "--which", "best").out) != start
    wrong = cli("runs", "export", run, "--which", "worst")
    assert wrong.code == 2
    assert "name best, start, or one that" in wrong.err
    rows = json.loads((cli.folder / "results" / "job" / "best_prompt.json").read_text())["demonstrations"]
    assert rows
    for row in rows:
        assert row["message"] == f"Ticket: {row['query']}"
        assert row["values"] == {"text": row["query"]}
        assert row["label"]


def test_programs_of_several_modules() -> None:
    store = open_store(None)
    modules = {"first": PromptTemplate("Find.", "{q}"), "second": PromptTemplate("Say.", "{found}")}
    digest = Program(modules=modules).digest
    store.record(ProgramRow(digest=digest, modules={name: module.to_json() for name, module in modules.items()}))
    summary = {"best_program": digest}
    run = RunRow(id="r", method="gepa", status="done", created_at=0.0, config={}, summary=summary)
    assert stored_modules(store, run) == modules
    with pytest.raises(ConfigError, match="no start prompt"):
        stored_modules(store, run, "start")
    store.close()
