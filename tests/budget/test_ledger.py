from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollouts.budget import Budget, Ledger, Spend
from rollouts.errors import BudgetExhausted, ConfigError

AMOUNTS = st.integers(0, 50)
SPENDS = st.builds(Spend, micros=AMOUNTS, tokens=AMOUNTS, calls=st.integers(0, 3), rollouts=st.integers(0, 2))
CAPS = st.one_of(st.none(), st.integers(0, 200))
BUDGETS = st.builds(
    lambda micros, **caps: Budget(max_cost_usd=None if micros is None else Decimal(micros) / 1_000_000, **caps),
    micros=CAPS,
    max_tokens=CAPS,
    max_calls=CAPS,
    max_rollouts=CAPS,
)
RESOURCES = ("micros", "tokens", "calls", "rollouts")


def caps_of(budget: Budget) -> dict[str, int | None]:
    caps = (budget.max_micros, budget.max_tokens, budget.max_calls, budget.max_rollouts)
    return dict(zip(RESOURCES, caps, strict=True))


def part_of(worst: Spend, share: float) -> Spend:
    return Spend(**{name: int(getattr(worst, name) * share) for name in RESOURCES})


@given(BUDGETS, st.lists(st.tuples(SPENDS, st.floats(0, 1), st.booleans()), max_size=40))
def test_settled_and_reserved_never_pass_a_cap(budget: Budget, steps: list[tuple[Spend, float, bool]]) -> None:
    ledger, caps, open_ones = Ledger(budget), caps_of(budget), []
    for worst, share, settle_now in steps:
        before = ledger.committed
        try:
            open_ones.append((ledger.reserve(worst), share))
        except BudgetExhausted as error:
            assert ledger.committed == before, "all resources or none"
            name = "micros" if error.resource == "usd" else error.resource
            assert getattr(before, name) + getattr(worst, name) > caps[name]
        if settle_now and open_ones:
            reservation, share = open_ones.pop(0)
            ledger.settle(reservation, part_of(reservation.worst, share))
        for name, cap in caps.items():
            assert cap is None or getattr(ledger.committed, name) <= cap


@given(st.lists(st.tuples(SPENDS, SPENDS, st.sampled_from(["task", "judge"])), max_size=20))
def test_the_account_adds_up(steps: list[tuple[Spend, Spend, str]]) -> None:
    ledger, total = Ledger(Budget(), spent=Spend(tokens=7)), Spend(tokens=7)
    for worst, actual, phase in steps:
        reservation = ledger.reserve(worst, phase=phase)
        ledger.settle(reservation, actual)
        ledger.settle(reservation, actual)  # ignored
        total = total + actual
    assert ledger.spent == ledger.committed == total
    assert sum(ledger.by_phase.values(), Spend()) == total
    assert ledger.within(total)
    for name in RESOURCES:
        if getattr(total, name):
            assert not ledger.within(part_of(total, 1) + Spend(**{name: -1}))


@given(BUDGETS, SPENDS)
def test_what_is_left_can_be_reserved_and_not_one_more(budget: Budget, spent: Spend) -> None:
    for name in RESOURCES:
        ledger = Ledger(budget, spent=spent)
        left = ledger.left(name)
        if left is None:
            ledger.reserve(Spend(**{name: 10**12}))
            continue
        with pytest.raises(BudgetExhausted):
            ledger.reserve(Spend(**{name: left + 1}))
        if left:
            ledger.reserve(Spend(**{name: left}))
        assert ledger.left(name) == 0


@pytest.mark.parametrize("resource", RESOURCES)
def test_within_counts_what_is_reserved(resource: str) -> None:
    ledger, bound = Ledger(Budget()), Spend(**{resource: 5})
    ledger.settle(ledger.reserve(Spend(**{resource: 2})), Spend(**{resource: 2}))
    ledger.reserve(Spend(**{resource: 3}))
    assert ledger.within(bound)
    ledger.reserve(Spend(**{resource: 1}))
    assert not ledger.within(bound)


def test_a_released_reservation_leaves_no_trace() -> None:
    ledger = Ledger(Budget(max_calls=1))
    ledger.release(ledger.reserve(Spend(calls=1)))
    assert ledger.spent == ledger.committed == Spend()
    ledger.reserve(Spend(calls=1))


@pytest.mark.parametrize("budget", [Budget(), Budget(max_calls=10, max_tokens=10)])
def test_a_closed_account_refuses_and_what_is_under_way_is_settled(budget: Budget) -> None:
    ledger, one = Ledger(budget), Spend(calls=1, tokens=2)
    under_way = ledger.reserve(one)
    ledger.close()
    assert not ledger.may_pay(one)
    with pytest.raises(BudgetExhausted):
        ledger.reserve(one)
    ledger.settle(under_way, one)
    assert ledger.spent == one


def test_time_of_earlier_processes_counts() -> None:
    ledger = Ledger(Budget(max_seconds=10), elapsed=4)
    assert ledger.check_time(5) == 1
    with pytest.raises(BudgetExhausted) as caught:
        ledger.check_time(6)
    assert caught.value.resource == "seconds"
    assert Ledger(Budget()).check_time(1e9) is None


@pytest.mark.parametrize("bad", [-1, "nan", "a lot", "inf"])
def test_a_budget_refuses_what_is_no_amount(bad: object) -> None:
    with pytest.raises(ConfigError, match="max_cost_usd"):
        Budget(max_cost_usd=bad)  # type: ignore[arg-type]


def test_money_is_exact_and_rounded_down() -> None:
    assert Budget(max_cost_usd=0.1).max_micros == 100_000
    assert Budget(max_cost_usd="2.5000009").max_micros == 2_500_000
    ledger = Ledger(Budget(max_cost_usd="0.000003"))
    for _ in range(3):
        ledger.reserve(Spend(micros=1))
    with pytest.raises(BudgetExhausted, match="usd"):
        ledger.reserve(Spend(micros=1))
