"""Environments by name."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from rollouts.dtypes import Endpoint, Environment
from rollouts.environments import CalculatorEnvironment, make_environment_factory
from rollouts.errors import ConfigError
from rollouts.evaluation import Task

needs_mcp = pytest.mark.skipif(find_spec("mcp") is None, reason="the extra 'mcp' is not installed")


def identity(name: str, **options: Any) -> str:
    factory = make_environment_factory(name, **options)
    endpoint = Endpoint(provider="fake", model="m")
    return Task(endpoint=endpoint, score_fn=lambda t, s: 1.0, metric_id="m", environment_factory=factory).digest


def test_the_calculator() -> None:
    factory = make_environment_factory("calculator")
    assert isinstance(factory({}), CalculatorEnvironment)
    assert factory({}) is not factory({})
    assert identity("calculator") == identity("calculator")


@needs_mcp
def test_mcp_servers_are_told_apart_and_their_secrets_kept() -> None:
    factory = make_environment_factory("mcp", command="python server.py", env={"KEY": "hunter2"})
    assert isinstance(factory({}), Environment)
    assert "hunter2" not in str(vars(factory)["identity"])
    keys = {identity("mcp", command="a"), identity("mcp", command="b"), identity("mcp", url="http://127.0.0.1:1/mcp")}
    assert len(keys) == 3


def test_an_import_path_gets_the_sample_and_the_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_tools_for_test.py").write_text(
        "from rollouts.environments import PythonFunctionsEnvironment\n"
        "def make(sample, greeting='Hi'):\n"
        "    def greet() -> str:\n"
        "        'Greets.'\n"
        "        return f'{greeting} {sample[\"name\"]}'\n"
        "    return PythonFunctionsEnvironment([greet])\n"
    )
    monkeypatch.chdir(tmp_path)
    factory = make_environment_factory("my_tools_for_test:make", greeting="Hello")
    assert [tool.name for tool in factory({"name": "Ada"}).tools()] == ["greet"]
    path = "my_tools_for_test:make"
    assert identity(path) != identity(path, greeting="Hello")
    with pytest.raises(ConfigError, match="has no 'mak', did you mean 'make'"):
        make_environment_factory("my_tools_for_test:mak")
    with pytest.raises(ConfigError, match=r"unexpected keyword argument 'greting' \(its options: greeting\)"):
        make_environment_factory(path, greting="Hello")


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("calculater", {}, "did you mean 'calculator'"),
        ("shell", {}, r"known: calculator, mcp\); for your own write 'package.module:factory'"),
        ("calculator", {"digits": 3}, r"unexpected keyword argument 'digits' \(its options: none\)"),
        ("no_such_module_here:make", {}, "cannot be imported"),
        ("math:pi", {}, "not a function"),
        pytest.param("mcp", {}, "one of command, url or server", marks=needs_mcp),
        pytest.param("mcp", {"command": "a", "url": "b"}, "one of command, url or server", marks=needs_mcp),
        pytest.param("mcp", {"url": "b", "env": {"A": "b"}}, "env and cwd are for", marks=needs_mcp),
        pytest.param("mcp", {"command": "a", "headers": {"A": "b"}}, "headers are for", marks=needs_mcp),
        pytest.param("mcp", {"command": " "}, "command of an MCP environment is empty", marks=needs_mcp),
    ],
)
def test_what_does_not_fit_says_what_to_change(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make_environment_factory(name, **options)
