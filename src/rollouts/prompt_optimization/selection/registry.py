"""Selectors by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping

from rollouts.errors import ConfigError
from rollouts.prompt_optimization.selection.base import Selector, Space
from rollouts.prompt_optimization.selection.random import RandomSelector
from rollouts.prompt_optimization.selection.settings import SelectorSettings


def _tpe(space: Space, settings: SelectorSettings) -> Selector:
    from rollouts.prompt_optimization.selection.tpe import TPESelector  # optuna takes long to import

    return TPESelector(space, settings)


SELECTORS: Mapping[str, Callable[[Space, SelectorSettings], Selector]] = {"random": RandomSelector, "tpe": _tpe}


def make_selector(name: str, space: Space, settings: SelectorSettings) -> Selector:
    """The selector of that name; raises ConfigError with the nearest one."""
    if name not in SELECTORS:
        near = difflib.get_close_matches(name, SELECTORS, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"unknown selector {name!r} (known: {', '.join(SELECTORS)}){hint}")
    return SELECTORS[name](space, settings)
