"""Where a service's settings come from."""

from __future__ import annotations

from pathlib import Path

import pytest

from rollouts.dtypes import Endpoint, Sampling
from rollouts.errors import ConfigError
from rollouts.service import load_settings

FILE = """\
port = 9000
slots = 8
allow_networks = ["10.0.0.0/8"]

[models."openai/gpt-4.1-nano"]
provider = "local"
model = "smollm2-135m"

[models."google/*"]
provider = "openai_compatible"
model = "any"
base_url = "http://models.internal/v1"
price = { input = 1.0, output = 2.0 }
"""


def test_later_places_win(tmp_path: Path) -> None:
    file = tmp_path / "serve.toml"
    file.write_text(FILE)
    environment = {"ROLLOUTS_STORE": "a.db", "ROLLOUTS_SERVE_PORT": "9001", "ROLLOUTS_SERVE_HOST": "::1", "HOME": "/"}
    settings = load_settings(file, environment, slots=4, port=None)
    assert (settings.port, settings.slots, settings.host, settings.store) == (9001, 4, "::1", "a.db")
    assert settings.loopback
    assert not load_settings(None, {}, host="0.0.0.0").loopback


def test_models_are_what_the_settings_say(tmp_path: Path) -> None:
    file = tmp_path / "serve.toml"
    file.write_text(FILE)
    settings = load_settings(file, {})
    sampling = Sampling(temperature=0.5, max_tokens=7)
    meant = settings.resolve(Endpoint(provider="openai", model="gpt-4.1-nano", sampling=sampling))
    assert (meant.provider, meant.model, meant.sampling) == ("local", "smollm2-135m", sampling)
    assert settings.resolve(Endpoint(provider="gemini", model="x")).base_url == "http://models.internal/v1"
    other = Endpoint(provider="openai", model="gpt-4.1")
    assert settings.resolve(other) is other


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prot = 1", r"prot \(.*serve.toml\).*did you mean 'port'"),
        ("port = 70000", r"port \(.*serve.toml\)"),
        ('[models.a]\nbase_ulr = "http://x"', r"models.a.base_ulr.*did you mean 'base_url'"),
        ("port = ", "no valid TOML"),
    ],
)
def test_wrong_settings_say_where_they_came_from(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "serve.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=said):
        load_settings(file, {})


def test_a_wrong_variable_is_named() -> None:
    with pytest.raises(ConfigError, match=r"slots \(ROLLOUTS_SERVE_SLOTS\)"):
        load_settings(None, {"ROLLOUTS_SERVE_SLOTS": "many"})


def test_keys_are_given_away_on_this_machine_only() -> None:
    assert not load_settings(None, {}).demo_keys
    assert load_settings(None, {}, demo_keys=True, host="localhost").demo_keys
    with pytest.raises(ConfigError, match=r"demo_keys \(command line\): keys are given away on this machine only"):
        load_settings(None, {}, demo_keys=True, host="0.0.0.0")
    with pytest.raises(ConfigError, match="demo_keys"):
        load_settings(None, {"ROLLOUTS_SERVE_HOST": "10.0.0.1", "ROLLOUTS_SERVE_DEMO_KEYS": "true"})
