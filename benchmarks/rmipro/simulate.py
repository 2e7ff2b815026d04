"""A scheduler on a world under a hard budget, with no event loop: the same swaps and decisions as `rmipro`."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.rmipro.worlds import CANDIDATES, SAMPLES, World
from rollouts.budget import Spend
from rollouts.prompt_optimization.scheduling import Outcome, State, Swaps, Trial, make_scheduler

TRIALS, BLOCK, BASELINE = 8, 8, 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """The true score of what would be shipped, after each round, with what was spent by then; trials by agent."""

    spent: tuple[float, ...]
    value: tuple[float, ...]
    best: float
    trials: dict[str, int]

    @property
    def regret(self) -> float:
        return self.best - self.value[-1]

    def spend_to(self, value: float) -> float:
        """What it took to reach `value` for good; all of it and more when it never did."""
        place = len(self.value)
        while place and self.value[place - 1] >= value:
            place -= 1
        return self.spent[place] if place < len(self.spent) else float("inf")


def course(world: World, scheduler: str, seed: int, *, rollouts: int, own: bool = False) -> Course:
    """A run under a cap of as much as `rollouts` whole rollouts cost. Every cell is paid before it is run."""
    names = world.names
    swaps = Swaps(names, SAMPLES, seed=seed)
    for name in names:
        for _ in range(CANDIDATES):
            swaps.add(name)
    chooser = make_scheduler(scheduler, names, samples=SAMPLES, seed=seed)
    cap, spent = rollouts * world.cost(None), 0.0
    given = dict.fromkeys(names, 0)
    start = swaps.incumbent
    for sample in swaps.order[:BASELINE]:
        swaps.record(start, sample, outcome(world, start, sample, own))
        spent += world.cost(None)
    spends, values = [spent], [world.value(start)]
    while True:
        state = State(
            modules=[swaps.state(name) for name in names],
            trials=TRIALS,
            samples=BLOCK,
            score=swaps.mean(swaps.incumbent) or 0.0,
            used={"micros": spent / cap},
        )
        plan = chooser.allocate(state)
        trials = swaps.trials(plan)
        if not trials:
            break
        price = dict.fromkeys(trials, 0.0)
        now = swaps.incumbent
        over = False
        for program, sample in swaps.cells(trials):
            mine = [t for t in trials if t.program == program]
            agent = names.index(mine[0].module) if program != now and mine else None
            cost = world.cost(agent)
            over = spent + cost > cap
            if over:
                break
            spent += cost
            sharers = mine if program != now else [t for t in trials if sample in t.samples]
            for trial in sharers:
                price[trial] += cost / len(sharers)
            swaps.record(program, sample, outcome(world, program, sample, own))

        def spend(trial: Trial, price: dict[Trial, float] = price) -> Spend:
            return Spend(micros=round(1000 * price[trial]))

        results = swaps.results(trials, spend)
        chooser.update(results)
        for result in results:
            given[result.module] += 1
        swaps.adopt()
        spends.append(spent)
        values.append(world.value(swaps.leaders(1)[0]))
        if over:
            break
    return Course(spent=tuple(spends), value=tuple(values), best=world.best, trials=given)


def outcome(world: World, program: tuple[int, ...], sample: int, own: bool) -> Outcome:
    return Outcome(
        score=float(world.scores(program)[sample]),
        own=world.own(program, sample) if own else {},
        ran=frozenset(f"a{n}" for n in world.ran(sample)),
    )
