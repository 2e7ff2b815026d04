"""What every scheduler keeps, whatever it is told."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollouts.budget import Spend
from rollouts.errors import ConfigError
from rollouts.prompt_optimization.scheduling import (
    SCHEDULERS,
    Allocation,
    ModuleState,
    Scheduler,
    State,
    TrialResult,
    make_scheduler,
)

SAMPLES = 100
each = pytest.mark.parametrize("name", SCHEDULERS)


def state(modules: list[ModuleState], trials: int = 8, **changes: object) -> State:
    return State(modules=modules, trials=trials, samples=8, **changes)  # type: ignore[arg-type]


def modules(count: int, **changes: object) -> list[ModuleState]:
    return [ModuleState(name=f"m{n}", untried=20, **changes) for n in range(count)]  # type: ignore[arg-type]


def names(count: int) -> list[str]:
    return [f"m{n}" for n in range(count)]


def check(plan: Allocation, told: State) -> None:
    by_name = {module.name: module for module in told.modules}
    assert all(share.trials > 0 and share.samples > 0 for share in plan.shares)
    for name, module in by_name.items():
        new, more = (
            sum(share.trials for share in plan.shares if (share.module, share.work) == (name, work))
            for work in ("new", "more")
        )
        assert new <= module.untried
        assert more <= module.undecided
        assert new + more <= module.most
    possible = sum(module.most for module in by_name.values())
    assert plan.trials() == min(told.trials, possible), "a trial that can be made is not left out"
    assert plan.reason or not plan.shares


def play(
    scheduler: Scheduler, told: State, results: list[list[TrialResult]], rounds: int = 6
) -> list[tuple[object, ...]]:
    out: list[tuple[object, ...]] = []
    for number in range(rounds):
        plan = scheduler.allocate(told)
        check(plan, told)
        out.append((plan.shares, tuple(plan.values.items()), plan.reason))
        scheduler.update(results[number % len(results)] if results else [])
    return out


DIFFERENCES = st.lists(st.sampled_from([-1.0, 0.0, 0.0, 0.5, 1.0]), max_size=8).map(tuple)
RESULTS = st.builds(
    TrialResult,
    module=st.sampled_from(["m0", "m1", "m2"]),
    candidate=st.integers(1, 9),
    against=st.integers(0, 2),
    differences=DIFFERENCES,
    failed=st.integers(0, 4),
    spend=st.builds(Spend, tokens=st.integers(0, 1000), calls=st.integers(0, 20), micros=st.integers(0, 500)),
)
MODULES = st.tuples(
    *(
        st.builds(
            ModuleState,
            name=st.just(f"m{n}"),
            untried=st.integers(0, 12),
            undecided=st.integers(0, 6),
            affordable=st.one_of(st.none(), st.integers(0, 5)),
            incumbent=st.integers(0, 3),
            ceiling=st.one_of(st.none(), st.floats(0, 1)),
        )
        for n in range(3)
    )
)


@each
@settings(max_examples=25, deadline=None)
@given(
    st.lists(MODULES, min_size=1, max_size=4),
    st.lists(st.lists(RESULTS, max_size=6), max_size=4),
    st.integers(1, 16),
    st.floats(0, 1),
)
def test_plans_stay_within_what_is_allowed_and_repeat(
    name: str, told: list[tuple[ModuleState, ...]], results: list[list[TrialResult]], trials: int, score: float
) -> None:
    def run() -> list[tuple[object, ...]]:
        scheduler = make_scheduler(name, names(3), samples=SAMPLES, seed=5)
        out = []
        for number, entries in enumerate(told):
            now = state(list(entries), trials, score=score, used={"tokens": 0.1 * number, "calls": 0.2})
            out += play(scheduler, now, results[number : number + 1], rounds=1)
        return out

    assert run() == run()


@each
def test_one_module_gets_everything(name: str) -> None:
    scheduler = make_scheduler(name, names(1), samples=SAMPLES)
    for shares, *_ in play(scheduler, state(modules(1)), []):
        assert {share.module for share in shares} == {"m0"}  # type: ignore[attr-defined]


@each
def test_a_module_without_candidates_gets_nothing_and_the_others_its_share(name: str) -> None:
    told = state([ModuleState(name="m0", untried=0), *modules(3)[1:]])
    for shares, *_ in play(make_scheduler(name, names(3), samples=SAMPLES), told, []):
        assert "m0" not in {share.module for share in shares}  # type: ignore[attr-defined]


@each
def test_nothing_left_is_an_empty_plan(name: str) -> None:
    scheduler = make_scheduler(name, names(2), samples=SAMPLES)
    told = state([ModuleState(name=n, untried=3, affordable=0) for n in names(2)])
    assert scheduler.allocate(told).shares == ()


@each
@pytest.mark.parametrize("differences", [(), (0.0,) * 8, (1.0,) * 8], ids=["failed", "zero", "tied"])
def test_failures_zeros_and_ties_starve_nobody(name: str, differences: tuple[float, ...]) -> None:
    scheduler = make_scheduler(name, names(4), samples=SAMPLES, seed=1)
    told, given_to = state(modules(4, undecided=3)), dict.fromkeys(names(4), 0)
    for number in range(24):
        plan = scheduler.allocate(told)
        check(plan, told)
        results = []
        for share in plan.shares:
            given_to[share.module] += share.trials
            results += [
                TrialResult(module=share.module, candidate=1 + number + n, against=0, differences=differences, failed=8)
                for n in range(share.trials)
            ]
        scheduler.update(results)
    assert min(given_to.values()) >= 0.02 * sum(given_to.values()), given_to


@each
def test_sixteen_modules_of_fifty_candidates(name: str) -> None:
    scheduler, rng = make_scheduler(name, names(16), samples=SAMPLES), Random(0)
    for n in names(16):
        scheduler.update(
            [
                TrialResult(
                    module=n, candidate=c, against=0, differences=tuple(rng.choice((-1.0, 0.0, 1.0)) for _ in range(8))
                )
                for c in range(1, 51)
            ]
        )
    told = state([ModuleState(name=n, untried=50, undecided=50) for n in names(16)], trials=64)
    check(scheduler.allocate(told), told)


def test_an_unknown_name_is_an_error_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'adaptive'"):
        make_scheduler("adaptiv", ["a"], samples=10)


# ── adaptive: what it is for ──


def trials_of(
    scheduler: Scheduler, told: State, effects: dict[str, float], rounds: int, seed: int, harmful: str = ""
) -> dict[str, int]:
    """Trials by module when candidates of a module differ from its start by draws with that spread; those of `harmful`
    only spoil what was right."""
    rng, count = Random(seed), dict.fromkeys(effects, 0)
    for _ in range(rounds):
        results = []
        for share in scheduler.allocate(told).shares:
            for _ in range(share.trials):
                count[share.module] += 1
                effect = rng.gauss(0.0, effects[share.module])
                moved = min(1.0, 2 * effects[share.module])
                effect = -moved if share.module == harmful else effect
                differences = tuple(
                    0.0 if rng.random() > moved else (1.0 if rng.random() < 0.5 + effect / moved / 2 else -1.0)
                    for _ in range(share.samples)
                )
                results.append(
                    TrialResult(
                        module=share.module,
                        candidate=count[share.module],
                        against=0,
                        differences=differences,
                        spend=Spend(micros=told_cost(share.module) * share.samples, rollouts=share.samples),
                    )
                )
        scheduler.update(results)
    return count


def told_cost(module: str) -> int:
    return 20 if module == "m1" else 1


def test_adaptive_goes_to_the_bottleneck() -> None:
    won = 0
    for seed in range(5):
        scheduler = make_scheduler("adaptive", names(4), samples=SAMPLES)
        told = state([ModuleState(name=n, untried=500) for n in names(4)])
        count = trials_of(scheduler, told, {"m0": 0.02, "m1": 0.02, "m2": 0.25, "m3": 0.02}, 15, seed)
        won += count["m2"] > 0.5 * sum(count.values())
    assert won >= 4


@pytest.mark.parametrize("ceiling", [0.0, 0.01])
def test_adaptive_leaves_a_module_that_lacks_nothing_its_kept_share(ceiling: float) -> None:
    """Its candidates move most, for all of them do harm; the others lack a quarter."""
    effects = {"m0": 0.3, **dict.fromkeys(names(4)[1:], 0.1)}
    for seed in range(4):
        scheduler = make_scheduler("adaptive", names(4), samples=SAMPLES)
        told = state([ModuleState(name=n, untried=500, ceiling=ceiling if n == "m0" else 0.25) for n in names(4)])
        count = trials_of(scheduler, told, effects, 15, seed, harmful="m0")
        assert count["m0"] <= math.ceil(0.2 / 4 * sum(count.values()))


def test_adaptive_stays_with_a_weak_module_whose_first_candidates_change_nothing() -> None:
    scheduler = make_scheduler("adaptive", names(2), samples=SAMPLES)
    told = state([ModuleState(name=n, untried=500, ceiling=c) for n, c in (("m0", 0.05), ("m1", 0.5))])
    count = trials_of(scheduler, told, {"m0": 0.05, "m1": 0.0}, 3, 0)
    assert count["m1"] > count["m0"]


def test_adaptive_serves_equal_modules_alike() -> None:
    total = dict.fromkeys(names(4), 0)
    for seed in range(6):
        scheduler = make_scheduler("adaptive", names(4), samples=SAMPLES)
        told = state([ModuleState(name=n, untried=500) for n in names(4)])
        for name, count in trials_of(scheduler, told, dict.fromkeys(names(4), 0.1), 15, seed).items():
            total[name] += count
    assert max(total.values()) < 0.5 * sum(total.values())
    assert min(total.values()) > 0.08 * sum(total.values())


def test_adaptive_avoids_what_is_expensive_when_that_is_scarce() -> None:
    share = {}
    for scarce in ("micros", "rollouts"):
        scheduler = make_scheduler("adaptive", names(2), samples=SAMPLES)
        told = state([ModuleState(name=n, untried=500) for n in names(2)], used={scarce: 0.5, "tokens": 0.1})
        count = trials_of(scheduler, told, {"m0": 0.1, "m1": 0.1}, 12, 3)
        share[scarce] = count["m1"] / sum(count.values())
    assert share["micros"] < 0.25 < share["rollouts"]


def test_the_reason_names_the_best_module_and_the_scarce_resource() -> None:
    scheduler = make_scheduler("adaptive", names(2), samples=SAMPLES)
    plan = scheduler.allocate(state(modules(2), used={"tokens": 0.2, "micros": 0.7}))
    assert "money" in plan.reason
    assert max(plan.values, key=plan.values.__getitem__) in plan.reason
