"""The HTTP service: jobs, keys, events, the interceptor, and routes that other SDKs speak."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from rollouts.errors import ConfigError

if TYPE_CHECKING:
    from rollouts.service.app import create_app
    from rollouts.service.settings import ServiceSettings, load_settings

__all__ = ["ServiceSettings", "create_app", "load_settings"]

_HOMES = {"create_app": "app", "ServiceSettings": "settings", "load_settings": "settings"}

if not all(map(find_spec, ("fastapi", "nacl", "uvicorn"))):
    raise ConfigError('the service needs more packages: pip install "rollouts-optimizer[serve]"')


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
