"""`rollouts optimize` and what follows from a finished run."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rollouts.testing import MockProvider
from tests.cli.conftest import Cli, label_of

Provider = Callable[..., MockProvider]


def test_json_is_one_object_with_verdict_test_spend_files(cli: Cli, provider: Provider) -> None:
    mock = provider()
    answer = cli("optimize", cli.job, "--json")
    assert answer.code == 0, answer.err
    found = answer.json
    assert found["verdict"] in {"ship", "keep", "undecided"}
    for side in ("baseline", "best"):
        low, high = found["test"][side]["interval"]
        assert 0 <= low <= found["test"][side]["mean"] <= high <= 1
        assert found["test"][side]["n"] == 20
    assert found["test"]["best"]["mean"] > found["test"]["baseline"]["mean"]
    assert found["spend"]["total"]["calls"] == mock.calls
    assert found["spend"]["total"]["micros"] == mock.micros
    assert sum(part["calls"] for part in found["spend"]["by_phase"].values()) == mock.calls
    assert all(Path(path).is_file() for path in found["files"].values())
    assert found["run_id"]
    assert found["reason"]
    assert "round 1 " in answer.err


def test_plain_output_has_lines_diff_tables_files(cli: Cli, provider: Provider) -> None:
    provider()
    answer = cli("optimize", cli.job)
    assert answer.code == 0
    for text in ("phase search", "round 1 ", "Verdict:", "Demonstrations: 0 before", "wall clock", "best_prompt.json"):
        assert text in answer.out


def test_dry_run_calls_nothing_and_prices_the_plan(cli: Cli, provider: Provider) -> None:
    mock = provider()
    answer = cli("optimize", cli.job, "--dry-run", "--json")
    assert answer.code == 0
    guess = answer.json
    assert mock.calls == 0
    assert not (cli.folder / ".rollouts").exists()
    assert guess["total"]["rollouts"] <= guess["plan"]["total"] == sum(p["rollouts"] for p in guess["phases"])
    for phase in guess["phases"]:
        assert 0 < phase["usd"] < phase["worst_usd"]
        assert 0 < phase["tokens"] < phase["worst_tokens"]


def test_worst_case_of_dry_run_holds(cli: Cli, provider: Provider) -> None:
    mock = provider(tokenizer="bytes")
    guess = cli("optimize", cli.job, "--dry-run", "--json").json
    assert cli("optimize", cli.job, "--json").code == 0
    assert mock.tokens <= guess["total"]["worst_tokens"]
    assert mock.micros <= guess["total"]["worst_usd"] * 1e6


def test_dry_run_names_what_is_missing(cli: Cli) -> None:
    cli.change("price = { input = 1.0, output = 4.0 }", "")
    cli.change("http://127.0.0.1:9/v1", "http://10.255.255.1/v1")
    answer = cli("optimize", cli.job, "--dry-run", "--budget-usd", "1")
    assert answer.code == 0
    assert "unknown" in answer.out
    assert "price" in answer.out


def test_options_override_the_file(cli: Cli, provider: Provider) -> None:
    mock = provider()
    arguments = ("--max-calls", 30, "--seed", 3, "-j", 2, "--out", "elsewhere", "--store", "s.db", "--budget", 90)
    answer = cli("optimize", cli.job, "--json", *arguments, "--set", "mipro.num_iterations=2")
    assert answer.code == 0
    assert mock.calls <= 30
    assert mock.in_flight_max <= 2 * 2  # task and proposer
    metadata = json.loads((cli.folder / "elsewhere" / "job_metadata.json").read_text())
    assert metadata["seed"] == 3
    assert metadata["config"]["prompt_learning"]["mipro"]["num_iterations"] == 2
    assert (cli.folder / "s.db").exists()
    assert not (cli.folder / ".rollouts").exists()


def test_money_cap_holds(cli: Cli, provider: Provider) -> None:
    mock = provider(tokenizer="bytes")
    answer = cli("optimize", cli.job, "--json", "--budget-usd", "0.004")
    assert answer.code == 0
    assert 0 < mock.micros <= 4000


@pytest.mark.parametrize(("threshold", "code"), [("0.0", 0), ("1.01", 3)])
def test_fail_under(cli: Cli, provider: Provider, threshold: str, code: int) -> None:
    provider()
    answer = cli("optimize", cli.job, "--json", "--fail-under", threshold)
    assert answer.code == code
    assert answer.json["verdict"]
    assert ("--fail-under" in answer.err) == (code == 3)


def test_second_run_is_served_from_the_store(cli: Cli, provider: Provider) -> None:
    mock = provider()
    first = cli("optimize", cli.job, "--json").json
    calls = mock.calls
    second = cli("optimize", cli.job, "--json").json
    assert mock.calls == calls
    assert second["test"] == first["test"]
    assert second["spend"]["total"]["micros"] == 0


def test_evaluate_scores_start_and_best(cli: Cli, provider: Provider) -> None:
    provider()
    best = cli("optimize", cli.job, "--json").json
    file = best["files"]["best_prompt.json"]
    answer = cli("evaluate", cli.job, "--prompt", file, "--json")
    assert answer.code == 0, answer.err
    assert answer.json["score"]["mean"] == best["test"]["best"]["mean"]
    assert answer.json["rollouts"]["cached"] == 20
    start = cli("evaluate", cli.job, "--json", "--split", "all")
    assert start.json["score"]["n"] == 60
    assert start.json["worst"][0]["score"] == 0
    assert start.json["worst"][0]["expected"] in {"billing", "bugs", "sales"}
    assert cli("evaluate", cli.job, "--fail-under", "0.9").code == 3
    shown = cli("evaluate", cli.job, "--limit", "5", "--repeats", "2")
    assert shown.code == 0
    assert "over 5 rows" in shown.out
    assert "10 rollouts scored" in shown.out
    assert "Worst rows" in shown.out
    assert "(95 %: " in shown.out
    half = ("--split", "all", "--set", "score.confidence=0.6")
    low, high = cli("evaluate", cli.job, "--json", *half).json["score"]["interval"]
    assert high - low < start.json["score"]["interval"][1] - start.json["score"]["interval"][0]
    assert "(60 %: " in cli("evaluate", cli.job, *half).out


def test_rows_are_shown_as_json(cli: Cli, provider: Provider) -> None:
    rows = [{"text": f"ticket {n}", "label": {"team": "ab"[n % 2], "urgent": True}} for n in range(12)]
    (cli.folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    cli.change("rows.csv", "rows.jsonl")
    provider(reply=lambda body: '{"urgent": true, "team": "a"}')
    options = ("--set", "dataset.train=4", "--set", "dataset.val=4", "--set", "dataset.test=4", "--split", "all")
    answer = cli("evaluate", cli.job, *options)
    assert answer.code == 0, answer.err
    assert '{"team": "b", "urgent"' in answer.out
    assert '{"team": "b", "urgent": true}' in cli("runs", "show", "latest", "--rollouts").out
    assert 0 < cli("evaluate", cli.job, *options, "--json").json["score"]["mean"] < 1


def test_answers_that_were_cut_are_noted(cli: Cli, provider: Provider) -> None:
    provider(reply=lambda body: {"content": "", "finish_reason": "length"})
    note = "20 of 20 answers were cut at max_completion_tokens = 16 (20 of them empty); "
    note += "raise it, or ask for shorter answers"
    (found,) = cli("evaluate", cli.job, "--json").json["notes"]
    assert found == note
    assert f"Note: {note}." in cli("evaluate", cli.job).out
    assert f"Note: {note}." in cli("runs", "show", "latest").out
    answer = cli("optimize", cli.job, "--json")
    found = answer.json["notes"]
    assert answer.err.count("a proposal failed: the answer was empty") == 1
    assert any(note.startswith("2 of 2 proposals failed: 2 x the answer was empty: the model spent") for note in found)
    assert any("answers of the best prompt were cut" in note for note in found)
    shown = cli("runs", "show", "latest").out
    assert all(f"Note: {note}." in shown for note in found)


def test_evaluate_counts_failures(cli: Cli, provider: Provider) -> None:
    provider(script=[400, 400])
    answer = cli("evaluate", cli.job, "--json", "-j", "1")
    assert answer.code == 0, answer.err
    assert answer.json["rollouts"]["failed"] == 2
    assert answer.json["score"]["n"] == 18
    assert "InvalidRequest" in next(iter(answer.json["failures"]))


def test_runs_list_show_diff_export(cli: Cli, provider: Provider) -> None:
    provider()
    found = cli("optimize", cli.job, "--json").json
    other = cli("optimize", cli.job, "--json", "--seed", "1").json
    run = found["run_id"]
    listed = cli("runs", "list", "--json").json["runs"]
    assert [entry["run_id"] for entry in listed] == [other["run_id"], run]
    assert listed[1]["spend"]["micros"] == found["spend"]["total"]["micros"]
    assert listed[1]["verdict"] == found["verdict"]
    assert run in cli("runs", "list").out.replace("\n", "")
    shown = cli("runs", "show", run, "--json").json
    assert len(shown["history"]) == found["trials"]
    assert shown["config"]["prompt_learning"]["seed"] == 0
    assert "Verdict" in cli("runs", "show", run).out
    assert cli("runs", "show", "latest", "--json").json["run_id"] == other["run_id"]
    rows = cli("runs", "show", run, "--rollouts", "--limit", "7", "--json").json["rollouts"]
    assert len(rows) == 7
    program = rows[0]["program"]
    some = cli("runs", "show", run, "--program", program[:12], "--json").json["rollouts"]
    assert some
    assert {row["program"] for row in some} == {program}
    assert cli("runs", "show", run, "--failed", "--json").json["rollouts"] == []
    assert "verdict" in cli("runs", "show", run, "--events").out
    assert cli("runs", "diff", run, "--json").json["prompt"]["demos_before"] == 0
    settings = cli("runs", "diff", run, other["run_id"], "--json").json["config"]
    assert settings == {"seed": {"before": 0, "after": 1}}
    assert cli("runs", "diff", run, other["run_id"]).code == 0


def test_export_is_what_was_sent(cli: Cli, provider: Provider) -> None:
    mock = provider()
    run = cli("optimize", cli.job, "--json").json["run_id"]
    messages = json.loads(cli("runs", "export", run).out)
    assert messages[-1] == {"role": "user", "content": "Ticket: {text}"}
    sent = [body["messages"][:-1] for body in mock.requests]
    assert messages[:-1] in sent
    assert cli("runs", "export", run, "--format", "text").out.rstrip().endswith("Ticket: {text}")
    assert json.loads(cli("runs", "export", run, "--format", "json").out)["messages"] == messages
    target = cli.folder / "rows.jsonl"
    assert cli("runs", "export", run, "--format", "jsonl", "--out", target).code == 0
    rows = [json.loads(line) for line in target.read_text().splitlines()]
    assert all(row["score"] in (0.0, 1.0) for row in rows)
    assert len({row["key"] for row in rows}) == len(rows)


def test_demo_job_prepares_without_files(cli: Cli) -> None:
    pytest.importorskip("xllamacpp")
    answer = cli("demo", "--dry-run", "--json", "--budget", "100")
    assert answer.code == 0, answer.err
    assert answer.json["plan"]["total"] <= 100
    assert answer.json["total"]["usd"] == 0


@pytest.mark.slow
@pytest.mark.model
@pytest.mark.timeout(600)
def test_demo_runs_on_the_embedded_model(cli: Cli) -> None:
    pytest.importorskip("xllamacpp")
    answer = cli("demo", "--json", "--budget", "40")
    assert answer.code == 0, answer.err
    assert answer.json["spend"]["total"]["rollouts"] <= 40
    assert answer.json["spend"]["total"]["micros"] == 0
    assert answer.json["verdict"] in {"ship", "keep", "undecided"}


def test_a_gate_needs_all_rows(cli: Cli, provider: Provider) -> None:
    provider()
    partial = cli("evaluate", cli.job, "--fail-under", "0.01", "--budget", 10)
    assert (partial.code, "did not fit in the limits" in partial.err + partial.out) == (3, True)
    assert cli("evaluate", cli.job, "--fail-under", "0.01").code == 0


def test_repeats_say_how_steady_a_prompt_is(cli: Cli, provider: Provider) -> None:
    seen: Counter[str] = Counter()

    def unsteady(body: dict[str, Any]) -> str:
        """Right the first two times, and the third time only on odd tickets."""
        text = body["messages"][-1]["content"].removeprefix("Ticket: ")
        seen[text] += 1
        return label_of(text) if seen[text] < 3 or int(text.split()[2]) % 2 else "no idea"

    provider(reply=unsteady)
    alone = ("evaluate", cli.job, "--split", "all", "-j", 1)
    found = cli(*alone, "--repeats", 3, "--json").json
    assert (found["repeats"], found["unsteady"]) == ([1.0, 1.0, 0.5], 30)
    assert "by repeat: 1.000, 1.000, 0.500; 30 of 60 rows changed" in cli(*alone, "--repeats", 3).out
    assert "by repeat" not in cli(*alone).out


def test_rows_that_failed_count_against_a_gate(cli: Cli, provider: Provider) -> None:
    """What is left of the answers of a prompt that breaks the form is all right."""
    (cli.folder / "strict.py").write_text(
        "def strict(trajectory, sample):\n"
        "    if int(sample.id) % 3 == 0:\n"
        "        raise ValueError('no JSON')\n"
        "    return 1.0\n"
    )
    provider()
    gate = ("--set", 'score.metric="strict:strict"', "--split", "all", "--fail-under")
    answer = cli("evaluate", cli.job, *gate, "0.95")
    assert (answer.code, "20 failed rollouts counted as 0, is below 0.95" in answer.out) == (3, True), answer.out
    assert cli("evaluate", cli.job, *gate, "0.6").code == 0


def test_a_budget_without_a_search_is_told(cli: Cli) -> None:
    assert "no search" in cli("optimize", cli.job, "--dry-run", "--budget", 2).out
