"""Keys: typing errors, other names, and the keys of other tools' files."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollouts.errors import ConfigError
from rollouts.experiments.config import ConfigFile
from rollouts.experiments.config_base import Table, items_of, names_of
from rollouts.experiments.config_convert import to_budget, to_proposer
from rollouts.experiments.config_errors import dotted, nearest
from rollouts.experiments.config_keys import tables
from rollouts.experiments.config_search import mipro_settings
from rollouts.experiments.loading import parse_config

from .test_config_loading import base, problems

TABLES = [(path, table) for path, table in tables()]
KEYS = [(path, name) for path, table in TABLES for name in names_of(table)]
ITEMS = [
    ((*path, name), item) for path, table in TABLES for name, f in table.model_fields.items() if (item := items_of(f))
]


def nested(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    for key in reversed(path):
        value = {key: value}
    return value


@pytest.mark.parametrize(("path", "name"), KEYS, ids=lambda part: part if isinstance(part, str) else None)
def test_a_dropped_letter_is_understood(path: tuple[str, ...], name: str) -> None:
    table = dict(TABLES)[path]
    known = names_of(table)
    for at in range(len(name)):
        typo = name[:at] + name[at + 1 :]
        if len(name) < 3 or typo in {*known, *table.no_effect, *table.moved}:
            continue
        text = problems(nested((*path, typo), 1))
        line = next(line for line in text.splitlines() if f"{dotted((*path, typo))}: unknown key" in line)
        guess = line.partition("did you mean '")[2].partition("'?")[0].rpartition(".")[2]
        assert known.get(guess) == known[name], (typo, guess)


@pytest.mark.parametrize(("path", "item"), ITEMS, ids=lambda part: part[-1] if isinstance(part, tuple) else None)
def test_typing_errors_inside_lists(path: tuple[str, ...], item: type[Table]) -> None:
    text = problems(nested(path, [{}, {"rol": "x", "inptu": "y"}]))
    assert f"{dotted(path)}[1].rol: unknown key" in text or f"{dotted(path)}[1].inptu: unknown key" in text
    assert any(f"{dotted(path)}[0].{name}: missing" in text for name in item.model_fields)


def test_a_key_in_the_wrong_table_is_sent_home() -> None:
    assert "did you mean 'prompt_learning.mipro.num_iterations'?" in problems(base(num_iterations=3))
    assert "did you mean 'prompt_learning.mipro'?" in problems({"mipro": {"num_iterations": 3}})
    assert "did you mean 'prompt_learning.policy.temperature'?" in problems(base(mipro={"temperature": 1.0}))


def test_hyphens_and_capitals_are_no_excuse_but_understood() -> None:
    assert "did you mean 'num_iterations'?" in problems(base(mipro={"num-iterations": 3}))
    assert "did you mean 'num_iterations'?" in problems(base(mipro={"NUM_ITERATIONS": 3}))


def test_nothing_near_means_no_guess() -> None:
    text = problems(base(mipro={"xylophone": 3}))
    assert "unknown key. Keys of [prompt_learning.mipro]: " in text
    assert nearest("xylophone", ["seed", "top_k"]) is None


@pytest.mark.parametrize(
    ("path", "table", "name", "alias"),
    [(p, t, name, alias) for p, t in TABLES for alias, name in names_of(t).items() if alias != name],
)
def test_aliases_and_names_do_not_stand_together(
    path: tuple[str, ...], table: type[Table], name: str, alias: str
) -> None:
    both = problems(nested(path, {name: 1, alias: 1}))
    assert f"{dotted((*path, alias))}: the same setting as {dotted((*path, name))}; keep one of the two" in both


def test_aliases_set_what_they_name() -> None:
    config = parse_config(
        base(
            mipro={"num_trials": 3, "batch_size": 4, "max_concurrent": 5},
            policy={"model": "openai/m", "max_tokens": 6},
            termination_config={"max_rollouts": 7, "max_seconds": 8, "max_trials_without_improvement": 9},
        )
    ).config
    assert (config.mipro.num_iterations, config.mipro.minibatch_size, config.execution.slots) == (3, 4, 5)
    assert config.policy.max_completion_tokens == 6
    assert (to_budget(config).max_rollouts, to_budget(config).max_seconds) == (7, 8.0)
    assert config.termination_config.patience == 9


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "role", "input"]), inner, max_size=2)
    ),
    max_leaves=4,
)


@settings(max_examples=300, deadline=None)
@given(key=st.sampled_from(KEYS), value=VALUES)
def test_any_value_loads_or_is_a_config_error(key: tuple[tuple[str, ...], str], value: Any) -> None:
    (_, *path), name = key
    data = base()
    table = data["prompt_learning"]
    for part in path:
        table = table.setdefault(part, {})
    own = names_of(dict(TABLES)[key[0]])[name]
    table.pop(own, None)
    table[name] = value
    try:
        loaded = parse_config(data)
    except ConfigError:
        return
    config = loaded.config
    again = parse_config(json.loads(json.dumps(loaded.resolved))).config
    assert again == config
    assert (to_proposer(again), mipro_settings(again)) == (to_proposer(config), mipro_settings(config))


# --- files of other tools --------------------------------------------------------------------------------------------

WALKTHROUGH = """\
[prompt_learning]
algorithm = "mipro"
task_app_url = "http://localhost:8002"
results_folder = "results"

