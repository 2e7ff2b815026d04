"""`rollouts runs`: which run a name means, and what is said of one."""

from __future__ import annotations

import json
import sqlite3
import zlib
from contextlib import closing
from typing import Any

import pytest

from rollouts.cli import failures
from rollouts.store import RunRow, open_store
from tests.cli.conftest import Cli, label_of, reply
from tests.cli.test_optimize import Provider


def row(name: str, **changes: Any) -> RunRow:
    values = {"id": name, "method": "mipro", "status": "done", "created_at": 1.0, "config": {}, **changes}
    return RunRow(**values)


def keep(cli: Cli, *rows: RunRow) -> None:
    store = open_store(cli.folder / "s.db")
    for one in rows:
        store.create_run(one)
    store.close()


def test_latest_means_the_newest_search_where_only_a_search_will_do(cli: Cli, provider: Provider) -> None:
    provider()
    found = cli("optimize", cli.job, "--json").json["run_id"]
    scored = cli("evaluate", cli.job, "--json").json["run_id"]
    assert cli("runs", "diff", "latest", "--json").json == cli("runs", "diff", found, "--json").json
    assert cli("runs", "export", "latest").out == cli("runs", "export", found).out
    assert f"run {found} divided no trials" in cli("runs", "bottleneck", "latest").err
    assert cli("runs", "show", "latest", "--json").json["run_id"] == scored
    for command in ("diff", "bottleneck"):
        refused = cli("runs", command, scored)
        assert refused.code == failures.USAGE
        assert refused.err.rstrip().endswith("; name a run of rollouts optimize")


def test_latest_without_any_search(cli: Cli) -> None:
    keep(cli, row("e1", method="evaluate"))
    for command in ("diff", "bottleneck", "export"):
        answer = cli("runs", command, "latest", "--store", "s.db")
        assert answer.code == failures.USAGE
        assert "rollouts optimize" in answer.err


def test_a_run_that_nobody_works_on_is_unfinished(cli: Cli) -> None:
    keep(cli, row("killed", status="running"), row("alive", status="running"), row("over"))
    worker = open_store(cli.folder / "s.db")
    worker.lock_run("alive")
    place = ("--store", "s.db", "--json")
    try:
        listed = cli("runs", "list", *place).json["runs"]
        assert {run["run_id"]: run["status"] for run in listed} == {
            "killed": "unfinished",
            "alive": "running",
            "over": "done",
        }
        for status, name in (("unfinished", "killed"), ("running", "alive"), ("done", "over")):
            some = cli("runs", "list", "--status", status, "--limit", "1", *place).json["runs"]
            assert [run["run_id"] for run in some] == [name]
        assert cli("runs", "show", "killed", *place).json["status"] == "unfinished"
    finally:
        worker.close()
    store = open_store(cli.folder / "s.db")
    store.lock_run("killed")  # to look is not to take
    assert store.run("killed").status == "running"
    store.close()


def test_statuses_that_there_are(cli: Cli) -> None:
    keep(cli, row("r1"))
    answer = cli("runs", "list", "--status", "foo", "--store", "s.db")
    assert answer.code == failures.USAGE
    assert "--status foo: there are running, unfinished, done, stopped and failed" in answer.err
    assert cli("runs", "list", "--status", "failed", "--store", "s.db").out == "no run is failed\n"


def test_an_evaluation_shows_its_score_and_no_settings_of_a_search(cli: Cli, provider: Provider) -> None:
    provider()
    found = cli("evaluate", cli.job, "--json").json
    shown = cli("runs", "show", found["run_id"]).out
    assert f"Score: {found['score']['mean']:.3f} (95 %: " in shown
    assert "trials:" not in shown
    cli("evaluate", cli.job, "--set", "score.confidence=0.6")
    assert " (60 %: " in cli("runs", "show", "latest").out
    refused = cli("runs", "show", found["run_id"], "--rollouts", "--program", "zzz")
    assert refused.code == failures.USAGE
    assert "no rollout of a program 'zzz'" in refused.err


