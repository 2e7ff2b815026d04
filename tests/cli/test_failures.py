"""Whatever goes wrong: a message that says what to change, the right exit code, no traceback."""

from __future__ import annotations

import re
import sqlite3
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rollouts.cli import failures
from rollouts.errors import CallTimeout, ConfigError, DataError, RunLocked, RunNotFound, StoreError, TooManyFailures
from rollouts.experiments.job import run_job
from rollouts.store import RunRow, open_store
from rollouts.testing import MockProvider
from tests.cli.conftest import Cli

Provider = Callable[..., MockProvider]


@pytest.fixture
def metrics(cli: Cli) -> Iterator[Callable[[str], None]]:
    """Makes `my_metrics.py` and lets the job use it."""

    def write(body: str) -> None:
        (cli.folder / "my_metrics.py").write_text(f"def score(trajectory, sample):\n    {body}\n")
        with cli.job.open("a") as file:
            file.write('\n[prompt_learning.score]\nmetric = "my_metrics:score"\n')

    yield write
    sys.modules.pop("my_metrics", None)


def refused(cli: Cli, *words: str, code: int, command: str = "optimize", options: tuple[object, ...] = ()) -> None:
    """The command ends with `code`, and both stderr and the JSON error say `words`."""
    answer = cli(command, cli.job, "--json", *options)
    assert answer.code == code, answer.err
    error = answer.json["error"]
    assert error["exit_code"] == code
    for word in words:
        assert word in answer.err
        assert word in error["message"]
    assert "error: " in answer.err


# --- wrong before anything is spent ---------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["optimize", "evaluate"])
@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('path = "rows.csv"', 'path = "no.csv"', ("no.csv",)),
        ('path = "rows.csv"', 'path = "rows.csv"\nground_truth = "labl"', ("labl", "label")),
        ('path = "rows.csv"', 'path = "rows.csv"\ninputs = { text = "txt" }', ("txt", "text")),
        ("Ticket: {text}", "Ticket: {txet}", ("{txet}", "text")),
        ("train = 20", "train = 600", ("600",)),
        ("num_iterations = 4", "num_iteration = 4", ("num_iteration",)),
        ("budget = 200", "budget = -1", ("budget",)),
        ('provider = "openai_compatible"', 'provider = "opnai"', ("opnai",)),
        ('provider = "openai_compatible"', 'provider = "openai_compatible"\napi_key_env = "NO_KEY"', ("NO_KEY",)),
    ],
)
def test_wrong_settings_and_data(cli: Cli, command: str, old: str, new: str, words: tuple[str, ...]) -> None:
    cli.change(old, new)
    refused(cli, *words, code=failures.USAGE, command=command)


def test_no_file(cli: Cli) -> None:
    cli.job.unlink()
    refused(cli, "job.toml", code=failures.USAGE)


def test_empty_split(cli: Cli) -> None:
    cli.change("test = 20", "test = 0")
    refused(cli, "test split is empty", "--split", code=failures.USAGE, command="evaluate")
    (cli.folder / "rows.csv").write_text("text,label\n")
    refused(cli, "no rows", code=failures.USAGE)


def test_money_cap_without_price(cli: Cli) -> None:
    cli.change("price = { input = 1.0, output = 4.0 }", "")
    cli.change("http://127.0.0.1:9/v1", "http://10.255.255.1/v1")
    refused(cli, "price", code=failures.USAGE, options=("--budget-usd", 1))


def test_results_folder_not_writable_is_told_before_anything_is_paid(cli: Cli, provider: Provider) -> None:
    mock = provider()
    (cli.folder / "file").write_text("")
    refused(cli, "results folder", "--out", code=failures.USAGE, options=("--out", "file/results"))
    assert mock.calls == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("optimise", "job.toml"),
        ("optimize",),
        ("optimize", "job.toml", "--seed", "one"),
        ("optimize", "job.toml", "--no-such-option"),
        ("evaluate", "job.toml", "--repeats", "0"),
        ("runs", "export"),
    ],
)
def test_wrong_usage(cli: Cli, arguments: tuple[str, ...]) -> None:
    answer = cli(*arguments)
    assert answer.code == failures.USAGE
    assert answer.err.startswith("error: ")
    assert "--help" in answer.err
    assert answer.out == ""
    assert cli(*arguments, "--json").json["error"]["exit_code"] == failures.USAGE


@pytest.mark.parametrize("method", ["gpea", "hope"])
def test_unknown_method(cli: Cli, method: str) -> None:
    refused(cli, method, code=failures.USAGE, options=("--method", method))


def test_prompt_file_that_is_none(cli: Cli) -> None:
    (cli.folder / "p.json").write_text('{"a": 1}')
    refused(cli, "p.json", code=failures.USAGE, command="evaluate", options=("--prompt", "p.json"))
    refused(cli, "q.json", code=failures.USAGE, command="evaluate", options=("--prompt", "q.json"))


