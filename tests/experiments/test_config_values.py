"""From job files to plain values, to the reference, and to the file that `rollouts init` writes."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollouts.budget import Constraints
from rollouts.datasets import BUILT_IN
from rollouts.dtypes import FewShotExample, Price
from rollouts.errors import ConfigError
from rollouts.evaluation.metrics import METRICS, resolve_metric
from rollouts.experiments.config import JobConfig, MiproTable
from rollouts.experiments.config_base import items_of
from rollouts.experiments.config_convert import (
    to_budget,
    to_constraints,
    to_dataset,
    to_endpoint,
    to_judge,
    to_proposer,
    to_score,
    to_template,
)
from rollouts.experiments.config_docs import config_json_schema, config_markdown
from rollouts.experiments.config_keys import tables
from rollouts.experiments.config_search import mipro_settings
from rollouts.experiments.config_template import Answers, template_toml
from rollouts.experiments.loading import load_config, parse_config
from rollouts.prompt_optimization.configs import MIPROConfig
from rollouts.prompt_optimization.selection.registry import SELECTORS

from .test_config_loading import base

ROOT = Path(__file__).resolve().parents[2]


def job(**changes: Any) -> JobConfig:
    return parse_config(base(**changes)).config


# --- models ----------------------------------------------------------------------------------------------------------


def test_endpoint_takes_every_setting() -> None:
    policy = {
        "provider": "openai_compatible",
        "model": "org/model",
        "base_url": "http://localhost:8000/v1",
        "api_key_env": "MY_KEY",
        "temperature": 1,
        "max_completion_tokens": 9,
        "top_p": 0.5,
        "seed": 0,
        "stop": ["\n"],
        "timeout_s": 5,
        "stream": True,
        "price": {"input": 0.1, "output": 0.4},
        "extra": {"top_k": 3},
    }
    endpoint = to_endpoint(job(policy=policy))
    assert endpoint.name == "openai_compatible/org/model"
    assert (endpoint.base_url, endpoint.api_key_env, endpoint.api_key) == ("http://localhost:8000/v1", "MY_KEY", None)
    sampling = endpoint.sampling
    assert (sampling.temperature, sampling.max_tokens, sampling.top_p) == (1.0, 9, 0.5)
    assert (sampling.seed, sampling.stop) == (0, ("\n",))
    assert endpoint.price == Price(input=Decimal("0.1"), output=Decimal("0.4"))
    assert (endpoint.timeout_s, endpoint.stream, endpoint.extra) == (5.0, True, {"top_k": 3})


@pytest.mark.parametrize(
    ("policy", "name"),
    [
        ({"model": "openai/gpt-4.1-nano"}, "openai/gpt-4.1-nano"),
        ({"model": "openrouter/openai/gpt-4o"}, "openrouter/openai/gpt-4o"),
        ({"provider": "groq", "model": "openai/gpt-oss-20b"}, "groq/openai/gpt-oss-20b"),
        ({"provider": "local"}, "local/smollm2-135m"),
        ({"model": "local"}, "local/smollm2-135m"),
        ({"provider": "google", "model": "gemini-2.5-flash"}, "gemini/gemini-2.5-flash"),
    ],
)
def test_model_names(policy: dict[str, Any], name: str) -> None:
    assert to_endpoint(job(policy=policy)).name == name


POLICY = {
    "provider": "openai",
    "model": "small",
    "base_url": "http://h/v1",
    "api_key_env": "K",
    "price": {"input": 1, "output": 1},
    "max_completion_tokens": 4,
    "stop": ["x"],
}


@pytest.mark.parametrize(
    ("proposer", "name", "url", "priced"),
    [
        (None, "openai/small", "http://h/v1", True),
        ({"temperature": 0.5}, "openai/small", "http://h/v1", True),
        ({"provider": "openai"}, "openai/small", "http://h/v1", True),
        ({"model": "big"}, "openai/big", "http://h/v1", False),
        ({"model": "big", "base_url": "http://other/v1"}, "openai/big", "http://other/v1", False),
        ({"base_url": "http://other/v1"}, "openai/small", "http://other/v1", False),
        ({"model": "groq/big"}, "groq/big", None, False),
        ({"provider": "local"}, "local/smollm2-135m", None, False),
    ],
)
def test_the_proposer_inherits_what_fits(proposer: Any, name: str, url: str | None, priced: bool) -> None:
    endpoint = to_proposer(job(policy=POLICY, proposer=proposer))
    assert (endpoint.name, endpoint.base_url) == (name, url)
    assert (endpoint.price is not None) is priced
    # The key belongs to one address.
    assert endpoint.api_key_env == ("K" if url == "http://h/v1" else None)
    # The task's short answers and stop texts would cut instructions.
    assert endpoint.sampling.max_tokens == 1024
    assert endpoint.sampling.stop == ()
    assert endpoint.sampling.temperature == (0.5 if proposer == {"temperature": 0.5} else 1.0)


def test_the_judge() -> None:
    assert to_judge(job()) is None
    config = job(policy=POLICY, score={"judge": {"rubric": "Is it polite?", "model": "groq/j"}})
    judge = to_judge(config)
    assert judge is not None
    assert (judge.name, judge.sampling.temperature, judge.sampling.max_tokens) == ("groq/j", 0.0, 512)
    assert to_score(config, Path()) == {"metric": "llm_judge", "options": {}, "rubric": "Is it polite?"}


# --- budget, score, data ---------------------------------------------------------------------------------------------


def test_budget_and_constraints() -> None:
    caps = {"budget": 3, "max_calls": 4, "max_tokens": 5, "max_cost_usd": 0.1, "max_time_seconds": 6}
    config = job(termination_config=caps, constraints={"max_prompt_tokens": 7, "max_cost_per_call_usd": 0.01})
    budget = to_budget(config)
    assert (budget.max_rollouts, budget.max_calls, budget.max_tokens, budget.max_seconds) == (3, 4, 5, 6.0)
    assert budget.max_micros == 100_000
    assert to_constraints(config) == Constraints(max_prompt_tokens=7, max_cost_per_call_usd=0.01)


def test_metric_options_fit_the_metrics(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text('{"type": "object"}', encoding="utf-8")
    for score in (
        {},
        {"metric": "Exact-Match"},
        {"metric": "regex", "pattern": "a+"},
        {"metric": "numeric_match", "tolerance": 0.5},
        {"metric": "json_schema", "schema": "s.json"},
        {"metric": "exact_match", "options": {"normalise": False}},
    ):
        plain = to_score(job(score=score), tmp_path)
        resolve_metric(plain["metric"], **plain["options"])
    own = to_score(job(score={"metric": "my.mod:f", "tolerance": 1.0, "options": {"k": 1}}), tmp_path)
    assert own == {"metric": "my.mod:f", "options": {"k": 1, "tolerance": 1.0}, "rubric": None}


def test_data_set_plan(tmp_path: Path) -> None:
    table = {
        "train_path": "a.tsv",
        "test_path": "hf:o/n",
        "columns": ["text", "label"],
        "inputs": ["query"],
        "ground_truth": "label",
        "labels": ["x"],
        "rename_labels": {"0": "x"},
        "delimiter": ";",
        "train": 0.5,
        "test": 0,
        "stratify": False,
        "limit": 9,
    }
    plan = to_dataset(job(dataset=table, seed=4), tmp_path)
    assert plan.pool.path == str(tmp_path.resolve() / "a.tsv")
    assert plan.own["test"].path == "hf:o/n"
    assert (plan.sizes, plan.stratify, plan.data_dir) == ({"train": 0.5, "test": 0}, False, None)
    pool = plan.pool
    assert (pool.inputs, pool.labels, pool.delimiter, pool.limit, pool.seed) == ({"query": "query"}, ("x",), ";", 9, 4)


@pytest.mark.parametrize("table", [{"name": "tickets"}, {"path": "tickets"}])
def test_built_in_names_are_no_files(table: dict[str, Any], tmp_path: Path) -> None:
    plan = to_dataset(job(dataset={**table, "data_dir": "d"}), tmp_path)
    assert (plan.pool.path, plan.data_dir) == ("tickets", tmp_path.resolve() / "d")
    assert "tickets" in BUILT_IN


# --- prompts ---------------------------------------------------------------------------------------------------------


def test_messages_in_their_order() -> None:
    messages = [
        {"role": "user", "content": "Q: {query}", "order": 9},
        {"role": "system", "content": "A", "order": 0},
        {"role": "system", "content": "B", "order": 1},
        {"role": "user", "content": "Q: hi", "order": 2},
        {"role": "assistant", "content": "greeting", "order": 3},
    ]
    prompt = {"messages": messages, "few_shot_examples": [{"input": "i", "output": "o"}]}
    template = to_template(job(initial_prompt=prompt))
    assert (template.system, template.user_template) == ("A\n\nB", "Q: {query}")
    assert template.few_shot_examples == (FewShotExample("Q: hi", "greeting"), FewShotExample("i", "o"))


EARLIER = [
    {"role": "system", "content": "Route it."},
    {"role": "user", "content": "Here is one: {query}"},
    {"role": "assistant", "content": "What now?"},
]


@pytest.mark.parametrize("inputs", [{"query": "text"}, None])
@pytest.mark.parametrize("last", [["Name the route of {query}."], ["Name the route."], []])
def test_a_demonstration_among_messages_shows_no_row(inputs: Any, last: list[str]) -> None:
    messages = [*EARLIER, *({"role": "user", "content": text} for text in last)]
    data = {"path": "a.csv", **({"inputs": inputs} if inputs else {})}
    with pytest.raises(ConfigError, match=r"messages\[1\] is part of a demonstration.*\{query\}.*last user message"):
        parse_config(base(initial_prompt={"messages": messages}, dataset=data))


def test_other_braces_of_a_demonstration_are_its_own() -> None:
    said = {"role": "assistant", "content": r'{"route": "{query_id}"}'}
    asked = {"role": "user", "content": r"What is \{query} in {name}?"}
    prompt = {"messages": [asked, said, {"role": "user", "content": "Q: {query}"}]}
    template = to_template(parse_config(base(initial_prompt=prompt)).config)
    assert template.few_shot_examples == (FewShotExample("What is {query} in {name}?", said["content"]),)


def test_a_user_message_is_made_from_the_inputs() -> None:
    one = job(initial_prompt={"system": "S"})
    assert to_template(one).user_template == "{query}"
    two = job(initial_prompt={"system": "S"}, dataset={"path": "a.csv", "inputs": ["title", "body"]})
    assert to_template(two).user_template == "title: {title}\nbody: {body}"


def test_frozen_spans_of_the_instruction_alone_are_watched() -> None:
    prompt = {"system": "Keep A.", "user": "Keep B. {query}", "frozen": ["Keep A.", "Keep B."]}
    assert mipro_settings(job(initial_prompt=prompt))["frozen_spans"] == ("Keep A.",)


# --- search settings -------------------------------------------------------------------------------------------------


def test_settings_are_those_of_the_optimizer() -> None:
    config = job(seed=5, description="d", execution={"slots": 3}, mipro={"max_labeled_demos": 4})
    made = MIPROConfig(**mipro_settings(config))
    assert (made.seed, made.description, made.max_concurrent) == (5, "d", 3)
    assert (made.max_labeled_demos, made.max_bootstrapped_demos) == (4, 4)


def test_defaults_agree_with_the_optimizer() -> None:
    # The first four are the ones that the walkthrough of the file format documents.
    own = {"num_trials", "num_candidates", "max_bootstrapped_demos", "max_labeled_demos", "top_k"}
    ours, theirs = MIPROConfig(**mipro_settings(job())), MIPROConfig()
    for name in MIPROConfig.__dataclass_fields__:
        if name not in own:
            assert getattr(ours, name) == getattr(theirs, name), name


def test_choices_are_those_that_exist() -> None:
    selector = MiproTable.model_json_schema()["properties"]["selector"]
    assert set(selector["enum"]) == set(SELECTORS)
    text = config_markdown()
    for metric in set(METRICS) - {"llm_judge"}:
        assert f"`{metric}`" in text
    for name in BUILT_IN:
        assert f"`{name}`" in text


# --- reference -------------------------------------------------------------------------------------------------------


def test_every_field_is_described() -> None:
    seen = [table for _, table in tables()]
    seen += [item for table in seen for field in table.model_fields.values() if (item := items_of(field))]
    for table in seen:
        assert table.__doc__, table
        for name, field in table.model_fields.items():
            assert (field.description or "").endswith((".", "...", "`", ")")), (table.__name__, name)


def test_the_reference_is_up_to_date() -> None:
    path = ROOT / "docs" / "configuration.md"
    assert path.read_text(encoding="utf-8") == config_markdown(), "run scripts/gen_config_docs"


def test_the_schema_accepts_what_loads_and_knows_every_key() -> None:
    schema = config_json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    check = jsonschema.Draft202012Validator(schema)
    for data in (base(), base(mipro={"num_trials": 3, "tpe": {}, "max_concurrent": 2}), {**base(), "display": {}}):
        parse_config(data)
        check.validate(data)
    prompt = {"sections": [{"role": "user", "pattern": "{query}"}]}
    parse_config(base(initial_prompt=prompt))
    check.validate(base(initial_prompt=prompt))
    for bad in (base(mipro={"num_trialz": 3}), base(seed="x"), base(dataset={"path": "a", "train": 1.5})):
        assert list(check.iter_errors(bad))
        with pytest.raises(ConfigError):
            parse_config(bad)


# --- the file that `rollouts init` writes ----------------------------------------------------------------------------

NAMES = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True)
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=30).map(lambda t: t.replace("{", "("))


@settings(max_examples=60, deadline=None)
@given(
    inputs=st.dictionaries(NAMES, TEXTS.map(lambda text: "c" + text), min_size=1, max_size=3),
    system=TEXTS,
    labels=st.lists(TEXTS, max_size=3),
    budget=st.none() | st.integers(1, 10**6),
    money=st.none() | st.floats(0, 100),
    rubric=st.none() | st.just("Is it right?\n"),
)
def test_the_template_loads_back(tmp_path_factory: pytest.TempPathFactory, **answers: Any) -> None:
    path = tmp_path_factory.mktemp("init") / "job.toml"
    made = Answers(
        data_path="data/rows.csv",
        inputs=answers["inputs"],
        ground_truth="the label",
        provider="openai",
        model="gpt-4.1-nano",
        api_key_env="OPENAI_API_KEY",
        labels=answers["labels"],
        system=answers["system"],
        budget=answers["budget"],
        max_cost_usd=answers["money"],
        rubric=answers["rubric"],
    )
    path.write_text(template_toml(made), encoding="utf-8", newline="")
    loaded = load_config(path)
    plan, template = to_dataset(loaded.config, loaded.base_dir), to_template(loaded.config)
    assert dict(plan.pool.inputs) == answers["inputs"]
    assert plan.pool.labels == tuple(answers["labels"])
    assert template.system == answers["system"]
    assert template.placeholders == set(answers["inputs"])
    assert loaded.config.termination_config.max_cost_usd == answers["money"]
    assert to_score(loaded.config, path.parent)["rubric"] == answers["rubric"]
    assert json.dumps(loaded.resolved)


def test_the_template_with_everything(tmp_path: Path) -> None:
    made = Answers(
        data_path="d.csv",
        inputs={"q": "text"},
        ground_truth=None,
        provider="openai_compatible",
        model="m",
        base_url="http://localhost:1/v1",
        columns=["text", "label"],
        user="Q: {q}",
        metric="numeric_match",
        options={"rel_tol": 0.1},
        max_completion_tokens=5,
        seed=3,
    )
    path = tmp_path / "job.toml"
    path.write_text(template_toml(made), encoding="utf-8")
    config = load_config(path).config
    assert (config.seed, config.policy.max_completion_tokens, config.policy.base_url) == (3, 5, "http://localhost:1/v1")
    assert config.score.options == {"rel_tol": 0.1}
    assert config.dataset is not None
    assert (config.dataset.columns, config.dataset.ground_truth) == (("text", "label"), None)
    assert to_template(config).user_template == "Q: {q}"
