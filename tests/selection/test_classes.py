"""Every class has its part of what a candidate is asked."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollouts.errors import ConfigError
from rollouts.prompt_optimization.selection import Cell, Result
from rollouts.prompt_optimization.selection.classes import Classes

from .tables import NAMES, coin, play, selector, space

LABELS = st.lists(st.sampled_from("aaab"), min_size=8, max_size=60).map(lambda xs: tuple(map("ab".index, xs)))


@given(LABELS, st.randoms(use_true_random=False))
def test_every_beginning_has_its_part_of_every_class(classes: tuple[int, ...], rng: object) -> None:
    n = len(classes)
    shuffled = rng.sample(range(n), n)  # type: ignore[attr-defined]
    order = Classes(classes, n).in_turn(shuffled)
    assert sorted(order) == list(range(n))
    for length in range(n + 1):
        found = Counter(classes[i] for i in order[:length])
        for label, size in Counter(classes).items():
            assert abs(found[label] - length * size / n) <= 1


@given(LABELS)
def test_what_a_candidate_has_already_counts(classes: tuple[int, ...]) -> None:
    n, kept = len(classes), [i for i, label in enumerate(classes) if label == 0][:4]
    left = [i for i in range(n) if i not in kept]
    order = kept + Classes(classes, n).in_turn(left)
    others = Counter(classes)[1]
    for length in range(len(kept), n + 1):
        found = Counter(classes[i] for i in order[:length])
        assert found[1] >= min(others, length - len(kept), length * others / n - 1)


@pytest.mark.parametrize("classes", [(), (3,) * 9, (0, 1, 2, 3, 4, 5, 6, 7, 8), (0, 0, 0, 1, 1, 1, 2, 2, 2)])
def test_no_classes_one_or_tiny_ones_change_nothing(classes: tuple[int, ...]) -> None:
    order = [4, 0, 8, 2, 6]
    assert Classes(classes, 9).in_turn(order) == order
    assert (np.diff(Classes(classes, 9).shares(np.array(order))) > 0).all()


def test_no_samples() -> None:
    assert Classes((), 0).in_turn([]) == []


def test_classes_are_of_all_samples() -> None:
    with pytest.raises(ConfigError, match="2 classes for 20 samples"):
        space(3, classes=(0, 1))


@pytest.mark.parametrize("name", NAMES)
def test_candidates_get_samples_of_all_classes(name: str) -> None:
    """Three in four samples are of one class: of a candidate's samples, however few, about as many."""
    classes = tuple(int(i % 4 == 0) for i in range(80))
    chooser = selector(name, space(3, 3, samples=80, classes=classes), trials=30, minibatch=8, budget=240, together=4)
    played = play(chooser, coin(1, lambda c: 0.3 + 0.1 * sum(c)), batch=12)
    asked: dict[object, list[int]] = {}
    for cell in played.cells:
        asked.setdefault(cell.candidate, []).append(classes[cell.sample])
    assert len(asked) > 1
    for found in asked.values():
        assert abs(sum(found) - len(found) / 4) <= 2


@pytest.mark.parametrize("name", NAMES)
def test_what_is_left_of_a_candidate_comes_in_turn(name: str) -> None:
    classes = tuple(int(i >= 20) for i in range(40))
    chooser = selector(name, space(2, samples=40, classes=classes))
    chooser.record([Result(Cell((1,), sample), 1.0) for sample in range(10)])
    left = chooser.unseen((1,))
    assert sorted(left) == list(range(10, 40))
    assert [classes[sample] for sample in left[:9]] == [1] * 9, "ten of the first class are known already"
