"""The job that comes with the package: no key, no network, no files needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rollouts.experiments.loading import LoadedConfig, load_config

DEMO = Path(__file__).with_name("demo.toml")
"""A job file like any other; copy it to begin with."""


def demo_config(overrides: Sequence[str] = ()) -> LoadedConfig:
    """The demo's job, with `overrides` as in `load_config`."""
    return load_config(DEMO, overrides)