def test_what_was_tried_can_be_listed_and_exported(cli: Cli, provider: Provider) -> None:
    provider()
    assert cli("optimize", cli.job).code == 0
    found = cli("runs", "candidates", "latest", "--json", "--limit", "100").json
    candidates = found["candidates"]
    assert found["total"] == len(candidates) > 5
    means = [one["score"] for one in candidates if one["n"]]
    assert means == sorted(means, reverse=True)
    assert sorted(one["is"] for one in candidates if one["is"]) == ["best", "start"]
    ran = cli("runs", "show", "latest", "--rollouts", "--json", "--limit", "1000").json["rollouts"]
    assert sum(one["n"] for one in candidates) == sum(row["phase"] != "test" for row in ran)
    tried = next(one for one in candidates if not one["is"])
    exported = json.loads(cli("runs", "export", "latest", "--which", tried["program"][:10]).out)
    assert exported[0]["content"] == tried["modules"]["main"]["system"]
    assert f"3 of {len(candidates)}" in cli("runs", "candidates", "latest", "--limit", "3").out
    wrong = cli("runs", "export", "latest", "--which", "zzz")
    assert (wrong.code, "no candidates 'zzz'" in wrong.err) == (failures.USAGE, True)


@pytest.mark.parametrize("fast", [True, False])
def test_failed_calls_are_sent_again_unless_they_should_not_be(cli: Cli, provider: Provider, fast: bool) -> None:
    mock = provider(script=[429, 503])
    answer = cli("evaluate", cli.job, *(["--fail-fast"] if fast else []))
    assert answer.code == 0
    assert f"{2 * fast} failed" in answer.out
    assert mock.calls == 20 + 2 * (not fast)


@pytest.mark.parametrize(("selector", "finals"), [("racing", True), ("successive_rejects", False)])
def test_trials_of_a_race_have_no_total(cli: Cli, provider: Provider, selector: str, finals: bool) -> None:
    provider()
    shown = cli("optimize", cli.job, "--set", f"mipro.selector={selector}").out
    events = cli("runs", "show", "latest", "--events", "--json").json["events"]
    (plan,) = [event["data"] for event in events if event["kind"] == "plan"]
    assert (plan["raced"], plan["finals"] > 0) == (True, finals), json.dumps(plan)
    assert "more with --limit" not in cli("runs", "show", "latest", "--events", "--limit", str(len(events) + 1)).out
    assert "the first 3; more with --limit" in cli("runs", "show", "latest", "--events", "--limit", "3").out
    assert "round 1 score" in shown
    assert "trial 1" not in shown
    assert ("phase validate" in shown) is finals, "the leaders race where the selector has not raced them itself"
    assert "phase test" in shown


def test_train_says_what_a_job_with_a_data_set_is_for(cli: Cli) -> None:
    answer = cli("train", cli.job)
    assert answer.code == failures.USAGE
    assert "train needs `task_app_url`; for a job with a data set use rollouts optimize" in answer.err


def test_rows_that_became_better_or_worse(cli: Cli, provider: Provider) -> None:
    provider()
    run = cli("optimize", cli.job, "--json").json
    found = cli("runs", "diff", "latest", "--rows", "--limit", 100, "--json").json
    test = run["test"]
    assert found["run_id"] == run["run_id"]
    assert sum(found[name] for name in ("better", "worse", "same", "failed")) == test["best"]["n"]
    gain = found["better"] - found["worse"]
    assert gain == round(test["best"]["n"] * (test["best"]["mean"] - test["baseline"]["mean"])) > 0
    changes = [row["change"] for row in found["rows"]]
    assert changes == sorted(changes)
    assert len(changes) == found["better"] + found["worse"]
    for row in found["rows"]:
        right = "best" if row["change"] > 0 else "start"
        assert row[right]["output"] == row["ground_truth"] == label_of(row["inputs"]["text"])
    shown = cli("runs", "diff", run["run_id"], "--rows", "--limit", 1).out
    assert f"{found['better']} better, {found['worse']} worse, {found['same']} as before" in " ".join(shown.split())
    assert found["rows"][0]["sample_id"] in shown
    assert f"the first 1 of {len(changes)}" in shown


