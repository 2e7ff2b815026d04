"""The end of a message about a name that there is not."""

from __future__ import annotations

from collections.abc import Iterable

from rollouts.experiments.config_errors import nearest


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Asks after the near one of `names`, or ends the sentence where none is near; another sentence can follow."""
    guess = nearest(name, names)
    return "." if guess is None else f"; did you mean {guess!r}?"
