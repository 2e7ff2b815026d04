"""A run from search to record, and a comparison of many that can be stopped and goes on."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from benchmarks.mipro_comparison import commands, one, run_comparison, run_dspy_mipro_banking77, runs
from benchmarks.mipro_comparison import outcome as records_of
from benchmarks.mipro_comparison import run_rollouts_mipro_banking77 as run_ours
from benchmarks.mipro_comparison.contrasts import at_equal_calls
from benchmarks.mipro_comparison.one import run_one
from benchmarks.mipro_comparison.outcome import PHASES, Counts, Key, Outcome, outcomes, score
from benchmarks.mipro_comparison.run_comparison import compare, keys_of
from benchmarks.mipro_comparison.served import Served
from benchmarks.mipro_comparison.tasks import Sizes, load_task
from hypothesis import given
from hypothesis import strategies as st

from rollouts.errors import ConfigError
from rollouts.testing import MockProvider
from tests.benchmarks.proxies import proxy_in_thread

# Peers that ran in this process before leave event loops open, which are collected while these tests run.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

SIZES = Sizes(train=24, val=24, test=16)
KEY = Key(task="tickets", method="rollouts-mipro", cap=90, seed=0)
counts = st.builds(
    Counts,
    **{entry.name: st.integers(0, 10**9) for entry in fields(Counts) if not entry.name.endswith("_s")},
    in_flight_s=st.floats(0, 1e6),
    call_s=st.floats(0, 1e6),
)
keys = st.builds(
    Key,
    task=st.sampled_from(["sst2", "tickets"]),
    method=st.sampled_from(sorted(one.METHODS)),
    settings=st.sampled_from(["equal", "default", "no-demos"]),
    cap=st.integers(0, 9999),
    seed=st.integers(0, 99),
)
records = st.builds(
    Outcome,
    key=keys,
    model=st.text(),
    best_score=st.none() | st.floats(0, 1),
    elapsed=st.floats(0, 1e6),
    train_size=st.integers(0, 999),
    val_size=st.integers(0, 999),
    test_size=st.integers(0, 999),
    test_scores=st.dictionaries(st.text(), st.integers(0, 1)),
    calls=st.fixed_dictionaries(dict.fromkeys(PHASES, counts)),
    prompt=st.lists(st.fixed_dictionaries({"role": st.just("user"), "content": st.text()})),
    revision=st.none() | st.text(),
    error=st.none() | st.text(),
)


def base(key: Key) -> Outcome:
    return Outcome(key=key, model="mock", train_size=24, val_size=24, test_size=16, slots=4)


def knowing(body: dict[str, object]) -> str:
    """A model that knows the answer once it was shown demonstrations."""
    _, data = load_task("tickets", seed=0, sizes=SIZES)
    messages: Sequence[dict[str, str]] = body["messages"]  # type: ignore[assignment]
    rows = {f"Message: {row['message']}\nRoute:": row["label"] for row in (*data.train, *data.val, *data.test)}
    return rows[messages[-1]["content"]] if len(messages) > 2 else "no idea"


@given(records)
def test_a_record_is_read_back_as_it_was_written(outcome: Outcome) -> None:
    assert Outcome.from_json(json.loads(json.dumps(outcome.to_json()))) == outcome


@given(records)
def test_a_record_from_before_revisions_were_kept_has_none(outcome: Outcome) -> None:
    old = {name: value for name, value in outcome.to_json().items() if name != "revision"}
    assert Outcome.from_json(json.loads(json.dumps(old))) == replace(outcome, revision=None)


def test_the_revision_is_that_of_this_checkout_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = records_of.revision.__wrapped__()
    assert found is None or re.fullmatch(r"[0-9a-f]{40}(-dirty)?", found)
    monkeypatch.setattr(records_of, "ROOT", tmp_path)
    assert records_of.revision.__wrapped__() is None
    (tmp_path / ".git").write_text("gitdir: nowhere")
    assert records_of.revision.__wrapped__() is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert records_of.revision.__wrapped__() is None, "there is no git"


DIFFERENT: Mapping[str, Any] = {
    "model": "another",
    "proposer": "model",
    "train_size": 25,
    "val_size": 25,
    "test_size": 17,
}


@pytest.mark.parametrize("field", DIFFERENT)
def test_runs_of_different_experiments_are_never_held_against_each_other(field: str) -> None:
    ours = [replace(base(replace(KEY, seed=seed)), best_score=0.9) for seed in range(3)]
    theirs = [replace(run, key=replace(run.key, method=runs.PEER), best_score=0.5) for run in ours]
    changed = [replace(run, **{field: DIFFERENT[field]}) for run in theirs]
    assert [row.task for table in at_equal_calls(runs.grouped(ours + theirs)) for row in table] == ["tickets"]
    assert at_equal_calls(runs.grouped(ours + changed)) == []
    mixed = runs.grouped([*ours, *changed, *theirs])
    assert [len(group.runs) for group in mixed] == [3, 3, 3]
    assert runs.tasks_of(mixed) == [
        f"tickets ({field.replace('_', ' ')} {value})"
        for value in sorted((getattr(ours[0], field), DIFFERENT[field]), key=str)
    ]


def test_another_task_with_other_rows_is_no_other_experiment() -> None:
    pair = [base(KEY), replace(base(replace(KEY, task="sst2")), train_size=99)]
    assert runs.tasks_of(runs.grouped(pair)) == ["sst2", "tickets"]


def test_the_single_commands_are_compared_as_documented(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made: list[Outcome] = []

    def record(served: object, key: Key, options: Any, *, plain: bool, more: Any) -> tuple[Outcome, Path]:
        sizes = one.sizes_of(key.task, options)
        rows: dict[str, Any] = {"train_size": sizes.train, "val_size": sizes.val, "test_size": sizes.test}
        made.append(replace(base(key), **rows, best_score=0.5, calls={"search": Counts(calls=1)}))
        assert more.get("trials") in (None, 20)
        return made[-1], tmp_path / "record.json"

    monkeypatch.setattr(commands, "serve", lambda model: nullcontext())
    monkeypatch.setattr(commands, "record", record)
    sizes = ["--train-size", "100", "--val-size", "50"]
    assert run_ours.main(["--rollouts", "100", *sizes]) == 0
    assert run_dspy_mipro_banking77.main(["--trials", "20", *sizes]) == 0
    ((row,),) = at_equal_calls(runs.grouped(made))
    assert row.caps == (900, 900)


@pytest.mark.parametrize(
    ("command", "words", "said"),
    [
        (run_ours, ["--local", "--mode", "online"], "--local is for offline searches"),
        (run_ours, ["--rollouts", "0"], "must be at least 1"),
        (run_dspy_mipro_banking77, ["--trials", "0"], "must be at least 1"),
    ],
)
def test_what_a_command_cannot_do_is_refused(
    command: Any, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(words)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


@given(keys, keys)
def test_files_of_different_runs_have_different_names(a: Key, b: Key) -> None:
    names = {replace(base(key), date="2026-11-21T18:00:01").file_name() for key in (a, b)}
    assert len(names) == len({a, b})


def test_plain_names_are_the_seeds_names() -> None:
    key = Key(task="banking77", method="rollouts-mipro", cap=900, seed=0)
    outcome = replace(base(key), date="2026-11-21T18:00:01")
    assert outcome.file_name(plain=True) == "banking77_rollouts_mipro_20261121_180001.json"


@pytest.mark.parametrize(("answer", "right"), [("Refund ", 1), (" refund\n", 1), ("refund.", 0), ("", 0)])
def test_the_metric_forgives_white_space_and_case_alone(answer: str, right: int) -> None:
    assert score(answer, "refund") == right


@pytest.mark.parametrize("settings", ["equal", "no-instructions"])
def test_our_search_keeps_the_cap_and_leaves_the_test_to_the_end(settings: str) -> None:
    key = replace(KEY, settings=settings)
    task, data = load_task("tickets", seed=0, sizes=SIZES)
    with MockProvider.in_thread(reply=knowing) as mock, proxy_in_thread(mock) as proxy:
        outcome = run_one(Served(proxy.url), base(key), task, data)
    assert outcome.error is None
    assert outcome.best_score == 1.0
    assert outcome.calls["search"].calls <= key.cap
    assert outcome.calls["test"].calls == len(data.test) == len(outcome.test_scores)
    assert (outcome.calls["propose"].calls == 0) == (settings == "no-instructions")
    assert outcome.prompt[-1]["content"] == f"Message: {data.test[0]['message']}\nRoute:"


@pytest.mark.slow
@pytest.mark.parametrize("settings", ["local", "online"])
def test_the_service_keeps_the_cap_too(settings: str) -> None:
    key = replace(KEY, settings=settings)
    task, data = load_task("tickets", seed=0, sizes=SIZES)
    with MockProvider.in_thread(reply=knowing) as mock, proxy_in_thread(mock) as proxy:
        outcome = run_one(Served(proxy.url), base(key), task, data)
    assert outcome.error is None
    assert outcome.best_score == (1.0 if settings == "local" else 0.0)
    assert 0.8 * key.cap < outcome.calls["search"].calls <= key.cap
    assert outcome.calls["propose"].calls > 0 or settings == "online"


@pytest.mark.parametrize(("method", "right"), [("start", 0.0), ("labelled", 1.0)])
def test_baselines_search_nothing(method: str, right: float) -> None:
    key = Key(task="tickets", method=method, cap=0, seed=0)
    task, data = load_task("tickets", seed=0, sizes=SIZES)
    with MockProvider.in_thread(reply=knowing) as mock, proxy_in_thread(mock) as proxy:
        outcome = run_one(Served(proxy.url), base(key), task, data)
    assert outcome.best_score == right
    assert (outcome.calls["search"].calls, outcome.calls["propose"].calls) == (0, 0)
    assert len(outcome.prompt) == (2 if method == "start" else 2 + 2 * task.demos)


def test_a_search_that_fails_is_a_record_with_what_it_took(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(one.METHODS, "rollouts-mipro", "nowhere:search")
    task, data = load_task("tickets", seed=0, sizes=SIZES)
    with MockProvider.in_thread() as mock, proxy_in_thread(mock) as proxy:
        outcome = run_one(Served(proxy.url), base(KEY), task, data)
    assert outcome.best_score is None
    assert "nowhere" in (outcome.error or "")
    assert set(outcome.calls) == set(PHASES)


def test_a_stopped_comparison_goes_on_where_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = keys_of(["tickets", "sst2"], ["start", "rollouts-mipro@30", "rollouts-mipro"], 2, 90)
    made: list[Key] = []
    stopping = True

    def run(key: Key) -> Outcome:
        if stopping and len(made) == 4:
            raise KeyboardInterrupt
        made.append(key)
        failed = key.task == "sst2" and key.cap == 30 and made.count(key) == 1
        outcome = replace(base(key), best_score=None if failed else 0.5, error="broken" if failed else None)
        outcome = replace(outcome, calls=dict.fromkeys(PHASES, Counts()), date=f"2026-11-21T18:00:{len(made):02}")
        outcome.save(tmp_path)
        return outcome

    with pytest.raises(KeyboardInterrupt):
        compare(wanted, tmp_path, run, lambda outcome: True, 1)
    stopping = False
    compare(wanted, tmp_path, run, lambda outcome: True, 1)
    compare(wanted, tmp_path, run, lambda outcome: True, 1)
    assert len(made) == len(wanted) + 2
    done = [outcome.key for outcome in outcomes(tmp_path).values() if outcome.error is None]
    assert sorted(done, key=repr) == sorted(wanted, key=repr)
    assert not [outcome for outcome in outcomes(tmp_path).values() if outcome.error is not None]
    compare(wanted, tmp_path, run, lambda outcome: outcome.model == "another", 1)
    assert made[-len(wanted) :] == wanted
    assert "failed: broken" in capsys.readouterr().out


def test_runs_come_seed_by_seed_and_each_once() -> None:
    wanted = keys_of(["sst2", "tickets"], ["start", "start@3", "dspy-mipro:default"], 3, 900)
    assert [key.seed for key in wanted] == sorted(key.seed for key in wanted)
    assert len(wanted) == len(set(wanted)) == 12
    assert wanted[1] == Key(task="sst2", method="dspy-mipro", settings="default", cap=900, seed=0)


@pytest.mark.parametrize(("tasks", "method"), [("mnist", "start"), ("sst2", "starts"), ("sst2", "gepa@many")])
def test_names_that_do_not_exist_are_said(tasks: str, method: str) -> None:
    with pytest.raises(ConfigError, match=r"there is no|must be a number"):
        keys_of([tasks], [method], 1, 900)


@pytest.mark.slow
def test_the_command_runs_each_method_in_a_process_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with MockProvider.in_thread(reply=knowing) as mock:
        methods = "start,labelled,rollouts-mipro:nonsense"
        command = ["--tasks", "tickets", "--methods", methods, "--out", str(tmp_path), "--workers", "2"]
        command += ["--model", "openai_compatible/the-model", "--base-url", mock.base_url]
        command += ["--train-size", "24", "--val-size", "24", "--test-size", "16", "--slots", "4"]
        assert run_comparison.main(command) == 1
        assert "tickets_rollouts_mipro_nonsense_c900_s0: failed" in capsys.readouterr().err
        assert run_comparison.main(command) == 1
        assert mock.calls == 32
        command[command.index(methods)] = "start,labelled"
        assert run_comparison.main(command) == 0, "the failed run is not wanted any more"
    found = {outcome.key.method: outcome for outcome in outcomes(tmp_path).values()}
    assert {name: outcome.best_score for name, outcome in found.items()} == {
        "start": 0.0,
        "labelled": 1.0,
        "rollouts-mipro": None,
    }
    assert "no settings 'nonsense'" in (found["rollouts-mipro"].error or "")
    assert str(run_comparison.ROOT) not in (found["rollouts-mipro"].error or "")
    assert len(list(tmp_path.glob("*.json"))) == 3
