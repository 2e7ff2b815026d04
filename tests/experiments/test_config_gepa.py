"""GEPA, tools and programs in job files: our own keys, those of the synth-ai SDK, and what is refused."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from rollouts.agents import AgentLimits
from rollouts.errors import ConfigError, DataError
from rollouts.experiments.config_convert import to_budget, to_constraints, to_dataset, to_module_models, to_proposer
from rollouts.experiments.config_docs import config_json_schema, config_markdown
from rollouts.experiments.config_gepa import GepaTable
from rollouts.experiments.config_keys import tables
from rollouts.experiments.config_search import gepa_settings, mipro_settings
from rollouts.experiments.job import Job, load_splits, prepare
from rollouts.experiments.loading import LoadedConfig, load_config, parse_config
from rollouts.prompt_optimization.configs import OBJECTIVES, GEPAConfig

from .test_config_loading import base, problems

WALKTHROUGH = """\
[prompt_learning]
algorithm = "gepa"
task_app_url = "http://localhost:8001"
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

[prompt_learning.gepa]
population_size = 4
num_generations = 3
mutation_rate = 0.3
crossover_rate = 0.5
elite_count = 1

[display]
show_curve = true
"""
SDK_GEPA: dict[str, Any] = {
    "env_name": "banking77",
    "env_config": {},
    "rng_seed": 7,
    "proposer_type": "dspy",
    "proposer_effort": "LOW",
    "proposer_output_tokens": "FAST",
    "proposed_prompt_max_tokens": 32000,
    "metaprompt": "x",
    "modules": [{"module_id": "m", "max_instruction_slots": 3}],
    "rollout": {"budget": 90, "max_concurrent": 5, "minibatch_size": 8},
    "evaluation": {
        "train_seeds": {"start": 0, "end": 50},
        "validation_seeds": [60, 61],
        "test_pool": {"start": 70, "end": 80, "step": 5},
        "validation_pool": "train",
        "validation_top_k": 3,
    },
    "mutation": {"rate": 0.4, "prompt": "x", "llm_model": "big", "llm_provider": "groq", "llm_inference_url": "x"},
    "population": {
        "initial_size": 12,
        "num_generations": 6,
        "children_per_generation": 5,
        "crossover_rate": 0.2,
        "selection_pressure": 1.0,
        "patience_generations": 3,
    },
    "archive": {"size": 64, "pareto_set_size": 64, "pareto_eps": 1e-6, "feedback_fraction": 0.5},
    "token": {"max_limit": 900, "counting_model": "gpt-4", "enforce_pattern_limit": True, "max_spend_usd": 2.5},
    "verifier": {"enabled": False},
    "judge": {"enabled": False},
    "proxy_models": {"hi_model": "x"},
    "adaptive_pool": {"level": "LOW"},
    "adaptive_batch": {"level": "LOW"},
    "unified_optimization": True,
}
ACTING = {
    ("rng_seed",): "seed",
    ("proposed_prompt_max_tokens",): "max_instruction_tokens",
    ("rollout", "minibatch_size"): "minibatch_size",
    ("mutation", "rate"): "mutation_rate",
    ("population", "initial_size"): "population_size",
    ("population", "num_generations"): "generations",
    ("population", "children_per_generation"): "children_per_generation",
    ("population", "crossover_rate"): "crossover_rate",
    ("population", "patience_generations"): "patience",
    ("rollout", "max_concurrent"): "max_concurrent",
}
ELSEWHERE = {("rollout", "budget"), ("token", "max_limit"), ("token", "max_spend_usd")}
ELSEWHERE |= {("mutation", "llm_model"), ("mutation", "llm_provider")}
ELSEWHERE |= {("evaluation", name) for name in ("train_seeds", "validation_seeds", "test_pool")}


def gepa(table: dict[str, Any] | None = None, **changes: Any) -> LoadedConfig:
    return parse_config(base(algorithm="gepa", gepa=table or {}, **changes))


def keys(table: dict[str, Any]) -> list[tuple[str, ...]]:
    """Every key of the SDK's table; those of its inner tables that we take apart one by one."""
    inside = {name: value for name, value in table.items() if name in GepaTable.foreign}
    return [(name,) for name in table if name not in inside] + [(name, key) for name in inside for key in inside[name]]


# --- GEPA ------------------------------------------------------------------------------------------------------------


