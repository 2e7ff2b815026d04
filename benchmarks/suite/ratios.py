"""Ratios of a run of the benchmarks, and whether they are worse than those of another run. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

WORST = 0.2
"""How much worse than the baseline a ratio may be, as a share of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """One figure without a unit, such as ours divided by the peer's in the same run.

    `aim` is what the project wants to reach: it is shown beside the value and fails nothing. `part` is the part of the
    suite that measured it.
    """

    name: str
    value: float
    higher_is_better: bool
    aim: float | None = None
    part: str = ""

    def to_json(self) -> dict[str, Any]:
        """Without its name."""
        kept = {"part": self.part, "ratio": self.value, "higher_is_better": self.higher_is_better}
        return kept if self.aim is None else {**kept, "aim": self.aim}

    @classmethod
    def from_json(cls, name: str, data: Mapping[str, Any]) -> Ratio:
        """The inverse of `to_json`."""
        return cls(
            name=name,
            value=data["ratio"],
            higher_is_better=data["higher_is_better"],
            aim=data.get("aim"),
            part=data.get("part", ""),
        )

    @property
    def reached(self) -> bool:
        """Whether the value is as good as the aim, or there is none."""
        if self.aim is None:
            return True
        return self.value >= self.aim if self.higher_is_better else self.value <= self.aim

    def line(self, before: Ratio | None) -> str:
        """In words, with the change from `before`."""
        text = f"{self.name}: {self.value:.3g} ({'higher' if self.higher_is_better else 'lower'} is better)"
        if self.aim is not None:
            text += f", aim {self.aim:g} {'reached' if self.reached else 'missed'}"
        return text if before is None else f"{text}, baseline {before.value:.3g}, {change(before, self)}"


def worse_by(before: Ratio, now: Ratio) -> float:
    """How much worse `now` is, as a share of `before`; negative where it is better. What is no number is worse than
    any number."""
    if not math.isfinite(now.value):
        return math.inf
    if not before.value:
        return math.inf if (now.value < 0 if now.higher_is_better else now.value > 0) else 0.0
    share = (now.value - before.value) / abs(before.value)
    return -share if now.higher_is_better else share


def change(before: Ratio, now: Ratio) -> str:
    """`worse_by` in words."""
    worse = worse_by(before, now)
    return f"worse by {worse:.0%}" if worse > 0 else f"better by {-worse:.0%}" if worse < 0 else "the same"


def regressions(before: Mapping[str, Ratio], now: Iterable[Ratio], worst: float = WORST) -> list[Ratio]:
    """Those of `now` that are worse than in `before` by more than the share `worst`; what is not in `before` is not."""
    return [ratio for ratio in now if ratio.name in before and worse_by(before[ratio.name], ratio) > worst]


def vanished(before: Mapping[str, Ratio], now: Iterable[Ratio], parts: Collection[str]) -> list[Ratio]:
    """Those of `before` that one of `parts` measured then and none measured now."""
    names = {ratio.name for ratio in now}
    return [ratio for name, ratio in before.items() if ratio.part in parts and name not in names]


def medians(rounds: Sequence[Sequence[Ratio]]) -> list[Ratio]:
    """Of each ratio the median over the rounds that have it, in the order of first meeting."""
    found: dict[str, list[Ratio]] = {}
    for ratios in rounds:
        for ratio in ratios:
            found.setdefault(ratio.name, []).append(ratio)
    return [replace(same[0], value=median(ratio.value for ratio in same)) for same in found.values()]


def better(first: Ratio, second: Ratio) -> Ratio:
    """The better of two measurements of one ratio: noise of the machine only makes it worse."""
    return second if worse_by(first, second) < 0 else first
