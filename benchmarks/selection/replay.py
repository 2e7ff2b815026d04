"""One method on one world: the regret of what it recommends after so many calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.selection import mipro_v2
from benchmarks.selection.worlds import Candidate, World
from rollouts.prompt_optimization.selection import SELECTORS, Result, Selector, Space, make_selector
from rollouts.prompt_optimization.selection.settings import SelectorSettings

PEER = "mipro-v2"
METHODS = (*SELECTORS, PEER)
MINIBATCH = 35
_STUCK = 200


def regrets(method: str, world: World, seed: int, budgets: Sequence[int], batch: int = 32) -> list[float]:
    """In percentage points, one per budget. A selector is told its budget, so each budget is a run of its own."""
    if method == PEER:
        return [_points(world, candidate) for candidate in _recommended(world, seed, budgets)]
    out = []
    for budget in budgets:
        settings = SelectorSettings(
            seed=seed, budget=budget, trials=-(-budget // MINIBATCH), minibatch=MINIBATCH, full_every=0, epsilon=None
        )
        selector = make(method, world, settings)
        play(selector, world, batch)
        out.append(_points(world, selector.recommend().candidate))
    return out


def make(method: str, world: World, settings: SelectorSettings) -> Selector:
    space = Space(levels=world.levels, samples=world.samples, start=world.start, classes=world.classes)
    return make_selector(method, space, settings)


def play(selector: Selector, world: World, batch: int) -> int:
    """Asks and tells until the selector stops; the number of calls."""
    calls = 0
    while not selector.should_stop() and (cells := selector.ask(batch)):
        calls += len(cells)
        selector.tell([Result(cell, world.score(cell.candidate, cell.sample)) for cell in cells])
    return calls


def _points(world: World, candidate: Candidate) -> float:
    return 100 * (world.best - world.value(candidate))


def _recommended(world: World, seed: int, budgets: Sequence[int]) -> list[Candidate]:
    """What the peer recommends when the budget is used up; an evaluation that does not fit is not finished."""
    out: list[Candidate] = []
    left = sorted(budgets)
    last, last_calls, idle = world.start, 0, 0
    for calls, candidate in mipro_v2.course(world, seed):
        while left and calls > left[0]:
            out.append(last)
            left.pop(0)
        idle = idle + 1 if calls == last_calls else 0
        if not left or idle > _STUCK:
            break
        last, last_calls = candidate, calls
    return out + [last] * len(left)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """How a run with the stop rule ended: `reason` is empty when the budget ended it."""

    calls: int
    regret: float
    reason: str


def stopped(
    method: str, world: World, seed: int, *, budget: int, epsilon: float, delta: float, batch: int = 32
) -> Stop:
    """A run that may stop early."""
    selector = make(method, world, SelectorSettings(seed=seed, budget=budget, epsilon=epsilon, delta=delta))
    calls = play(selector, world, batch)
    return Stop(calls=calls, regret=_points(world, selector.recommend().candidate), reason=selector.why_stopped())