def test_the_walkthrough_loads() -> None:
    data = tomllib.loads(WALKTHROUGH)
    with pytest.raises(ConfigError, match="task apps come with the service"):
        parse_config(data)
    data["prompt_learning"]["dataset"] = {"path": "rows.csv", "inputs": ["query"]}
    loaded = parse_config(data)
    made = GEPAConfig(**gepa_settings(loaded.config))
    assert (made.population_size, made.generations, made.elite_size) == (4, 3, 1)
    assert (made.mutation_rate, made.crossover_rate, made.target_score) == (0.3, 0.5, 0.95)
    assert to_budget(loaded.config).max_rollouts == 100
    assert [note for note in loaded.notes if "gepa" in note] == []


def test_every_flat_key_acts() -> None:
    table = {
        "generations": 3,
        "population_size": 9,
        "elite_size": 2,
        "children_per_generation": 4,
        "crossover_rate": 0.1,
        "mutation_rate": 0.9,
        "selection": "elite",
        "component": "all",
        "objective": ["score", "cost"],
        "minibatch_size": 6,
        "perfect_score": 0.8,
        "rule_candidates": 0,
        "optimize": ["system", "user_template"],
        "optimize_demos": True,
        "max_bootstrapped_demos": 1,
        "max_labeled_demos": 2,
        "num_demo_sets": 3,
        "bootstrap_threshold": 0.7,
        "max_instruction_tokens": 77,
    }
    assert set(table) == set(GepaTable.model_fields)
    made = GEPAConfig(**gepa_settings(gepa(table).config))
    for name, value in table.items():
        assert getattr(made, name) == (tuple(value) if isinstance(value, list) else value), name


def test_defaults_agree_with_the_optimizer() -> None:
    config = gepa(seed=4, description="d", termination_config={"max_trials": 6, "budget": 9, "patience": 2}).config
    made = GEPAConfig(**gepa_settings(config))
    assert made == GEPAConfig(seed=4, description="d", generations=6, patience=2)
    assert GEPAConfig(**gepa_settings(gepa({"population_size": 3}).config)).elite_size == 1
    assert GEPAConfig(**gepa_settings(gepa({"objective": "score"}).config)).objective == ("score",)


def test_every_key_of_the_sdk_acts_or_is_reported() -> None:
    loaded = gepa(SDK_GEPA, termination_config=None)
    told = {note.partition(" has no effect here: ")[0] for note in loaded.notes}
    for key in keys(SDK_GEPA):
        quiet = key in ACTING or key in ELSEWHERE
        assert (f"prompt_learning.gepa.{'.'.join(key)}" in told) is not quiet, key
    settings = gepa_settings(loaded.config)
    for path, name in ACTING.items():
        value: Any = SDK_GEPA
        for key in path:
            value = value[key]
        assert settings[name] == value, path
    budget = to_budget(loaded.config)
    assert (budget.max_rollouts, budget.max_micros) == (90, 2_500_000)
    assert to_constraints(loaded.config).max_prompt_tokens == 900
    assert to_proposer(loaded.config).name == "groq/big"
    rows = to_dataset(loaded.config, Path()).rows
    assert {part: list(numbers) for part, numbers in rows.items()} == {
        "train": [*range(50)],
        "val": [60, 61],
        "test": [70, 75],
    }
    jsonschema.validate(base(algorithm="gepa", gepa=SDK_GEPA), config_json_schema())


def test_keys_of_the_sdk_are_in_the_reference() -> None:
    text = config_markdown()
    for key in keys(SDK_GEPA):
        assert f"`prompt_learning.gepa.{'.'.join(key)}`" in text or f"`{key[0]}`" in text, key


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"generatoins": 3}, "gepa.generatoins: unknown key; did you mean 'generations'?"),
        ({"rolout": {}}, "gepa.rolout: unknown key; did you mean 'rollout'?"),
        (
            {"rollout": {"bugdet": 3}},
            "gepa.rollout.bugdet: unknown key; did you mean 'budget'? Keys of [prompt_learning",
        ),
        ({"archive": {"pareto_epsilon": 3}}, "gepa.archive.pareto_epsilon: unknown key; did you mean 'pareto_eps'?"),
        ({"rollout": 3}, "gepa.rollout: 3: expected a table"),
        ({"population": {"num_generations": "x"}}, 'gepa.population.num_generations: "x": expected an integer'),
        ({"mutation": {"rate": 2}}, "gepa.mutation.rate: 2: expected a number of at least 0 and at most 1"),
        (
            {"minibatch_size": 3, "rollout": {"minibatch_size": 4}},
            "gepa.rollout.minibatch_size: the same setting as prompt_learning.gepa.minibatch_size; keep one",
        ),
        (
            {"rollout": {"budget": 4}},
            "gepa.rollout.budget: the same setting as prompt_learning.termination_config.budget",
        ),
        ({"population_size": 3, "elite_count": 4}, "gepa.elite_count: 4 is more than population_size = 3"),
        ({"optimize": []}, "gepa.optimize: nothing to optimize"),
        ({"objective": ["cost"]}, "gepa.objective: the score is missing"),
        ({"objective": ["score", "fun"]}, "gepa.objective: "),
        ({"selection": "best"}, 'gepa.selection: "best": expected "pareto" or "elite"'),
        ({"evaluation": {"seeds": [1]}}, "dataset.val_rows: missing"),
        ({"evaluation": {"seeds": {"stop": 3}, "val_seeds": [1]}}, "gepa.evaluation.seeds"),
        ({"evaluation": {"seeds": {"start": 3}, "val_seeds": [1]}}, "a range of rows is"),
    ],
)
def test_what_is_wrong_with_gepa(table: dict[str, Any], said: str) -> None:
    text = problems(base(algorithm="gepa", gepa=table))
    assert said in text
    assert "1 problem" not in text


