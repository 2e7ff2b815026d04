"""What a tracker of experiments is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A run that begins, or goes on: `run_id` is its id here, `settings` the job's, without secrets."""

    run_id: str
    name: str
    project: str
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a run ended: `values` are its last figures, `facts` what is said in words, `files` texts by file name."""

    status: Literal["done", "stopped", "failed"]
    values: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)


class Tracker(Protocol):
    """One run in a tracker. Its methods are called from one thread, in the order in which they stand here; they may
    take their time, and raise whatever they like."""

    def begin(self, run: Begun) -> None:
        """The run begins. One of the same id that was told of before goes on."""
        ...

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Figures after trial number `step`; a run that goes on tells its trials again."""
        ...

    def end(self, ended: Ended) -> None:
        """The run is over."""
        ...
