"""MIPRO on the same worlds: whole programs are tried, all agents changed at once, by a selector of the project."""

from __future__ import annotations

from benchmarks.rmipro.simulate import BASELINE, BLOCK, TRIALS, Course
from benchmarks.rmipro.worlds import CANDIDATES, SAMPLES, World
from rollouts.prompt_optimization.selection import Cell, Result, Space, make_selector
from rollouts.prompt_optimization.selection.settings import SelectorSettings


def joint_course(world: World, selector: str, seed: int, *, rollouts: int) -> Course:
    """As `simulate.course`. A rollout pays for its agents from the first one on whose input was not seen before."""
    agents = len(world.right)
    cap, spent = rollouts * world.cost(None), 0.0
    space = Space(levels=(CANDIDATES + 1,) * agents, samples=SAMPLES, start=(0,) * agents)
    chooser = make_selector(
        selector,
        space,
        SelectorSettings(seed=seed, budget=50 * rollouts, epsilon=None, trials=rollouts // BLOCK, minibatch=BLOCK),
    )
    ran: set[tuple[tuple[int, ...], int]] = set()

    def pay(program: tuple[int, ...], sample: int) -> float:
        first = next((n for n in range(agents) if (program[: n + 1], sample) not in ran), agents - 1)
        ran.update((program[: n + 1], sample) for n in range(agents))
        return world.cost(0 if world.family.experts else first)

    asked = [Cell(space.start, sample) for sample in range(BASELINE)]
    spends, values, over = [], [], False
    while asked and not over:
        results = []
        for cell in asked:
            cost = pay(cell.candidate, cell.sample)
            over = spent + cost > cap
            if over:
                break
            spent += cost
            results.append(Result(cell, float(world.scores(cell.candidate)[cell.sample])))
        (chooser.tell if spends else chooser.record)(results)
        spends.append(spent)
        values.append(world.value(chooser.recommend().candidate))
        asked = chooser.ask(TRIALS * BLOCK)
    return Course(spent=tuple(spends), value=tuple(values), best=world.best, trials={})
