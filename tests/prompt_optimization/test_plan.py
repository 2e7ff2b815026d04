"""How rollouts are divided: never more than the cap, never less than nothing."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollouts.budget import Budget, Spend
from rollouts.dtypes import Sample
from rollouts.errors import ConfigError
from rollouts.prompt_optimization import GEPAConfig, MIPROConfig, RMIPROConfig, Splits
from rollouts.prompt_optimization.mipro import mipro_plan
from rollouts.prompt_optimization.plan import affordable, make_plan, paid_plan

CONFIGS = st.builds(
    MIPROConfig,
    num_trials=st.integers(1, 200),
    minibatch_size=st.integers(1, 60),
    top_k=st.integers(1, 8),
    max_bootstrapped_demos=st.integers(0, 4),
    full_eval_every=st.integers(0, 10),
    optimize_demos=st.booleans(),
)
SIZES = st.tuples(st.integers(1, 500), st.integers(1, 500), st.integers(0, 500))


@settings(deadline=None)
@given(config=CONFIGS, sizes=SIZES, rollouts=st.integers(0, 20_000))
def test_a_cap_is_kept_and_no_part_is_negative(config: MIPROConfig, sizes: tuple[int, int, int], rollouts: int) -> None:
    plan = make_plan(config, train=sizes[0], val=sizes[1], test=sizes[2], rollouts=rollouts)
    assert plan.total <= rollouts
    parts = plan.to_json()
    assert all(value >= 0 for value in parts.values())
    assert (plan.bootstrap <= sizes[0], plan.val <= sizes[1], plan.test <= sizes[2]) == (True, True, True)
    assert plan.trials <= config.num_trials
    assert 1 <= plan.minibatch <= max(1, min(config.minibatch_size, plan.val))
    assert rollouts == 0 or plan.val >= 1


@settings(deadline=None)
@given(config=CONFIGS, sizes=SIZES)
def test_without_a_cap_everything_is_whole(config: MIPROConfig, sizes: tuple[int, int, int]) -> None:
    plan = make_plan(config, train=sizes[0], val=sizes[1], test=sizes[2], rollouts=None)
    assert (plan.val, plan.test, plan.trials) == (sizes[1], sizes[2], config.num_trials)
    assert plan.minibatch == min(config.minibatch_size, sizes[1])
    assert plan.bootstrap <= sizes[0]
    assert (plan.bootstrap > 0) == (config.optimize_demos and config.max_bootstrapped_demos > 0)


@settings(deadline=None)
@given(config=CONFIGS, sizes=SIZES, rollouts=st.integers(1, 5000))
def test_more_rollouts_never_shrink_what_is_measured(
    config: MIPROConfig, sizes: tuple[int, int, int], rollouts: int
) -> None:
    def plan(n: int):  # type: ignore[no-untyped-def]
        return make_plan(config, train=sizes[0], val=sizes[1], test=sizes[2], rollouts=n)

    less, more = plan(rollouts), plan(rollouts * 2)
    assert less.val <= more.val
    assert less.test <= more.test
    assert less.total <= more.total + less.minibatch * 2 + less.val


@pytest.mark.parametrize("rollouts", [150, 400, 1000])
def test_a_cap_is_used(rollouts: int) -> None:
    plan = make_plan(MIPROConfig(), train=100, val=100, test=200, rollouts=rollouts)
    assert plan.total >= 0.9 * rollouts
    assert plan.trials >= 4


@settings(deadline=None)
@given(
    config=CONFIGS,
    sizes=SIZES,
    tokens=st.integers(0, 2_000_000),
    rollouts=st.one_of(st.none(), st.integers(0, 5000)),
    costs=st.tuples(st.integers(1, 500), st.integers(1, 2000)),
    proposals=st.integers(0, 30),
)
def test_a_plan_is_as_large_as_the_caps_pay_for(
    config: MIPROConfig,
    sizes: tuple[int, int, int],
    tokens: int,
    rollouts: int | None,
    costs: tuple[int, int],
    proposals: int,
) -> None:
    def plan_of(n: int | None):  # type: ignore[no-untyped-def]
        return make_plan(config, train=sizes[0], val=sizes[1], test=sizes[2], rollouts=n)

    start, changed = (Spend(rollouts=1, calls=1, tokens=cost) for cost in costs)
    budget = Budget(max_tokens=tokens, max_rollouts=rollouts)
    plan = paid_plan(budget, plan_of, start, changed, proposals)
    safe = affordable(budget, Spend(rollouts=1, calls=1, tokens=max(costs)), proposals)
    assert safe is not None
    assert rollouts is None or plan.total <= rollouts
    others = plan.total - plan.of_start + 2 * proposals
    if plan.total > safe:
        assert plan.of_start * costs[0] + others * costs[1] <= 0.9 * tokens
    assert plan.total >= plan_of(safe).total - plan.minibatch - plan.val, "never less than if all cost the most"


@settings(deadline=None)
@given(
    rollouts=st.integers(0, 5000),
    slots=st.integers(1, 300),
    selector=st.sampled_from(["racing", "successive_halving", "successive_rejects"]),
)
def test_rounds_keep_their_parts_for_the_leaders(rollouts: int, slots: int, selector: str) -> None:
    rows = [Sample(id="", inputs={}, ground_truth="")] * 100
    data = Splits(train=rows, val=rows, test=rows)
    plan = mipro_plan(MIPROConfig(selector=selector), data, rollouts, slots)
    looking = plan.with_look()
    for one in (plan, looking, looking.without_bootstrap(looking.bootstrap // 2)):
        assert one.total <= rollouts
        assert min(one.to_json().values()) >= 0
        assert one.look <= one.finals
        assert one.trials or one.searched < one.minibatch, "a search that can be made is made"
        if selector != "racing":
            assert one.finals == one.look, "they have raced their leaders themselves"
    assert plan.look == 0
    if rollouts >= 500:
        leaders = plan.finals if selector == "racing" else 0
        assert looking.finals - looking.look >= leaders
        assert looking.look == min(80, plan.searched // 6)
        assert plan.trials >= 5
        assert leaders == 0 or plan.searched // 4 <= leaders < plan.searched / 4 + plan.minibatch


def test_a_plan_knows_that_the_start_is_cheaper() -> None:
    start, changed = Spend(calls=1, tokens=50), Spend(calls=1, tokens=500)

    def plan_of(n: int | None):  # type: ignore[no-untyped-def]
        return make_plan(MIPROConfig(), train=200, val=200, test=500, rollouts=n)

    budget = Budget(max_tokens=500_000)
    plan = paid_plan(budget, plan_of, start, changed, 0)
    cost = plan.of_start * 50 + (plan.total - plan.of_start) * 500
    assert 0.85 * 500_000 <= cost <= 0.9 * 500_000
    assert plan.total > 1.3 * 900
    assert paid_plan(Budget(), plan_of, start, changed, 0) == plan_of(None)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_trials": 0}, "num_trials"),
        ({"minibatch_size": 0}, "minibatch_size"),
        ({"num_candidates": -1}, "num_candidates"),
        ({"optimize_demos": False, "optimize_instructions": False}, "nothing to optimize"),
        ({"selector": "tp"}, "MIPROConfig.selector = 'tp'.*did you mean 'tpe'"),
    ],
)
def test_settings_that_make_no_sense(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        MIPROConfig(**changes)


@pytest.mark.parametrize("config", [MIPROConfig, GEPAConfig, RMIPROConfig])
@pytest.mark.parametrize(
    ("name", "value"),
    [*(("confidence", value) for value in (0.0, 1.0, 2.0, math.nan)), *(("min_effect", x) for x in (-0.1, math.inf))],
)
def test_what_the_verdict_would_refuse_is_refused_before_the_run(config: Any, name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=name):
        config(**{name: value})
