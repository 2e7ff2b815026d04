"""Where keys and addresses come from, and that they stay out of sight."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollouts.dtypes import Endpoint
from rollouts.errors import ConfigError
from rollouts.llm.keys import address_of, key_of, located, redact, secrets_of
from rollouts.llm.registry import PROVIDERS, host_of, is_loopback


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for spec in PROVIDERS.values():
        for name in (*spec.key_env, *spec.base_url_env):
            monkeypatch.delenv(name, raising=False)
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    return tmp_path


def at(provider: str, **settings: Any) -> Endpoint:
    return Endpoint(provider=provider, model="m", **settings)


def test_the_order_of_sources(clean: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (clean / ".env").write_text("OPENAI_API_KEY=from-file\nMINE='mine-from-file'\nGOOGLE_API_KEY=g\n")
    before = dict(os.environ)
    assert key_of(at("openai")) == "from-file"
    assert key_of(at("gemini")) == "g"
    assert key_of(at("openai", api_key_env="MINE")) == "mine-from-file"
    monkeypatch.setenv("OPENAI_API_KEY", " from-env\n")
    assert key_of(at("openai")) == "from-env"
    assert key_of(at("openai", api_key="given")) == "given"
    monkeypatch.setenv("OPENAI_API_KEY", "")
    assert key_of(at("openai")) == "from-file"
    monkeypatch.delenv("OPENAI_API_KEY")
    assert {k: v for k, v in os.environ.items() if k != "PYTEST_CURRENT_TEST"} == {
        k: v for k, v in before.items() if k != "PYTEST_CURRENT_TEST"
    }


def test_a_missing_key_says_what_to_set() -> None:
    with pytest.raises(ConfigError, match=r"set the environment variable GROQ_API_KEY.*\.env"):
        key_of(at("groq"))
    with pytest.raises(ConfigError, match="MY_KEY"):
        key_of(at("ollama", api_key_env="MY_KEY"))


def test_where_no_key_is_needed() -> None:
    for provider in ("ollama", "vllm", "local"):
        assert key_of(at(provider)) is None
    assert key_of(at("openai", base_url="http://localhost:4000/v1")) is None
    assert key_of(at("openai_compatible", base_url="https://models.example/v1")) is None


@pytest.mark.parametrize("key", ["has space", "zeilen\numbruch", "schlüssel", "tab\tkey"])
def test_an_unsendable_key_is_refused_without_showing_it(key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        key_of(at("openai", api_key=key))
    assert key not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("box", "http://box:11434/v1"),
        ("127.0.0.1:9", "http://127.0.0.1:9/v1"),
        ("0.0.0.0", "http://127.0.0.1:11434/v1"),
        (":8080", "http://127.0.0.1:8080/v1"),
        ("[::1]:7", "http://[::1]:7/v1"),
        ("https://box/ollama/v1/", "https://box:11434/ollama/v1"),
    ],
)
def test_ollama_host(host: str, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", host)
    assert address_of(at("ollama")) == url


def test_addresses(clean: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert address_of(at("openai")) == "https://api.openai.com/v1"
    monkeypatch.setenv("OPENAI_BASE_URL", "https://gate.example/v1/")
    assert address_of(at("openai")) == "https://gate.example/v1"
    assert address_of(at("openai", base_url="https://x.example/v1/chat/completions")) == "https://x.example/v1"
    assert address_of(at("local")) == ""
    with pytest.raises(ConfigError, match=r"AZURE_OPENAI_ENDPOINT, for example https://NAME\.openai\.azure\.com"):
        address_of(at("azure"))
    with pytest.raises(ConfigError, match="BEDROCK_BASE_URL, for example https://bedrock-mantle"):
        address_of(at("bedrock"))
    for wrong in ("localhost:8000", "ftp://x", "http://", "http://x:99999/v1", "http://x:port"):
        with pytest.raises(ConfigError, match="base_url"):
            address_of(at("openai_compatible", base_url=wrong))


def test_hosts() -> None:
    assert host_of("https://user:pass@h.example:8443/v1?k=1") == "h.example:8443"
    for url in ("http://localhost:1", "http://127.9.9.9", "http://[::1]:3/v1", "http://0.0.0.0", "http://x.localhost"):
        assert is_loopback(url)
    for url in ("https://localhost.example", "http://10.0.0.1", "https://api.openai.com"):
        assert not is_loopback(url)


keys = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8, max_size=40)


@given(keys, st.sampled_from(["{}", "Bearer {}", "'{}'", "{} and {}"]))
def test_redact_leaves_no_key(key: str, frame: str) -> None:
    text = frame.replace("{}", key)
    for shown in (text, repr(text), ascii(text)):
        assert key not in redact(shown, [key, None, ""])
        assert "[redacted]" in redact(shown, [key])


def test_redact_leaves_the_rest() -> None:
    assert redact("no key here", ["sk-1234"]) == "no key here"
    assert redact("sk-1234!", ["sk-1234"]) == "[redacted]!"


@pytest.mark.parametrize(
    ("provider", "variable", "value", "url"),
    [
        ("openai", "OPENAI_BASE_URL", "http://gateway:8080/v1/", "http://gateway:8080/v1"),
        ("azure", "AZURE_OPENAI_ENDPOINT", "https://mine.openai.azure.com", "https://mine.openai.azure.com"),
        ("ollama", "OLLAMA_HOST", "gpu-box", "http://gpu-box:11434/v1"),
        ("vllm", "VLLM_BASE_URL", "http://gpu:9000/v1", "http://gpu:9000/v1"),
        ("anthropic", "ANTHROPIC_BASE_URL", "https://proxy", "https://proxy"),
        ("openai", "OPENAI_BASE_URL", "https://me:sk-secret@host:1/v1", "https://host:1/v1"),
    ],
)
def test_an_address_from_the_environment_is_part_of_the_key(
    monkeypatch: pytest.MonkeyPatch, provider: str, variable: str, value: str, url: str
) -> None:
    before = at(provider)
    assert located(before) is before
    monkeypatch.setenv(variable, value)
    assert located(before) == at(provider, base_url=url)
    assert located(before).digest != before.digest
    assert located(at(provider, base_url="http://own/v1")) == at(provider, base_url="http://own/v1")


@pytest.mark.parametrize(
    ("provider", "variable", "value"),
    [
        ("openai", "OPENAI_BASE_URL", "https://api.openai.com/v1/"),
        ("anthropic", "ANTHROPIC_BASE_URL", "https://api.anthropic.com/v1"),
        ("ollama", "OLLAMA_HOST", "0.0.0.0"),
        ("vllm", "VLLM_BASE_URL", "http://127.0.0.1:8000/v1"),
    ],
)
def test_a_default_address_from_the_environment_changes_no_key(
    monkeypatch: pytest.MonkeyPatch, provider: str, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    assert located(at(provider)) == at(provider)


def test_what_is_no_provider_of_ours_has_no_address_to_look_up() -> None:
    assert located(at("fake")) == at("fake")
    assert located(at("local")) == at("local")


def test_everything_secret_that_is_sent_is_known() -> None:
    extra = {"extra_headers": {"X-One": "header-secret"}, "extra_query": {"key": "query-secret", "n": 12345}}
    found = secrets_of(at("openai", extra=extra), "sk-key", "https://me:p%40ss@host/v1")
    text = "header-secret query-secret 12345 sk-key p%40ss p@ss me"
    assert set(redact(text, found).split()) == {"[redacted]", "me"}
    assert "token-1" not in redact("https://token-1@host", secrets_of(at("openai"), None, "https://token-1@host"))
