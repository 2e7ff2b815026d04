"""The candidates that a race knows: all of them, or, in a large space, a working pool that is renewed."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable

import numpy as np

from rollouts.prompt_optimization.selection.base import Candidate, Space
from rollouts.prompt_optimization.selection.cells import Bools, Floats, Ints
from rollouts.prompt_optimization.selection.draws import ENUMERABLE, draw_candidates, unravel

WORKING = 1200
_CELLS = 20_000_000


class Pool:
    """Candidates by row, and which of their cells are taken.

    grid: levels by row and factor. asked: cells taken by row. barred: rows that are not allowed (found out when they
    are wanted). pairs: by factor, how often a level was taken on a sample.
    """

    def __init__(self, space: Space, rng: random.Random) -> None:
        self.space, self._rng = space, rng
        self.pairs: list[Ints] = [np.zeros((n, space.samples), dtype=np.int64) for n in space.levels]
        self.row: dict[Candidate, int] = {}
        self.grid: Ints = np.zeros((0, len(space.levels)), dtype=np.int64)
        self.asked: Ints = np.zeros(0, dtype=np.int64)
        self.barred: Bools = np.zeros(0, dtype=bool)
        self.tie: Floats = np.zeros(0)
        self._taken: Bools = np.zeros((0, space.samples), dtype=bool)
        self.whole = self._fits()
        total = math.prod(space.levels)
        if self.whole:
            self.add(unravel(index, space.levels) for index in range(total))
        else:
            self.add([space.start, *draw_candidates(space, WORKING, rng)])

    def _fits(self) -> bool:
        total = math.prod(self.space.levels)
        return total <= ENUMERABLE and total * self.space.samples <= _CELLS

    def random_candidate(self) -> Candidate:
        return tuple(self._rng.randrange(n) for n in self.space.levels)

    def add(self, candidates: Iterable[Candidate]) -> None:
        """New rows at the end; candidates that are there already are left out."""
        new = [candidate for candidate in dict.fromkeys(candidates) if candidate not in self.row]
        if not new:
            return
        first, n = len(self.grid), len(new)
        self.row.update((candidate, first + i) for i, candidate in enumerate(new))
        self.grid = np.concatenate([self.grid, np.array(new, dtype=np.int64).reshape(n, -1)])
        self.asked = np.concatenate([self.asked, np.zeros(n, dtype=np.int64)])
        self.barred = np.concatenate([self.barred, np.zeros(n, dtype=bool)])
        self.tie = np.concatenate([self.tie, [self._rng.random() for _ in range(n)]])
        self._taken = np.concatenate([self._taken, np.zeros((n, self.space.samples), dtype=bool)])

    def replace_unasked(self, candidates: Iterable[Candidate], *, keep: Iterable[int] = ()) -> None:
        """Puts new candidates in the place of rows that nothing was asked for; the start and those to `keep` stay."""
        new = [candidate for candidate in dict.fromkeys(candidates) if candidate not in self.row]
        stay = {self.row[self.space.start], *keep}
        free = [int(row) for row in np.flatnonzero(self.asked == 0) if int(row) not in stay]
        for row, candidate in zip(self._rng.sample(free, min(len(free), len(new))), new, strict=False):
            del self.row[self.candidate(row)]
            self.row[candidate] = row
            self.grid[row] = candidate
            self.barred[row] = False

    def candidate(self, row: int | np.int64) -> Candidate:
        return tuple(int(level) for level in self.grid[row])

    def allowed(self, row: int) -> bool:
        """Whether the candidate may be asked for; bars its row when not."""
        if not self.barred[row] and not self.space.feasible(self.candidate(row)):
            self.barred[row] = True
        return not self.barred[row]

    def free(self, row: int, order: Ints) -> Ints:
        """The samples of `order` that were never taken for this row."""
        free: Ints = order[~self._taken[row, order]]
        return free

    def take(self, row: int, sample: int) -> bool:
        """Marks a cell as taken; False when it was."""
        if self._taken[row, sample]:
            return False
        self._count(row, sample, 1)
        return True

    def taken(self, row: int, sample: int) -> bool:
        """Whether a cell is taken."""
        return bool(self._taken[row, sample])

    def release(self, row: int, sample: int) -> None:
        """Makes a taken cell free again."""
        if self._taken[row, sample]:
            self._count(row, sample, -1)

    def _count(self, row: int, sample: int, change: int) -> None:
        self._taken[row, sample] = change > 0
        self.asked[row] += change
        for pair, level in zip(self.pairs, self.grid[row], strict=True):
            pair[level, sample] += change

    def add_level(self, factor: int) -> int:
        """One more level. In a space that is written down all its candidates join."""
        new = self.space.levels[factor]
        self.space = self.space.with_level(factor)
        self.pairs[factor] = np.concatenate([self.pairs[factor], np.zeros((1, self.space.samples), dtype=np.int64)])
        self.whole = self.whole and self._fits()
        if self.whole:
            others = [n for f, n in enumerate(self.space.levels) if f != factor]
            rest = (list(unravel(index, others)) for index in range(math.prod(others)))
            self.add((*others[:factor], new, *others[factor:]) for others in rest)
        return new
