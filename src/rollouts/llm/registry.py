"""The providers by name: which protocol they speak, where they are, which variables hold their keys. Data only.

To add an OpenAI-compatible provider, add one line to `_PROVIDERS`.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from types import MappingProxyType
from typing import Literal
from urllib.parse import urlsplit

from rollouts.errors import ConfigError

Wire = Literal["openai", "anthropic", "local"]
Structured = Literal["json_schema", "structured_outputs", "grammar", "json_object"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSpec:
    """What is known of a provider before anything is sent.

    `base_url` is used when neither the endpoint nor one of `base_url_env` gives one; None means that one is needed.
    `key_env` are the variables that may hold the key, the first one is the one to recommend. `prices` is the provider's
    id in the `genai-prices` tables; None with `self_hosted` means free, None without it means unknown.
    The fields below `needs_key` are the ways in which "OpenAI-compatible" servers differ.
    """

    name: str
    wire: Wire = "openai"
    base_url: str | None = None
    base_url_env: tuple[str, ...] = ()
    key_env: tuple[str, ...] = ()
    prices: str | None = None
    self_hosted: bool = False
    example: str = "https://host/v1"
    """What an address looks like, for the message where one is needed."""
    needs_key: bool = True
    key_header: Literal["authorization", "api-key"] = "authorization"
    limit_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    seed_field: str = "seed"
    structured: Structured = "json_schema"
    stream_usage: bool = True
    """Whether the server knows `stream_options.include_usage`."""
    openai_models: bool = False
    """Whether `o*` and `gpt-5*` are OpenAI's reasoning models, which refuse sampling settings."""


_PROVIDERS = (
    ProviderSpec(
        name="openai",
        base_url="https://api.openai.com/v1",
        base_url_env=("OPENAI_BASE_URL", "OPENAI_API_BASE"),
        key_env=("OPENAI_API_KEY",),
        prices="openai",
        limit_field="max_completion_tokens",
        openai_models=True,
    ),
    ProviderSpec(
        name="anthropic",
        wire="anthropic",
        base_url="https://api.anthropic.com",
        base_url_env=("ANTHROPIC_BASE_URL",),
        key_env=("ANTHROPIC_API_KEY",),
        prices="anthropic",
    ),
    ProviderSpec(
        name="azure",
        base_url_env=("AZURE_OPENAI_ENDPOINT",),
        key_env=("AZURE_OPENAI_API_KEY", "AZURE_API_KEY"),
        prices="azure",
        example="https://NAME.openai.azure.com",
        key_header="api-key",
        limit_field="max_completion_tokens",
        openai_models=True,
    ),
    ProviderSpec(
        name="bedrock",
        base_url_env=("BEDROCK_BASE_URL",),
        key_env=("AWS_BEARER_TOKEN_BEDROCK",),
        prices="aws",
        example="https://bedrock-mantle.us-east-1.api.aws/v1",
        limit_field="max_completion_tokens",
    ),
    ProviderSpec(
        name="gemini",
        base_url="https://generativelanguage.googleapis.com/v1beta/openai",
        key_env=("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        prices="google",
    ),
    ProviderSpec(
        name="groq",
        base_url="https://api.groq.com/openai/v1",
        key_env=("GROQ_API_KEY",),
        prices="groq",
        limit_field="max_completion_tokens",
    ),
    ProviderSpec(
        name="openrouter",
        base_url="https://openrouter.ai/api/v1",
        key_env=("OPENROUTER_API_KEY",),
        prices="openrouter",
    ),
    ProviderSpec(
        name="together",
        base_url="https://api.together.xyz/v1",
        key_env=("TOGETHER_API_KEY",),
        prices="together",
    ),
    ProviderSpec(
        name="fireworks",
        base_url="https://api.fireworks.ai/inference/v1",
        key_env=("FIREWORKS_API_KEY",),
        prices="fireworks",
    ),
    ProviderSpec(
        name="deepseek",
        base_url="https://api.deepseek.com/v1",
        key_env=("DEEPSEEK_API_KEY",),
        prices="deepseek",
        structured="json_object",
    ),
    ProviderSpec(
        name="mistral",
        base_url="https://api.mistral.ai/v1",
        key_env=("MISTRAL_API_KEY",),
        prices="mistral",
        seed_field="random_seed",
        stream_usage=False,
    ),
    ProviderSpec(
        name="xai",
        base_url="https://api.x.ai/v1",
        key_env=("XAI_API_KEY",),
        prices="x-ai",
        limit_field="max_completion_tokens",
    ),
    ProviderSpec(
        name="vllm",
        base_url="http://127.0.0.1:8000/v1",
        base_url_env=("VLLM_BASE_URL",),
        key_env=("VLLM_API_KEY",),
        self_hosted=True,
        needs_key=False,
        structured="structured_outputs",
    ),
    ProviderSpec(
        name="ollama",
        base_url="http://127.0.0.1:11434/v1",
        base_url_env=("OLLAMA_HOST",),
        key_env=("OLLAMA_API_KEY",),
        self_hosted=True,
        needs_key=False,
    ),
    ProviderSpec(name="openai_compatible", key_env=("OPENAI_COMPATIBLE_API_KEY",), needs_key=False),
    ProviderSpec(name="local", wire="local", self_hosted=True, needs_key=False),
)

PROVIDERS: Mapping[str, ProviderSpec] = MappingProxyType({spec.name: spec for spec in _PROVIDERS})


def spec_of(provider: str) -> ProviderSpec:
    """The provider with that name; raises ConfigError that names the nearest one."""
    spec = PROVIDERS.get(provider)
    if spec is None:
        near = difflib.get_close_matches(provider.lower(), PROVIDERS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ConfigError(
            f"unknown provider {provider!r}: {hint}known are {', '.join(sorted(PROVIDERS))}; "
            "for any other OpenAI-compatible server use 'openai_compatible' with a base_url"
        )
    return spec


def host_of(url: str) -> str:
    """Host and port of a URL, without user, password, path or query: what an error message may show."""
    return urlsplit(url).netloc.rpartition("@")[2]


def is_loopback(url: str) -> bool:
    """Whether the URL leads to this machine."""
    host = (urlsplit(url).hostname or "").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified
