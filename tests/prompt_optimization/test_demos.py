"""Demonstration sets."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollouts.dtypes import FewShotExample, PromptTemplate, Sample
from rollouts.evaluation.metrics import exact_match, json_schema
from rollouts.prompt_optimization.demos import (
    DemoLimits,
    DemoSet,
    balanced,
    build_demo_sets,
    by_label,
    demo_pool,
    example_of,
    nearest,
    varied,
    with_one_answer,
)

TEMPLATE = PromptTemplate("Sort it.", "Text: {text}")
OWN = (FewShotExample("Text: mine", "a"),)


def rows(n: int, labels: str = "abc") -> list[Sample]:
    topics = ("money back please", "cannot log in today", "new price of plan")
    return [
        Sample(inputs={"text": f"{topics[i % 3]} {i}"}, ground_truth=labels[i % len(labels)], id=str(i))
        for i in range(n)
    ]


def build(train: Any = None, successes: Any = (), template: PromptTemplate = TEMPLATE, seed: int = 0, **limits: int):  # type: ignore[no-untyped-def]
    made = DemoLimits(**{"bootstrapped": 2, "labelled": 6, "sets": 8, **limits})
    return build_demo_sets(template, rows(30) if train is None else train, successes, made, seed=seed)


SUCCESSES = [FewShotExample(f"Text: good {i}", "a") for i in range(6)]


def test_the_empty_and_the_users_own_set_are_always_there() -> None:
    assert [s.source for s in build()][:1] == ["none"]
    own = build(template=TEMPLATE.replace(few_shot_examples=OWN))
    assert [(s.source, s.examples) for s in own[:2]] == [("none", ()), ("own", OWN)]
    assert [s.source for s in build(template=TEMPLATE.replace(few_shot_examples=OWN), sets=0)] == ["none", "own"]
    assert [s.source for s in build(train=[])] == ["none"]


def test_every_kind_gets_its_turn() -> None:
    sources = [s.source for s in build(successes=SUCCESSES, sets=9)]
    assert set(sources) >= {"none", "balanced", "bootstrapped", "nearest", "labelled", "mixed"}
    assert len(sources) == 10
    assert {"balanced", "nearest", "bootstrapped"} <= set(sources[:5]), "a short list holds the best kinds"


def test_limits_on_every_set() -> None:
    for entry in build(successes=SUCCESSES, sets=12):
        bootstrapped = [e for e in entry.examples if e in SUCCESSES]
        assert len(entry.examples) <= 6
        assert len(bootstrapped) <= 2
        assert len({e.input for e in entry.examples}) == len(entry.examples)


def test_no_set_twice() -> None:
    sets = build(train=rows(3), labelled=2, sets=50)
    assert len({s.examples for s in sets}) == len(sets)


@pytest.mark.parametrize(
    ("limits", "forbidden"),
    [({"labelled": 0}, {"balanced", "labelled", "nearest", "mixed"}), ({"bootstrapped": 0}, {"bootstrapped", "mixed"})],
)
def test_a_limit_of_zero_leaves_a_kind_out(limits: dict[str, int], forbidden: set[str]) -> None:
    assert not forbidden & {s.source for s in build(successes=SUCCESSES, **limits)}


def test_rows_without_an_answer_are_no_demonstrations() -> None:
    train = [*rows(6), *(Sample(inputs={"text": f"open {i}"}, id=f"x{i}") for i in range(20))]
    assert not any("open" in e.input for s in build(train=train, sets=20) for e in s.examples)


def test_equal_rows_are_no_two_demonstrations() -> None:
    for entry in build(train=rows(6) * 4, sets=12):
        assert len({e.input for e in entry.examples}) == len(entry.examples)


def test_equal_successes_are_no_two_demonstrations() -> None:
    for entry in build(successes=[*SUCCESSES[:2], *SUCCESSES[:2]], bootstrapped=4, sets=12):
        assert len({e.input for e in entry.examples}) == len(entry.examples)


def test_a_seed_decides() -> None:
    assert build(successes=SUCCESSES) == build(successes=SUCCESSES)
    assert build(successes=SUCCESSES) != build(successes=SUCCESSES, seed=1)


@settings(deadline=None)
@given(sizes=st.lists(st.integers(1, 9), min_size=2, max_size=8), count=st.integers(1, 30), seed=st.integers(0, 99))
def test_labels_are_balanced_within_one(sizes: list[int], count: int, seed: int) -> None:
    groups = {
        chr(97 + g): [Sample(inputs={"text": f"{g} {i}"}, ground_truth=chr(97 + g), id=f"{g}-{i}") for i in range(n)]
        for g, n in enumerate(sizes)
    }
    chosen = balanced(groups, count, random.Random(seed))
    assert len(chosen) == min(count, sum(sizes))
    assert len({s.id for s in chosen}) == len(chosen)
    numbers = Counter(s.ground_truth for s in chosen)
    most = max(numbers.values())
    for label, group in groups.items():
        assert numbers[label] >= min(len(group), most - 1)


def test_labels_are_told_from_free_answers() -> None:
    assert set(by_label(rows(30))) == {"a", "b", "c"}
    free = [Sample(inputs={"text": str(i)}, ground_truth=f"answer {i}", id=str(i)) for i in range(30)]
    assert set(by_label(free)) == {""}
    assert {s.source for s in build(train=free)} == {"none", "nearest", "labelled"}


def test_nearest_covers_every_topic_of_a_label() -> None:
    free = {"": [Sample(inputs=row.inputs, ground_truth=f"answer {row.id}", id=row.id) for row in rows(60)]}
    chosen = nearest(TEMPLATE, free, 3, random.Random(0))
    assert {s.inputs["text"].split()[0] for s in chosen} == {"money", "cannot", "new"}


@pytest.mark.parametrize("count", [1, 2, 5, 9, 40])
def test_nearest_is_balanced_over_labels_and_without_repeats(count: int) -> None:
    groups = by_label(rows(30))
    chosen = nearest(TEMPLATE, groups, count, random.Random(0))
    assert len(chosen) == len({s.id for s in chosen}) == min(count, 30)
    numbers = Counter(s.ground_truth for s in chosen)
    assert max(numbers[label] for label in groups) - min(numbers[label] for label in groups) <= 1


def test_an_example_is_the_formatted_message_and_the_truth_or_the_output() -> None:
    (row,) = rows(1)
    assert example_of(TEMPLATE, row) == FewShotExample("Text: money back please 0", "a")
    assert example_of(TEMPLATE, row, "said").output == "said"


def test_what_is_no_text_is_shown_as_json() -> None:
    row = Sample(inputs={"text": {"vip": True}}, ground_truth={"team": "billing", "urgent": False})
    assert example_of(TEMPLATE, row) == FewShotExample('Text: {"vip": true}', '{"team": "billing", "urgent": false}')


def test_of_several_accepted_answers_the_first_is_shown_where_the_metric_accepts_any() -> None:
    truths = ["bugs", ["billing", "Billing dept"], [["a", "b"]], [], None, {"a": 1}]
    samples = [Sample(inputs={"text": "x"}, ground_truth=truth) for truth in truths]
    shown = [sample.ground_truth for sample in with_one_answer(samples, exact_match())]
    assert shown == ["bugs", "billing", ["a", "b"], [], None, {"a": 1}]
    for whole in (json_schema({"type": "array"}), lambda trajectory, sample: 1.0):
        assert with_one_answer(samples, whole) == samples


def test_a_varied_set_keeps_the_order_of_its_answers_and_half_of_its_examples() -> None:
    train = rows(60)
    groups = by_label(train)
    rng = random.Random(0)
    entry = DemoSet(
        source="balanced", examples=tuple(example_of(TEMPLATE, sample) for sample in balanced(groups, 16, rng))
    )
    pool = demo_pool(TEMPLATE, train, [entry])
    for _ in range(20):
        other = varied(entry, pool, rng)
        assert other is not None
        assert [e.output for e in other.examples] == [e.output for e in entry.examples]
        kept = sum(a == b for a, b in zip(entry.examples, other.examples, strict=True))
        assert 8 <= kept < 16
        assert len({e.input for e in other.examples}) == 16


def test_a_set_of_all_there_is_cannot_be_varied() -> None:
    entry = DemoSet(source="labelled", examples=tuple(example_of(TEMPLATE, sample) for sample in rows(3)))
    assert varied(entry, demo_pool(TEMPLATE, (), [entry]), random.Random(0)) is None


def test_what_demonstrations_can_be_exchanged_for_holds_rows_and_sets_once() -> None:
    train = rows(10)
    entry = DemoSet(
        source="bootstrapped", examples=(FewShotExample("Text: new", "said"), example_of(TEMPLATE, train[0]))
    )
    pool = demo_pool(TEMPLATE, train, [entry])
    assert sum(map(len, pool.values())) == 11
    assert [e.output for e in pool["said"]] == ["said"]
