"""A factored Bayesian race: a Gaussian model of the scores says what is likely good, a 1/rank rule who runs next."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Iterable, Sequence

import numpy as np

from rollouts.prompt_optimization.selection.base import Candidate, Cell, Recommendation, Result, Space, exchanged
from rollouts.prompt_optimization.selection.cells import CellLog, Ints
from rollouts.prompt_optimization.selection.classes import Classes
from rollouts.prompt_optimization.selection.model import FactorModel
from rollouts.prompt_optimization.selection.pool import Pool
from rollouts.prompt_optimization.selection.settings import SelectorSettings
from rollouts.prompt_optimization.selection.stopping import chance_within
from rollouts.prompt_optimization.selection.table import reached

# Found by replay on real and made-up tables (docs/selection.md); none of them is sharp.
_DESIGN = 32
_LOOKS, _CALLS_PER_LOOK = 4, 64
_BONUS = 0.5
_HEAD_START = 1.0
_GROWTH, _MOST_AT_ONCE = 0.15, 32
_STEEP, _FLATTER, _FLATTER_AFTER, _FLATTEST = 1.25, 0.12, 1000, 0.5
_RENEW_EVERY, _RENEWED = 200, 300
_STOP_EVERY = 128
_SWEEPS, _NEWS, _SETTLED = 10, 0.1, 1e-3
_Z = 1.96
_SAME = 1e-9  # of the range that was told: scores that differ by less differ by rounding


class RacingSelector:
    """`ask` returns at most as many cells as it is asked for, and never waits for results under way. It uses the budget
    to its end unless the stop rule ends it. The method and its assumptions are in docs/selection.md."""

    def __init__(self, space: Space, settings: SelectorSettings) -> None:
        self.settings = settings
        self._rng = random.Random(f"rollouts-selector-{settings.seed}")
        self._order: Ints = np.array(self._rng.sample(range(space.samples), space.samples), dtype=np.int64)
        self._classes = Classes(space.classes, space.samples)
        self._pool = Pool(space, self._rng)
        self._log = CellLog()
        self._model = FactorModel(space.levels, space.samples)
        self._fitted = 0
        self._view: tuple[tuple[int, int], FactorModel] | None = None
        self._left = settings.cells
        self._queue = self._design()
        self._renewed = 0
        self._tested = 0
        self._stopped = ""
        self._seen = (math.inf, -math.inf)
        self._fitted_unit = self._unit

    @property
    def space(self) -> Space:
        """The space as it is now."""
        return self._pool.space

    def _design(self) -> list[tuple[int, int | None]]:
        """The first rows to ask for, and their samples (None: the one that says most by then).

        Every factor's levels occur evenly in these candidates, and each is asked on a sample of its own.
        """
        columns, samples = [], len(self._order)
        for n in self.space.levels:
            column: list[int] = []
            while len(column) < _DESIGN:
                column += self._rng.sample(range(n), n)
            columns.append(column[:_DESIGN])
        candidates = dict.fromkeys([self.space.start, *zip(*columns, strict=True)])
        self._pool.add(candidates)
        rows = [row for row in (self._pool.row[c] for c in candidates) if self._pool.allowed(row)] if samples else []
        return [(row, int(self._order[i % samples])) for i, row in enumerate(rows[:_DESIGN])]

    def ask(self, n: int) -> list[Cell]:
        room = min(n, self._left)
        if room <= 0:
            return []
        self._learn()
        wanted: dict[int, list[int]] = {}
        while self._queue and room:
            row, sample = self._queue.pop(0)
            if self._pool.allowed(row):
                room -= self._take(row, self._samples(row, 1) if sample is None else [sample], wanted)
        if room:
            self._race(room, wanted)
        cells = []
        for row, samples in wanted.items():
            candidate = self._pool.candidate(row)
            for sample in samples:
                self._log.open(row, sample)
                cells.append(Cell(candidate, sample))
        self._left -= len(cells)
        return cells

    def _take(self, row: int, samples: Sequence[int], wanted: dict[int, list[int]]) -> int:
        """Takes those of a row's cells that are free, as `wanted`; how many."""
        taken = [sample for sample in samples if self._pool.take(row, sample)]
        if taken:
            wanted.setdefault(row, []).extend(taken)
        return len(taken)

    def _race(self, room: int, wanted: dict[int, list[int]]) -> None:
        """Cells in proportion to a power of 1/rank, the rank being by estimate plus half a standard deviation."""
        pool, model = self._pool, self._model
        score = model.theta + _BONUS * np.sqrt(model.variance) + 1e-6 * pool.tie
        rank = np.empty(len(score))
        rank[np.lexsort((-score, pool.barred))] = np.arange(1, len(score) + 1) ** self._power()
        asked = pool.asked.astype(float)
        index = np.where(pool.barred | (pool.asked >= self.space.samples), np.inf, (asked + _HEAD_START) * rank)
        more: dict[int, int] = {}
        while room:
            row = int(index.argmin())
            if not np.isfinite(index[row]):
                break
            if not pool.allowed(row):
                index[row] = np.inf
                continue
            free = self.space.samples - int(asked[row])
            chunk = min(max(self.settings.together, int(_GROWTH * asked[row])), _MOST_AT_ONCE, room, free)
            more[row] = more.get(row, 0) + chunk
            asked[row] += chunk
            room -= chunk
            index[row] = np.inf if chunk == free else (asked[row] + _HEAD_START) * rank[row]
        for row, count in more.items():
            self._take(row, self._samples(row, count), wanted)

    def _power(self) -> float:
        """How steeply calls fall with the rank: at first a short list, later a longer one, when the leaders are known
        and the best may be one that had bad luck. In a working pool what is learnt about levels counts more than what
        is learnt about its members."""
        if not self._pool.whole:
            return 1.0
        return max(_FLATTEST, _STEEP - _FLATTER * float(np.log2(1 + self._pool.asked.sum() / _FLATTER_AFTER)))

    def _samples(self, row: int, count: int) -> list[int]:
        """The samples that say most first, else those first in the order shared by all. A sample that is new to a level
        says something about the level, one of known difficulty something about the candidate itself; each counts by
        how unsure the model is there, and by less, the more of its class the candidate has."""
        free = self._pool.free(row, self._order)
        model = self._model
        value = model.own_unsure[row] * model.known[free]
        for factor, pairs, level in zip(model.factors, self._pool.pairs, self._pool.grid[row], strict=True):
            value += factor.vb[level] * (pairs[level, free] == 0)
        best = np.argsort(-value, kind="stable")
        best = best[np.argsort(-value[best] / self._classes.shares(free[best]), kind="stable")]
        return [int(sample) for sample in free[best[:count]]]

    def _learn(self) -> None:
        """The model with what was told since, and new members for a working pool."""
        if self._log.results > self._fitted or len(self._model.theta) < len(self._pool.grid):
            self._model = self._current()
            self._fitted, self._view, self._fitted_unit = self._log.results, None, self._unit
        if not self._pool.whole and self._log.results - self._renewed >= _RENEW_EVERY:
            self._renewed = self._log.results
            self._renew()

    def _fit(self, model: FactorModel) -> None:
        """One sweep for a few new scores; more, until the estimates stand still, for many at once."""
        rows, samples, scores = self._log.scored()
        low, high = self._unit
        scaled = (scores - low) / (high - low)
        many = self._unit != self._fitted_unit or self._log.results - self._fitted > _NEWS * self._log.results
        for _ in range(_SWEEPS if many else 1):
            before = model.theta
            model.fit(self._pool.grid, rows, samples, scaled)
            if len(before) == len(model.theta) and np.abs(model.theta - before).max(initial=0.0) < _SETTLED:
                break

    def _renew(self) -> None:
        """Posterior draws of each factor's best level take the place of candidates that were never asked for."""
        draws = [
            [
                max(range(len(f.b)), key=lambda i: f.b[i] + f.vb[i] ** 0.5 * self._rng.gauss(0, 1))
                for _ in range(_RENEWED)
            ]
            for f in self._model.factors
        ]
        self._put_in(zip(*draws, strict=True))
        self._fit(self._model)
        self._view = None

    def _put_in(self, candidates: Iterable[Candidate]) -> None:
        """New candidates in the place of some that were never asked for, and are not about to be."""
        self._pool.replace_unasked(candidates, keep=[row for row, _ in self._queue])

    def _current(self) -> FactorModel:
        """The model with all that was told, without touching the one that decisions are made with: looking changes
        nothing."""
        known = (self._log.results, len(self._pool.grid))
        if known == (self._fitted, len(self._model.theta)):
            return self._model
        if self._view is None or self._view[0] != known:
            same = self._unit == self._fitted_unit
            model = copy.deepcopy(self._model) if same else self._model.anew()
            self._fit(model)
            self._view = (known, model)
        return self._view[1]

    def tell(self, results: Sequence[Result]) -> None:
        self.space.check(results)
        self._pool.add(result.cell.candidate for result in results)
        for result in results:
            row, sample = self._pool.row[result.cell.candidate], result.cell.sample
            if not result.missing:
                self._left -= self._pool.take(row, sample)  # it was given back as missing, and came after all
                self._enter(row, sample, result.usable)
            elif self._pool.taken(row, sample) and not self._log.answered(row, sample):
                self._pool.release(row, sample)
                self._left += 1

    def _enter(self, row: int, sample: int, score: float | None) -> None:
        self._log.open(row, sample)
        if self._log.fill(row, sample, score) and score is not None:
            self._seen = (min(self._seen[0], score), max(self._seen[1], score))

    def record(self, results: Sequence[Result]) -> None:
        self.space.check(results)
        self._pool.add(result.cell.candidate for result in results)
        for result in results:
            row, sample = self._pool.row[result.cell.candidate], result.cell.sample
            if not result.missing:
                self._pool.take(row, sample)
                self._enter(row, sample, result.usable)

    def unseen(self, candidate: Candidate) -> list[int]:
        every = np.arange(self.space.samples)
        row = self._pool.row.get(candidate)
        free = every if row is None else self._pool.free(row, every)
        return self._classes.in_turn(free)

    def add_level(self, factor: int, like: int | None = None) -> int:
        best = self.recommend().candidate
        level = self._pool.add_level(factor)
        self._model.add_level(factor, like)
        new = exchanged(best, factor, level)
        self._pool.add([new])
        # The rank would give it none where levels of other factors are many and nearly as good as the best.
        looks = min(_LOOKS, max(1, self._left // _CALLS_PER_LOOK))
        self._queue += [(self._pool.row[new], None)] * looks
        if not self._pool.whole:
            others = (self._pool.random_candidate() for _ in range(_RENEWED // 10))
            self._put_in(exchanged(candidate, factor, level) for candidate in others)
        self._fitted, self._view, self._stopped = -1, None, ""
        return level

    def ranking(self) -> list[Recommendation]:
        model, pool = self._current(), self._pool
        rows = [int(row) for row in np.flatnonzero(model.counts)]
        rows.sort(key=lambda row: (not pool.allowed(row), *self._place(model, row)))
        return [self._entry(model, row) for row in rows]

    def _place(self, model: FactorModel, row: int) -> tuple[object, ...]:
        """The key by which rows are ranked. When all scores are the same nothing is known, and the start leads."""
        start = self._pool.row[self.space.start]
        same = self._seen[0] == self._seen[1]
        estimate = -round(float(model.theta[row]), 12)
        return (same and row != start, estimate, -int(model.counts[row]), row != start, self._pool.candidate(row))

    def recommend(self) -> Recommendation:
        model = self._current()
        return self._entry(model, self._incumbent(model))

    def _incumbent(self, model: FactorModel) -> int:
        """The first allowed row of the ranking; the start when none was tried."""
        tried = (model.counts > 0) & ~self._pool.barred
        while tried.any():
            top = np.flatnonzero(tried & (model.theta >= model.theta[tried].max() - 1e-9))
            if self._seen[0] == self._seen[1]:
                top = np.flatnonzero(tried)
            allowed = [row for row in map(int, top) if self._pool.allowed(row)]
            if allowed:
                return min(allowed, key=lambda row: self._place(model, row))
            tried[top] = False
        return self._pool.row[self.space.start]

    def _entry(self, model: FactorModel, row: int) -> Recommendation:
        estimate, half, n = float(model.theta[row]), _Z * math.sqrt(model.variance[row]), int(model.counts[row])
        mean = float(model.means[row]) if n else estimate
        zero, one = self._unit
        estimate, mean, low, high = (
            zero + (one - zero) * value for value in (estimate, mean, estimate - half, estimate + half)
        )
        return Recommendation(
            candidate=self._pool.candidate(row),
            estimate=estimate,
            mean=mean,
            low=min(estimate, max(low, self._range[0])),
            high=max(estimate, min(high, self._range[1])),
            n=n,
        )

    @property
    def _unit(self) -> tuple[float, float]:
        """What is 0 and 1 to the model, whose priors are of scores between these: the range of the scores, or what was
        told of it as long as all are the same."""
        told, (least, most) = (self.settings.low, self.settings.high), self._seen
        return (least, most) if most - least > _SAME * (told[1] - told[0]) else told

    @property
    def _range(self) -> tuple[float, float]:
        """The range of scores as far as it is known beforehand, widened by what was seen."""
        return min(self.settings.low, self._seen[0]), max(self.settings.high, self._seen[1])

    def should_stop(self) -> bool:
        return bool(self.why_stopped())

    def why_stopped(self) -> str:
        if not self._stopped:
            low, high = self._range
            best, target = self.recommend(), self.settings.target
            self._stopped = reached(target, best, self.space, low=low, high=high) or self._settled()
        return self._stopped

    def _settled(self) -> str:
        epsilon, delta = self.settings.epsilon, self.settings.delta
        if epsilon is None or self._log.results - self._tested < _STOP_EVERY:
            return ""
        self._tested = self._log.results
        model = self._current()
        seed = np.random.SeedSequence([self.settings.seed & 0xFFFFFFFF, self._log.results])
        chance = chance_within(
            model,
            self._pool.grid,
            self._incumbent(model),
            ~self._pool.barred,
            epsilon / (self._unit[1] - self._unit[0]),
            np.random.default_rng(seed),
        )
        if chance < 1 - delta:
            return ""
        return (
            f"the incumbent is within {epsilon:g} of the best with a chance of {chance:.0%}; {self._left} calls saved"
        )
