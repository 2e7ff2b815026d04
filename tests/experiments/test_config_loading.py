"""Job files: what loads, what is refused, and what the user is told."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from rollouts.errors import ConfigError
from rollouts.experiments.config_convert import to_budget, to_dataset, to_endpoint, to_template
from rollouts.experiments.config_errors import is_secret
from rollouts.experiments.config_search import mipro_settings
from rollouts.experiments.loading import DEFAULT_BUDGET, LoadedConfig, load_config, parse_config

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "configs"

BASE = """\
[prompt_learning]
results_folder = "out"

[prompt_learning.dataset]
path = "data/rows.csv"
inputs = { query = "text" }
ground_truth = "label"

[prompt_learning.initial_prompt]
system = "Classify."
user = "Query: {query}"

[prompt_learning.policy]
provider = "openai"
model = "gpt-4.1-nano"

[prompt_learning.mipro]
num_iterations = 7

[prompt_learning.termination_config]
budget = 50
"""


@pytest.fixture
def job(tmp_path: Path) -> Path:
    path = tmp_path / "job.toml"
    path.write_text(BASE, encoding="utf-8")
    return path


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "job.toml"
    path.write_text(text, encoding="utf-8")
    return path


def base(**tables: Any) -> dict[str, Any]:
    """The job of `BASE` as a mapping, with tables exchanged."""
    job = {
        "dataset": {"path": "rows.csv", "inputs": {"query": "text"}, "ground_truth": "label"},
        "initial_prompt": {"system": "Classify.", "user": "Query: {query}"},
        "policy": {"provider": "openai", "model": "gpt-4.1-nano"},
        "termination_config": {"budget": 50},
    }
    return {"prompt_learning": {key: value for key, value in {**job, **tables}.items() if value is not None}}


def problems(data: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config(data)
    return str(caught.value)


# --- what loads ------------------------------------------------------------------------------------------------------


@pytest.mark.shared
@pytest.mark.parametrize("name", ["banking12_mipro", "sst2_mipro"])
def test_shared_configs_load_without_notes(name: str) -> None:
    path = SHARED / f"{name}.toml"
    if not path.exists():
        pytest.skip("the shared configs are not beside the checkout")
    loaded = load_config(path)
    assert loaded.notes == ()
    assert loaded.config.name == name
    assert to_budget(loaded.config).max_rollouts == 900
    assert to_endpoint(loaded.config).name == "local/smollm2-135m"
    plan = to_dataset(loaded.config, loaded.base_dir)
    assert Path(plan.pool.path).is_file()
    assert set(plan.sizes) == {"train", "val", "test"}
    assert mipro_settings(loaded.config)["num_trials"] == 30


def test_base_loads(job: Path) -> None:
    loaded = load_config(str(job))
    assert loaded.path == job
    assert loaded.base_dir == job.parent.resolve()
    assert loaded.notes == ()
    assert loaded.config.name == "job"
    assert loaded.config.results_folder == "out"
    plan = to_dataset(loaded.config, loaded.base_dir)
    assert plan.pool.path == str(job.parent.resolve() / "data" / "rows.csv")
    assert to_template(loaded.config).user_template == "Query: {query}"


def test_a_byte_order_mark_is_no_problem(job: Path) -> None:
    job.write_bytes(b"\xef\xbb\xbf" + job.read_bytes())
    assert load_config(job).config.mipro.num_iterations == 7


def test_results_folder_follows_the_file_name(tmp_path: Path) -> None:
    loaded = load_config(write(tmp_path, BASE.replace('results_folder = "out"', "")))
    assert loaded.config.results_folder == str(Path("results") / "job")


def test_without_any_cap_one_is_set_and_said() -> None:
    loaded = parse_config(base(termination_config={"target_score": 0.9}))
    assert loaded.config.termination_config.budget == DEFAULT_BUDGET
    assert "1000 rollouts" in " ".join(loaded.notes)
    for cap in ({"max_cost_usd": 4}, {"max_calls": 3}, {"max_tokens": 5}):
        loaded = parse_config(base(termination_config=cap))
        assert loaded.config.termination_config.budget is None
        assert loaded.notes == ()


def test_nulls_of_json_count_as_not_given() -> None:
    data = base(seed=None)
    data["prompt_learning"]["mipro"] = {"num_candidates": None}
    assert mipro_settings(parse_config(data).config)["num_candidates"] == 12


def test_resolved_is_json_that_loads_to_the_same_job() -> None:
    loaded = parse_config(base(score={"metric": "numeric_match", "tolerance": 0.1}))
    stored = json.loads(json.dumps(loaded.resolved))
    assert parse_config(stored).config == loaded.config
    assert stored["prompt_learning"]["mipro"]["num_iterations"] == 10


# --- what is refused -------------------------------------------------------------------------------------------------


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    text = BASE.replace("num_iterations = 7", 'num_iteration = 7\nnum_demos = "two"').replace(
        "budget = 50", "budget = 0"
    )
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    first, *rest = str(caught.value).splitlines()
    assert first == f"{path}: 3 problems"
    assert rest[0].startswith(
        "  prompt_learning.mipro.num_iteration: unknown key; did you mean 'num_iterations'? "
        "Keys of [prompt_learning.mipro]: bootstrap_threshold, full_eval_every, "
    )
    assert rest[1:] == [
        '  prompt_learning.mipro.num_demos: "two": expected an integer of at least 0',
        "  prompt_learning.termination_config.budget: 0: expected an integer of at least 1",
    ]


def test_one_problem_stands_on_one_line(tmp_path: Path) -> None:
    path = write(tmp_path, BASE.replace('results_folder = "out"', "seed = -1"))
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(caught.value) == f"{path}: prompt_learning.seed: -1: expected an integer of at least 0"


@pytest.mark.parametrize(
    ("tables", "key", "says"),
    [
        ({"policy": "gpt"}, "prompt_learning.policy", '"gpt": expected a table'),
        ({"seed": True}, "prompt_learning.seed", "true: expected an integer"),
        ({"seed": 1.5}, "prompt_learning.seed", "1.5: expected an integer"),
        ({"algorithm": "copro"}, "prompt_learning.algorithm", '"copro": expected one of "mipro", "gepa", "rmipro"'),
        ({"mipro": {"mode": "online"}}, "prompt_learning.mipro.mode", "comes with the service"),
        ({"mipro": {"num_trials": 0}}, "prompt_learning.mipro.num_trials", "0: expected an integer of at least 1"),
        ({"dataset": None}, "prompt_learning.dataset", "missing"),
        ({"dataset": {}}, "prompt_learning.dataset.path", "missing; set path, name, or train_path"),
        (
            {"dataset": {"path": "a.csv", "name": "tickets"}},
            "prompt_learning.dataset.name",
            "path already names the rows",
        ),
        ({"dataset": {"path": "a.csv", "data_dir": "d"}}, "prompt_learning.dataset.data_dir", "built-in data sets"),
        ({"dataset": {"name": "ticket"}}, "prompt_learning.dataset.name", "they are banking77, tickets"),
        ({"dataset": {"path": "a.csv", "train": 1.5}}, "prompt_learning.dataset.train", "1.5: expected an integer"),
        ({"dataset": {"path": "a.csv", "train": 0.5, "val": 0.6}}, "prompt_learning.dataset.train", "add up to 1.1"),
        (
            {"dataset": {"path": "a.csv", "limit": 10, "train": 8, "val": 8}},
            "prompt_learning.dataset.limit",
            "10 rows are read, but train, val and test ask for 16",
        ),
        (
            {"dataset": {"path": "a.csv", "rename_labels": {"0": "no"}, "labels": ["0"]}},
            "prompt_learning.dataset.labels",
            "write the new name",
        ),
        ({"dataset": {"path": "a.csv", "inputs": {"body": "x"}}}, "prompt_learning.initial_prompt", "{query}"),
        (
            {"dataset": {"path": "a.csv", "inputs": {"query": "y"}, "ground_truth": "y"}},
            "prompt_learning.dataset",
            "the prompt would hold the answer",
        ),
        (
            {"initial_prompt": {"system": "S"}, "dataset": {"path": "a.csv"}},
            "prompt_learning.initial_prompt",
            "no user",
        ),
        (
            {"initial_prompt": {"user": "{query}", "messages": [{"role": "user", "content": "x"}]}},
            "prompt_learning.initial_prompt.messages",
            "given twice",
        ),
        (
            {"initial_prompt": {"messages": [{"role": "robot", "content": "x"}]}},
            "prompt_learning.initial_prompt.messages[0].role",
            '"robot": expected one of "system", "user", "assistant"',
        ),
        (
            {"initial_prompt": {"messages": [{"role": "user"}]}},
            "prompt_learning.initial_prompt.messages[0].content",
            "missing; expected text",
        ),
        (
            {"initial_prompt": {"user": "{query}", "frozen": ["Answer in JSON."]}},
            "prompt_learning.initial_prompt.frozen[0]",
            "does not stand in the prompt",
        ),
        (
            {"initial_prompt": {"user": "{query}", "wildcards": {"intents": "REQUIRED"}}},
            "prompt_learning.initial_prompt.wildcards.intents",
            "REQUIRED",
        ),
        ({"score": {"metric": "exact_mach"}}, "prompt_learning.score.metric", "did you mean 'exact_match'?"),
        ({"score": {"metric": "judge"}}, "prompt_learning.score.metric", "needs a rubric"),
        ({"score": {"metric": "f1", "judge": {"rubric": "x"}}}, "prompt_learning.score.judge", "keep one of the two"),
        ({"score": {"judge": {}}}, "prompt_learning.score.judge.rubric", "missing; expected a non-empty text"),
        ({"score": {"confidence": 1.0}}, "prompt_learning.score.confidence", "less than 1"),
        ({"policy": {}}, "prompt_learning.policy.model", "missing; name the task model"),
        ({"policy": {"model": "gpt-4.1"}}, "prompt_learning.policy.provider", '"provider/gpt-4.1"'),
        ({"policy": {"provider": "opnai", "model": "m"}}, "prompt_learning.policy", "did you mean 'openai'?"),
        ({"policy": {"model": "openai/m", "temperature": 3}}, "prompt_learning.policy.temperature", "at most 2"),
        ({"policy": {"model": "openai/m", "temperature": float("nan")}}, "prompt_learning.policy.temperature", "NaN"),
        ({"policy": {"model": "openai/m", "base_url": "localhost"}}, "prompt_learning.policy.base_url", "http://"),
        ({"policy": {"model": "openai/m", "price": {"input": 1}}}, "prompt_learning.policy.price.output", "missing"),
        (
            {"policy": {"model": "openai/m", "extra": {"since": date(2026, 1, 1)}}},
            "prompt_learning.policy.extra",
            "expected a table of JSON values",
        ),
        ({"proposer": {"provider": "groq"}}, "prompt_learning.proposer", "provider/model"),
        (
            {"mipro": {"optimize_instructions": False, "optimize_demos": False}},
            "prompt_learning.mipro.optimize_instructions",
            "nothing to optimize",
        ),
        (
            {"mipro": {"optimize_demos": True, "num_demos": 0}},
            "prompt_learning.mipro.num_demos",
            "optimize_demos = false",
        ),
        (
            {"mipro": {"optimize_instructions": False, "num_demos": 0}},
            "prompt_learning.mipro.optimize_instructions",
            "nothing to optimize",
        ),
        (
            {"mipro": {"num_demos": 2, "max_labeled_demos": 3}},
            "prompt_learning.mipro.max_labeled_demos",
            "3 is more than num_demos = 2",
        ),
        (
            {"constraints": {"max_latency_s": 1.0, "max_p95_latency_s": 2.0}},
            "prompt_learning.constraints.max_p95_latency_s",
            "more than max_latency_s",
        ),
    ],
)
def test_what_is_refused(tables: dict[str, Any], key: str, says: str) -> None:
    lines = problems(base(**tables)).splitlines()
    assert any(f"{key}: " in line and says in line for line in lines), lines


def test_task_app_without_data_set_is_refused_with_the_way_out() -> None:
    text = problems(base(dataset=None, task_app_url="http://localhost:8002"))
    assert "prompt_learning.task_app_url: task apps come with the service" in text
    assert "[prompt_learning.dataset]" in text


def test_frozen_optional_and_demo_less_jobs_are_fine() -> None:
    prompt = {"system": "Keep me.", "user": "{query}", "frozen": ["Keep me."], "wildcards": {"query": "REQUIRED"}}
    parse_config(base(initial_prompt=prompt))
    off = parse_config(base(mipro={"optimize_demos": False, "num_demos": 3})).config
    assert mipro_settings(off)["optimize_demos"] is False
    none = parse_config(base(mipro={"num_demos": 0})).config
    assert mipro_settings(none)["optimize_demos"] is False


@pytest.mark.parametrize("text", ["[prompt_learning", "a = ", "[prompt_learning]\nseed = 1\nseed = 2\n", 'a = """x'])
def test_syntax_errors_name_line_and_column(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError, match=r"job\.toml: line \d+, column \d+: is no valid TOML"):
        load_config(path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.toml: cannot be read: No such file"):
        load_config(tmp_path / "missing.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path)
    path = tmp_path / "latin.toml"
    path.write_bytes(b'name = "caf\xe9"')
    with pytest.raises(ConfigError, match="is no UTF-8 text"):
        load_config(path)


@pytest.mark.parametrize("text", ["", "[other]\na = 1\n", "mipro = 1\n", "[mipro]\nnum_iterations = 3\n"])
def test_a_file_without_the_table(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError, match="prompt_learning"):
        load_config(path)


# --- overrides -------------------------------------------------------------------------------------------------------


def load(job: Path, *overrides: str) -> LoadedConfig:
    return load_config(job, overrides)


def test_overrides_with_and_without_prefix(job: Path) -> None:
    config = load(
        job, "prompt_learning.seed=3", "mipro.num_iterations = 9", "termination_config.max_cost_usd=2.5"
    ).config
    assert (config.seed, config.mipro.num_iterations, config.termination_config.max_cost_usd) == (3, 9, 2.5)
    assert to_budget(config).max_cost_usd == Decimal("2.5")


def test_override_values_are_toml_or_else_text(job: Path) -> None:
    config = load(job, "policy.model=gpt-4o", 'initial_prompt.system="A \\"b\\"\\nc"', "policy.stop=['x', 'y']").config
    assert config.policy.model == "gpt-4o"
    assert config.initial_prompt.system == 'A "b"\nc'
    assert config.policy.stop == ("x", "y")
    assert load(job, "initial_prompt.system=say = and\nseed = 9").config.seed == 0


def test_an_alias_overrides_the_setting_it_names(job: Path) -> None:
    assert load(job, "mipro.num_trials=3").config.mipro.num_iterations == 3
    assert load(job, "mipro.max_concurrent=3", "execution.slots=4").config.execution.slots == 4


def test_the_last_override_wins(job: Path) -> None:
    assert load(job, "seed=1", "seed=2").config.seed == 2


def test_one_entry_of_a_table_or_the_whole(job: Path) -> None:
    one = load(job, "dataset.inputs.hint=note", "initial_prompt.user={query} {hint}").config
    assert one.dataset is not None
    assert one.dataset.inputs == {"query": "text", "hint": "note"}
    whole = load(job, "dataset.inputs={ text = 'body' }", "initial_prompt.user={text}").config
    assert whole.dataset is not None
    assert whole.dataset.inputs == {"text": "body"}


def test_paths_in_overrides_are_relative_to_the_working_directory(
    job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    loaded = load(job, "dataset.path=mine.csv")
    assert to_dataset(loaded.config, loaded.base_dir).pool.path == str((tmp_path / "here" / "mine.csv").resolve())
    loaded = load(job, "dataset.path=hf:owner/name")
    assert to_dataset(loaded.config, loaded.base_dir).pool.path == "hf:owner/name"


@pytest.mark.parametrize("text", ["seed", "=3", "", "a b=3", "mipro.=3"])
def test_overrides_that_are_no_settings(job: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="--set"):
        load(job, text)


def test_overrides_are_checked_like_the_file(job: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(job, "mipro.num_demoz=3", "seed=x")
    assert "did you mean 'num_demos'?" in str(caught.value)
    assert 'prompt_learning.seed: "x": expected an integer' in str(caught.value)


# --- secrets ---------------------------------------------------------------------------------------------------------

SECRET = "sk-do-not-show-1234"


@pytest.mark.parametrize(
    ("tables", "key"),
    [
        ({"policy": {"model": "openai/m", "api_key": SECRET}}, "prompt_learning.policy.api_key"),
        ({"policy": {"model": "openai/m", "api-key": SECRET}}, "prompt_learning.policy.api-key"),
        ({"proposer": {"apikey": SECRET}}, "prompt_learning.proposer.apikey"),
        ({"score": {"judge": {"rubric": "x", "api_key": SECRET}}}, "prompt_learning.score.judge.api_key"),
        ({"api_key": SECRET}, "prompt_learning.api_key"),
        ({"policy": {"model": "openai/m", "extra": {"api_key": SECRET}}}, "prompt_learning.policy.extra.api_key"),
        (
            {"policy": {"model": "openai/m", "extra": {"headers": {"Authorization": SECRET}}}},
            "prompt_learning.policy.extra.headers.Authorization",
        ),
        ({"policy": {"model": "openai/m", "api_key_env": SECRET}}, "prompt_learning.policy.api_key_env"),
        (
            {"policy": {"model": "openai/m", "base_url": f"https://me:{SECRET}@host/v1"}},
            "prompt_learning.policy.base_url",
        ),
        (
            {"policy": {"model": "openai/m", "base_url": f"https://host/v1?key={SECRET}"}},
            "prompt_learning.policy.base_url",
        ),
        ({"execution": {"store": f"postgresql://me:{SECRET}@host/db"}}, "prompt_learning.execution.store"),
        (
            {"policy": {"model": "openai/m", "extra": {"extra_headers": {"x-auth-token": SECRET}}}},
            "prompt_learning.policy.extra.extra_headers.x-auth-token",
        ),
        (
            {"environment": {"name": "mcp", "options": {"env": {"AWS_SECRET_ACCESS_KEY": SECRET}}}},
            "prompt_learning.environment.options.env.AWS_SECRET_ACCESS_KEY",
        ),
    ],
)
def test_keys_in_the_file_are_refused_and_never_shown(tables: dict[str, Any], key: str) -> None:
    text = problems(base(**tables))
    assert f"{key}: " in text
    assert SECRET not in text


def test_the_message_says_where_keys_belong() -> None:
    text = problems(base(policy={"model": "openai/m", "api_key": SECRET}))
    assert "keys belong in the environment or .env: set api_key_env" in text


def test_a_task_app_key_is_dropped_and_said() -> None:
    loaded = parse_config(base(task_app_api_key=SECRET))
    assert any("task_app_api_key has no effect here" in note for note in loaded.notes)
    assert SECRET not in json.dumps(loaded.resolved) + " ".join(loaded.notes) + repr(loaded)


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens", "max_prompt_tokens", "max_token", "tokens"])
def test_counts_of_tokens_are_no_secrets(name: str) -> None:
    assert not is_secret(name)


@pytest.mark.parametrize("name", ["token", "SLACK_BOT_TOKEN", "authToken", "aws_access_key", "X-Subscription-Key"])
def test_names_of_tokens_and_keys_are_secrets(name: str) -> None:
    assert is_secret(name)


def test_a_column_may_be_called_token() -> None:
    data = {"path": "x.csv", "inputs": {"query": "text", "token": "token"}, "ground_truth": "tag"}
    assert parse_config(base(dataset=data)).config.dataset is not None


@pytest.mark.parametrize(
    "place",
    [
        lambda table: {"policy": {"model": "openai/m", "extra": {"extra_headers": table}}},
        lambda table: {"policy": {"model": "openai/m", "extra": {"extra_query": table}}},
        lambda table: {"environment": {"name": "mcp", "options": {"command": "x", "env": table}}},
        lambda table: {"environment": {"name": "mcp", "options": {"url": "http://x", "headers": table}}},
    ],
)
def test_what_is_stored_of_headers_queries_and_environments_holds_no_value(place: Any) -> None:
    def stored(value: str) -> str:
        loaded = parse_config(base(**place({"X-Mine": value})))
        assert value in str(loaded.config.model_dump())  # what is sent stays
        return json.dumps(loaded.resolved)

    text = stored(SECRET)
    assert SECRET not in text
    assert "X-Mine" in text
    assert "[redacted " in text
    assert stored(SECRET) == text  # a resumed run finds its settings,
    assert stored(SECRET + "5") != text  # and notices a change