# --- wrong on the way -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["optimize", "evaluate"])
def test_wrong_key(cli: Cli, provider: Provider, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    provider(key="right-key-of-this-test", echo_key=True)
    monkeypatch.setenv("OPENAI_COMPATIBLE_API_KEY", "wrong-key-of-this-test")
    refused(cli, "key", "401", code=failures.FAILED, command=command)


def test_wrong_key_is_never_shown(cli: Cli, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    provider(key="right-key-of-this-test", echo_key=True)
    monkeypatch.setenv("OPENAI_COMPATIBLE_API_KEY", "wrong-key-of-this-test")
    answer = cli("optimize", cli.job, "--json")
    assert "wrong-key-of-this-test" not in answer.out + answer.err


@pytest.mark.parametrize("command", ["optimize", "evaluate"])
def test_no_such_model(cli: Cli, provider: Provider, command: str) -> None:
    provider(script=[404] * 500)
    refused(cli, "mock", "404", code=failures.FAILED, command=command)


@pytest.mark.parametrize("method", ["mipro", "gepa", "rmipro"])
def test_no_such_proposer(cli: Cli, provider: Provider, method: str) -> None:
    provider()
    with MockProvider.in_thread(script=[404] * 500) as other:
        proposer = f'proposer={{provider="openai_compatible", model="wrong", base_url="{other.base_url}"}}'
        refused(cli, "'wrong'", "404", code=failures.FAILED, options=("--method", method, "--set", proposer))
    assert "failed" in cli("runs", "show", "latest").out
    assert cli("optimize", cli.job, "--method", method).code == 0


def test_metric_that_raises(cli: Cli, provider: Provider, metrics: Callable[[str], None]) -> None:
    mock = provider()
    metrics("raise KeyError('route')")
    refused(cli, "metric", "route", code=failures.FAILED, options=("-j", 2))
    assert mock.calls < 60
    assert "not paid again" in cli("optimize", cli.job, "--json").err


def test_results_that_could_not_be_written_are_written_by_the_command_of_the_message(
    cli: Cli, provider: Provider
) -> None:
    mock = provider()
    (cli.folder / "results" / "job" / "best_prompt.json" / "in the way").mkdir(parents=True)
    answer = cli("optimize", cli.job)
    assert answer.code == failures.FAILED
    assert "the results cannot be written" in answer.err
    calls, advice = mock.calls, re.search(r"--run (\S+)", answer.err)
    assert advice is not None
    again = cli("optimize", cli.job, "--out", "elsewhere", "--run", advice[1])
    assert again.code == 0
    assert (cli.folder / "elsewhere" / "best_prompt.json").is_file()
    assert mock.calls == calls


def test_the_password_of_the_store_is_never_shown(
    cli: Cli, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider()
    monkeypatch.setenv("ROLLOUTS_STORE", "sqlite://me:s3cret@host/s.db")
    answer = cli("optimize", cli.job, "--json")
    assert answer.json["store"] == "sqlite://me:***@host/s.db"
    assert "s3cret" not in answer.out + answer.err


def test_a_folder_used_again_holds_the_files_of_the_last_run_only(cli: Cli, provider: Provider) -> None:
    provider()
    folder = Path(cli("optimize", cli.job, "--json").json["files"]["best_prompt.json"]).parent
    for name in ("bottleneck.json", "front.json", "mine.json"):
        (folder / name).write_text("{}")
    files = cli("optimize", cli.job, "--json").json["files"]
    assert {path.name for path in folder.iterdir()} == {*files, "mine.json"}


@pytest.mark.parametrize("value", ["float('nan')", "'good'", "None"])
def test_metric_that_is_no_number(cli: Cli, provider: Provider, metrics: Callable[[str], None], value: str) -> None:
    provider()
    metrics(f"return {value}")
    refused(cli, "metric", code=failures.FAILED)


def test_nothing_scored_on_few_rows(cli: Cli, provider: Provider, metrics: Callable[[str], None]) -> None:
    provider()
    metrics("raise KeyError('route')")
    refused(cli, "no rollout has a score", "route", code=failures.FAILED, command="evaluate", options=("--limit", 5))


def test_metric_that_ends_the_process(cli: Cli, provider: Provider, metrics: Callable[[str], None]) -> None:
    provider()
    metrics("raise SystemExit(3)")
    refused(cli, "metric", "SystemExit(3)", code=failures.FAILED)


def test_metric_module_that_ends_the_process(cli: Cli, metrics: Callable[[str], None]) -> None:
    metrics("return 1.0")
    with (cli.folder / "my_metrics.py").open("a") as module:
        module.write("raise SystemExit(3)\n")
    refused(cli, "my_metrics:score", "SystemExit(3)", code=failures.USAGE)


def test_metric_factory_that_ends_the_process(cli: Cli, metrics: Callable[[str], None]) -> None:
    metrics("raise SystemExit(3)")
    cli.change('"my_metrics:score"', '"my_metrics:score"\noptions = { trajectory = 1, sample = 2 }')
    refused(cli, "SystemExit(3)", code=failures.USAGE)


def test_metric_that_is_not_there(cli: Cli, metrics: Callable[[str], None]) -> None:
    metrics("return 1.0")
    cli.change("my_metrics:score", "my_metrics:scoer")
    refused(cli, "scoer", "score", code=failures.USAGE)


# --- the store ------------------------------------------------------------------------------------------------------


def test_store_of_a_newer_version(cli: Cli) -> None:
    open_store(cli.folder / "s.db").close()
    with sqlite3.connect(cli.folder / "s.db") as database:
        (table,) = database.execute("SELECT name FROM sqlite_master WHERE name LIKE '%version%'").fetchone()
        database.execute(f"UPDATE {table} SET version_num = '9999'")
    refused(cli, "upgrade", code=failures.STORE, options=("--store", "s.db"))
    assert cli("runs", "list", "--store", "s.db").code == failures.STORE


def test_store_that_is_a_folder_or_no_database(cli: Cli) -> None:
    (cli.folder / "text.db").write_text("not a database, but long enough to be read as one" * 40)
    refused(cli, "text.db", code=failures.STORE, options=("--store", "text.db"))
    refused(cli, "directory", code=failures.USAGE, options=("--store", "."))


def test_two_workers_on_one_run(cli: Cli, provider: Provider) -> None:
    mock = provider()
    run = cli("optimize", cli.job, "--json", "--store", "s.db").json["run_id"]
    calls = mock.calls
    other = open_store(cli.folder / "s.db")
    other.lock_run(run)
    try:
        refused(cli, run, "wait", code=failures.STORE, options=("--store", "s.db", "--run", run))
    finally:
        other.close()
    assert mock.calls == calls


def test_resume_with_other_settings(cli: Cli, provider: Provider) -> None:
    provider()
    run = cli("optimize", cli.job, "--json").json["run_id"]
    refused(cli, "other settings", "seed", code=failures.USAGE, options=("--run", run, "--seed", 5))
    assert cli("optimize", cli.job, "--json", "--run", run, "--max-calls", 900).code == 0


def test_a_verdict_is_not_replaced_by_one_from_fewer_rows(cli: Cli, provider: Provider) -> None:
    mock = provider()
    options = ("optimize", cli.job, "--json", "--store", "s.db")
    run = cli(*options).json
    calls = mock.calls
    for less in (("--max-calls", 60), ("--set", "termination_config.budget=100")):
        refused(
            cli,
            "is done",
            "start a new run",
            code=failures.USAGE,
            options=("--store", "s.db", "--run", run["run_id"], *less),
        )
    assert mock.calls == calls
    again = cli(*options, "--run", run["run_id"]).json
    assert (again["verdict"], again["test"]) == (run["verdict"], run["test"])
    taken = cli("runs", "show", run["run_id"], "--json", "--store", "s.db").json["elapsed_s"]
    refused(
        cli,
        "leaves no time",
        code=failures.USAGE,
        options=("--store", "s.db", "--run", run["run_id"], "--set", f"termination_config.max_seconds={taken / 2}"),
    )
    more = cli(*options, "--run", run["run_id"], "--set", "termination_config.budget=300").json
    assert more["test"]["best"]["n"] >= run["test"]["best"]["n"]


def test_missing_runs_and_stores(cli: Cli, provider: Provider) -> None:
    provider()
    assert cli("runs", "list").code == failures.STORE
    for option in (("--resume",), ("--run", "r1")):
        refused(
            cli, "no store at typo.db", "without --resume", code=failures.USAGE, options=(*option, "--store", "typo.db")
        )
    assert sorted(path.name for path in cli.folder.iterdir()) == ["job.toml", "rows.csv"]
    open_store(cli.folder / ".rollouts" / "rollouts.db").close()
    refused(cli, "without --resume", code=failures.USAGE, options=("--resume",))
    assert cli("runs", "show", "nope").code == failures.USAGE
    assert cli("runs", "list").code == 0


def test_export_of_a_run_without_result(cli: Cli) -> None:
    store = open_store(cli.folder / "s.db")
    store.create_run(RunRow(id="r1", method="mipro", status="running", created_at=1.0, config={}, name="job"))
    store.close()
    for arguments in (("export", "r1"), ("diff", "r1")):
        answer = cli("runs", *arguments, "--store", "s.db")
        assert answer.code == failures.USAGE
        assert "--resume" in answer.err
    assert cli("runs", "show", "r1", "--store", "s.db").code == 0


# --- the mapping ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("x"), 2),
        (DataError("x"), 2),
        (RunNotFound("x"), 2),
        (StoreError("x"), 4),
        (RunLocked("x"), 4),
        (CallTimeout("x"), 1),
        (TooManyFailures("x"), 1),
        (ZeroDivisionError("x"), 1),
    ],
)
def test_codes(error: Exception, code: int) -> None:
    assert failures.exit_code(error) == code


def test_unexpected_errors_keep_their_traceback_in_a_file(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by chance")

    monkeypatch.setattr("rollouts.cli.optimizing.prepared", broken)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    answer = cli("optimize", cli.job)
    assert answer.code == 1
    assert "ZeroDivisionError: by chance" in answer.err
    assert "--resume" in answer.err
    (file,) = tmp_path.glob("rollouts-error-*.txt")
    assert str(file) in answer.err
    assert "Traceback" in file.read_text()


def shown_run(cli: Cli, run: str) -> dict[str, Any]:
    found: dict[str, Any] = cli("runs", "show", run, "--json").json
    return found


def test_caps_of_the_command_line_hold_on(cli: Cli, provider: Provider) -> None:
    """Whether they are said again or not; what is said now wins, and holds on, too."""
    provider()

    def ran(*options: object) -> dict[str, Any]:
        answer = cli("optimize", cli.job, "--json", *options)
        assert answer.code == 0, answer.err
        return answer.json

    first = ran("--budget", 90, "--set", "termination_config.max_calls=500")
    run = first["run_id"]
    again = ran("--run", run)
    assert again["rollouts"]["done"] == 0
    assert again["test"] == first["test"]
    larger = ran("--run", run, "--budget", 400)
    assert 90 < larger["spend"]["total"]["rollouts"] <= 400
    assert ran("--run", run)["rollouts"]["done"] == 0
    caps = shown_run(cli, run)["config"]["prompt_learning"]["termination_config"]
    assert (caps["budget"], caps["max_calls"]) == (400, 500)


@pytest.mark.parametrize("method", ["mipro", "gepa"])
def test_larger_limits_of_a_done_run_pay_for_another_search_or_are_refused(
    cli: Cli, provider: Provider, method: str
) -> None:
    provider()
    options = ("optimize", cli.job, "--json", "--method", method)
    first = cli(*options, "--budget", 80).json
    run = first["run_id"]
    if method == "mipro":  # it uses its budget up
        answer = cli(*options, "--run", run, "--budget", 110)
        assert answer.code == failures.USAGE
        assert "start a new run" in answer.err
    assert shown_run(cli, run)["summary"]["verdict"]["decision"] == first["verdict"]
    larger = cli(*options, "--run", run, "--budget", 240).json
    rows = [larger["test"][which]["n"] for which in ("baseline", "best")]
    assert rows[0] == rows[1] >= first["test"]["best"]["n"]
    assert larger["rollouts"]["done"] > 0


def test_the_commonest_failure_is_told_at_the_end(cli: Cli, provider: Provider) -> None:
    provider(faults={422: 0.1})
    answer = cli("optimize", cli.job)
    assert answer.code == 0, answer.err
    assert "Most often the model call failed on" in answer.out
    assert "InvalidRequest" in answer.out


def test_a_run_that_is_broken_off_later_keeps_its_verdict(
    cli: Cli, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider()
    first = cli("optimize", cli.job, "--json").json
    run, files = first["run_id"], {path: Path(path).read_text() for path in first["files"].values()}
    before = shown_run(cli, run)

    def hurried(job: Any, store: Any, *, options: Any) -> Any:
        return run_job(job, store, options=replace(options, on_start=lambda study: study.stop("enough")))

    monkeypatch.setattr("rollouts.cli.optimizing.run_job", hurried)
    answer = cli("optimize", cli.job, "--run", run, "--budget", 400)
    assert "keeps the verdict and the files" in answer.out + answer.err
    for threshold, code in ((first["test"]["best"]["mean"], 0), (1.01, 3)):
        assert cli("optimize", cli.job, "--run", run, "--budget", 400, "--fail-under", threshold).code == code
    after = shown_run(cli, run)
    assert (after["status"], after["summary"]) == ("done", before["summary"])
    assert {path: Path(path).read_text() for path in files} == files


def test_a_run_of_another_kind_is_not_continued(cli: Cli, provider: Provider) -> None:
    mock = provider()
    run = cli("optimize", cli.job, "--check", "--json").json["run_id"]
    calls = mock.calls
    refused(cli, "one of check", code=failures.USAGE, options=("--run", run))
    refused(cli, "give one of them", code=failures.USAGE, options=("--run", run, "--dry-run"))
    assert mock.calls == calls
