"""Schedulers by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence

from rollouts.errors import ConfigError
from rollouts.prompt_optimization.scheduling.adaptive import Adaptive
from rollouts.prompt_optimization.scheduling.bandits import UCB, Thompson
from rollouts.prompt_optimization.scheduling.base import Scheduler
from rollouts.prompt_optimization.scheduling.simple import RoundRobin, Uniform

SCHEDULERS: Mapping[str, Callable[..., Scheduler]] = {
    "adaptive": Adaptive,
    "uniform": Uniform,
    "round_robin": RoundRobin,
    "ucb": UCB,
    "thompson": Thompson,
}


def make_scheduler(name: str, modules: Sequence[str], *, samples: int, seed: int = 0) -> Scheduler:
    """The scheduler of that name for these modules and `samples` samples; raises ConfigError with the nearest name."""
    if name not in SCHEDULERS:
        near = difflib.get_close_matches(name, SCHEDULERS, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"unknown scheduler {name!r} (known: {', '.join(SCHEDULERS)}){hint}")
    return SCHEDULERS[name](modules, samples=samples, seed=seed)
