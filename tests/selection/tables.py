"""Synthetic and real tables of outcomes, and the loop that plays a selector on them."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rollouts.prompt_optimization.selection import Candidate, Cell, Result, Selector, Space, make_selector
from rollouts.prompt_optimization.selection.settings import SelectorSettings

TRIALS = ("random", "tpe")
STAGES = ("successive_halving", "successive_rejects")
NAMES = (*TRIALS, *STAGES, "racing")
Score = Callable[[Candidate, int], float | None]


def space(*levels: int, samples: int = 20, **kw: object) -> Space:
    return Space(levels=levels, samples=samples, start=(0,) * len(levels), **kw)  # type: ignore[arg-type]


def selector(name: str, where: Space, **settings: object) -> Selector:
    usual = {"trials": 12, "minibatch": 5, "full_every": 0, "epsilon": None}
    return make_selector(name, where, SelectorSettings(**{**usual, **settings}))  # type: ignore[arg-type]


@dataclass
class Played:
    """What a run of a selector did."""

    rounds: list[list[Cell]] = field(default_factory=list)
    scores: dict[Cell, float] = field(default_factory=dict)

    @property
    def cells(self) -> list[Cell]:
        return [cell for cells in self.rounds for cell in cells]


def play(chooser: Selector, score: Score, *, limit: int = 100_000, ahead: int = 1, batch: int = 1) -> Played:
    """Asks and tells in rounds until nothing is asked or `limit` cells are spent; `ahead` rounds are under way."""
    played = Played()
    waiting: list[list[Cell]] = []
    spent = 0
    while True:
        while len(waiting) < ahead and spent < limit and not chooser.should_stop():
            cells = chooser.ask(batch)
            if not cells:
                break
            spent += len(cells)
            played.rounds.append(cells)
            waiting.append(cells)
        if not waiting:
            return played
        cells = waiting.pop(0)
        results = [Result(cell, score(cell.candidate, cell.sample)) for cell in cells]
        played.scores.update({r.cell: r.score for r in results if r.score is not None})
        chooser.tell(results)


def coin(seed: int, chance: Callable[[Candidate], float]) -> Score:
    """0 or 1 with a candidate's own chance; the same cell always the same."""
    return lambda candidate, sample: float(random.Random(f"{seed} {candidate} {sample}").random() < chance(candidate))


def factor_chance(seed: int, levels: Sequence[int]) -> Callable[[Candidate], float]:
    """Strong effects of every factor, adding up to a chance between 0 and 1."""
    rng = random.Random(seed)
    effects = [[rng.random() for _ in range(n)] for n in levels]
    return lambda candidate: sum(e[i] for e, i in zip(effects, candidate, strict=True)) / len(levels)


def all_candidates(levels: Sequence[int]) -> list[Candidate]:
    return list(itertools.product(*(range(n) for n in levels)))
