"""`rollouts optimize --check`, and the notes of a finished run."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from rollouts.testing import MockProvider
from tests.cli.conftest import Cli, label_of
from tests.cli.conftest import reply as third_right

Provider = Callable[..., MockProvider]


def always_right(body: dict) -> str:  # type: ignore[type-arg]
    text = body["messages"][-1]["content"]
    return label_of(text.removeprefix("Ticket: ")) if text.startswith("Ticket: ") else "no"


def always_wrong(body: dict) -> str:  # type: ignore[type-arg]
    return "no idea"


def test_a_job_with_room(cli: Cli, provider: Provider) -> None:
    mock = provider()
    answer = cli("optimize", cli.job, "--check", "--json", "--budget", 400)
    assert answer.code == 0, answer.err
    found = answer.json
    assert found["worth"]
    assert found["rows"] == 16
    assert found["spend"]["total"]["rollouts"] == 16 * (1 + len(found["variants"])) <= 100
    assert found["spend"]["total"]["calls"] == mock.calls
    # With demonstrations the model is always right.
    assert max(variant["score"]["mean"] for variant in found["variants"]) == 1
    low, high = found["baseline"]["interval"]
    assert low < found["baseline"]["mean"] < 0.7 < high + 0.3
    assert found["gain"]["low"] > 0
    assert found["spread_p"] < 0.05
    assert "few_test_rows" in found["findings"]
    assert not (cli.folder / "results").exists()


def test_what_the_check_paid_is_not_paid_again(cli: Cli, provider: Provider) -> None:
    mock = provider()
    paid = cli("optimize", cli.job, "--check", "--json").json["spend"]["total"]["rollouts"]
    again = cli("optimize", cli.job, "--check", "--json").json
    assert again["spend"]["total"]["rollouts"] == 0
    assert mock.calls == paid
    assert cli("optimize", cli.job, "--json").json["rollouts"]["cached"] >= again["rows"]


def test_plain_output(cli: Cli, provider: Provider) -> None:
    provider()
    shown = cli("optimize", cli.job, "--check")
    assert shown.code == 0
    for text in ("yours", "demonstrations", "by rule", "Spread", "Gain of the best variant", "Test rows", "Advice: "):
        assert text in shown.out


@pytest.mark.parametrize(("reply", "finding"), [(always_right, "constant"), (always_wrong, "constant")])
def test_nothing_to_gain_ends_with_5(cli: Cli, provider: Provider, reply: object, finding: str) -> None:
    provider(reply=reply)
    answer = cli("optimize", cli.job, "--check", "--json", "--budget", 400)
    assert answer.code == 5
    assert not answer.json["worth"]
    assert finding in answer.json["findings"]


def test_a_start_at_the_ceiling_pays_for_no_variant(cli: Cli, provider: Provider) -> None:
    mock = provider(reply=always_right)
    cli.change("val = 20", "val = 30")
    cli.change("test = 20", "test = 10")
    answer = cli("optimize", cli.job, "--check", "--json", "--budget", 4000)
    assert (answer.code, answer.json["findings"], answer.json["variants"]) == (5, ["ceiling"], [])
    assert mock.calls == 30


def test_all_errors_fail_the_check(cli: Cli, provider: Provider) -> None:
    provider(script=[400] * 500)
    answer = cli("optimize", cli.job, "--check", "--json")
    assert answer.code == 1
    assert answer.json["error"]["kind"] in ("TooManyFailures", "EvaluationError")


def test_a_small_budget_holds(cli: Cli, provider: Provider) -> None:
    mock = provider()
    answer = cli("optimize", cli.job, "--check", "--json", "--budget", 40)
    assert answer.code in (0, 5)
    assert answer.json["rows"] == 5
    assert mock.calls <= 10


def test_a_check_is_a_run_of_its_own(cli: Cli, provider: Provider) -> None:
    provider()
    for other in ("--dry-run", "--resume"):
        answer = cli("optimize", cli.job, "--check", other)
        assert answer.code == 2
        assert "run of its own" in answer.err
    assert cli("optimize", cli.job, "--check").code == 0
    (run,) = cli("runs", "list", "--json").json["runs"]
    assert (run["method"], run["status"]) == ("check", "done")
    assert cli("optimize", cli.job, "--resume").code == 2


def test_a_run_says_when_there_is_nothing_to_gain(cli: Cli, provider: Provider) -> None:
    provider(reply=always_right)
    assert "the same score (1) to every rollout" in cli("optimize", cli.job).out
    (note,) = cli("optimize", cli.job, "--json").json["notes"]
    assert "the same score (1)" in note


def test_a_run_with_room_says_nothing(cli: Cli, provider: Provider) -> None:
    provider(reply=third_right)
    assert cli("optimize", cli.job, "--json").json["notes"] == []


def test_a_check_of_one_variant_tries_instruction_and_demonstrations(cli: Cli, provider: Provider) -> None:
    """A small budget pays for one: where the start is never right, neither part alone need be."""

    def reply(body: dict) -> str:  # type: ignore[type-arg]
        *shown, last = body["messages"]
        both = len(shown) > 1 and "exactly one of these" in shown[0]["content"]
        return label_of(last["content"].removeprefix("Ticket: ")) if both else "no idea"

    provider(reply=reply)
    found = cli("optimize", cli.job, "--check", "--json", "--budget", 100)
    (variant,) = found.json["variants"]
    assert (found.code, variant["score"]["mean"]) == (0, 1)
    assert "by rule 1 with" in variant["name"]
