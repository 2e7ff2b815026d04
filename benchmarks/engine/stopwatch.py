"""Wall-clock and CPU time of this process, all its threads included."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple


class Taken(NamedTuple):
    """Seconds."""

    wall: float
    cpu: float

    def least(self, other: Taken) -> Taken:
        """The smaller of each: noise only ever adds."""
        return Taken(min(self.wall, other.wall), min(self.cpu, other.cpu))


NEVER = Taken(float("inf"), float("inf"))


class Stopwatch:
    """Runs from when it is made."""

    def __init__(self) -> None:
        self._start = time.perf_counter(), time.process_time()

    def taken(self) -> Taken:
        """What has passed."""
        return Taken(time.perf_counter() - self._start[0], time.process_time() - self._start[1])


def best_of(measures: dict[str, Callable[[], Taken]], rounds: int) -> dict[str, Taken]:
    """The least of each measure; they take turns, so that noise of the machine meets all."""
    best = dict.fromkeys(measures, NEVER)
    for _ in range(rounds):
        for name, measure in measures.items():
            best[name] = best[name].least(measure())
    return best
