"""The grouping queue: a pure object, tested without a model."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollouts.dtypes import Message
from rollouts.llm.local_queue import PrefixQueue, prefix_key


def drain(queue: PrefixQueue[str]) -> list[str]:
    return [queue.pop() for _ in range(len(queue))]


def test_groups_run_together_oldest_first() -> None:
    queue: PrefixQueue[str] = PrefixQueue()
    for number in range(3):
        for group in "bac":
            queue.push(group, f"{group}{number}")
    assert drain(queue) == ["b0", "b1", "b2", "a0", "a1", "a2", "c0", "c1", "c2"]


def test_late_arrivals_join_the_running_group() -> None:
    queue: PrefixQueue[str] = PrefixQueue()
    queue.push("a", "a0")
    queue.push("b", "b0")
    queue.push("a", "a1")
    first = queue.pop()
    queue.push("a", "a2")
    assert [first, *drain(queue)] == ["a0", "a1", "a2", "b0"]


def test_a_fed_group_does_not_starve_another() -> None:
    queue: PrefixQueue[str] = PrefixQueue(max_run=4)
    queue.push("busy", "busy")
    queue.push("quiet", "quiet")
    served = []
    for _ in range(6):
        served.append(queue.pop())
        queue.push("busy", "busy")
    assert served.index("quiet") == 4
    assert served[5] == "busy"


def test_a_run_is_bounded_only_while_another_group_waits() -> None:
    queue: PrefixQueue[str] = PrefixQueue(max_run=2)
    for number in range(5):
        queue.push("a", f"a{number}")
    assert drain(queue) == [f"a{number}" for number in range(5)]


def test_pop_of_an_empty_queue() -> None:
    with pytest.raises(IndexError):
        PrefixQueue[str]().pop()


@given(st.lists(st.sampled_from("abcd") | st.none(), max_size=200), st.integers(1, 5))
def test_nothing_is_lost_doubled_or_reordered_within_a_group(steps: list[str | None], max_run: int) -> None:
    queue: PrefixQueue[tuple[str, int]] = PrefixQueue(max_run)
    pushed, popped = [], []
    for number, group in enumerate(steps):
        if group is not None:
            queue.push(group, (group, number))
            pushed.append((group, number))
        elif len(queue):
            popped.append(queue.pop())
        assert len(queue) == len(pushed) - len(popped)
    popped += [queue.pop() for _ in range(len(queue))]
    for group in "abcd":
        assert [item for item in popped if item[0] == group] == [item for item in pushed if item[0] == group]


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=80), st.integers(1, 5))
def test_the_wait_is_bounded(groups: list[str], max_run: int) -> None:
    queue: PrefixQueue[str] = PrefixQueue(max_run)
    for group in groups:
        queue.push(group, group)
    order = drain(queue)
    for group in set(groups):
        others = len(set(groups)) - 1
        assert order.index(group) <= max_run * others


def messages(*texts: str) -> list[Message]:
    return [Message("user", text) for text in texts]


def test_the_key_is_that_of_all_messages_but_the_last() -> None:
    assert prefix_key(messages("rules", "one")) == prefix_key(messages("rules", "two"))
    assert prefix_key(messages("rules", "one")) != prefix_key(messages("other rules", "one"))
    assert prefix_key([Message("system", "x"), Message("user", "y")]) != prefix_key(messages("x", "y"))


def test_lone_messages_are_grouped_by_how_they_begin() -> None:
    rules = "Answer with one word, and think about the tone of the writer first.\n"
    assert prefix_key(messages(rules + "one")) == prefix_key(messages(rules + "two"))
    assert prefix_key(messages(rules + "one")) != prefix_key(messages("Other " + rules + "one"))
