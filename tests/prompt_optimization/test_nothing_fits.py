"""A budget that pays for no further call ends a search; it must not go on asking."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from rollouts import Budget, Endpoint, PromptTemplate, StudyOptions
from rollouts.dtypes import Sample, Sampling, Trajectory
from rollouts.prompt_optimization import (
    GEPAConfig,
    MIPROConfig,
    OptimizationResult,
    RMIPROConfig,
    Splits,
    run_gepa,
    run_mipro,
    run_rmipro,
)
from rollouts.prompt_optimization.mipro import mipro_plan
from rollouts.testing import ScriptedLLM

ROWS = [{"q": f"number {n} {kind}", "a": kind} for n in range(30) for kind in ("even", "odd")]
ENDPOINT = replace(Endpoint.parse("openai/gpt-4.1-nano"), sampling=Sampling(max_tokens=4000))
SELECTORS = ("racing", "tpe", "random", "successive_halving", "successive_rejects")
METHODS: dict[str, tuple[Any, Any]] = {
    **{name: (run_mipro, MIPROConfig(selector=name, num_candidates=6, num_demo_sets=4)) for name in SELECTORS},
    "gepa": (run_gepa, GEPAConfig()),
    "rmipro": (run_rmipro, RMIPROConfig()),
}


def right(trajectory: Trajectory, sample: Sample) -> float:
    return float(trajectory.output == sample.ground_truth)


def optimize(method: str, budget: Budget) -> OptimizationResult:
    run, config = METHODS[method]
    options = StudyOptions(budget=budget, providers={ENDPOINT.name: ScriptedLLM(lambda request: "even")})
    start = PromptTemplate(system="Even or odd?", user_template="{q}")

    async def limited() -> OptimizationResult:
        work = run(start, config, ROWS, ENDPOINT, ENDPOINT, right, options=options)
        result: OptimizationResult = await asyncio.wait_for(work, timeout=60)
        return result

    return asyncio.run(limited())


@pytest.mark.parametrize("method", METHODS)
def test_no_time_left_ends_the_run(method: str) -> None:
    result = optimize(method, Budget(max_seconds=0.001))
    assert result.spend.rollouts == 0
    assert result.verdict is not None
    assert result.verdict.decision == "undecided"


@pytest.mark.parametrize("method", [name for name in METHODS if name != "rmipro"])
def test_a_cap_below_one_call_ends_the_run(method: str) -> None:
    result = optimize(method, Budget(max_tokens=3500))
    assert result.spend.calls == 0
    assert result.stop_reason


@pytest.mark.parametrize("slots", [1, 16, 256, 5000])
@pytest.mark.parametrize("rollouts", [100, 200, 1000])
def test_more_slots_than_rollouts_leave_a_search(slots: int, rollouts: int) -> None:
    samples = [Sample(id=str(i), inputs={"q": str(i)}, ground_truth="a") for i in range(20)]
    plan = mipro_plan(MIPROConfig(), Splits(train=samples, val=samples, test=samples), rollouts, slots)
    cells = plan.trials * plan.minibatch
    assert plan.trials >= 5
    assert cells + plan.finals >= 0.3 * rollouts
    assert plan.total <= rollouts
