"""The trackers by name."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal

from rollouts.errors import ConfigError
from rollouts.integrations.tracking.base import Tracker

TrackerName = Literal["mlflow", "wandb"]
TRACKERS: tuple[TrackerName, ...] = ("mlflow", "wandb")


def make_tracker(name: TrackerName) -> Tracker:
    """A tracker for one run; nothing is sent yet. Raises ConfigError for an unknown one, and where its package is
    missing."""
    if name not in TRACKERS:
        raise ConfigError(f"there is no tracker {name!r}; there are: {', '.join(TRACKERS)}")
    if find_spec(name) is None:
        raise ConfigError(f"the tracker {name!r} needs its package: pip install 'rollouts-optimizer[{name}]'")
    if name == "mlflow":
        from rollouts.integrations.tracking.to_mlflow import MLflowRun

        return MLflowRun()
    from rollouts.integrations.tracking.to_wandb import WandbRun

    return WandbRun()
