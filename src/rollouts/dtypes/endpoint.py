"""Where a model is and how it samples. Data only: `rollouts.llm.connect` makes a client from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import lru_cache
from typing import Any

from rollouts.dtypes.digests import digest, digest_of
from rollouts.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How the model samples. `max_tokens` bounds the answer and so the worst case of a call."""

    temperature: float = 0.0
    max_tokens: int = 1024
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """Dollars per million tokens. `cached_input` None means that cached tokens cost as much as others."""

    input: Decimal
    output: Decimal
    cached_input: Decimal | None = None


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One model behind one provider.

    `provider` is a name that `rollouts.llm` knows (`openai`, `anthropic`, `groq`, `ollama`, `local`, ...); `base_url`
    overrides its address. The key is read from the environment variable `api_key_env` (default: the provider's own),
    or given as `api_key`, which is never printed, compared or stored. `timeout_s` bounds one attempt.
    `extra` holds provider fields sent as they are.
    """

    provider: str
    model: str
    base_url: str | None = None
    sampling: Sampling = field(default_factory=Sampling)
    timeout_s: float = 60.0
    price: Price | None = None
    api_key_env: str | None = None
    api_key: str | None = field(default=None, repr=False, compare=False)
    stream: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @classmethod
    def parse(cls, text: str, **settings: Any) -> Endpoint:
        """`provider/model`, as in `openai/gpt-4.1-nano`; the model may hold more slashes. `local` alone is enough."""
        provider, _, model = text.strip().partition("/")
        if provider == "local" and not model:
            model = "smollm2-135m"
        if not provider or not model:
            raise ConfigError(f"endpoint {text!r} must be 'provider/model', for example 'openai/gpt-4.1-nano'")
        return cls(provider=provider, model=model, **settings)

    @property
    def name(self) -> str:
        """`provider/model`."""
        return f"{self.provider}/{self.model}"

    @property
    def connection(self) -> str:
        """What a client is made for: endpoints that differ in sampling only share one. Of a key it holds a digest."""
        key = f" {digest(self.api_key)}" if self.api_key else ""
        return f"{self.name} {self.base_url or ''} {self.api_key_env or ''}{key}"

    @property
    def digest(self) -> str:
        """Key of what decides the answer: not of timeout, price, key or streaming."""
        return _endpoint_digest(self.provider, self.model, self.base_url, self.sampling, _frozen(self.extra))

    def with_sampling(self, **changes: Any) -> Endpoint:
        """A copy with some sampling settings changed."""
        return replace(self, sampling=replace(self.sampling, **changes))


def _frozen(extra: Mapping[str, Any]) -> str:
    return digest_of(dict(extra)) if extra else ""


@lru_cache(maxsize=256)
def _endpoint_digest(provider: str, model: str, base_url: str | None, sampling: Sampling, extra: str) -> str:
    s = sampling
    return digest_of([provider, model, base_url, s.temperature, s.max_tokens, s.top_p, s.seed, list(s.stop), extra])
