from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollouts.budget import Authorisation, Budget, Ledger, Spend
from rollouts.errors import BudgetExhausted, StoreError

WORST = st.builds(Spend, micros=st.integers(0, 90), tokens=st.integers(1, 500), calls=st.just(1))
CAP = st.one_of(st.none(), st.integers(0, 3000))


@given(st.builds(Budget, max_tokens=CAP, max_calls=CAP), st.lists(st.tuples(WORST, st.booleans()), max_size=80))
def test_what_is_durable_always_covers_what_may_be_spent(budget: Budget, steps: list[tuple[Spend, bool]]) -> None:
    ledger, durable = Ledger(budget), [Spend()]
    authorisation = Authorisation(ledger, durable.append)
    for worst, cheap in steps:
        try:
            reservation = ledger.reserve(worst)
        except BudgetExhausted:
            continue
        authorisation.cover(worst)
        assert ledger.within(durable[-1])
        assert authorisation.authorised == durable[-1]
        for name, cap in (("tokens", budget.max_tokens), ("calls", budget.max_calls)):
            assert cap is None or getattr(durable[-1], name) <= cap
        if cheap:
            ledger.settle(reservation, Spend(tokens=1, calls=1))
    authorisation.close()
    assert durable[-1] == ledger.committed


def test_commits_are_rare_and_the_headroom_is_bounded() -> None:
    budget, worst = Budget(max_calls=100_000, max_tokens=10**9, max_rollouts=10**6), Spend(calls=1, tokens=100)
    ledger, durable = Ledger(budget), []
    authorisation = Authorisation(ledger, durable.append, headroom_calls=16)
    for sent in range(1, 1001):
        reservation = ledger.reserve(worst)
        authorisation.cover(worst)
        ledger.settle(reservation, worst)
        assert durable[-1].calls - sent <= 16 + sent / 32
    assert len(durable) <= 1000 / 17 + 1


def test_rollouts_that_the_study_reserves_are_covered_without_a_commit_each() -> None:
    ledger, durable = Ledger(Budget(max_rollouts=1000)), []
    authorisation = Authorisation(ledger, durable.append)
    for _ in range(100):
        ledger.reserve(Spend(rollouts=1))
        ledger.reserve(Spend(calls=1))
        authorisation.cover(Spend(calls=1))
        assert ledger.within(durable[-1])
    assert len(durable) <= 7


def test_a_commit_that_fails_authorises_nothing() -> None:
    def full(_: Spend) -> None:
        raise StoreError("the disk is full")

    ledger = Ledger(Budget())
    authorisation = Authorisation(ledger, full)
    ledger.reserve(Spend(calls=1))
    for _ in range(2):
        with pytest.raises(StoreError):
            authorisation.cover(Spend(calls=1))
    assert authorisation.authorised == Spend()


def commits_of(gap_s: float, calls: int, budget: Budget) -> list[int]:
    """How much headroom each commit of a run left when a call is made every `gap_s` seconds."""
    now, headrooms, ledger = 0.0, [], Ledger(budget)

    def commit(bound: Spend) -> None:
        headrooms.append(bound.calls - ledger.committed.calls)

    authorisation = Authorisation(ledger, commit, now=lambda: now)
    for _ in range(calls):
        now += gap_s
        reservation = ledger.reserve(Spend(calls=1))
        authorisation.cover(Spend(calls=1))
        ledger.settle(reservation, Spend(calls=1))
    return headrooms


def test_fast_calls_commit_in_longer_steps_and_slow_ones_do_not() -> None:
    budget = Budget(max_calls=1_000_000)
    fast, slow = commits_of(0.0002, 4000, budget), commits_of(0.05, 4000, budget)
    assert fast[:4] == [16, 64, 258, 1034]
    assert len(fast) < 10 < len(slow)
    assert all(headroom <= 16 + 4000 // 32 for headroom in slow)


def test_long_steps_stay_within_a_sixteenth_of_what_is_left() -> None:
    headrooms = commits_of(0.0002, 1000, Budget(max_calls=1000))
    assert max(headrooms) <= 1000 // 16 + 1000 // 32
