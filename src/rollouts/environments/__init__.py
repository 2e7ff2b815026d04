"""Ready environments: tools for agents. `make_environment_factory` makes them from a name or an import path."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rollouts.environments.calculator import CalculatorEnvironment
    from rollouts.environments.functions import PythonFunctionsEnvironment
    from rollouts.environments.mcp import MCPEnvironment
    from rollouts.environments.registry import make_environment_factory

__all__ = ["CalculatorEnvironment", "MCPEnvironment", "PythonFunctionsEnvironment", "make_environment_factory"]

# Loaded when first used: functions need pydantic, which the calculator does without.
_HOMES = {
    "CalculatorEnvironment": "calculator",
    "MCPEnvironment": "mcp",
    "PythonFunctionsEnvironment": "functions",
    "make_environment_factory": "registry",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
