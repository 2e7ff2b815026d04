"""Which cells were asked for, and what became of them, as growing arrays in the order of asking."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_FIRST = 1024


class CellLog:
    """Cells as (row, sample) in the order of asking, with their scores as they come in.

    Sums over `scored` are taken in the order of asking, so the order in which results arrive changes no digit of them.
    """

    def __init__(self) -> None:
        self._rows = np.zeros(_FIRST, dtype=np.int64)
        self._samples = np.zeros(_FIRST, dtype=np.int64)
        self._scores = np.full(_FIRST, np.nan)
        self._place: dict[tuple[int, int], int] = {}
        self._answered: set[int] = set()
        self._size = 0
        self.results = 0

    def open(self, row: int, sample: int) -> None:
        """A place for a cell that was asked for; one that has a place keeps it."""
        if (row, sample) in self._place:
            return
        if self._size == len(self._rows):
            self._rows = np.concatenate([self._rows, np.zeros_like(self._rows)])
            self._samples = np.concatenate([self._samples, np.zeros_like(self._samples)])
            self._scores = np.concatenate([self._scores, np.full_like(self._scores, np.nan)])
        self._rows[self._size], self._samples[self._size] = row, sample
        self._place[row, sample] = self._size
        self._size += 1

    def fill(self, row: int, sample: int, score: float | None) -> bool:
        """Enters a score once; True when it is new. None leaves the place empty."""
        place = self._place[row, sample]
        self._answered.add(place)
        if score is None or not np.isnan(self._scores[place]):
            return False
        self._scores[place] = score
        self.results += 1
        return True

    def answered(self, row: int, sample: int) -> bool:
        """Whether the cell has a score, or is known to have failed."""
        return self._place.get((row, sample)) in self._answered

    def scored(self) -> tuple[Ints, Ints, Floats]:
        """Rows, samples and scores of all cells with a score."""
        there = ~np.isnan(self._scores[: self._size])
        return self._rows[: self._size][there], self._samples[: self._size][there], self._scores[: self._size][there]