def test_rows_need_a_changed_prompt_of_one_run(cli: Cli, provider: Provider) -> None:
    keep(cli, row("r1", summary={"start_program": "a", "best_program": "a"}), row("r2"), row("e1", method="evaluate"))
    for names, told in (
        (("r1",), "no row has changed"),
        (("r2",), "final check"),
        (("e1",), "did not search"),
        (("r1", "r2"), "of one run"),
    ):
        answer = cli("runs", "diff", *names, "--rows", "--store", "s.db")
        assert (answer.code, told in answer.err) == (failures.USAGE, True), answer.err


def test_rollouts_are_shown_with_what_was_asked(cli: Cli, provider: Provider) -> None:
    provider()
    run = cli("optimize", cli.job, "--json").json["run_id"]
    lines = [json.loads(line) for line in cli("runs", "export", run, "--format", "jsonl").out.splitlines()]
    assert len(lines) > 60
    for line in lines:
        assert line["ground_truth"] == label_of(line["inputs"]["text"])
        assert line["phase"] in ("baseline", "bootstrap", "search", "validate", "test")
    assert lines[0]["ground_truth"] in cli("runs", "show", run, "--rollouts", "--limit", 1).out


def traceable(body: dict[str, Any]) -> str:
    """A reply that says whose it is where it is wrong."""
    *shown, last = body["messages"]
    text = last["content"].removeprefix("Ticket: ")
    if text == last["content"]:
        return reply(body)
    right = "nothing else" in str(shown) or len(shown) > 1 or zlib.crc32(f"{text}!".encode()) % 3 == 0
    return label_of(text) if right else f"no idea about {text}"


def check_rows(found: dict[str, Any], run: dict[str, Any]) -> None:
    best, baseline = run["test"]["best"], run["test"]["baseline"]
    assert sum(found[name] for name in ("better", "worse", "same", "failed")) == best["n"]
    assert found["better"] - found["worse"] == round(best["n"] * (best["mean"] - baseline["mean"])) > 0
    for row in found["rows"]:
        for which in ("start", "best"):
            said = row[which]["output"]
            assert said in (label_of(row["inputs"]["text"]), f"no idea about {row['inputs']['text']}")


@pytest.mark.parametrize("method", ["mipro", "gepa"])
def test_rows_of_files_with_the_same_numbers(cli: Cli, provider: Provider, method: str) -> None:
    provider(reply=traceable)
    for number, part in enumerate(("train", "val", "test")):
        texts = [f"ticket {30 * number + at} is open" for at in range(30)]
        lines = "".join(f"{text},{label_of(text)}\n" for text in texts)
        (cli.folder / f"{part}.csv").write_text(f"text,label\n{lines}")
    cli.change(
        'path = "rows.csv"\ntrain = 20\nval = 20\ntest = 20',
        'train_path = "train.csv"\nval_path = "val.csv"\ntest_path = "test.csv"',
    )
    cli.change("budget = 200", "budget = 400")
    run = cli("optimize", cli.job, "--method", method, "--json").json
    check_rows(cli("runs", "diff", "latest", "--rows", "--limit", 100, "--json").json, run)


def test_rows_that_another_run_paid_for(cli: Cli, provider: Provider) -> None:
    """Seeds share rollouts in one store, and draw other rows for the test."""
    provider(reply=traceable)
    cli.change("[prompt_learning.mipro]", "[prompt_learning.mipro]\noptimize_demos = false")
    for seed in (1, 2, 3):
        run = cli("optimize", cli.job, "--json", "--set", f"seed={seed}").json
        check_rows(cli("runs", "diff", "latest", "--rows", "--limit", 100, "--json").json, run)


def test_rows_of_a_run_before_samples_were_stored(cli: Cli, provider: Provider) -> None:
    provider()
    assert cli("optimize", cli.job, "--json", "--store", "s.db").code == 0
    with closing(sqlite3.connect(cli.folder / "s.db")) as database, database:
        database.execute("UPDATE rollouts SET phase = '', sample = ''")
    answer = cli("runs", "diff", "latest", "--rows", "--store", "s.db")
    assert (answer.code, "older version" in answer.err) == (failures.USAGE, True)
