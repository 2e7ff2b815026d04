"""Answers that the model could not end: cut at the limit of tokens."""

from __future__ import annotations

from collections.abc import Collection

_SHARE, _LEAST = 0.05, 3


class Answers:
    """Counts a run's rollouts that have an answer, those of them in which one was `cut` at its limit, and the `empty`
    ones among these: a model that thinks may use up the limit before it says anything.

    A rollout that is served from the store counts like any other, once; those that an older version stored do not say
    whether they were cut. `limits` are the endpoints' limits, in tokens.
    """

    def __init__(self, limits: Collection[int]) -> None:
        self._limits = frozenset(limits)
        self._seen: set[str] = set()
        self.cut = self.empty = 0

    def count(self, key: str, output: str, *, cut: bool) -> None:
        """Takes note of the rollout `key`; of its first time only."""
        if key in self._seen:
            return
        self._seen.add(key)
        self.cut += cut
        self.empty += cut and not output.strip()

    def notes(self) -> tuple[str, ...]:
        """What the result should say: nothing below 3 cut answers, and at 5 % of all or less."""
        total = len(self._seen)
        if self.cut < _LEAST or self.cut <= _SHARE * total:
            return ()
        at = "max_completion_tokens"
        if len(self._limits) == 1:
            at += f" = {next(iter(self._limits))}"
        empty = f" ({self.empty} of them empty)" if self.empty else ""
        return (f"{self.cut} of {total} answers were cut at {at}{empty}; raise it, or ask for shorter answers",)
