"""Proposals that came to nothing, counted by reason. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

_SHOWN = 160


@dataclass(frozen=True, slots=True)
class Lost:
    """Why a proposal came to nothing: `reason` is that of all of its kind, `detail` is its own. Neither holds a
    secret."""

    reason: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else self.reason


Tell = Callable[[Lost | None], None]
"""Hears of every text that a model was asked for: None, or why it cannot be used."""


def nobody(lost: Lost | None) -> None:
    """A `Tell` that nobody listens to."""


@dataclass(slots=True)
class Proposals:
    """How many texts models were `asked` for in a run, and how many of them were `lost`, by reason."""

    asked: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    _examples: dict[str, str] = field(default_factory=dict)

    def count(self, lost: Lost | None) -> None:
        """Takes note of one more text."""
        self.asked += 1
        if lost is not None:
            self.lost[lost.reason] += 1
            self._examples.setdefault(lost.reason, short(lost.detail))

    def notes(self) -> tuple[str, ...]:
        """What the result should say: nothing where at least half of the texts could be used."""
        lost = self.lost.total()
        if 2 * lost <= self.asked:
            return ()
        found = ", ".join(self._told(reason, times) for reason, times in self.lost.most_common())
        left = self.asked - lost
        had = f"only {left} {'text' if left == 1 else 'texts'}" if left else "no text"
        return (f"{lost} of {self.asked} proposals failed: {found}; the search had {had} that a model wrote",)

    def _told(self, reason: str, times: int) -> str:
        example = self._examples[reason]
        such = "such as: " if times > 1 else ""
        return f"{times} x {reason}" + (f" ({such}{example})" if example else "")


def short(text: str) -> str:
    """`text` on one line, cut where it is long."""
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]} ..."
