"""r-MIPRO in job files: its table, and budgets and limits of single modules."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from rollouts.budget import Budget, Constraints
from rollouts.experiments.config_convert import to_budget, to_constraints, to_module_budgets
from rollouts.experiments.config_docs import config_json_schema
from rollouts.experiments.config_rmipro import RmiproTable
from rollouts.experiments.config_search import rmipro_settings
from rollouts.experiments.loading import LoadedConfig, parse_config
from rollouts.prompt_optimization import RMIPROConfig
from rollouts.prompt_optimization.scheduling import SCHEDULERS

from .test_config_loading import base, problems

BUDGETS = {
    "find": {"max_calls": 9, "max_cost_usd": 0.1, "max_seconds": 3.5},
    "say": {"max_tokens": 70, "max_trials": 0},
}
LIMITS = {"max_p95_latency_s": 4.0, "modules": {"find": {"max_latency_s": 2.0, "confidence": 0.9}}}


def rmipro(table: dict[str, Any] | None = None, **tables: Any) -> LoadedConfig:
    return parse_config(base(algorithm="rmipro", rmipro=table, **tables))


def test_every_key_acts() -> None:
    table = {
        "scheduler": "ucb",
        "num_trials": 31,
        "round_trials": 5,
        "minibatch_size": 6,
        "num_candidates": 3,
        "sources": ["reflect"],
        "perfect_score": 4.5,
        "tie_break": 0.5,
        "optimize": ["system", "user_template"],
        "optimize_instructions": False,
        "optimize_demos": True,
        "max_bootstrapped_demos": 1,
        "max_labeled_demos": 2,
        "num_demo_sets": 5,
        "bootstrap_threshold": 0.7,
        "top_k": 4,
        "max_instruction_tokens": 77,
    }
    assert set(table) == set(RmiproTable.model_fields)
    made = RMIPROConfig(**rmipro_settings(rmipro(table).config))
    for name, value in table.items():
        assert getattr(made, name) == (tuple(value) if isinstance(value, list) else value), name


def test_defaults_agree_with_the_optimizer() -> None:
    stop = {"max_trials": 6, "budget": 9, "patience": 2, "target_score": 0.9}
    made = RMIPROConfig(**rmipro_settings(rmipro(seed=4, description="d", termination_config=stop).config))
    assert made == RMIPROConfig(seed=4, description="d", num_trials=6, patience=2, target_score=0.9)
    assert RmiproTable.model_json_schema()["properties"]["scheduler"]["enum"] == list(SCHEDULERS)


def test_budgets_and_limits_of_modules() -> None:
    loaded = rmipro(termination_config={"budget": 50, "modules": BUDGETS}, constraints=LIMITS)
    assert to_budget(loaded.config) == Budget(max_rollouts=50)
    made = to_module_budgets(loaded.config)
    assert made["find"].max_micros == 100_000
    assert (made["find"].max_calls, made["find"].max_seconds, made["find"].max_trials) == (9, 3.5, None)
    assert made["say"] == Budget(max_tokens=70, max_trials=0)
    one = Constraints(max_latency_s=2.0, confidence=0.9)
    assert to_constraints(loaded.config) == Constraints(max_p95_latency_s=4.0, modules={"find": one})
    assert parse_config(json.loads(json.dumps(loaded.resolved))).config == loaded.config
    jsonschema.validate(loaded.resolved, config_json_schema())


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ({"rmipro": {"sheduler": "ucb"}}, "did you mean 'scheduler'?"),
        ({"rmipro": {"scheduler": "best"}}, 'one of "adaptive", "uniform"'),
        ({"rmipro": {"optimize_instructions": False, "optimize_demos": False}}, "nothing to optimize"),
        ({"termination_config": {"modules": {"find": {"max_rollouts": 9}}}}, "modules.find.max_rollouts: unknown key"),
        ({"termination_config": {"modules": {"find": 9}}}, "expected a table"),
        ({"constraints": {"modules": {"find": {"confidence": 2}}}}, "modules.find.confidence: 2: expected a number"),
    ],
)
def test_what_is_wrong(tables: dict[str, Any], said: str) -> None:
    assert said in problems(base(algorithm="rmipro", **tables))
