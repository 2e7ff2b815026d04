"""Fakes to test programs, optimizers and stores with: no network but this machine's own, no waiting, no money."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rollouts.testing.clock import FakeClock
    from rollouts.testing.faulty_store import FaultyStore
    from rollouts.testing.mock_provider import MockProvider
    from rollouts.testing.scripted import ScriptedLLM
    from rollouts.testing.simulated import SimulatedLLM
    from rollouts.testing.task import SimulatedTask

__all__ = ["FakeClock", "FaultyStore", "MockProvider", "ScriptedLLM", "SimulatedLLM", "SimulatedTask"]

# Loaded when first used: the mock provider needs an HTTP server, the faulty store a database.
_HOMES = {
    "FakeClock": "clock",
    "FaultyStore": "faulty_store",
    "MockProvider": "mock_provider",
    "ScriptedLLM": "scripted",
    "SimulatedLLM": "simulated",
    "SimulatedTask": "task",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
