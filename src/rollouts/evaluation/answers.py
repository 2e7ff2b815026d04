"""Answers that the model could not end: cut at the limit of tokens."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field

_SHARE, _LEAST = 0.05, 3


@dataclass
class _OfProgram:
    seen: set[str] = field(default_factory=set)
    cut: int = 0
    empty: int = 0


class Answers:
    """Counts, by program, the rollouts that have an answer, those of them in which one was cut at its limit, and the
    empty ones among these: a model that thinks may use up the limit before it says anything.

    A rollout that is served from the store counts like any other, once; those that an older version stored do not say
    whether they were cut. `limits` are the endpoints' limits, in tokens.
    """

    def __init__(self, limits: Collection[int]) -> None:
        self._limits = frozenset(limits)
        self._by_program: defaultdict[str, _OfProgram] = defaultdict(_OfProgram)

    def count(self, program: str, key: str, output: str, *, cut: bool) -> None:
        """Takes note of the rollout `key` of the program with that digest; of its first time only."""
        of = self._by_program[program]
        if key not in of.seen:
            of.seen.add(key)
            of.cut += cut
            of.empty += cut and not output.strip()

    def notes(self, program: str, whose: str = "") -> tuple[str, ...]:
        """What the result should say of a program, called `whose`: nothing below 3 cut answers, and at 5 % of its
        answers or less."""
        of = self._by_program[program]
        if of.cut < _LEAST or of.cut <= _SHARE * len(of.seen):
            return ()
        at = "max_completion_tokens"
        if len(self._limits) == 1:
            at += f" = {next(iter(self._limits))}"
        empty = f" ({of.empty} of them empty)" if of.empty else ""
        answers = f"answers of {whose}" if whose else "answers"
        return (f"{of.cut} of {len(of.seen)} {answers} were cut at {at}{empty}; raise it, or ask for shorter answers",)
