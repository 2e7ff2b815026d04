"""The arithmetic that fits DSPy's MIPROv2 into a number of calls."""

from __future__ import annotations

import pytest
from benchmarks.mipro_comparison.dspy_budget import (
    BOOTSTRAPPED,
    FULL_EVERY,
    LEAST_CANDIDATES,
    MINIBATCH,
    NO_MINIBATCH,
    advised_trials,
    bootstrap_calls,
    most_candidates,
    most_trials,
    plan,
    trial_calls,
)
from hypothesis import given
from hypothesis import strategies as st

CALLS, VAL, TRAIN = st.integers(0, 5000), st.integers(1, 400), st.integers(1, 400)


def played(trials: int, val: int) -> int:
    """The calls of a search trial by trial, where none repeats another."""
    calls = 0
    for number in range(1, trials + 1):
        ends = number % FULL_EVERY == 0 or number == trials
        calls += val if val <= NO_MINIBATCH or ends else MINIBATCH
    return calls


@given(trials=st.integers(0, 60), val=VAL)
def test_a_search_takes_the_calls_of_its_schedule(trials: int, val: int) -> None:
    assert trial_calls(trials, val) == played(trials, val)


@given(trials=st.integers(0, 60), done=st.integers(0, 12), val=VAL)
def test_what_the_cache_has_of_a_search_is_not_paid_again(trials: int, done: int, val: int) -> None:
    done *= FULL_EVERY
    assert trial_calls(done + trials, val, done=done) == trial_calls(trials, val)


@given(calls=CALLS, val=VAL, done=st.integers(0, 60))
def test_as_many_trials_as_fit_and_no_more(calls: int, val: int, done: int) -> None:
    trials = most_trials(calls, val, done=done)
    assert trials >= done
    assert trials == done or trial_calls(trials, val, done=done) <= calls
    assert trial_calls(trials + 1, val, done=done) > calls


@pytest.mark.parametrize(("candidates", "trials"), [(6, 10), (12, 18), (18, 27)])
def test_the_advice_is_that_of_its_automatic_sizes(candidates: int, trials: int) -> None:
    assert advised_trials(candidates) == trials
    assert most_candidates(trials) == candidates


@given(trials=st.integers(0, 200))
def test_candidates_are_the_most_that_are_advised(trials: int) -> None:
    candidates = most_candidates(trials)
    assert candidates == LEAST_CANDIDATES or advised_trials(candidates) <= trials
    assert advised_trials(candidates + 1) > trials


@given(candidates=st.integers(2, 40), train=TRAIN, accuracy=st.floats(0.01, 1))
def test_bootstrapping_is_bounded_by_what_it_can_look_at(candidates: int, train: int, accuracy: float) -> None:
    calls = bootstrap_calls(candidates, train, accuracy=accuracy)
    assert 0 <= calls <= (candidates - 2) * train
    assert calls <= bootstrap_calls(candidates + 1, train, accuracy=accuracy)
    if candidates == 3 and train >= BOOTSTRAPPED:
        assert bootstrap_calls(candidates, train, accuracy=1.0) == BOOTSTRAPPED


@given(calls=CALLS, train=TRAIN, val=VAL)
def test_a_plan_is_expected_to_fit_and_follows_the_advice(calls: int, train: int, val: int) -> None:
    if trial_calls(1, val) > calls:
        with pytest.raises(ValueError, match="raise the cap or take fewer validation rows"):
            plan(calls, train=train, val=val)
        return
    found = plan(calls, train=train, val=val)
    assert found.trials >= 1
    assert bootstrap_calls(found.candidates, train) + trial_calls(found.trials, val) <= calls
    assert found.candidates == LEAST_CANDIDATES or found.trials >= advised_trials(found.candidates)


@given(calls=CALLS, train=TRAIN, val=VAL, most=st.integers(1, 60))
def test_a_plan_keeps_to_the_trials_that_it_is_given(calls: int, train: int, val: int, most: int) -> None:
    if trial_calls(1, val) <= calls:
        found = plan(calls, train=train, val=val, most=most)
        assert 1 <= found.trials <= most
        assert found.candidates == LEAST_CANDIDATES or most >= advised_trials(found.candidates)
