"""No limit is ever broken: random programs, budgets, latency laws and failures, on a simulated provider and clock."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from random import Random

import pytest

from rollouts.budget import Budget, Constraints
from rollouts.dtypes import Request, Response
from rollouts.evaluation.metrics import exact_match
from rollouts.prompt_optimization import OptimizationResult, RMIPROConfig, StudyOptions, run_rmipro
from rollouts.prompt_optimization.scheduling import SCHEDULERS
from rollouts.testing import FakeClock
from rollouts.testing.latency import log_normal

from .limits_world import WRITER, Book, RandomWorld, right
from .worlds import ENDPOINT, START, World, splits

A_HAIR = 1e-6


@dataclass(frozen=True)
class Ended:
    """What became of a run. `limited`: latency had a cap; `dropped`: it was found to be broken by some candidate;
    `shipped`: another program than the start; `broke`: one whose fresh rollouts break the cap."""

    limited: bool
    dropped: bool
    shipped: bool
    broke: bool


def ended(seed: int) -> Ended:
    """Runs r-MIPRO on a random world and checks the world's books against every cap."""
    world = RandomWorld(seed)
    budget, budgets, constraints = world.budget(), world.module_budgets(), world.constraints()
    options = StudyOptions(
        budget=budget,
        module_budgets=budgets,
        constraints=constraints,
        providers={endpoint.name: world for endpoint in (WRITER, *world.endpoints.values())},
        clock=world.clock,
        slots=8,
    )
    scheduler = sorted(SCHEDULERS)[seed % len(SCHEDULERS)]
    config = RMIPROConfig(num_candidates=5, optimize_demos=False, seed=seed, scheduler=scheduler)
    first = world.endpoints[world.modules[0]]
    run = run_rmipro(
        world.start, config, world.splits(), first, WRITER, right, endpoints=world.endpoints, options=options
    )
    with asyncio.Runner(loop_factory=world.loop) as runner:
        result = runner.run(run)
    check_books(world, budget, budgets, result)
    cap, best = constraints.max_p95_latency_s, result.best.program
    shipped = best.digest != world.start.digest
    return Ended(
        limited=cap is not None,
        dropped=bool(result.details["summary"]["violations"]["infeasible"]),
        shipped=shipped,
        broke=shipped and cap is not None and not world.keeps(best, cap),
    )


def check_books(world: RandomWorld, budget: Budget, budgets: dict[str, Budget], result: OptimizationResult) -> None:
    total = Book()
    for book in world.books.values():
        total += book
    within(total, budget, "the run")
    assert budget.max_seconds is None or world.clock.now() <= budget.max_seconds + A_HAIR
    for name, own in budgets.items():
        within(world.books[name], own, name)
        assert own.max_seconds is None or world.books[name].seconds <= own.max_seconds + A_HAIR, name
    spend = result.spend
    assert spend.calls == total.calls
    assert spend.tokens >= total.tokens
    assert spend.micros >= total.micros, "what may have been billed is counted"
    assert budget.max_rollouts is None or spend.rollouts <= budget.max_rollouts
    given = {line["module"]: line["trials"] for line in result.details["bottleneck"]["modules"]}
    for most, count in [
        (budget.max_trials, sum(given.values())),
        *((own.max_trials, given.get(name, 0)) for name, own in budgets.items()),
    ]:
        assert most is None or count <= most


def within(book: Book, budget: Budget, whose: str) -> None:
    assert budget.max_calls is None or book.calls <= budget.max_calls, whose
    assert budget.max_tokens is None or book.tokens <= budget.max_tokens, whose
    assert budget.max_micros is None or book.micros <= budget.max_micros, whose


def test_no_cap_is_broken() -> None:
    runs = [ended(seed) for seed in range(32, 42)]
    assert any(run.limited and run.dropped for run in runs)
    assert any(run.limited and run.shipped for run in runs)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1000, 2000, 50))
def test_no_cap_is_broken_and_what_ships_keeps_its_latency(first: int) -> None:
    """The confidence of single runs is 80 to 95 %; candidates well within or beyond the cap make it more than that."""
    runs = [ended(seed) for seed in range(first, first + 50)]
    limited = [run for run in runs if run.limited]
    assert sum(run.dropped for run in limited) >= 10
    assert sum(run.shipped for run in limited) >= 2
    assert sum(run.broke for run in limited) <= 0.05 * len(limited)


@pytest.mark.parametrize("seed", range(3))
async def test_what_others_with_the_same_parts_show_bars_a_candidate_too(seed: int) -> None:
    """Demonstrations make calls slower, so many programs are barred before their own rollouts tell anything."""
    clock = FakeClock(auto=True)
    world = World(seed=seed, clock=clock)
    llm, law = world.llm, log_normal(1.0, 0.4)
    answer = llm.complete

    async def slow(request: Request) -> Response:
        seconds = 0.0
        if request.phase != "propose":
            words = sum(len(str(message.content).split()) for message in request.messages)
            seconds = law(Random(request.key()).random()) * (0.5 + words / 200)
        await clock.sleep(seconds)
        return replace(await answer(request), latency_s=seconds)

    llm.complete = slow  # type: ignore[method-assign]
    options = world.options(budget=Budget(max_rollouts=900), constraints=Constraints(max_p95_latency_s=1.5))
    config = RMIPROConfig(max_labeled_demos=8, seed=seed)
    result = await run_rmipro(START, config, splits(), ENDPOINT, ENDPOINT, exact_match(), options=options)
    told = [tuple(event["broken"]) for event in world.of("infeasible")]
    assert told
    assert all(told), "each with its reason"
    assert result.verdict is not None
