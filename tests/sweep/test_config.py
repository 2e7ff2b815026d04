from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from rollouts.errors import ConfigError
from rollouts.experiments.sweep.cells import caps_of, grid
from rollouts.experiments.sweep.config import load_experiment, parse_experiment, to_toml
from rollouts.experiments.sweep.subject import Subject
from rollouts.prompt_optimization import GEPAConfig, RMIPROConfig
from tests.sweep.desk import SMALL


def changed(where: str, value: Any) -> dict[str, Any]:
    """The small experiment with one setting changed; None takes it out."""
    data: dict[str, Any] = {key: dict(inner) if isinstance(inner, dict) else inner for key, inner in SMALL.items()}
    *path, last = where.split(".")
    table = data
    for key in path:
        table[key] = dict(table.get(key, {}))
        table = table[key]
    table[last] = value
    return {key: inner for key, inner in data.items() if inner is not None}


def test_settings_are_printed_with_defaults_and_read_back_as_they_were() -> None:
    first = parse_experiment(SMALL)
    text = to_toml(first.resolved)
    assert "scheduler" in text
    assert 'selector = "racing"' in text
    again = parse_experiment(tomllib.loads(text))
    assert again.resolved == first.resolved
    assert again.methods == first.methods


def test_methods_become_settings_of_their_search() -> None:
    methods: dict[str, dict[str, Any]] = {
        "a": {
            "algorithm": "rmipro",
            "scheduler": "ucb",
            "sources": ["propose"],
            "module_budgets": {"reader": {"max_calls": 9}},
        },
        "b": {"algorithm": "gepa", "objective": ["score", "cost"]},
    }
    methods["a"]["module_budgets"] = {"reader": {"max_calls": 9}}
    found = parse_experiment({**SMALL, "methods": methods}).methods
    assert isinstance(found["a"].settings, RMIPROConfig)
    assert (found["a"].settings.scheduler, found["a"].settings.sources) == ("ucb", ("propose",))
    assert found["a"].module_budgets["reader"].max_calls == 9
    assert isinstance(found["b"].settings, GEPAConfig)
    assert found["b"].settings.objective == ("score", "cost")


@pytest.mark.parametrize(
    ("where", "value", "said"),
    [
        ("tusk", "desk", "did you mean 'task'"),
        ("task", "dask", "did you mean 'desk'"),
        ("task", None, "name one of the two"),
        ("job", "job.toml", "name one of the two"),
        ("name", "../elsewhere", "letters"),
        ("name", "..", "letters"),
        ("seeds", 0, "seeds"),
        ("seeds", [1, 1], "twice"),
        ("data.folds", 1, "at least 2"),
        ("data.folds", 4, "data.test: folds already says"),
        ("baseline", "mipr", "did you mean 'mipro'"),
        ("budgets", {}, "budgets"),
        ("budgets.small", {}, "no cap"),
        ("budgets.small.max_rolouts", 9, "did you mean 'max_rollouts'"),
        ("budgets.small.max_rollouts", 0, "at least 1"),
        ("budgets.sm all", {"max_rollouts": 1}, "letters"),
        ("total.max_calls", "many", "integer"),
        ("methods", {"start": {"algorithm": "start"}}, "no search"),
        ("methods.mipro.algorithm", "mapro", "expected one of start, mipro, gepa, rmipro"),
        ("methods.mipro.num_trails", 4, "did you mean 'num_trials'"),
        ("methods.mipro.num_trials", "four", "methods.mipro.num_trials"),
        ("methods.mipro.num_trials", 0, "at least 1"),
        ("methods.mipro.selector", "rasing", "expected one of"),
        ("methods.mipro.seed", 3, "'seeds'"),
        ("methods.adaptive.scheduler", "adaptiv", "expected one of"),
        ("methods.adaptive.module_budgets", {"reader": {"max_cals": 3}}, "did you mean 'max_calls'"),
        ("methods.start.num_trials", 3, "no settings"),
        ("model.api_key", "sk-123", "keys belong in the environment"),
        ("model", "nonsuch/model", "nonsuch"),
        ("model.max_completion_tokns", 3, "did you mean 'max_completion_tokens'"),
    ],
)
def test_what_is_wrong_is_said_with_its_key(where: str, value: Any, said: str) -> None:
    with pytest.raises(ConfigError) as told:
        parse_experiment(changed(where, value), source="e.toml")
    assert said in str(told.value)
    assert where.split(".", maxsplit=1)[0] in str(told.value)
    assert "sk-123" not in str(told.value)


@pytest.mark.parametrize(
    ("where", "value", "said"),
    [
        ("methods.adaptive.module_budgets", {"readr": {"max_calls": 3}}, "did you mean 'reader'"),
        ("models", {"writr": {"temperature": 0.5}}, "did you mean 'writer'"),
    ],
)
def test_modules_that_are_not_there_are_said_before_any_run(where: str, value: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Subject(parse_experiment(changed(where, value)))


def test_a_missing_key_is_said_before_any_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ConfigError, match="OPENAI_API_KEY"):
        Subject(parse_experiment(changed("proposer", "openai/gpt-4.1-nano")))


def test_all_problems_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "e.toml"
    path.write_text('task = "dask"\nbaseline = "x"\n[budgets.a]\n[methods.m]\nalgorithm = "mipro"\nfoo = 1\n')
    with pytest.raises(ConfigError) as told:
        load_experiment(path)
    assert all(key in str(told.value) for key in ("task", "baseline", "budgets.a", "methods.m.foo"))


def test_a_file_that_is_no_toml_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "e.toml"
    with pytest.raises(ConfigError, match="cannot be read"):
        load_experiment(path)
    path.write_text("= 1")
    with pytest.raises(ConfigError, match="TOML"):
        load_experiment(path)


@pytest.mark.parametrize(
    ("named", "provider"), [("simulated", "simulated"), ("local", "local"), ("openai/gpt-4.1-nano", "openai")]
)
def test_a_model_may_be_named_by_a_text(named: str, provider: str) -> None:
    task, proposer, _ = parse_experiment(changed("model", named)).config.endpoints()
    assert (task.provider, proposer.provider) == (provider, provider)


def test_the_grid_runs_the_start_once_for_each_seed_and_seeds_one_after_the_other() -> None:
    experiment = parse_experiment({**SMALL, "budgets": {"a": {"max_rollouts": 100}, "b": {"max_rollouts": 200}}})
    cells = grid(experiment)
    assert len(cells) == len({cell.name for cell in cells}) == 2 * (1 + 2 * 2)
    assert [cell.seed for cell in cells] == sorted(cell.seed for cell in cells)


def test_two_runs_of_one_name_are_an_error() -> None:
    search = {"algorithm": "mipro"}
    caps = {"max_rollouts": 100}
    settings = {**SMALL, "methods": {"a-b": search, "a": search}, "budgets": {"c": caps, "b-c": caps}}
    with pytest.raises(ConfigError, match="a-b-c-s0"):
        grid(parse_experiment(settings))


def test_what_only_the_total_limits_is_shared_evenly() -> None:
    total = {"max_rollouts": 700, "max_calls": 601, "max_cost_usd": 0.06}
    experiment = parse_experiment({**SMALL, "total": total})
    cells = grid(experiment)
    for cell in cells:
        caps = caps_of(experiment, cell, cells, test_rows=24)
        assert caps.max_rollouts == 80
        assert caps.max_calls == 100
        assert caps.max_micros == 10_000
        assert caps.max_tokens is None
