"""What all plots of the report share: their form, and the colours of methods and agents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from rollouts.experiments.sweep.methods import START
from rollouts.experiments.sweep.records import RunRecord

_METHODS = ("#3b82f6", "#f59e0b", "#10b981", "#ec4899", "#8b5cf6", "#06b6d4", "#84cc16", "#ef4444")
AGENTS = ("#7c9cf5", "#f5b971", "#7fd1b9", "#e58fb1", "#b39ddb", "#8fd3e8", "#c5d86d", "#c0a392")
GREY = "#94a3b8"
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star", "hexagon")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One plot: what plotly draws, and the words around it. `height` is in pixels."""

    id: str
    title: str
    caption: str
    data: Sequence[Mapping[str, Any]]
    layout: Mapping[str, Any]
    height: int = 380

    def to_json(self) -> dict[str, Any]:
        """What the page's script needs."""
        return {"id": self.id, "data": list(self.data), "layout": {**self.layout, "height": self.height}}


@dataclass(frozen=True, slots=True)
class Palette:
    """One colour and symbol for each method, the same in all plots; the start is grey."""

    methods: tuple[str, ...]
    start: frozenset[str]

    @classmethod
    def of(cls, records: Iterable[RunRecord]) -> Palette:
        records = list(records)
        names = dict.fromkeys(record.method for record in records)
        start = frozenset(record.method for record in records if record.algorithm == START)
        return cls(tuple(name for name in names if name not in start), start)

    def colour(self, method: str) -> str:
        return GREY if method in self.start else _METHODS[self.methods.index(method) % len(_METHODS)]

    def symbol(self, method: str) -> str:
        return "circle-open" if method in self.start else _SYMBOLS[self.methods.index(method) % len(_SYMBOLS)]


def by_method(records: Sequence[RunRecord]) -> list[tuple[str, list[RunRecord]]]:
    """The records of each method, in the order in which methods first come."""
    order = list(dict.fromkeys(record.method for record in records))
    ranked = sorted(records, key=lambda record: order.index(record.method))
    return [(method, list(mine)) for method, mine in groupby(ranked, key=lambda record: record.method)]
