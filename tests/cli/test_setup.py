"""`init`, `config`, `serve-model`, `--version`."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable

import pytest
from typer.testing import CliRunner

import rollouts
from rollouts.cli.app import app
from rollouts.experiments.config_docs import config_markdown
from rollouts.experiments.loading import load_config
from rollouts.testing import MockProvider
from tests.cli.conftest import Cli, environment

Provider = Callable[..., MockProvider]


def test_version(cli: Cli) -> None:
    assert cli("--version").out == f"rollouts {rollouts.__version__}\n"


def test_no_arguments_show_help(cli: Cli) -> None:
    answer = cli()
    assert "optimize" in answer.out + answer.err
    assert cli("runs", "--help").code == 0
    assert "--fail-under" in cli("optimize", "--help").out


def test_init_with_options_makes_a_job_that_runs(cli: Cli, provider: Provider) -> None:
    mock = provider()
    arguments = ("init", "sub/new.toml", "--data", "rows.csv", "--endpoint", "openai_compatible/mock", "--yes")
    answer = cli(*arguments, "--budget", 60)
    assert answer.code == 0, answer.err
    config = load_config(cli.folder / "sub" / "new.toml").config
    assert config.dataset is not None
    assert config.dataset.path == "../rows.csv"
    assert config.dataset.inputs == {"text": "text"}
    assert config.dataset.ground_truth == "label"
    assert config.termination_config.budget == 60
    assert cli(*arguments).code == 2
    assert cli(*arguments, "--force").code == 0
    run = cli("optimize", "sub/new.toml", "--json", "--set", f"policy.base_url={mock.base_url}", "--budget", 60)
    assert run.code == 0, run.err
    assert run.json["spend"]["total"]["rollouts"] <= 60


def test_init_asks_with_suggestions(cli: Cli) -> None:
    answers = ["rows.csv", "", "", "local", "Say which team.", "contains", "80"]
    result = CliRunner().invoke(app, ["init", "asked.toml"], input="\n".join(answers) + "\n", standalone_mode=False)
    assert result.exception is None, result.output
    config = load_config(cli.folder / "asked.toml").config
    assert config.score.metric == "contains"
    assert config.initial_prompt.system == "Say which team."
    assert config.policy.provider == "local"
    assert config.termination_config.budget == 80


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--data", "none.csv"), "none.csv"),
        (("--data", "rows.csv", "--input", "txt"), "txt"),
        (("--data", "rows.csv", "--ground-truth", "lable"), "lable"),
        (("--data", "rows.csv", "--endpoint", "opnai/x"), "opnai"),
        (("--data", "rows.csv", "--endpoint", "model"), "provider/model"),
    ],
)
def test_init_refuses_what_does_not_fit(cli: Cli, options: tuple[str, ...], word: str) -> None:
    answer = cli("init", "new.toml", "--yes", *options)
    assert answer.code == 2
    assert word in answer.err
    assert not (cli.folder / "new.toml").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--data", "one.csv"), "has only the column 'text'"),
        (("--data", "semicolons.csv"), "is the delimiter ';'"),
        (("--data", "rows.csv", "--input", "label", "--ground-truth", "label"), "label"),
    ],
)
def test_init_leaves_a_file_alone_where_the_new_one_would_not_load(
    cli: Cli, options: tuple[str, ...], words: str
) -> None:
    (cli.folder / "one.csv").write_text("text\na\nb\n")
    (cli.folder / "semicolons.csv").write_text("text;label\na;b;c\n")
    before = cli.job.read_text()
    answer = cli("init", cli.job, "--yes", "--force", *options)
    assert answer.code == 2
    assert words in answer.err
    assert cli.job.read_text() == before


def test_init_reads_a_spreadsheet_of_semicolons(cli: Cli) -> None:
    rows = "".join(f"question, {n};{'yes' if n % 2 else 'no'}\n" for n in range(20))
    (cli.folder / "semicolons.csv").write_text(f"text;label\n{rows}")
    assert cli("init", "new.toml", "--yes", "--data", "semicolons.csv").code == 0
    checked = cli("config", "check", "new.toml", "--json")
    assert checked.json["rows"] == {"train": 6, "val": 7, "test": 7}


def test_schema_and_markdown(cli: Cli) -> None:
    assert "prompt_learning" in cli("config", "schema").json["properties"]
    assert cli("config", "schema", "--markdown").out == config_markdown()


def test_check(cli: Cli) -> None:
    answer = cli("config", "check", cli.job)
    assert answer.code == 0
    for text in ("20 train, 20 val, 20 test", "openai_compatible/mock", "Cap on rollouts: 200", "Ticket: {text}"):
        assert text in answer.out
    assert cli("config", "check", cli.job, "--json").json["rows"] == {"train": 20, "val": 20, "test": 20}


def test_check_finds_a_missing_key(cli: Cli) -> None:
    cli.change('base_url = "http://127.0.0.1:9/v1"', 'api_key_env = "NO_SUCH_KEY"\nbase_url = "https://example.org"')
    answer = cli("config", "check", cli.job)
    assert answer.code == 2
    assert "NO_SUCH_KEY" in answer.err


@pytest.mark.model
def test_serve_model_answers_until_ctrl_c() -> None:
    pytest.importorskip("xllamacpp")
    script = "from rollouts.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", script, "serve-model", "--port", "0"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        address = next(word for word in line.split() if word.startswith("http://"))
        with urllib.request.urlopen(f"{address}/models", timeout=20) as response:
            assert json.load(response)["data"]
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.communicate()


def test_init_suggests_a_job_that_fits_the_data(cli: Cli) -> None:
    rows = "".join(f'"ticket {n}","{("bugs, crashes", "sales", "")[n % 3]}",{n}\n' for n in range(60))
    (cli.folder / "mixed.csv").write_text(f"Ticket,Team,row id\n{rows}")
    assert cli("init", "mixed.toml", "--data", "mixed.csv", "--endpoint", "local", "--yes").code == 0
    config = load_config(cli.folder / "mixed.toml").config
    assert config.dataset is not None
    assert config.dataset.ground_truth == "Team"
    assert config.dataset.labels == ("bugs, crashes", "sales")
    assert config.initial_prompt.system == "Answer with one of:\n- bugs, crashes\n- sales"
    assert "line 4, column 'Team': the ground truth is empty" in cli("config", "check", "mixed.toml").err
