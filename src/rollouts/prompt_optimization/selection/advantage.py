"""Candidates by their mean advantage over each other on the samples that they share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from rollouts.prompt_optimization.selection.base import Candidate, Result
from rollouts.prompt_optimization.selection.cells import CellLog


class Advantages:
    """Scores as they come in, and who is ahead by them. Among equals `first` comes first, then the lower levels."""

    def __init__(self, samples: int, first: Candidate) -> None:
        self._samples, self._first = samples, first
        self._log = CellLog()
        self._row: dict[Candidate, int] = {}

    def enter(self, results: Iterable[Result]) -> None:
        """A first score of a cell counts; one that is missing or failed does not."""
        for result in results:
            if result.usable is not None:
                row, sample = self._row.setdefault(result.cell.candidate, len(self._row)), result.cell.sample
                self._log.open(row, sample)
                self._log.fill(row, sample, result.usable)

    def ranked(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """The candidates, the best first: by their mean advantage over all of them on the same samples, so that a
        failed cell or a late arrival does not change what a candidate is compared with. Last those without a score."""
        field = sorted(candidates, key=lambda candidate: (candidate != self._first, candidate))
        place = np.full(len(self._row), -1)
        for n, candidate in enumerate(field):
            if candidate in self._row:
                place[self._row[candidate]] = n
        rows, samples, scores = self._log.scored()
        places = place[rows]
        places, samples, scores = places[places >= 0], samples[places >= 0], scores[places >= 0]
        total = np.bincount(samples, scores, minlength=self._samples)
        usual = total / np.maximum(1, np.bincount(samples, minlength=self._samples))
        counts = np.bincount(places, minlength=len(field))
        ahead = np.bincount(places, scores - usual[samples], minlength=len(field))
        advantage = np.where(counts > 0, np.round(ahead / np.maximum(1, counts), 12), -np.inf)
        return [field[n] for n in np.argsort(-advantage, kind="stable")]
