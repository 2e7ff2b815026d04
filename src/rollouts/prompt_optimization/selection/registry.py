"""Selectors by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping

from rollouts.errors import ConfigError
from rollouts.prompt_optimization.selection.base import Selector, Space
from rollouts.prompt_optimization.selection.random import RandomSelector
from rollouts.prompt_optimization.selection.settings import SelectorSettings
from rollouts.prompt_optimization.selection.successive_halving import SuccessiveHalvingSelector
from rollouts.prompt_optimization.selection.successive_rejects import SuccessiveRejectsSelector


def _tpe(space: Space, settings: SelectorSettings) -> Selector:
    from rollouts.prompt_optimization.selection.tpe import TPESelector  # optuna takes long to import

    return TPESelector(space, settings)


def _racing(space: Space, settings: SelectorSettings) -> Selector:
    from rollouts.prompt_optimization.selection.racing import RacingSelector  # numpy takes long to import

    return RacingSelector(space, settings)


SELECTORS: Mapping[str, Callable[[Space, SelectorSettings], Selector]] = {
    "racing": _racing,
    "tpe": _tpe,
    "successive_halving": SuccessiveHalvingSelector,
    "successive_rejects": SuccessiveRejectsSelector,
    "random": RandomSelector,
}

TRIAL_SELECTORS = frozenset({"tpe", "random"})
"""Those that try one candidate on one minibatch at a time; the others spend `SelectorSettings.budget` to its end."""


def check_selector(name: str, where: str) -> None:
    """Raises ConfigError, which says `where` the name stands and which is near, when there is no such selector."""
    if name not in SELECTORS:
        near = difflib.get_close_matches(name, SELECTORS, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"{where} {name!r} (known: {', '.join(SELECTORS)}){hint}")


def make_selector(name: str, space: Space, settings: SelectorSettings) -> Selector:
    """The selector of that name; raises ConfigError with the nearest one."""
    check_selector(name, "unknown selector")
    return SELECTORS[name](space, settings)
