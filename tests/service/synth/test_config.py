"""Bodies of both SDK generations as job files."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollouts.dtypes import Program, PromptTemplate
from rollouts.errors import ConfigError
from rollouts.experiments.config_search import mipro_settings
from rollouts.experiments.loading import parse_config
from rollouts.service.synth.config import translate
from tests.service.synth.world import SYSTEM, body

URL = "http://127.0.0.1:8002"


def section(search: str, /, **changes: Any) -> dict[str, Any]:
    """A body whose job has `changes`."""
    made = body(search, URL)
    made["config_body"]["prompt_learning"] |= changes
    return made


def test_a_mipro_job_of_sdk_07() -> None:
    job = translate(body("mipro", URL))
    assert job.task_app == {
        "url": URL,
        "env": {"env_name": "tickets"},
        "train_seeds": list(range(12)),
        "val_seeds": list(range(12, 24)),
        "test_seeds": list(range(24, 36)),
    }
    assert (job.algorithm, job.app_key, job.online, job.warnings) == ("mipro", None, None, ())
    assert {name: model.name for name, model in job.models.items()} == {
        "policy": "openai/gpt-4.1-nano",
        "proposer": "openai/gpt-4.1-mini",
    }
    loaded = parse_config(job.config, remote=True).config
    assert (loaded.mipro.num_iterations, loaded.mipro.minibatch_size) == (4, 8)
    assert loaded.mipro.bootstrap_threshold == 0.8
    assert loaded.mipro.optimize_demos is False
    assert loaded.termination_config.budget == 400


def test_a_gepa_job_of_sdk_07_under_its_new_names() -> None:
    made = body("gepa", URL)
    job = made["config_body"].pop("prompt_learning")
    job["localapi_url"] = job.pop("task_app_url")
    made["config_body"]["policy_optimization"] = job
    translated = translate(made)
    assert translated.task_app["url"] == URL
    assert translated.task_app["val_seeds"] == list(range(16, 28))
    loaded = parse_config(translated.config, remote=True).config
    assert (loaded.gepa.population_size, loaded.gepa.generations, loaded.gepa.children_per_generation) == (4, 2, 2)
    assert [text for text in translated.warnings if "pareto_set_size" in text]


def test_the_whole_mipro_table_of_sdk_04_is_taken() -> None:
    table = {
        "num_iterations": 16,
        "num_evaluations_per_iteration": 6,
        "batch_size": 6,
        "max_concurrent": 16,
        "env_name": "banking77",
        "env_config": {"pool": "train"},
        "few_shot_score_threshold": 0.85,
        "max_wall_clock_seconds": 600,
        "max_total_tokens": 100_000,
        "meta_model": "gpt-4.1-mini",
        "meta_model_provider": "openai",
        "proposer_effort": "LOW",
        "proposer_output_tokens": "FAST",
        "token_counting_model": "gpt-4",
        "enforce_token_limit": True,
        "tpe": {"gamma": 0.25, "n_candidates": 32},
        "demo": {"max_few_shot_examples": 5},
        "grounding": {"n": 10},
        "meta_update": {"enabled": True},
        "modules": [{"module_id": "classifier", "stages": [{"stage_id": "s", "policy": {}}]}],
        "seeds": {"bootstrap": [0, 1], "online": {"start": 2, "end": 10, "step": 2}, "test": [20], "reference": [30]},
    }
    job = translate(section("mipro", mipro=table, task_app_api_key="k3y"))
    assert job.app_key == "k3y"
    assert "k3y" not in repr(job.config)
    assert job.task_app["env"] == {"env_name": "banking77", "config": {"pool": "train"}}
    assert [job.task_app[f"{part}_seeds"] for part in ("train", "val", "test")] == [[0, 1], [2, 4, 6, 8], [20]]
    for name in ("tpe", "demo", "meta_update", "modules", "proposer_effort", "reference_pool"):
        assert any(name in warning for warning in job.warnings), name
    loaded = parse_config(job.config, remote=True).config
    assert loaded.execution.slots == 16
    assert loaded.termination_config.max_time_seconds == 600
    assert loaded.proposer.model == "gpt-4.1-mini"


def test_the_walkthroughs_job_has_its_settings_and_no_seeds() -> None:
    job = translate(
        {
            "algorithm": "mipro",
            "config_body": {
                "prompt_learning": {
                    "algorithm": "mipro",
                    "task_app_url": URL,
                    "results_folder": "/tmp/mipro_walkthrough/results",
                    "policy": {"provider": "openai", "model": "gpt-4o-mini"},
                    "termination_config": {"budget": 100, "max_time_seconds": 1800, "target_score": 0.95},
                    "mipro": {"num_iterations": 10, "top_k": 2, "num_bootstrap_seeds": 3, "num_demos": 2},
                    "initial_prompt": {"sections": [{"role": "system", "content": SYSTEM}]},
                    "display": {"show_curve": True},
                }
            },
        }
    )
    loaded = parse_config(job.config, remote=True).config
    made = mipro_settings(loaded, Program.single(PromptTemplate(system=SYSTEM, user_template="{message}")))
    assert (made["num_trials"], made["top_k"], made["target_score"]) == (10, 2, 0.95)
    assert made["num_candidates"] == 12
    assert (loaded.policy.temperature, loaded.policy.max_completion_tokens) == (0.0, 512)
    assert (job.task_app["train_seeds"], job.task_app["val_seeds"]) == ([], [])
    assert loaded.results_folder != "/tmp/mipro_walkthrough/results"


def test_the_benchmarks_pools_and_online_options() -> None:
    pools = {"bootstrap_train_seeds": [0, 1], "online_pool": [1, 2, 3], "val_seeds": [10, 11]}
    online = {"mode": "online", "online_proposer_mode": "inline", "online_proposer_min_rollouts": 20}
    job = translate(section("mipro", mipro={**pools, **online}, termination_config={}))
    assert (job.task_app["train_seeds"], job.task_app["val_seeds"]) == ([0, 1, 2, 3], [10, 11])
    assert job.online == {"online_proposer_mode": "inline", "online_proposer_min_rollouts": 20}


def test_overrides_go_over_the_job() -> None:
    made = section("mipro")
    made["overrides"] = {"prompt_learning.mipro.num_iterations": 7, "policy.temperature": 0.5, "mipro.tpe.gamma": 1}
    loaded = parse_config(translate(made).config, remote=True).config
    assert (loaded.mipro.num_iterations, loaded.policy.temperature) == (7, 0.5)
    assert made["config_body"]["prompt_learning"]["mipro"]["num_iterations"] == 4


def test_seeds_that_the_search_sees_are_no_test() -> None:
    job = translate(section("mipro", mipro={"bootstrap_train_seeds": [0], "online_pool": [1, 2], "test_pool": [2, 3]}))
    assert job.task_app["test_seeds"] == [3]
    assert any("1 test seeds are left out" in warning for warning in job.warnings)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"algorithm": "gepa"}, "make them agree"),
        ({"mipro": 3}, "expected a table"),
        ({"mipro": {"online_pool": {"start": 0, "end": 10, "stepp": 1}}}, "a range is"),
        ({"mipro": {"online_pool": {"start": 0, "end": 10**9}}}, "at most"),
        ({"mipro": {"online_pool": [True]}}, "whole numbers"),
        ({"mipro": {"online_pool": [1]}}, "no training seeds"),
        ({"mipro": {"mode": "sideways"}}, "sideways"),
        ({"mipro": {"num_iterations": "many"}}, "num_iterations"),
        ({"policy": {"provider": "openai", "model": "m", "api_key": "k3y"}}, "keys belong"),
        ({"task_app_url": None}, "task_app_url: missing"),
    ],
)
def test_what_is_wrong_is_said(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as refused:
        translate(section("mipro", **changes))
    assert "k3y" not in str(refused.value)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
keys = st.sampled_from(
    ["mipro", "gepa", "policy", "initial_prompt", "termination_config", "seeds", "evaluation", "proposer", "messages"]
)


@settings(max_examples=40)
@given(st.dictionaries(keys, values | st.dictionaries(keys, values, max_size=3), max_size=4), values)
def test_no_body_is_met_with_anything_but_a_reason(changes: dict[str, Any], overrides: Any) -> None:
    made = section("mipro", **changes)
    made["overrides"] = overrides
    try:
        job = translate(made)
    except ConfigError:
        return
    assert job.task_app["url"] == URL
