"""Serve a task over HTTP, and drive a task that is served."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from rollouts.errors import ConfigError

if TYPE_CHECKING:
    from rollouts.taskapp.app import create_task_app
    from rollouts.taskapp.calls import Rollout
    from rollouts.taskapp.program import Asked, remote_program, reward_of
    from rollouts.taskapp.programs import serve_program
    from rollouts.taskapp.remote import AppInfo, AppLimits, RemoteApp
    from rollouts.taskapp.trials import LateDesk, TrialDesk, TrialSpec

_HOMES = {
    "app": ("create_task_app",),
    "calls": ("Rollout",),
    "program": ("Asked", "remote_program", "reward_of"),
    "programs": ("serve_program",),
    "remote": ("AppInfo", "AppLimits", "RemoteApp"),
    "trials": ("LateDesk", "TrialDesk", "TrialSpec"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AppInfo",
    "AppLimits",
    "Asked",
    "LateDesk",
    "RemoteApp",
    "Rollout",
    "TrialDesk",
    "TrialSpec",
    "create_task_app",
    "remote_program",
    "reward_of",
    "serve_program",
]


def __getattr__(name: str) -> Any:
    """Names are loaded when they are first used: serving needs the extra `serve`, driving an app does not."""
    if name in _HOME:
        try:
            return getattr(importlib.import_module(f"rollouts.taskapp.{_HOME[name]}"), name)
        except ModuleNotFoundError as missing:
            needs = f"rollouts.taskapp.{name} needs {missing.name}: pip install 'rollouts-optimizer[serve]'"
            raise ConfigError(needs) from None
    raise AttributeError(f"module 'rollouts.taskapp' has no attribute {name!r}")