def test_the_search_that_is_not_run_has_no_say() -> None:
    both = {"mipro": {"max_concurrent": 3, "num_iterations": 2}, "gepa": {"rollout": {"max_concurrent": 4}}}
    for algorithm, slots, idle in (("mipro", 3, "gepa"), ("gepa", 4, "mipro")):
        loaded = parse_config(base(algorithm=algorithm, **both))
        assert loaded.config.execution.slots == slots
        assert loaded.notes == (f"prompt_learning.{idle} has no effect here: the algorithm is {algorithm}",)
        over = parse_config(base(**both), [f"algorithm={algorithm}"])
        assert (over.config, over.notes) == (loaded.config, loaded.notes)
    assert "did you mean 'num_iterations'?" in problems(base(algorithm="gepa", mipro={"num_iteration": 3}))


def test_resolved_settings_load_again() -> None:
    program = {"path": "a:b", "models": {"x": {"model": "groq/y"}}}
    environment = {"name": "calculator", "limits": {"max_turns": 3}}
    for loaded in (
        gepa(SDK_GEPA, termination_config=None),
        gepa({"objective": ["score", "cost"]}, program=program, environment=environment, initial_prompt=None),
    ):
        again = parse_config(json.loads(json.dumps(loaded.resolved)))
        assert again.config == loaded.config


def test_choices_are_those_that_exist() -> None:
    properties = GepaTable.model_json_schema()["properties"]
    one, several = properties["objective"]["anyOf"]
    assert one["enum"] == several["items"]["enum"] == list(OBJECTIVES)
    assert {("prompt_learning", "gepa"), ("prompt_learning", "environment")} <= {path for path, _ in tables()}


# --- rows by number --------------------------------------------------------------------------------------------------


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    lines = [f"question {number},{'yes' if number % 2 else 'no'}" for number in range(20)]
    (tmp_path / "rows.csv").write_text("text,label\n" + "\n".join([*lines, "question 1,yes"]) + "\n")
    return tmp_path


def split_by(folder: Path, *, seed: int = 0, **table: Any) -> dict[str, list[str]]:
    data = {"path": "rows.csv", "inputs": {"query": "text"}, "ground_truth": "label", **table}
    config = parse_config(base(dataset=data, seed=seed), base_dir=folder).config
    splits = load_splits(to_dataset(config, folder), config.seed)
    parts = {"train": splits.train, "val": splits.val, "test": splits.test}
    return {name: [sample.inputs["query"].split()[1] for sample in part] for name, part in parts.items()}


def test_rows_by_number(rows: Path) -> None:
    named = {"train_rows": [3, 1], "val_rows": {"start": 4, "end": 10, "step": 2}}
    found = split_by(rows, **named, test_rows=[0])
    assert found == {"train": ["3", "1"], "val": ["4", "6", "8"], "test": ["0"]}
    rest = split_by(rows, **named)["test"]
    # Row 20 has the text of row 1: it is on one side only.
    assert sorted(map(int, rest)) == [0, 2, 5, 7, 9, *range(10, 20)]
    assert len(split_by(rows, **named, test=4)["test"]) == 4
    assert split_by(rows, **named, test=0)["test"] == []