[prompt_learning.initial_prompt]
sections = [{ role = "system", content = "You are a banking intent classifier." }]

[prompt_learning.policy]
provider = "openai"
model = "gpt-4o-mini"

[prompt_learning.termination_config]
budget = 100
max_time_seconds = 1800
target_score = 0.95

[prompt_learning.mipro]
num_iterations = 10
top_k = 2
num_bootstrap_seeds = 3
num_instructions_per_module = 4
num_demos = 2
optimize_instructions = true
optimize_demos = true

[display]
show_curve = true
verbose_summary = true
show_trial_results = true
"""


def test_the_walkthrough_asks_for_a_data_set_and_runs_with_one() -> None:
    data = tomllib.loads(WALKTHROUGH)
    with pytest.raises(ConfigError, match="task apps come with the service") as caught:
        parse_config(data)
    assert len(str(caught.value).splitlines()) == 1
    loaded = parse_config(data, ["dataset.path=rows.csv", "dataset.inputs={ query = 'text' }"])
    assert any(note.startswith("display has no effect") for note in loaded.notes)
    assert any("task_app_url" in note for note in loaded.notes)
    settings = mipro_settings(loaded.config)
    assert (settings["num_trials"], settings["num_candidates"], settings["top_k"]) == (10, 12, 2)
    assert (settings["max_bootstrapped_demos"], settings["target_score"]) == (2, 0.95)


SDK_JOB: dict[str, Any] = {
    "task_app_id": "banking77",
    "task_app_api_key": "x",
    "env_name": "banking77",
    "env_config": {"pool": "train"},
    "env_file_path": ".env",
    "judge": {},
    "verifier": {},
    "proxy_models": {},
    "free_tier": False,
    "use_byok": True,
    "auto_discover_patterns": False,
    "bootstrap_train_seeds": [1],
    "online_pool": [2],
    "test_pool": [3],
    "val_seeds": [4],
    "reference_pool": [5],
    "train_seeds": [6],
    "evaluation_seeds": [7],
    "gepa": {"rollout": {"budget": 3}},
}
SDK_POLICY = {
    "model": "gpt-4o-mini",
    "provider": "openai",
    "inference_mode": "synth_hosted",
    "temperature": 0.0,
    "max_completion_tokens": 512,
    "policy_name": "p",
    "config": {},
    "context_override": {},
}
SDK_TERMINATION = {
    "max_cost_usd": 1.0,
    "max_trials": 5,
    "max_seconds": 10,
    "max_rollouts": 100,
    "max_tokens": 1000,
    "max_trials_without_improvement": 3,
    "pessimism_enabled": True,
    "max_category_costs_usd": {"policy": 1.0},
}
SDK_MIPRO: dict[str, Any] = {
    "num_iterations": 20,
    "num_evaluations_per_iteration": 5,
    "batch_size": 32,
    "max_concurrent": 20,
    "env_name": "banking77",
    "env_config": {},
    "few_shot_score_threshold": 0.8,
    "results_file": "r.json",
    "policy_config": {},
    "meta": {},
    "modules": [{"module_id": "m", "stages": [{"stage_id": "s"}]}],
    "seeds": {"bootstrap": [1], "online": [2], "test": [3], "reference": [4]},
    "proposer_effort": "LOW",
    "proposer_output_tokens": "FAST",
    "max_token_limit": 100,
    "token_counting_model": "gpt-4",
    "enforce_token_limit": True,
    "tpe": {"gamma": 0.25},
    "demo": {"max_few_shot_examples": 3},
    "grounding": {"n": 8},
    "meta_update": {"enabled": True},
    "judge": {},
    "proxy_models": {},
    "adaptive_pool": {},
    "spec_path": "s.json",
    "spec_max_tokens": 5000,
    "spec_include_examples": True,
    "spec_priority_threshold": 1,
    "metaprompt": "x",
    "bootstrap_train_seeds": [1],
    "online_pool": [2],
    "test_pool": [3],
    "reference_pool": [4],
    "val_seeds": [5],
    "min_bootstrap_demos": 0,
    "max_demo_set_size": 5,
    "max_demo_sets": 128,
    "max_instruction_sets": 128,
    "full_eval_every_k": 2,
    "instructions_per_batch": 1,
    "max_instructions": 3,
    "duplicate_retry_limit": 2,
    "generate_at_iterations": [0],
    "mode": "offline",
    "online_proposer_mode": "inline",
    "online_proposer_min_rollouts": 20,
    "online_rollouts_per_candidate": 10,
    "proposer": {
        "mode": "instruction_only",
        "model": "gpt-4.1",
        "provider": "openai",
        "inference_url": "https://host/v1/responses",
        "temperature": 0.7,
        "max_tokens": 512,
        "generate_at_iterations": [0],
        "instructions_per_batch": 1,
    },
    "system_id": "s",
    "system_name": "n",
    "top_k": 2,
    "num_bootstrap_seeds": 3,
    "num_instructions_per_module": 4,
    "num_demos": 2,
    "optimize_instructions": True,
    "optimize_demos": True,
}
MAPPED = {
    "num_iterations",
    "batch_size",
    "max_concurrent",
    "few_shot_score_threshold",
    "max_demo_sets",
    "mode",
    "top_k",
}
MAPPED |= {"full_eval_every_k", "proposer", "num_bootstrap_seeds", "num_instructions_per_module", "num_demos"}
MAPPED |= {"optimize_instructions", "optimize_demos"}


def test_every_key_of_the_sdk_is_taken_or_reported() -> None:
    prompt = {
        "id": "p",
        "name": "n",
        "messages": [
            {"role": "system", "order": 0, "pattern": "S"},
            {"role": "user", "order": 1, "pattern": "{query}"},
        ],
        "wildcards": {"query": "REQUIRED"},
    }
    data = base(
        **SDK_JOB, policy=SDK_POLICY, initial_prompt=prompt, mipro=SDK_MIPRO, termination_config=SDK_TERMINATION
    )
    loaded = parse_config(data)
    told = {note.partition(" has no effect here: ")[0] for note in loaded.notes}
    assert {f"prompt_learning.{key}" for key in SDK_JOB} <= told
    assert {f"prompt_learning.mipro.{key}" for key in SDK_MIPRO if key not in MAPPED} <= told
    assert not {f"prompt_learning.mipro.{key}" for key in MAPPED} & told
    assert "prompt_learning.policy.inference_mode" in told
    assert "prompt_learning.mipro.proposer.inference_url" in told
    assert "prompt_learning.termination_config.pessimism_enabled" in told
    settings = mipro_settings(loaded.config)
    assert (settings["num_trials"], settings["patience"], settings["bootstrap_threshold"]) == (5, 3, 0.8)
    proposer = to_proposer(loaded.config)
    assert (proposer.model, proposer.sampling.max_tokens, proposer.sampling.temperature) == ("gpt-4.1", 512, 0.7)


@pytest.mark.parametrize("key", ["max_wall_clock_seconds", "max_total_tokens", "max_spend_usd"])
def test_caps_of_the_mipro_table_are_caps(key: str) -> None:
    stop = parse_config(base(mipro={key: 5}, termination_config=None)).config.termination_config
    caps = {stop.max_time_seconds, stop.max_tokens, stop.max_cost_usd}
    assert caps == {None, 5}


@pytest.mark.parametrize("where", ["mipro", None])
def test_the_meta_model_is_the_proposer(where: str | None) -> None:
    keys = {"meta_model": "llama-3.3-70b-versatile", "meta_model_provider": "groq"}
    config = parse_config(base(mipro=keys) if where else base(**keys)).config
    assert to_proposer(config).name == "groq/llama-3.3-70b-versatile"


def test_the_later_root_table_of_the_sdk() -> None:
    data = base()
    loaded = parse_config({"policy_optimization": {**data["prompt_learning"], "localapi_url": "http://x"}})
    assert loaded.config.task_app_url == "http://x"


def test_no_key_is_both_taken_and_without_effect() -> None:
    for _, table in [*TABLES, *ITEMS, ((), ConfigFile)]:
        assert not set(names_of(table)) & (set(table.no_effect) | set(table.moved)), table
        assert not set(table.no_effect) & set(table.moved), table
