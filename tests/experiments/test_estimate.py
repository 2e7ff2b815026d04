"""What a run would take, told by its own arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from rollouts import Budget, GEPAConfig, MIPROConfig, StudyOptions, estimate_run, run_gepa, run_mipro
from rollouts.dtypes import Endpoint, PromptTemplate
from rollouts.evaluation.metrics import exact_match
from rollouts.testing import SimulatedLLM, SimulatedTask

LABELS = ("billing", "bugs", "sales")
ROWS = [{"text": f"{label} question number {n}", "label": label} for n in range(40) for label in LABELS]
START = PromptTemplate("Route the message.", "Message: {text}")
MODEL = Endpoint.parse("openai/gpt-4.1-nano")


@pytest.mark.parametrize("budget", [Budget(max_rollouts=150), Budget(max_calls=120), Budget(max_cost_usd="0.01")])
@pytest.mark.parametrize("config", [MIPROConfig(num_trials=6, num_candidates=4), GEPAConfig(generations=3)])
async def test_the_estimate_is_of_the_plan_that_the_run_makes(config: Any, budget: Budget) -> None:
    plans: list[Mapping[str, Any]] = []
    llm = SimulatedLLM(SimulatedTask(labels=LABELS, answers={row["text"]: row["label"] for row in ROWS}))
    options = StudyOptions(
        budget=budget,
        providers={MODEL.name: llm},
        listeners=(lambda kind, data: plans.append(data) if kind == "plan" else None,),
    )
    run = run_gepa if isinstance(config, GEPAConfig) else run_mipro
    result = await run(START, config, ROWS, MODEL, MODEL, exact_match(), options=options)
    told = estimate_run(START, config, ROWS, MODEL, MODEL, options=options)
    if budget.max_rollouts is not None:  # other caps are planned by what the provider's own tokenizer and price say
        assert told.plan.to_json() == plans[0]
        assert result.spend.rollouts <= told.total.rollouts <= budget.max_rollouts
    assert told.total.usd is not None
    assert budget.max_micros is None or told.total.usd * 1e6 <= budget.max_micros
    assert budget.max_calls is None or told.total.calls <= budget.max_calls


def test_without_a_cap_it_says_what_the_settings_ask_for() -> None:
    free = estimate_run(START, MIPROConfig(), ROWS, MODEL, MODEL).total
    capped = estimate_run(START, MIPROConfig(), ROWS, MODEL, MODEL, options=StudyOptions(budget=Budget(max_calls=100)))
    assert capped.total.calls <= 100 < free.calls