def test_folds_test_every_row_once_over_their_seeds(rows: Path) -> None:
    seeds = [split_by(rows, folds=4, seed=seed) for seed in range(4)]
    assert sorted(int(row) for parts in seeds for row in parts["test"]) == list(range(20))
    for parts in seeds:
        assert sum(map(len, parts.values())) == 20, "all rows are used"
    parts = split_by(rows, folds=4, seed=1, train=3)
    assert (len(parts["train"]), len(parts["val"]), parts["test"]) == (3, 12, seeds[1]["test"])


def test_all_rows_are_used_where_the_test_rows_have_a_file_of_their_own(rows: Path) -> None:
    (rows / "test.csv").write_text("text,label\nquestion 100,yes\nquestion 101,no\n")
    parts = split_by(rows, test_path="test.csv")
    assert [len(parts[name]) for name in ("train", "val", "test")] == [9, 11, 2]
    parts = split_by(rows, val_path="test.csv")
    assert [len(parts[name]) for name in ("train", "val", "test")] == [9, 2, 11]
    repeated = (rows / "test.csv").read_text() + "question 100,yes\n"
    (rows / "test.csv").write_text(repeated)
    assert len(split_by(rows, test_path="test.csv")["test"]) == 2, "a repeated row of a file of its own is used once"


def test_sizes_by_themselves_fit_the_rows_that_can_be_used(rows: Path) -> None:
    # One of the 21 rows is there twice.
    assert sum(map(len, split_by(rows).values())) == 20


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"train_rows": [1], "val_rows": [99]}, "dataset.val_rows has index 99; the data set has rows 0 to 20"),
        ({"train_rows": [1, 2], "val_rows": [2]}, "row 2 is in train_rows and in val_rows"),
        ({"train_rows": [1], "val_rows": [2], "train": 3}, "train_rows already names the rows"),
        ({"folds": 4, "test": 3}, "dataset.test: folds already says which rows are tested"),
        ({"folds": 4, "test_path": "a.csv"}, "dataset.test_path: folds already says"),
        ({"folds": 1}, "dataset.folds"),
        ({"folds": 30}, "30 folds need 30 rows, the data set has 20"),
        ({"train_rows": [1], "val_rows": [2], "limit": 3}, "dataset.limit: cannot stand with train_rows"),
        ({"train_rows": [-1], "val_rows": [2]}, "dataset.train_rows"),
        ({"test_rows": [1]}, "dataset.train_rows: missing; test_rows is given by numbers"),
    ],
)
def test_rows_that_cannot_be(rows: Path, table: dict[str, Any], said: str) -> None:
    with pytest.raises((ConfigError, DataError)) as caught:
        split_by(rows, **table)
    assert said in str(caught.value)


def test_rows_that_no_answer_can_score_are_told_before_anything_is_paid(tmp_path: Path) -> None:
    def job(*, wrong: int, **truth: str) -> Job:
        counts: list[Any] = ["many" if n < wrong else n for n in range(30)]
        lines = [{"text": f"row {n}"} | ({"count": counts[n]} if truth else {}) for n in range(30)]
        (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, lines)))
        tables = base(
            dataset={"path": "rows.jsonl", **truth},
            initial_prompt={"user": "{text}"},
            score={"metric": "numeric_match"},
        )
        return prepare(parse_config(tables, base_dir=tmp_path), {})

    assert job(wrong=0, ground_truth="count").notes == ()
    found = job(wrong=1, ground_truth="count")
    (note,) = found.options.notes
    assert re.match(r"1 of \d+ \w+ rows cannot be scored.*'many'.*holds no number", note)
    assert note in found.notes
    for wrong, truth, said in ((30, {"ground_truth": "count"}, "holds no number"), (0, {}, "no ground truth")):
        with pytest.raises(DataError, match=rf"(\d+) of \1 train rows cannot be scored.*{said}"):
            job(wrong=wrong, **truth)


# --- tools and programs ----------------------------------------------------------------------------------------------


