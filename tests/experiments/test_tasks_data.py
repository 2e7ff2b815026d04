"""Checks on the rows of the experiments' tasks: form, balance, difficulty, and no near duplicates."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import combinations

import pytest

from rollouts.environments.arithmetic import evaluate
from rollouts.experiments.tasks import multi_module, support_prompts, task_names
from rollouts.experiments.tasks.bundle import Row, rows_of
from rollouts.experiments.tasks.support_team import TOPICS

TEXTS = {"classification": "letter", "generation": "note", "multi_module": "problem", "support_team": "message"}
SHARES = {"easy": (0.45, 0.60), "medium": (0.20, 0.35), "hard": (0.10, 0.25)}
ENOUGH = 60


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", re.sub(r"['’]", "", text.lower()))


def texts(name: str) -> list[str]:
    """The texts of a task, with those of the demonstrations that its prompts start with."""
    shown = support_prompts.start_prompts().values() if name == "support_team" else ()
    examples = [str((demo.values or {})["message"]) for template in shown for demo in template.few_shot_examples]
    return [row[TEXTS[name]] for row in rows_of(name)] + examples


@pytest.mark.parametrize("name", task_names())
def test_every_cell_is_a_filled_and_trimmed_line(name: str) -> None:
    rows = rows_of(name)
    for row in rows:
        assert set(row) == set(rows[0])
        for value in row.values():
            assert isinstance(value, str)
            assert value == " ".join(value.split()) != "", row
    assert [row["id"] for row in rows] == [f"{name[0]}{number:03d}" for number in range(1, len(rows) + 1)]


@pytest.mark.parametrize("name", task_names())
def test_enough_rows_of_every_difficulty(name: str) -> None:
    rows = rows_of(name)
    assert len(rows) >= ENOUGH
    counts = Counter(row["difficulty"] for row in rows)
    assert set(counts) == set(SHARES)
    for difficulty, (low, high) in SHARES.items():
        assert low <= counts[difficulty] / len(rows) <= high, (difficulty, counts)


@pytest.mark.parametrize("name", task_names())
def test_no_near_duplicates(name: str) -> None:
    sets = [(text, frozenset(words(text))) for text in texts(name)]
    close = [(a, b) for (a, x), (b, y) in combinations(sets, 2) if len(x & y) >= 0.6 * len(x | y)]
    assert not close


@pytest.mark.parametrize("name", task_names())
def test_no_shared_run_of_six_words(name: str) -> None:
    owner: dict[tuple[str, ...], int] = {}
    for number, text in enumerate(texts(name)):
        tokens = words(text)
        for start in range(len(tokens) - 5):
            assert owner.setdefault(tuple(tokens[start : start + 6]), number) == number, text


def balance(rows: Sequence[Row], labels: Sequence[str]) -> None:
    counts = Counter(row["answer"] for row in rows)
    assert set(counts) == set(labels)
    assert max(counts.values()) == min(counts.values())
    cells = Counter((row["answer"], row["difficulty"]) for row in rows)
    assert all(cells[label, difficulty] >= 3 for label in labels for difficulty in SHARES)


def test_every_expert_has_enough_rows_alike_for_every_topic() -> None:
    rows = rows_of("support_team")
    assert len({topic for topics in TOPICS.values() for topic in topics}) == 16
    for agent, topics in TOPICS.items():
        own = [row for row in rows if row["agent"] == agent]
        assert len(own) >= ENOUGH
        balance(own, topics)


def test_the_offices_have_as_many_letters_each() -> None:
    balance(rows_of("classification"), ("library", "parks", "roads", "water"))


def test_the_weakest_experts_messages_do_not_name_their_topic() -> None:
    def named(agent: str) -> float:
        own = [row for row in rows_of("support_team") if row["agent"] == agent]
        return sum(row["answer"] in words(row["message"]) for row in own) / len(own)

    assert named("escalation_handler") < 0.05
    assert all(0.2 < named(agent) < 0.5 for agent in TOPICS if agent != "escalation_handler")


def test_calendar_lines_have_an_event_a_weekday_and_a_time() -> None:
    days = Counter()
    for row in rows_of("generation"):
        event, day, time = row["answer"].split("; ")
        assert event == event.lower()
        assert re.fullmatch(r"(1?\d|2[0-3]):[0-5]\d", time), row
        days[day] += 1
    assert len(days) == 7
    assert min(days.values()) >= 7


def test_word_problems_come_out_as_stated() -> None:
    rows = rows_of("multi_module")
    for row in rows:
        numbers = row["numbers"].split(", ")
        formula = row["formula"]
        for name, number in zip("abc", numbers, strict=False):
            assert name in formula
            formula = formula.replace(name, number)
        assert not set(formula) & set("abc"), row
        value, unit = row["answer"].split(" ")
        assert str(evaluate(formula)) == value, row
        assert unit in words(row["problem"]), row
        assert set(numbers) <= set(re.findall(r"\d+", row["problem"])), row
    assert len({row["formula"] for row in rows}) == 9
    templates = multi_module.start_prompts().values()
    shown = {(demo.values or {})["problem"] for template in templates for demo in template.few_shot_examples}
    assert shown
    assert not shown & {row["problem"] for row in rows}
