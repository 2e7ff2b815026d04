"""The tasks of the experiments, by name: programs of one or several modules with data that comes with the package."""

from __future__ import annotations

from importlib import import_module

from rollouts.datasets.tables import did_you_mean
from rollouts.errors import ConfigError
from rollouts.experiments.tasks.bundle import TaskBundle

__all__ = ["TaskBundle", "load_task", "task_names"]

_NAMES = ("classification", "generation", "multi_module", "support_team")


def task_names() -> tuple[str, ...]:
    """The names that `load_task` knows."""
    return _NAMES


def load_task(name: str) -> TaskBundle:
    """The task of that name. Raises ConfigError for an unknown one, with the nearest name."""
    if name not in _NAMES:
        raise ConfigError(f"there is no task {name!r}; {did_you_mean(name, _NAMES)}")
    bundle: TaskBundle = import_module(f"{__name__}.{name}").bundle()
    return bundle