def test_an_environment_becomes_a_factory_with_limits(rows: Path) -> None:
    (rows / "job.toml").write_text(
        '[prompt_learning.dataset]\npath = "rows.csv"\n'
        '[prompt_learning.initial_prompt]\nuser = "{text}"\n[prompt_learning.policy]\nmodel = "openai/m"\n'
        '[prompt_learning.environment]\nname = "shelf_of_the_test:make"\noptions = { size = 3 }\n'
        "[prompt_learning.environment.limits]\nmax_turns = 3\ntool_timeout_s = 2\n"
    )
    (rows / "shelf_of_the_test.py").write_text("def make(sample, size):\n    return sample, size\n")
    task = prepare(load_config(rows / "job.toml"), {}).task
    assert task.limits == AgentLimits(max_turns=3, tool_timeout_s=2.0)
    assert task.environment_factory is not None
    assert task.environment_factory({"text": "x"}) == ({"text": "x"}, 3)
    with pytest.raises(ConfigError, match=r"shelf_of_the_test:make.*its options: size"):
        prepare(load_config(rows / "job.toml", ["environment.options={ width = 3 }"]), {})


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"name": "calcualtor"}, "did you mean 'calculator'"),
        ({}, "environment.name: missing"),
        ({"name": "calculator", "options": {"digits": 3}}, "its options: none"),
        ({"name": "calculator", "limits": {"max_turn": 3}}, "limits.max_turn: unknown key; did you mean 'max_turns'?"),
        ({"name": "calculator", "limits": {"max_turns": 0}}, "limits.max_turns: 0: expected an integer of at least 1"),
        (
            {"name": "a:b", "options": {"api_key": "k"}},
            "options.api_key: keys belong in the environment: name a factory",
        ),
    ],
)
def test_environments_that_cannot_be(environment: dict[str, Any], said: str) -> None:
    assert said in problems(base(environment=environment))


def test_limits_are_those_of_agents() -> None:
    config = parse_config(base(environment={"name": "calculator"})).config
    assert config.environment is not None
    assert AgentLimits(**config.environment.limits.model_dump()) == AgentLimits()


def test_models_of_modules_leave_the_rest_to_the_task_model() -> None:
    policy = {"model": "openai/a", "temperature": 0.3, "max_tokens": 9, "stop": ["x"], "base_url": "http://h/v1"}
    models = {"one": {"model": "b"}, "two": {"model": "groq/c", "max_tokens": 5, "stop": []}, "three": {"seed": 1}}
    config = parse_config(base(policy=policy, initial_prompt=None, program={"path": "a:b", "models": models})).config
    made = to_module_models(config)
    assert [made[name].name for name in models] == ["openai/b", "groq/c", "openai/a"]
    assert [made[name].base_url for name in models] == ["http://h/v1", None, "http://h/v1"]
    assert [made[name].sampling.max_tokens for name in models] == [9, 5, 9]
    assert [made[name].sampling.stop for name in models] == [("x",), (), ("x",)]
    assert {made[name].sampling.temperature for name in models} == {0.3}
    assert made["three"].sampling.seed == 1


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ({"path": "nothing"}, "program.path"),
        (
            {"path": "a:b", "models": {"x": {"modle": "y"}}},
            "program.models.x.modle: unknown key; did you mean 'model'?",
        ),
        ({"path": "a:b", "models": {"x": 3}}, "program.models.x: 3: expected a table"),
        ({"path": "a:b", "models": {"x": {"temperature": 9}}}, "program.models.x.temperature: 9: expected a number"),
        (
            {"path": "a:b", "models": {"x": {"api_key": "k"}}},
            "program.models.x.api_key: keys belong in the environment",
        ),
        ({"path": "a:b", "models": {"x": {"model": "nope/y"}}}, "program.models: "),
        ({"path": "a:b"}, "initial_prompt.system: the program has prompts of its own"),
    ],
)
def test_programs_that_cannot_be(program: dict[str, Any], said: str) -> None:
    assert said in problems(base(program=program))


def test_a_frozen_text_is_watched_where_it_can_be_lost() -> None:
    prompt = {"system": "Keep A.", "user": "Keep B. {query}", "frozen": ["Keep A.", "Keep B."]}
    for settings, search in ((gepa_settings, "gepa"), (mipro_settings, "mipro")):
        both = {search: {"optimize": ["system", "user_template"]}, "algorithm": search}
        assert settings(parse_config(base(initial_prompt=prompt, **both)).config)["frozen_spans"] == (
            "Keep A.",
            "Keep B.",
        )
    assert gepa_settings(gepa(initial_prompt=prompt).config)["frozen_spans"] == ("Keep A.",)


def test_a_row_without_a_value_for_a_placeholder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "a", "label": "x"}\n{"text": null, "label": "y"}\n')
    config = parse_config(base(dataset={"path": "rows.jsonl", "ground_truth": "label"}), base_dir=tmp_path).config
    with pytest.raises(DataError, match=r"rows.jsonl.*line 2.*text"):
        load_splits(to_dataset(config, tmp_path), 0, frozenset({"text"}))
