"""Where an endpoint is and which key it takes: from its settings, the environment, or a `.env` file.

Nothing here writes to the environment, and no message holds a key.
"""

from __future__ import annotations

import html
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from dotenv import dotenv_values, find_dotenv

from rollouts.dtypes import Endpoint
from rollouts.errors import ConfigError
from rollouts.llm.registry import PROVIDERS, ProviderSpec, host_of, is_loopback, spec_of

_SHORTEST_SECRET = 4


def key_of(endpoint: Endpoint) -> str | None:
    """The endpoint's key: `api_key`, else the variable `api_key_env`, else one of its provider's variables.

    Variables are looked up in the environment, then in the nearest `.env` file from the current directory upwards.
    None when there is no key and none is needed (a self-hosted provider, or a `base_url` on this machine). Raises
    ConfigError that names the variable to set otherwise, or when the key cannot be sent in a header.
    """
    spec = spec_of(endpoint.provider)
    if endpoint.api_key is not None:
        return _sendable(endpoint.api_key, "api_key")
    names = (endpoint.api_key_env,) if endpoint.api_key_env else spec.key_env
    for name, value in _lookup(names):
        return _sendable(value, name)
    if endpoint.api_key_env is None and (not spec.needs_key or is_loopback(address_of(endpoint))):
        return None
    raise ConfigError(
        f"no key for {endpoint.name}: set the environment variable {names[0]}, or write {names[0]}=... in a file "
        "named .env in this directory or one above it"
    )


def address_of(endpoint: Endpoint) -> str:
    """The endpoint's base URL, without a trailing slash: its own, its provider's variable, or the default.

    Raises ConfigError when there is none, or it is not an http(s) URL. Empty for the embedded model.
    """
    spec = spec_of(endpoint.provider)
    if spec.wire == "local":
        return ""
    url, origin = endpoint.base_url, "base_url"
    if url is None:
        origin, url = next(iter(_lookup(spec.base_url_env)), ("base_url", spec.base_url))
    if url is None:
        ways = " or ".join(["base_url", *spec.base_url_env])
        raise ConfigError(f"no address for {endpoint.name}: set {ways}, for example {spec.example}")
    return _normal(url.strip(), spec, origin)


def located(endpoint: Endpoint) -> Endpoint:
    """The endpoint with the address that the environment gives it, so that answers are known by where they come from.

    It is returned as it is when it names an address itself, or when the environment gives none, or the provider's
    default. For keys and names only: user and password of the URL are left out.
    """
    spec = PROVIDERS.get(endpoint.provider)
    if endpoint.base_url is not None or spec is None or not _lookup(spec.base_url_env):
        return endpoint
    url = address_of(endpoint)
    if url.removesuffix("/v1") == (spec.base_url or "").removesuffix("/v1"):
        return endpoint
    return replace(endpoint, base_url=urlunsplit(urlsplit(url)._replace(netloc=host_of(url))))


def secrets_of(endpoint: Endpoint, key: str | None, url: str) -> tuple[str, ...]:
    """What no message may show: the key, the values of the endpoint's own headers and query, the password of `url`."""
    parts = urlsplit(url)
    password = parts.password or parts.username or ""
    sent = [*endpoint.extra.get("extra_headers", {}).values(), *endpoint.extra.get("extra_query", {}).values()]
    return (key or "", password, unquote(password), *map(str, sent))


def redact(text: str, secrets: Iterable[str | None]) -> str:
    """`text` with every secret replaced by `[redacted]`, also where it stands escaped with backslashes, for a URL or
    for HTML. Secrets of less than four characters are left: they would take ordinary words with them."""
    for secret in secrets:
        if secret and len(secret) >= _SHORTEST_SECRET:
            forms = sorted({secret, quote(secret, safe=""), html.escape(secret)}, key=len, reverse=True)
            pattern = "|".join(r"\\*".join(map(re.escape, form)) for form in forms)
            text = re.sub(pattern, "[redacted]", text)
    return text


def _lookup(names: Iterable[str]) -> list[tuple[str, str]]:
    """The non-empty variables among `names`, in order of preference: all of the environment before any of `.env`."""
    wanted = tuple(names)
    found = _present(os.environ, wanted)
    if found or not wanted:
        return found
    path = find_dotenv(usecwd=True)
    return _present(dotenv_values(path), wanted) if path else []


def _present(variables: Mapping[str, str | None], names: Iterable[str]) -> list[tuple[str, str]]:
    return [(name, value) for name in names if (value := (variables.get(name) or "").strip())]


def _sendable(key: str, origin: str) -> str | None:
    key = key.strip()
    if not all(32 < ord(character) < 127 for character in key):
        raise ConfigError(f"the key from {origin} holds a space or a character that no key has: copy it again")
    return key or None


def _normal(url: str, spec: ProviderSpec, origin: str) -> str:
    if spec.name == "ollama" and origin == "OLLAMA_HOST":
        url = _ollama_url(url)
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable:
        raise ConfigError(f"{origin} of provider {spec.name!r} must be a URL such as https://host/v1")
    return url.rstrip("/").removesuffix("/chat/completions").removesuffix("/messages")


def _ollama_url(host: str) -> str:
    """`OLLAMA_HOST` is written for the server: `host`, `:port`, `0.0.0.0:port`, with or without scheme and path."""
    parts = urlsplit(host if "://" in host else f"http://{host}")
    name = parts.hostname or "127.0.0.1"
    name = "127.0.0.1" if name == "0.0.0.0" else f"[{name}]" if ":" in name else name  # noqa: S104 - not bound here
    path = parts.path.rstrip("/") or "/v1"
    return f"{parts.scheme}://{name}:{parts.port or 11434}{path}"
