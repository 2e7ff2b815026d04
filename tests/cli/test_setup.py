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


def written(cli: Cli, name: str, rows: list[dict[str, object]]) -> None:
    (cli.folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_init_keeps_labels_that_are_no_texts_as_the_data_have_them(cli: Cli) -> None:
    written(cli, "flags.jsonl", [{"text": f"ticket {n}", "label": n % 3 == 0} for n in range(30)])
    assert cli("init", "flags.toml", "--data", "flags.jsonl", "--endpoint", "local", "--yes").code == 0
    config = load_config(cli.folder / "flags.toml").config
    assert config.dataset is not None
    assert config.dataset.labels == ("false", "true")
    assert config.initial_prompt.system == "Answer with one of: false, true."
    assert cli("config", "check", "flags.toml").code == 0


def test_init_names_no_labels_where_answers_are_objects(cli: Cli) -> None:
    written(cli, "objects.jsonl", [{"text": f"ticket {n}", "label": {"team": "ab"[n % 2]}} for n in range(30)])
    assert cli("init", "objects.toml", "--data", "objects.jsonl", "--endpoint", "local", "--yes").code == 0
    config = load_config(cli.folder / "objects.toml").config
    assert config.dataset is not None
    assert config.dataset.labels is None
    assert cli("config", "check", "objects.toml").code == 0


def test_init_makes_placeholders_of_column_names(cli: Cli) -> None:
    (cli.folder / "odd.csv").write_text(
        "2nd col,a b,a_b,Öl,label\n" + "".join(f"{n},x,y,z,{n % 2}\n" for n in range(20))
    )
    options = ("init", "odd.toml", "--data", "odd.csv", "--endpoint", "local", "--yes")
    assert cli(*options, "--input", "2nd col", "--input", "a b", "--input", "Öl").code == 0
    config = load_config(cli.folder / "odd.toml").config
    assert config.dataset is not None
    assert config.dataset.inputs == {"_2nd_col": "2nd col", "a_b": "a b", "_Öl": "Öl"}
    assert cli("config", "check", "odd.toml").code == 0
    both = (*options, "--force", "--input", "a b")
    refused = cli(*both, "--input", "a_b")
    assert refused.code == 2
    assert "the columns 'a b' and 'a_b' would both be {a_b}" in refused.err
    assert cli(*both, "--input", "a_b_2=a_b").code == 0


def test_init_takes_a_budget_of_0_for_what_it_is(cli: Cli) -> None:
    answer = cli("init", "new.toml", "--data", "rows.csv", "--yes", "--budget", 0)
    assert answer.code == cli("optimize", cli.job, "--dry-run", "--budget", 0).code == 2
    assert "termination_config.budget: 0: expected an integer of at least 1" in answer.err
    assert not (cli.folder / "new.toml").exists()


def test_init_asks_again_for_what_is_no_number(cli: Cli) -> None:
    answers = ["rows.csv", "", "", "local", "", "", "many", "70"]
    result = CliRunner().invoke(app, ["init", "asked.toml"], input="\n".join(answers) + "\n", standalone_mode=False)
    assert result.exception is None, result.output
    assert load_config(cli.folder / "asked.toml").config.termination_config.budget == 70


def test_init_finds_a_file_below_the_home_folder(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(cli.folder))
    answer = cli("init", "new.toml", "--data", "~/rows.csv", "--endpoint", "local", "--yes")
    assert answer.code == 0, answer.err
    config = load_config(cli.folder / "new.toml").config
    assert config.dataset is not None
    assert config.dataset.path == "rows.csv"


def test_init_knows_columns_that_the_first_row_lacks(cli: Cli) -> None:
    rows = [{"text": f"ticket {n}", "label": "ab"[n % 2]} for n in range(30)]
    written(cli, "late.jsonl", [{"label": "a"}, *rows])
    answer = cli("init", "late.toml", "--data", "late.jsonl", "--endpoint", "local", "--yes")
    assert answer.code == 0, answer.err
    assert "line 1, column 'text': the input is missing" in cli("config", "check", "late.toml").err
